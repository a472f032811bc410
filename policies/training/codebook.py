"""The codebook stage: a picture's codes must be enough to draw it again."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.sampling import ShuffledOrder
from ..backbones.fusion import FusionBackbone
from ..config import StageConfig
from ..interfaces import Losses
from ..policy import Policy
from .augmentation import colour_jitter, random_shift
from .imitate import Windows


class CodebookBatches:
    """Pictures [B, H, W, 3] of all cameras, a pure function of (seed, step). Arguments as `ImitationBatches`.

    Raises:
        ValueError: the backbone has no codebook.
    """

    def __init__(
        self,
        windows: Windows,
        stage: StageConfig,
        policy: Policy,
        seed: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        if not isinstance(policy.backbone, FusionBackbone):
            raise ValueError(
                f"codebook.steps: found {stage.steps} with backbone {policy.config.backbone.kind!r}, wanted 0: of the "
                "backbones fusion alone has a codebook"
            )
        self.frames = [windows.frames(camera) for camera in policy.cameras]
        self.device, self.rank, self.processes = policy.backbone.device, rank, processes
        count = sum(len(frames) for frames in self.frames)
        self.order = ShuffledOrder(count, min(stage.batch_size, count), seed)

    def __call__(self, step: int) -> Tensor:
        indices = self.order.indices(step)[self.rank :: self.processes]
        each = len(self.frames[0])
        rows = [self.frames[index // each][index % each] for index in indices.tolist()]
        return torch.from_numpy(np.stack(rows)).to(self.device)


class CodebookObjective(nn.Module):
    """`ImageCodebook.loss` of pictures, shifted and with other colours as the next stages show them."""

    def __init__(self, policy: Policy, stage: StageConfig) -> None:
        super().__init__()
        self.policy, self.stage = policy, stage

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Modules by the name a stage calls them."""
        return self.policy.parts

    def forward(self, images: Tensor) -> Losses:
        moved = random_shift(images, images[..., 0], self.stage.shift_pixels).images
        codebook = cast(FusionBackbone, self.policy.backbone).codebook
        losses = codebook.loss(colour_jitter(moved, self.stage.colour_jitter))
        return Losses(self.stage.losses.get("reconstruction", 1.0) * losses.total, losses.parts)
