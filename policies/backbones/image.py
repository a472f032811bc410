"""The image tower: a small residual convolutional network at stride 4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 4


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]; floating images pass unchanged."""
    return images.float() / 255.0 if images.dtype == torch.uint8 else images


def cell_centres(height: int, width: int) -> Tensor:
    """Centres of a grid's cells as (u, v), right and down, in [-1, 1]: [height * width, 2]."""
    v = (torch.arange(height) + 0.5) / height * 2 - 1
    u = (torch.arange(width) + 0.5) / width * 2 - 1
    return torch.stack([u.expand(height, width), v[:, None].expand(height, width)], -1).reshape(-1, 2)


def mean_and_peak(features: Tensor) -> Tensor:
    """Mean and maximum of features [n, ..., C] over what is between, side by side: [n, 2 * C].

    Objects are small: the maximum tells that one is there, the mean how much of the view it fills.
    """
    cells = features.flatten(1, -2)
    return torch.cat([cells.mean(1), cells.amax(1)], dim=-1)


class GridPlaces(nn.Module):
    """What a token of a grid is told of its place: a learned row and a learned column.

    Attention weighs values by how far away they are at most; which place a value is from, it has to say itself.
    """

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(grid[0], 1, width) * 0.02)
        self.columns = nn.Parameter(torch.randn(1, grid[1], width) * 0.02)

    def forward(self) -> Tensor:
        """Of each token, row after row: [rows * columns, width]."""
        return (self.rows + self.columns).flatten(0, 1)


class ResidualBlock(nn.Module):
    """Pre-activation residual block (He et al. 2016) with one GroupNorm (Wu and He 2018), a costly layer on a CPU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = 8 if channels % 8 == 0 else 1
        self.norm = nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(self.norm(x)))))


class ImageTower(nn.Module):
    """One camera's images to a feature grid at a quarter of the resolution.

    A 4x4 patch becomes 48 channels before the first convolution: every pixel is kept and all convolutions run on the
    small grid, which is what a CPU is fast at. Coordinates enter once, as an additive map, so that a feature knows its
    place.

    Args:
        size: image height and width, pixels; multiples of 4.
        channels: channels of the feature grid.
        blocks: residual blocks.
    """

    def __init__(self, size: tuple[int, int], channels: int, blocks: int) -> None:
        super().__init__()
        if size[0] % STRIDE or size[1] % STRIDE:
            raise ValueError(f"image size {size}: height and width must be multiples of {STRIDE}")
        self.grid = (size[0] // STRIDE, size[1] // STRIDE)
        self.patch = nn.Conv2d(3 * STRIDE**2, channels, 3, padding=1)
        self.coordinates = nn.Linear(2, channels)
        self.blocks = nn.ModuleList([ResidualBlock(channels) for _ in range(blocks)])
        self.norm = nn.GroupNorm(8 if channels % 8 == 0 else 1, channels)
        self.register_buffer("centres", cell_centres(*self.grid), persistent=False)
        self.centres: Tensor
        self.to(memory_format=torch.channels_last)  # pyright: ignore

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, H, W, 3], uint8 or float in [0, 1], to features [B, h, w, channels]."""
        batch, (height, width) = images.shape[0], self.grid
        patches = images.reshape(batch, height, STRIDE, width, STRIDE, 3).transpose(2, 3)
        patches = to_unit_range(patches.reshape(batch, height, width, -1)) * 2 - 1
        x = self.patch(patches.permute(0, 3, 1, 2))  # a channels-last view: no copy
        x = x + self.coordinates(self.centres).T.reshape(1, -1, height, width).to(x.dtype)
        for block in self.blocks:
            x = block(x)
        return F.relu(self.norm(x)).permute(0, 2, 3, 1)
