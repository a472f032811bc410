"""The perception stage: a frame's code must tell where known points of the scene are in the picture.

For stores that keep poses but no segmentation and no scenes to describe: alignment teaches where what is named is, this
stage where the points of privileged streams are. What it trains is then frozen and encoded once, as after alignment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.sampling import ShuffledOrder
from ...datasets.spec import points_stream
from ..backbones.modular import ModularBackbone
from ..config import StageConfig
from ..interfaces import Losses
from ..policy import Policy
from .augmentation import colour_jitter, random_shift
from .imitate import Windows


class LabelledWindows(Windows, Protocol):
    """What perception needs of `datasets.windows.WindowDataset`."""

    def at_controls(self, stream: str) -> np.ndarray: ...


@dataclass(frozen=True)
class PerceiveBatch:
    """Single frames and the points to be found in them.

    Attributes:
        images: camera -> uint8 [B, H, W, 3].
        proprio: normalised, float32 [B, P].
        instructions: B texts.
        points: (u, v) in [-1, 1] of their camera's picture, float32 [B, K, 2].
    """

    images: dict[str, Tensor]
    proprio: Tensor
    instructions: list[str]
    points: Tensor


class PerceiveBatches:
    """Batch of a step, a pure function of (seed, step). Arguments as `ImitationBatches`.

    Raises:
        ValueError: the stage names no points, or a stream whose rows are not points.
    """

    def __init__(
        self,
        windows: LabelledWindows,
        stage: StageConfig,
        policy: Policy,
        seed: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if not stage.points:
            raise ValueError("perceive.points: found none, wanted privileged streams of points and their extent")
        self.windows, self.policy = windows, policy
        self.rank, self.processes = rank, processes
        self.order = ShuffledOrder(len(windows), min(stage.batch_size, len(windows)), seed)
        found = []
        for stream, extent in stage.points.items():
            values = windows.at_controls(stream)
            if values.ndim != 3 or values.shape[2] != 2 or not extent > 0:
                raise ValueError(
                    f"perceive.points: stream {stream!r}: found rows {values.shape[1:]} and extent {extent}, wanted "
                    "points [K, 2] and the width of the picture in their unit"
                )
            found.append(2 * values / extent - 1)
        self.points = torch.from_numpy(np.concatenate(found, axis=1).astype(np.float32))
        named = {points_stream(camera): i for i, camera in enumerate(policy.cameras)}
        self.camera_of = [
            named.get(stream, 0)
            for stream, values in zip(stage.points, found, strict=True)
            for _ in range(values.shape[1])
        ]

    def __call__(self, step: int) -> PerceiveBatch:
        indices = self.order.indices(step)[self.rank :: self.processes]
        items, device = self.windows.batch(indices), self.policy.backbone.device
        proprio = torch.from_numpy(items["proprio"][:, -1]).to(device)
        return PerceiveBatch(
            {name: torch.from_numpy(items["images"][name][:, -1]).to(device) for name in self.policy.cameras},
            self.policy.proprio_normaliser.normalise(proprio),
            list(items["instruction"]),
            self.points[torch.from_numpy(indices)].to(device),
        )


class PerceiveObjective(nn.Module):
    """L1 distance between the points and what a linear map reads from the encoded frame.

    The map `points` serves this stage alone. camera_of: number of the camera in whose picture each of the K points is.
    """

    def __init__(self, policy: Policy, stage: StageConfig, camera_of: Sequence[int]) -> None:
        super().__init__()
        self.policy, self.stage, self.camera_of = policy, stage, list(camera_of)
        self.points = nn.Linear(self._backbone.projector.frame_width, 2 * len(self.camera_of))

    @property
    def _backbone(self) -> ModularBackbone:
        return cast(ModularBackbone, self.policy.backbone)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Modules by the name a stage calls them."""
        return {**self.policy.parts, "points": self.points}

    def forward(self, batch: PerceiveBatch) -> Losses:
        backbone, points = self._backbone, batch.points
        grids, shifts = [], []
        for i, camera in enumerate(self.policy.cameras):
            images = batch.images[camera]
            moved = random_shift(images, images[..., 0], self.stage.shift_pixels)
            if moved.shift is not None:
                here = torch.tensor([camera == i for camera in self.camera_of], device=points.device)
                points = points - moved.shift[:, None] * here[:, None]
            grids.append(backbone.image_features(i, colour_jitter(moved.images, self.stage.colour_jitter)))
            shifts.append(moved.shift)
        roles = backbone.encode_text(batch.instructions).roles
        frames = backbone.grounding.read(grids, backbone.grounding.ground(grids, roles, batch.proprio, shifts))
        error = self.points(frames).view_as(points) - points
        loss = error.abs().mean()
        # In shares of the picture's width, which is 2 in (u, v).
        return Losses(loss, {"points": loss.detach(), "point_error": error.detach().norm(dim=-1).mean() / 2})
