"""The imitation stage: the head learns the demonstrations, on a frozen backbone from frames encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.sampling import ShuffledOrder
from ..config import StageConfig
from ..interfaces import Backbone, Losses, Observation, SeeingBackbone, Texts
from ..policy import Policy

ENCODE_BATCH = 256


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
    backbone: SeeingBackbone, windows: Windows, frame_texts: Sequence[str], proprio: Tensor
) -> tuple[EncodedFrames, list[str]]:
    """Encode each frame of a store once, given the instruction of its episode.

    Args:
        backbone: frozen from here on.
        windows: of the store.
        frame_texts: the instruction of each of the F frames.
        proprio: normalised, at each of the frames, [F, P].

    Returns:
        The encoded frames, and the distinct instructions in the order of `EncodedFrames.texts`.
    """
    distinct = list(dict.fromkeys(frame_texts))
    texts = backbone.encode_text(distinct)
    place = {text: row for row, text in enumerate(distinct)}
    rows = torch.tensor([place[text] for text in frame_texts], device=backbone.device)
    images = {camera: windows.frames(camera) for camera in backbone.cameras}
    encoded = []
    for start in range(0, len(frame_texts), ENCODE_BATCH):
        part = slice(start, start + ENCODE_BATCH)
        chunk = {
            camera: torch.from_numpy(np.ascontiguousarray(frames[part])).to(backbone.device)
            for camera, frames in images.items()
        }
        encoded.append(backbone.encode_frames(chunk, texts.select(rows[part]), proprio[part]))
    return EncodedFrames(torch.cat(encoded), texts), distinct


class ImitationBatches:
    """Batch of a step, a pure function of (seed, step).

    Args:
        windows: of the store.
        stage: the stage's options.
        policy: for its normalisers and, with `cached`, its frozen backbone.
        seed: of the order.
        cached: keep all windows in memory, normalised; a backbone that sees encodes every frame now, once, and
            standardises the projector's inputs by them.
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
    ) -> None:
        self.windows, self.policy = windows, policy
        self.rank, self.processes = rank, processes
        self.order = ShuffledOrder(len(windows), min(stage.batch_size, len(windows)), seed)
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
        index = torch.from_numpy(self.windows.frame_index(np.arange(len(self.windows))))
        texts = [""] * len(self.windows.frames(backbone.cameras[0]))
        for rows, text in zip(index.tolist(), self.instructions, strict=True):
            for row in rows:
                texts[row] = text
        self.frame_index = index.to(backbone.device)
        of_frames = self.proprio.new_zeros(len(texts), self.proprio.shape[-1])
        of_frames[self.frame_index.flatten()] = self.proprio.flatten(0, 1)
        self.encoded, distinct = encode_store(backbone, self.windows, texts, of_frames)
        backbone.standardise(self.encoded.frames)
        place = {text: row for row, text in enumerate(distinct)}
        self.text_index = torch.tensor([place[text] for text in self.instructions], device=backbone.device)

    def __call__(self, step: int) -> ImitationBatch:
        indices = self.order.indices(step)[self.rank :: self.processes]
        return self.from_cache(indices) if self.cached else self.raw(indices)

    def from_cache(self, indices: np.ndarray) -> ImitationBatch:
        """Windows from memory."""
        if not self.cached:
            raise ValueError("these batches were made with cached=False, so no window is kept")
        rows = torch.from_numpy(indices).to(self.actions.device)
        encoded = self.encoded
        return ImitationBatch(
            proprio=self.proprio[rows],
            actions=self.actions[rows],
            is_pad=self.is_pad[rows],
            instructions=[self.instructions[i] for i in indices],
            frames=encoded.frames[self.frame_index[rows]] if encoded else None,
            text=encoded.texts.select(self.text_index[rows]) if encoded else None,
        )

    def raw(self, indices: np.ndarray) -> ImitationBatch:
        """Windows with their images."""
        items = self.windows.batch(indices)
        device = self.policy.backbone.device
        return ImitationBatch(
            proprio=self.policy.proprio_normaliser.normalise(torch.from_numpy(items["proprio"]).to(device)),
            actions=self.policy.action_normaliser.normalise(torch.from_numpy(items["actions"]).to(device)),
            is_pad=torch.from_numpy(items["is_pad"]).to(device),
            instructions=list(items["instruction"]),
            images={camera: torch.from_numpy(items["images"][camera]).to(device) for camera in self.policy.cameras},
        )


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
