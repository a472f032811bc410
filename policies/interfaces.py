"""What passes between the parts of a policy: observations, tokens, losses, and the two contracts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Generators = Sequence[torch.Generator] | None


@dataclass(frozen=True)
class Observation:
    """What a policy sees.

    Attributes:
        images: camera name -> uint8 RGB [B, To, H, W, 3].
        proprio: float32 [B, To, P] in the units of the environment's `ProprioSpec`.
        instruction: B texts.
    """

    images: dict[str, Tensor]
    proprio: Tensor
    instruction: list[str]


@dataclass(frozen=True)
class Marks:
    """Where what an instruction is about is to be seen in an observation, by the simulator's truth.

    Attributes:
        segmentation: camera name -> uint8 [B, To, H, W], a label for every pixel.
        labels: uint8 [B, roles], the label of what each role (`ROLES` of the text encoder) is; one that no pixel has
            where there is nothing of that role.
    """

    segmentation: dict[str, Tensor]
    labels: Tensor


@dataclass(frozen=True)
class Batch:
    """Supervised windows: what was seen up to t, and the actions from t on.

    Attributes:
        observation: observations at the last To control steps up to t.
        actions: float32 [B, Tp, A] in environment units.
        is_pad: bool [B, Tp], True where the episode had already ended.
    """

    observation: Observation
    actions: Tensor
    is_pad: Tensor


class Reader(Protocol):
    """What has read B contexts and can read on."""

    def read_on(self, embedded: Tensor, causal: bool) -> tuple[Tensor, Reader]:
        """States [B, L, width] of embedded tokens [B, L, width], and the reader that has read them, too.

        `causal` hides later ones of these tokens from earlier ones. This reader can be asked again: it stays as it is.
        """
        ...


@dataclass(frozen=True)
class TokenGroup:
    """Tokens and which of them count.

    Attributes:
        tokens: [B, N, D].
        mask: bool [B, N].
        reader: the language model they come from, where there is one and it was asked for.
    """

    tokens: Tensor
    mask: Tensor
    reader: Reader | None = None


@dataclass(frozen=True)
class Losses:
    """What to descend.

    Attributes:
        total: a scalar.
        parts: the named losses it is made of, and what else is worth a look (detached, for the log).
        terms: the summands of `total` by name, each with its weight, where there are several.
    """

    total: Tensor
    parts: dict[str, Tensor]
    terms: dict[str, Tensor] = field(default_factory=dict)


class Backbone(nn.Module):
    """Observation and instruction in, tokens out.

    Attributes:
        num_tokens: N, the fixed number of tokens.
        width: D, the size of a token.
        parts: the modules a training stage can freeze or train, by name.
        bf16: run under bf16 autocast: faster to train; acting uses fp32.
        reader_width: what a `Reader` of this backbone reads and gives; 0 where there is none.
        lends: whether tokens come with their `Reader`.
    """

    num_tokens: int
    width: int
    bf16: bool = False
    reader_width: int = 0
    lends: bool = False

    @property
    def parts(self) -> dict[str, nn.Module]:
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, observation: Observation) -> TokenGroup:
        """Tokens for a checked observation whose proprioception is already normalised."""
        raise NotImplementedError


class Texts(Protocol):
    """What a backbone knows of B texts before it has seen an image."""

    def __len__(self) -> int: ...

    def select(self, rows: Tensor) -> Any:
        """The same of these rows, int64 [B']; texts encoded once can serve many samples."""
        ...


class SeeingBackbone(Backbone):
    """A backbone that looks through cameras and reads, in two halves.

    `encode_text` and `encode_frames` look at one text and at one instant. `assemble` makes the tokens of a window from
    them. While what the first two use is frozen, training encodes each frame of a store once.

    Attributes:
        cameras: in the order of the arguments and of the tokens.
        obs_horizon: To.
        perception: the parts that `encode_text` and `encode_frames` use.
    """

    cameras: tuple[str, ...]
    obs_horizon: int

    @property
    def perception(self) -> tuple[str, ...]:
        raise NotImplementedError

    def prepare(self, trained: Collection[str]) -> None:
        """Told before a stage which of its parts that trains; by default it does not matter."""

    def encode_text(self, texts: Sequence[str]) -> Any:
        """`Texts` of these texts, in their order; equal ones are encoded once."""
        raise NotImplementedError

    def encode_frames(self, images: Mapping[str, Tensor], texts: Any, proprio: Tensor) -> Tensor:
        """Single instants: images {camera: [F, H, W, 3]}, the text of each, and normalised proprio [F, P]: [F, ...]."""
        raise NotImplementedError

    def assemble(self, frames: Tensor, proprio: Tensor, texts: Any) -> TokenGroup:
        """Tokens of windows: encoded frames [B, To, ...], normalised proprio [B, To, P], and the text of each."""
        raise NotImplementedError

    def compare(self, images: Mapping[str, Tensor], texts: Sequence[str]) -> Tensor:
        """How well each text says what is seen at single instants {camera: [F, H, W, 3]}: [F, T], more is better."""
        raise NotImplementedError

    def standardise(self, frames: Tensor) -> None:
        """Take what `assemble` wants to know of all encoded frames of a store [F, ...]; by default nothing."""

    def unseen(self, frames: Tensor) -> Tensor:
        """What stands for a frame that was not seen [...], of all encoded frames of a store [F, ...]."""
        return frames.mean(0)

    def set_noise(self, deviation: float) -> None:
        """Noise on encoded frames while training, where a backbone has it."""

    def forward(self, observation: Observation) -> TokenGroup:
        texts = self.encode_text(observation.instruction)
        images = {camera: observation.images[camera].flatten(0, 1) for camera in self.cameras}
        rows = torch.arange(len(observation.instruction), device=self.device).repeat_interleave(self.obs_horizon)
        frames = self.encode_frames(images, texts.select(rows), observation.proprio.flatten(0, 1))
        return self.assemble(frames.unflatten(0, (-1, self.obs_horizon)), observation.proprio, texts)


class ActionHead(nn.Module):
    """Tokens in, an action chunk in [-1, 1] out."""

    def fit(self, actions: Tensor, is_pad: Tensor) -> None:
        """What a head takes from the data before its first step: chunks [N, Tp, A] in [-1, 1], is_pad [N, Tp].

        Most take nothing. What is taken lies in buffers whose shapes follow from the configuration alone.
        """

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Training loss for actions [B, Tp, A] in [-1, 1]; rows where is_pad [B, Tp] do not count."""
        raise NotImplementedError

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """An action chunk [B, Tp, A] in [-1, 1]; element b draws its noise from `generators[b]` alone."""
        raise NotImplementedError
