"""Autoencoders of action chunks, with a vector-quantised or a variational bottleneck."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COMMITMENT = 0.25  # weight of the pull of latents to their codes (van den Oord et al. 2017)
DECAY = 0.99  # of the moving averages that codes are
PEAK_RATE = 4e-3  # of Adam, after a warm-up of a tenth of the steps
RARE = 0.1  # share of the average use below which a code is dead


class Bottleneck(nn.Module):
    """What lies between encoder and decoder, and what it asks for.

    Attributes:
        inputs: shape of what the encoder makes of a chunk.
        latents: shape of what the decoder reads.
        bounded: whether the encoder stays within (-1, 1).
    """

    inputs: tuple[int, ...]
    latents: tuple[int, ...]
    bounded: bool = False

    def squeeze(self, encoded: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents [B, *latents] of what was encoded [B, *inputs], while training, and the price of each, [B]."""
        raise NotImplementedError


class ResidualCodes(Bottleneck):
    """Each of `vectors` latents as a sum of codes, one of every level, each level taking what those before left.

    Vector quantisation with moving averages (van den Oord et al. 2017, arXiv:1711.00937), its residual form
    (Zeghidour et al. 2021, arXiv:2107.03312). A code that is hardly used starts again from a latent of the batch.
    The latents are bounded, for nothing else keeps an encoder from running away from codes that follow it slowly.

    Attributes:
        codes: [vectors, levels, codes, width].
        usage: moving average of how many latents of a batch take each code [vectors, levels, codes].
        sums: moving average of the sum of those latents.
    """

    def __init__(self, vectors: int, levels: int, codes: int, width: int) -> None:
        super().__init__()
        self.inputs = self.latents = (vectors, width)
        self.bounded = True
        self.levels = levels
        self.register_buffer("codes", torch.zeros(vectors, levels, codes, width))
        self.register_buffer("usage", torch.zeros(vectors, levels, codes))
        self.register_buffer("sums", torch.zeros(vectors, levels, codes, width))
        self.codes: Tensor
        self.usage: Tensor
        self.sums: Tensor

    def squeeze(self, encoded: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The codes' sums, through which gradients flow as if they were the latents; codes learn from the batch."""
        quantised = self.look_up(self.learn(encoded.detach(), generator))
        price = COMMITMENT * (encoded - quantised).square().mean((1, 2))
        return encoded + (quantised - encoded).detach(), price

    def indices(self, encoded: Tensor) -> Tensor:
        """Of latents [B, vectors, width], every level's code nearest to what is left: int64 [B, vectors, levels]."""
        left, chosen = encoded.transpose(0, 1), []
        for level in range(self.levels):
            chosen.append(self._nearest(left, level))
            left = left - self._take(chosen[-1], level)
        return torch.stack(chosen, dim=-1).transpose(0, 1)

    def look_up(self, indices: Tensor) -> Tensor:
        """The latents [B, vectors, width] of code indices [B, vectors, levels]."""
        of = indices.transpose(0, 1)
        return sum(self._take(of[..., level], level) for level in range(self.levels)).transpose(0, 1)  # pyright: ignore

    @torch.no_grad()
    def learn(self, encoded: Tensor, generator: torch.Generator) -> Tensor:
        """Move the codes towards the latents that take them; returns the `indices` before."""
        left, chosen = encoded.transpose(0, 1), []
        batch, count = len(encoded), self.codes.shape[2]
        for level in range(self.levels):
            codes, usage, sums = self.codes[:, level], self.usage[:, level], self.sums[:, level]
            dead = usage < RARE * batch / count
            drawn = torch.randint(batch, dead.shape, generator=generator).to(left.device)
            fresh = left.gather(1, drawn[..., None].expand_as(codes))
            usage.masked_fill_(dead, batch / count)
            codes.copy_(torch.where(dead[..., None], fresh, codes))
            sums.copy_(torch.where(dead[..., None], fresh * (batch / count), sums))
            chosen.append(self._nearest(left, level))
            taken = F.one_hot(chosen[-1], count).to(left.dtype)
            remains = left - self._take(chosen[-1], level)
            usage.lerp_(taken.sum(1), 1 - DECAY)
            sums.lerp_(taken.transpose(1, 2) @ left, 1 - DECAY)
            codes.copy_(sums / usage[..., None])
            left = remains
        return torch.stack(chosen, dim=-1).transpose(0, 1)

    def _nearest(self, left: Tensor, level: int) -> Tensor:
        """Of latents [vectors, B, width] the index of the nearest code [vectors, B]."""
        codes = self.codes[:, level]
        return (codes.square().sum(-1)[:, None] - 2 * left @ codes.transpose(1, 2)).argmin(-1)

    def _take(self, indices: Tensor, level: int) -> Tensor:
        """Codes [vectors, B, width] of indices [vectors, B]."""
        codes = self.codes[:, level]
        return codes.gather(1, indices[..., None].expand(-1, -1, codes.shape[-1]))


class GaussianLatent(Bottleneck):
    """A vector of noise and mean that should tell as little as it can (Kingma and Welling 2014, arXiv:1312.6114).

    Args:
        width: of the latent.
        weight: of the divergence from a standard normal distribution, nats, against the squared error.
    """

    def __init__(self, width: int, weight: float) -> None:
        super().__init__()
        self.inputs, self.latents, self.weight = (2, width), (width,), weight

    def squeeze(self, encoded: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A draw from the posterior, and its divergence from the prior."""
        mean, log_std = encoded.unbind(1)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
        return mean + log_std.exp() * noise, self.weight * divergence.sum(1)


class ChunkAutoencoder(nn.Module):
    """Chunks [B, Tp, A] to what a bottleneck takes, and latents to chunks, each by a linear map and an MLP together.

    Args:
        horizon: Tp.
        action_dim: A.
        width: of the hidden layers.
        bottleneck: `ResidualCodes` or `GaussianLatent`.
    """

    def __init__(self, horizon: int, action_dim: int, width: int, bottleneck: Bottleneck) -> None:
        super().__init__()
        self.chunk, self.bottleneck = (horizon, action_dim), bottleneck
        self.encoder = _Layers(horizon * action_dim, width, math.prod(bottleneck.inputs))
        self.decoder = _Layers(math.prod(bottleneck.latents), width, horizon * action_dim)

    def encode(self, chunks: Tensor) -> Tensor:
        """[B, Tp, A] to [B, *inputs] of the bottleneck."""
        encoded = self.encoder(chunks.flatten(1)).unflatten(1, self.bottleneck.inputs)
        return encoded.tanh() if self.bottleneck.bounded else encoded

    def decode(self, latents: Tensor) -> Tensor:
        """[B, *latents] of the bottleneck to [B, Tp, A]."""
        return self.decoder(latents.flatten(1)).unflatten(1, self.chunk)


def train_autoencoder(
    autoencoder: ChunkAutoencoder, chunks: Tensor, steps: int, generator: torch.Generator, batch_size: int = 256
) -> None:
    """Descend the squared error of chunks [N, Tp, A], and the bottleneck's price, by Adam.

    The same generator, on the CPU, gives the same weights.
    """
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=PEAK_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps + 1, pct_start=0.1)
    autoencoder.train()
    for _ in range(steps):
        rows = torch.randint(len(chunks), (batch_size,), generator=generator)
        batch = chunks[rows.to(chunks.device)]
        latents, price = autoencoder.bottleneck.squeeze(autoencoder.encode(batch), generator)
        error = (autoencoder.decode(latents) - batch).square().mean((1, 2))
        optimizer.zero_grad()
        (error + price).mean().backward()
        optimizer.step()
        schedule.step()
    autoencoder.eval()


class _Layers(nn.Module):
    """A linear map, which learns the bulk at once, plus a residual MLP for the rest."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.line = nn.Linear(inputs, outputs)
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, outputs)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.line(x) + self.last(hidden)
