"""Denoisers of action chunks: a residual FiLM MLP, a FiLM 1-D convolutional U-Net and a transformer.

All map a noisy chunk, a diffusion step (flow matching takes values between them, too) and a conditioning vector to a
chunk. The chunk may carry S draws per context: the part of the modulation that depends on the context is computed once
for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import HeadConfig


def timestep_embedding(timestep: Tensor, width: int) -> Tensor:
    """Sinusoidal embeddings of diffusion steps [...], whole or not (Vaswani et al. 2017): [..., width]."""
    frequency = torch.exp(torch.arange(width // 2, device=timestep.device) * (-math.log(10000.0) / (width // 2)))
    angle = timestep[..., None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TimeEncoder(nn.Module):
    """Diffusion steps [...], int64 or between two of them, to vectors [..., width].

    With `levels` it also takes int64 levels [...] below that number, of step length, for shortcut models; None is 0.
    """

    def __init__(self, timesteps: int, width: int, levels: int = 0) -> None:
        super().__init__()
        self.register_buffer("table", timestep_embedding(torch.arange(timesteps), 64), persistent=False)
        self.table: Tensor
        self.mlp = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.level = nn.Embedding(levels, 64) if levels else None

    def forward(self, timestep: Tensor, level: Tensor | None = None) -> Tensor:
        embedded = timestep_embedding(timestep, 64) if timestep.is_floating_point() else self.table[timestep]
        if self.level is not None:
            embedded = embedded + self.level(torch.zeros_like(timestep, dtype=torch.int64) if level is None else level)
        return self.mlp(embedded)


class MLPDenoiser(nn.Module):
    """Residual MLP over the flattened chunk; every block is modulated (FiLM, Perez et al. 2018) by context and step."""

    def __init__(
        self, horizon: int, dim: int, condition: int, width: int, blocks: int, timesteps: int, levels: int = 0
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.enter = nn.Linear(horizon * dim, width)
        self.time = TimeEncoder(timesteps, 128, levels)
        self.from_condition = nn.Linear(condition, 2 * width * blocks)
        self.from_time = nn.Linear(128, 2 * width * blocks, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(blocks)])
        self.first = nn.ModuleList([nn.Linear(width, width) for _ in range(blocks)])
        self.second = nn.ModuleList([nn.Linear(width, width) for _ in range(blocks)])
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, horizon * dim))

    def modulation(self, condition: Tensor) -> Tensor:
        """The context's share of the modulation, computed once per context: [B, M]."""
        return self.from_condition(condition)

    def forward(self, noisy: Tensor, timestep: Tensor, modulation: Tensor, level: Tensor | None = None) -> Tensor:
        """Noisy chunks [S, B, T, A], steps and levels [S, B], modulation [B, M] to chunks [S, B, T, A]."""
        x = self.enter(noisy.flatten(-2))
        film = (modulation + self.from_time(self.time(timestep, level))).chunk(2 * self.blocks, dim=-1)
        for i, (norm, first, second) in enumerate(zip(self.norms, self.first, self.second, strict=True)):
            hidden = torch.addcmul(film[2 * i + 1], norm(x), 1 + film[2 * i])
            x = x + second(F.silu(first(hidden)))
        return self.leave(x).view_as(noisy)


