"""The image towers of the modular route: what each camera sees, as a grid and as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from ..config import BackboneConfig
from .image import ImageTower, mean_and_peak
from .vision import Seen, build_vision, shared_size


class ConvViews(nn.ModuleList):
    """Small convolutions, a tower for each camera, at a quarter of its resolution.

    Attributes:
        grids: (rows, columns) of each camera's features.
        width: of a feature.
        summary_width: of a view as a whole.
    """

    def __init__(self, config: BackboneConfig, cameras: Mapping[str, tuple[int, int]]) -> None:
        # A module's dictionary cannot hold names with dots, a camera's name may have them: a list in camera order.
        super().__init__(ImageTower(size, config.image_channels, config.image_blocks) for size in cameras.values())
        self.grids = [cast(ImageTower, tower).grid for tower in self]
        self.width, self.summary_width = config.image_channels, 2 * config.image_channels

    def features(self, camera: int, images: Tensor) -> Tensor:
        """One camera's images [F, H, W, 3] (uint8, or float in [0, 1]) as features [F, h, w, C]."""
        return self[camera](images)

    def see(self, camera: int, images: Tensor) -> Seen:
        """Features, and a summary [F, S]."""
        features = self.features(camera, images)
        return Seen(features, mean_and_peak(features))


class TowerViews(nn.Module):
    """A vision transformer for all cameras: methods and attributes as `ConvViews`, but `camera` does not matter."""

    def __init__(self, config: BackboneConfig, cameras: Mapping[str, tuple[int, int]]) -> None:
        super().__init__()
        self.encoder = build_vision(config.vision, shared_size(config.vision, cameras))
        self.grids = [self.encoder.grid] * len(cameras)
        self.width, self.summary_width = self.encoder.width, self.encoder.summary_width

    def features(self, camera: int, images: Tensor) -> Tensor:
        return self.encoder(images).unflatten(1, self.encoder.grid)

    def see(self, camera: int, images: Tensor) -> Seen:
        seen = self.encoder.see(images)
        return Seen(seen.tokens.unflatten(1, self.encoder.grid), seen.summary)


def build_views(config: BackboneConfig, cameras: Mapping[str, tuple[int, int]]) -> ConvViews | TowerViews:
    """The towers that `config.vision.kind` names."""
    return (ConvViews if config.vision.kind == "conv" else TowerViews)(config, cameras)
