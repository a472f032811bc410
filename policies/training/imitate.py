"""The imitation stage: the head learns the demonstrations, on a frozen backbone from frames encoded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.sampling import ShuffledOrder
from ..config import StageConfig
from ..interfaces import Backbone, Losses, Observation, SeeingBackbone, Texts
from ..objectives.modality_dropout import drop_modalities
from ..policy import Policy
from .frame_cache import fingerprint, kept

ENCODE_BATCH = 256
GREY = 128  # of an image that is not there


class Windows(Protocol):
    """What imitation needs of `datasets.windows.WindowDataset`."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> dict[str, Any]: ...

    def numbers(self, indices: np.ndarray) -> dict[str, Any]: ...

    def frames(self, camera: str) -> np.ndarray: ...

    def frame_index(self, indices: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class EncodedFrames:
    """Every frame and every text of a store through a frozen backbone.

    Attributes:
        frames: as `SeeingBackbone.encode_frames` gives them [F, ...].
        texts: of the distinct instructions.
    """

    frames: Tensor
    texts: Texts


@dataclass(frozen=True)
class ImitationBatch:
    """Windows whose perception is either still to be done (`observation`) or done (`frames`, `states`, `mask`).

    Attributes:
        proprio: normalised, float32 [B, To, P].
        actions: normalised, float32 [B, Tp, A]; is_pad bool [B, Tp].
        images: camera -> uint8 [B, To, H, W, 3], or None.
        instructions: B texts.
        frames: encoded [B, To, ...], or None.
        text: the instructions, encoded, or None.
    """

    proprio: Tensor
    actions: Tensor
    is_pad: Tensor
    instructions: list[str]
    images: dict[str, Tensor] | None = None
    frames: Tensor | None = None
    text: Texts | None = None


@torch.no_grad()
def encode_store(
    backbone: SeeingBackbone,
    windows: Windows,
    rows: np.ndarray,
    frame_texts: Sequence[str],
    proprio: Tensor,
    folder: Path | None = None,
) -> tuple[EncodedFrames, list[str]]:
    """Encode frames of a store, each with a text.

    Args:
        backbone: frozen from here on.
        windows: of the store.
        rows: int64 [F], which frames.
        frame_texts: what each of them is seen with.
        proprio: normalised, at each of the frames, [F, P].
        folder: where encoded frames are kept between trainings.

    Returns:
        The encoded frames, and the distinct instructions in the order of `EncodedFrames.texts`; no words are the last.
    """
    distinct = list(dict.fromkeys(text for text in frame_texts if text)) + [""]
    texts = backbone.encode_text(distinct)
    place = {text: row for row, text in enumerate(distinct)}
    said = torch.tensor([place[text] for text in frame_texts], device=backbone.device)
    images = {camera: windows.frames(camera) for camera in backbone.cameras}

    def encode() -> Tensor:
        encoded = []
        for start in range(0, len(frame_texts), ENCODE_BATCH):
            part = slice(start, start + ENCODE_BATCH)
            chunk = {
                camera: torch.from_numpy(frames[rows[part]]).to(backbone.device) for camera, frames in images.items()
            }
            encoded.append(backbone.encode_frames(chunk, texts.select(said[part]), proprio[part]))
        return torch.cat(encoded)

    if folder is None:
        return EncodedFrames(encode(), texts), distinct
    frames = kept(folder, fingerprint(backbone, images, rows, frame_texts, proprio), encode)
    return EncodedFrames(frames.to(backbone.device), texts), distinct


class ImitationBatches:
    """Batch of a step, a pure function of (seed, step).

    Args:
        windows: of the store.
        stage: the stage's options.
        policy: for its normalisers and, with `cached`, its frozen backbone.
        seed: of the order.
        cached: keep all windows in memory, normalised; a backbone that sees encodes every frame now, once, and
            standardises the projector's inputs by them.
        folder: where encoded frames are kept between trainings.
    """

    def __init__(
        self,
        windows: Windows,
        stage: StageConfig,
        policy: Policy,
        seed: int,
        cached: bool,
        rank: int = 0,
        processes: int = 1,
        folder: Path | None = None,
    ) -> None:
        self.windows, self.policy, self.folder = windows, policy, folder
        self.rank, self.processes = rank, processes
        self.order = ShuffledOrder(len(windows), min(stage.batch_size, len(windows)), seed)
        self.seed, self.share = seed, stage.modality_dropout
        if not 0 <= self.share < 1 or (self.share and not isinstance(policy.backbone, SeeingBackbone)):
            raise ValueError(
                f"modality_dropout: found {self.share} with backbone {policy.config.backbone.kind!r}, wanted a share "
                "below 1, and 0 where there is one modality alone"
            )
        self.encoded: EncodedFrames | None = None
        self.cached = cached
        if cached:
            self._keep()

    def _keep(self) -> None:
        table = self.windows.numbers(np.arange(len(self.windows)))
        device, backbone = self.policy.backbone.device, self.policy.backbone
        self.instructions: list[str] = table["instruction"]
        self.proprio = self.policy.proprio_normaliser.normalise(torch.from_numpy(table["proprio"]).to(device))
        self.actions = self.policy.action_normaliser.normalise(torch.from_numpy(table["actions"]).to(device))
        self.is_pad = torch.from_numpy(table["is_pad"]).to(device)
        if isinstance(backbone, SeeingBackbone):
            self._encode(backbone)

    def _encode(self, backbone: SeeingBackbone) -> None:
        """Each frame once with every text and state that it is seen with.

        They are several where a sub-goal ends, or where a camera is slower than the control steps.
        """
        seen = self.windows.frame_index(np.arange(len(self.windows)))
        place = {text: number for number, text in enumerate(dict.fromkeys(self.instructions))}
        told = np.array([place[text] for text in self.instructions])
        states = self.proprio.flatten(0, 1)
        felt = np.unique(states.cpu().numpy(), axis=0, return_inverse=True)[1].reshape(seen.shape)
        said = seen * len(place) + told[:, None]
        _, first, index = np.unique(said * (felt.max() + 1) + felt, return_index=True, return_inverse=True)
        pairs = said.flatten()[first]
        texts, rows = list(place), pairs // len(place)
        frame_texts = [texts[number] for number in (pairs % len(place)).tolist()]
        self.frame_index = torch.from_numpy(index.reshape(seen.shape)).to(backbone.device)
        of_frames = states[torch.from_numpy(first).to(states.device)]
        self.encoded, distinct = encode_store(backbone, self.windows, rows, frame_texts, of_frames, self.folder)
        backbone.standardise(self.encoded.frames)
        where = {text: row for row, text in enumerate(distinct)}
        self.text_index = torch.tensor([where[text] for text in self.instructions], device=backbone.device)
        if self.share:  # where words guide the eyes, a frame looks otherwise without them
            unsaid = encode_store(backbone, self.windows, rows, [""] * len(rows), of_frames, self.folder)
            self.silent = unsaid[0].frames
            self.unseen = backbone.unseen(self.encoded.frames)

    def __call__(self, step: int) -> ImitationBatch:
        indices = self.order.indices(step)[self.rank :: self.processes]
        lacks = None
        if self.share:
            place = np.random.SeedSequence([self.seed, step, self.rank]).generate_state(1, np.uint64)[0]
            lacks = drop_modalities(len(indices), self.share, torch.Generator().manual_seed(int(place >> 1)))
        return self.from_cache(indices, lacks) if self.cached else self.raw(indices, lacks)

    def from_cache(self, indices: np.ndarray, lacks: Mapping[str, Tensor] | None = None) -> ImitationBatch:
        """Windows from memory; lacks: which of them are without a modality (`drop_modalities`)."""
        if not self.cached:
            raise ValueError("these batches were made with cached=False, so no window is kept")
        rows = torch.from_numpy(indices).to(self.actions.device)
        encoded, frames, words = self.encoded, None, None
        if encoded:
            frames, words = encoded.frames[self.frame_index[rows]], self.text_index[rows]
        if lacks and encoded and frames is not None and words is not None:
            quiet, dark = (lacks[name].to(frames.device) for name in ("language", "image"))
            frames[quiet] = self.silent[self.frame_index[rows[quiet]]]
            frames[dark] = self.unseen
            words = words.masked_fill(quiet, len(encoded.texts) - 1)
        return ImitationBatch(
            proprio=_without(self.proprio[rows], lacks),
            actions=self.actions[rows],
            is_pad=self.is_pad[rows],
            instructions=_unsaid([self.instructions[i] for i in indices], lacks),
            frames=frames,
            text=encoded.texts.select(words) if encoded and words is not None else None,
        )

    def raw(self, indices: np.ndarray, lacks: Mapping[str, Tensor] | None = None) -> ImitationBatch:
        """Windows with their images; lacks: as `from_cache`, but an image that is not there is grey."""
        items = self.windows.batch(indices)
        device = self.policy.backbone.device
        images = {camera: torch.from_numpy(items["images"][camera]).to(device) for camera in self.policy.cameras}
        if lacks:
            dark = lacks["image"].to(device)
            images = {camera: x.masked_fill(dark.view(-1, *[1] * (x.ndim - 1)), GREY) for camera, x in images.items()}
        proprio = self.policy.proprio_normaliser.normalise(torch.from_numpy(items["proprio"]).to(device))
        return ImitationBatch(
            proprio=_without(proprio, lacks),
            actions=self.policy.action_normaliser.normalise(torch.from_numpy(items["actions"]).to(device)),
            is_pad=torch.from_numpy(items["is_pad"]).to(device),
            instructions=_unsaid(list(items["instruction"]), lacks),
            images=images,
        )


def _without(proprio: Tensor, lacks: Mapping[str, Tensor] | None) -> Tensor:
    """Normalised proprioception [B, To, P], in the middle of its range where it is lacking."""
    return proprio.masked_fill(lacks["proprio"].to(proprio.device)[:, None, None], 0.0) if lacks else proprio


def _unsaid(instructions: list[str], lacks: Mapping[str, Tensor] | None) -> list[str]:
    if not lacks:
        return instructions
    return ["" if quiet else text for text, quiet in zip(instructions, lacks["language"].tolist(), strict=True)]


class ImitationObjective(nn.Module):
    """Loss of the head on windows; the same number whether their frames were encoded before or are encoded now."""

    def __init__(self, policy: Policy, stage: StageConfig, bf16: bool = False) -> None:
        super().__init__()
        self.policy, self.stage, self.bf16 = policy, stage, bf16
        if isinstance(policy.backbone, SeeingBackbone):
            policy.backbone.set_noise(stage.frame_noise)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Modules by the name a stage calls them."""
        return self.policy.parts

    def forward(self, batch: ImitationBatch) -> Losses:
        backbone, head = self.policy.backbone, self.policy.head
        proprio = batch.proprio
        if self.training and self.stage.proprio_noise:
            proprio = proprio + self.stage.proprio_noise * torch.randn_like(proprio)
        if isinstance(backbone, SeeingBackbone) and batch.frames is not None:
            context = backbone.assemble(batch.frames, proprio, batch.text)
        else:
            context = backbone(Observation(batch.images or {}, proprio, batch.instructions))
        with torch.autocast(proprio.device.type, torch.bfloat16, enabled=self.bf16):
            losses = head.loss(context, batch.actions, batch.is_pad)
        weight = self.stage.losses.get("action", 1.0)
        return Losses(weight * losses.total, losses.parts)


def is_frozen(stage: StageConfig, backbone: Backbone) -> bool:
    """Whether a stage leaves perception as it is, so that frames can be encoded once."""
    perception = backbone.perception if isinstance(backbone, SeeingBackbone) else ()
    return not any(stage.trainable.get(name, 0.0) for name in perception)