class FilmConvBlock(nn.Module):
    """Two 1-D convolutions with GroupNorm, modulated in between, and a residual path."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        groups = 8 if outputs % 8 == 0 else 1
        self.first = nn.Sequential(nn.Conv1d(inputs, outputs, 3, padding=1), nn.GroupNorm(groups, outputs), nn.SiLU())
        self.second = nn.Sequential(nn.Conv1d(outputs, outputs, 3, padding=1), nn.GroupNorm(groups, outputs), nn.SiLU())
        self.film = nn.Linear(condition, 2 * outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[..., None].chunk(2, dim=1)
        return self.second(self.first(x) * (1 + scale) + shift) + self.skip(x)


class UNetDenoiser(nn.Module):
    """FiLM 1-D U-Net over time (Chi et al. 2023, Diffusion Policy), small.

    The horizon must be divisible by 2 for every level after the first.
    """

    def __init__(
        self, horizon: int, dim: int, condition: int, channels: Sequence[int], timesteps: int, levels: int = 0
    ) -> None:
        super().__init__()
        if horizon % 2 ** (len(channels) - 1):
            raise ValueError(
                f"action_horizon {horizon}: the U-Net with {len(channels)} levels needs a multiple of "
                f"{2 ** (len(channels) - 1)}; change policy.action_horizon or policy.head.unet_channels"
            )
        self.time = TimeEncoder(timesteps, condition, levels)
        self.enter = nn.Conv1d(dim, channels[0], 1)
        sizes = list(channels)
        self.down = nn.ModuleList(
            [FilmConvBlock(a, b, condition) for a, b in zip([sizes[0], *sizes[:-1]], sizes, strict=True)]
        )
        self.middle = FilmConvBlock(sizes[-1], sizes[-1], condition)
        above = [sizes[-1], *sizes[:0:-1]]
        self.up = nn.ModuleList(
            [FilmConvBlock(a + b, b, condition) for a, b in zip(above, reversed(sizes), strict=True)]
        )
        self.leave = nn.Conv1d(sizes[0], dim, 1)

    def modulation(self, condition: Tensor) -> Tensor:
        """The context's share of the modulation [B, M]."""
        return condition

    def forward(self, noisy: Tensor, timestep: Tensor, modulation: Tensor, level: Tensor | None = None) -> Tensor:
        """Noisy chunks [S, B, T, A], steps and levels [S, B], modulation [B, M] to chunks [S, B, T, A]."""
        condition = (self.time(timestep, level) + modulation).flatten(0, 1)
        x = self.enter(noisy.flatten(0, 1).transpose(1, 2))
        skips = []
        for depth, block in enumerate(self.down):
            x = block(F.avg_pool1d(x, 2) if depth else x, condition)
            skips.append(x)
        x = self.middle(x, condition)
        for depth, block in enumerate(self.up):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest") if depth else x
            x = block(torch.cat([x, skips.pop()], dim=1), condition)
        return self.leave(x).transpose(1, 2).view_as(noisy)


class TransformerDenoiser(nn.Module):
    """A token for each action of the chunk; layer norms are modulated by context and step (Peebles and Xie 2023)."""

    def __init__(
        self,
        horizon: int,
        dim: int,
        condition: int,
        width: int,
        layers: int,
        heads: int,
        timesteps: int,
        levels: int = 0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"policy.head.denoiser_width: found {width}, wanted a multiple of denoiser_heads, {heads}, for the "
                "transformer"
            )
        self.heads = heads
        self.time = TimeEncoder(timesteps, condition, levels)
        self.enter = nn.Linear(dim, width)
        self.place = nn.Parameter(0.02 * torch.randn(horizon, width))
        self.norms = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(2 * layers)])
        self.mixing = nn.ModuleList([nn.Linear(width, 3 * width) for _ in range(layers)])
        self.mixed = nn.ModuleList([nn.Linear(width, width) for _ in range(layers)])
        self.mlps = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)) for _ in range(layers)]
        )
        self.films = nn.ModuleList([nn.Linear(condition, 6 * width) for _ in range(layers)])
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))

    def modulation(self, condition: Tensor) -> Tensor:
        """The context's share of the modulation [B, M]."""
        return condition

    def forward(self, noisy: Tensor, timestep: Tensor, modulation: Tensor, level: Tensor | None = None) -> Tensor:
        """Noisy chunks [S, B, T, A], steps and levels [S, B], modulation [B, M] to chunks [S, B, T, A]."""
        condition = F.silu(self.time(timestep, level) + modulation).flatten(0, 1)
        x = self.enter(noisy.flatten(0, 1)) + self.place
        for layer, film in enumerate(self.films):
            scale, shift, gate, mlp_scale, mlp_shift, mlp_gate = film(condition)[:, None].chunk(6, dim=-1)
            hidden = torch.addcmul(shift, self.norms[2 * layer](x), 1 + scale)
            query, key, value = self.mixing[layer](hidden).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            x = x + (1 + gate) * self.mixed[layer](mixed)
            hidden = torch.addcmul(mlp_shift, self.norms[2 * layer + 1](x), 1 + mlp_scale)
            x = x + (1 + mlp_gate) * self.mlps[layer](hidden)
        return self.leave(x).view_as(noisy)


Denoiser = MLPDenoiser | UNetDenoiser | TransformerDenoiser


def build_denoiser(config: HeadConfig, horizon: int, dim: int, levels: int = 0) -> Denoiser:
    """The denoiser that `config.denoiser` names, for chunks [horizon, dim]; `levels` as `TimeEncoder`."""
    condition, timesteps = config.context_width, config.train_timesteps
    if config.denoiser == "unet":
        return UNetDenoiser(horizon, dim, condition, config.unet_channels, timesteps, levels)
    width, blocks = config.denoiser_width, config.denoiser_blocks
    if config.denoiser == "transformer":
        return TransformerDenoiser(horizon, dim, condition, width, blocks, config.denoiser_heads, timesteps, levels)
    return MLPDenoiser(horizon, dim, condition, width, blocks, timesteps, levels)
