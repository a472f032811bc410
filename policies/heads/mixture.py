"""Mixture-density head: a conditional mixture of Gaussians over the flattened chunk (Bishop 1994).

The Gaussians are independent along the cosine waves of a chunk, not along its single actions: neighbouring actions are
much alike, so a draw with independent noise on each is a jagged path that no demonstration shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .compressed_tokens import cosine_transform
from .conditioning import Conditioning, residual_trunk
from .noise import Noise, hold

MINIMUM_STD = 0.01  # of actions in [-1, 1]: keeps the likelihood bounded where demonstrations repeat exactly


def pick(candidates: Tensor, index: Tensor) -> Tensor:
    """Of candidates [S, B, D] those that index [..., B] names, each element its own: [..., B, D]."""
    return candidates[index, torch.arange(candidates.shape[1], device=candidates.device)]


@dataclass(frozen=True)
class GaussianMixture:
    """Mixtures of K Gaussians in D dimensions, independent along the rows of a basis, one per context, in float32.

    Attributes:
        logits: of the components [B, K].
        mean: in coordinates of the basis [B, K, D].
        std: likewise [B, K, D].
        basis: orthonormal [D, D]; None for the axes.
    """

    logits: Tensor
    mean: Tensor
    std: Tensor
    basis: Tensor | None = None

    def log_prob(self, chunks: Tensor) -> Tensor:
        """Log-density, in nats, of chunks [S, B, D]: [S, B]."""
        place = chunks.float() if self.basis is None else chunks.float() @ self.basis.T
        deviation = (place[:, :, None] - self.mean) / self.std
        log_density = -0.5 * deviation.square() - self.std.log() - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(log_density.sum(-1) + self.logits.log_softmax(-1), dim=-1)

    def along(self, coordinates: Tensor) -> Tensor:
        """Coordinates [..., D] of the basis as numbers of the chunk [..., D]."""
        return coordinates if self.basis is None else coordinates @ self.basis

    def centres(self) -> Tensor:
        """Means of the components as chunks [K, B, D]."""
        return self.along(self.mean).transpose(0, 1)

    def sample(self, count: int, generators: Generators = None, share: float = 1.0) -> Tensor:
        """Chunks [count, B, D], unclipped; element b draws component and noise from `generators[b]` alone.

        share: of the standard deviation that draws keep.
        """
        noise = Noise(generators, self.mean.shape[0], self.mean.device)
        component = noise.choose(self.logits, count)
        mean, std = (pick(of.transpose(0, 1), component) for of in (self.mean, self.std))
        return self.along(mean + share * std * noise.normal(count, self.mean.shape[-1]))

    def spread(self) -> Tensor:
        """Standard deviation along the basis within a component, averaged over components: [B, D]."""
        return (self.logits.softmax(-1)[..., None] * self.std).sum(1)

    def detach(self) -> GaussianMixture:
        """The same mixture, through which no gradient flows."""
        return GaussianMixture(self.logits.detach(), self.mean.detach(), self.std.detach(), self.basis)


class MixtureNetwork(nn.Module):
    """Context tokens to a `GaussianMixture` over chunks; components: K, the rest as `DiffusionHead`.

    The means are a linear map of the context plus what an MLP makes of it: a component that goes where the context says
    is learned at once, and to any precision.
    """

    def __init__(
        self,
        config: HeadConfig,
        components: int,
        horizon: int,
        action_dim: int,
        num_tokens: int,
        token_width: int,
    ) -> None:
        super().__init__()
        dim, width = horizon * action_dim, config.denoiser_width
        self.shape = (components, dim)
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.trunk = residual_trunk(config.context_width, width, config.denoiser_blocks)
        self.logits = nn.Linear(width, components)
        self.mean = nn.Linear(width, components * dim)
        self.line = nn.Linear(num_tokens * token_width, components * dim, bias=False)
        self.std = nn.Linear(width, components * dim)
        nn.init.zeros_(self.line.weight)
        nn.init.uniform_(self.mean.bias, -0.7, 0.7)  # components that start in one place stay there
        # A constant action a is a * sqrt(Tp) in the slowest wave; faster ones are smaller in what moves smoothly.
        size = horizon**0.5 / torch.arange(1, horizon + 1).repeat_interleave(action_dim)
        self.register_buffer("size", size, persistent=False)
        self.register_buffer("waves", torch.kron(cosine_transform(horizon), torch.eye(action_dim)), persistent=False)
        self.size: Tensor
        self.waves: Tensor

    def forward(self, context: TokenGroup) -> GaussianMixture:
        hidden = self.trunk(self.conditioning(context))
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 knows actions to 1/256 only
            hidden, flat = hidden.float(), (context.tokens * context.mask[..., None]).flatten(1).float()
            mean = (self.mean(hidden) + self.line(flat)).unflatten(1, self.shape) * self.size
            std = MINIMUM_STD + F.softplus(self.std(hidden).unflatten(1, self.shape) - 1) * self.size
            return GaussianMixture(self.logits(hidden), mean, std, self.waves)


def negative_log_likelihood(mixture: GaussianMixture, chunk: Tensor, counts: Tensor) -> Tensor:
    """Nats per number, a scalar, for the chunks [B, D] that count, bool [B]; without any it is 0."""
    return -mean_of_counted(mixture.log_prob(chunk[None])[0], counts) / chunk.shape[1]


def mean_of_counted(values: Tensor, counts: Tensor) -> Tensor:
    """Mean of values [B] where counts [B] holds; 0 without any."""
    return (values * counts).sum() / counts.sum().clamp_min(1)


class MixtureHead(ActionHead):
    """Maximum likelihood of a mixture of Gaussians (`HeadConfig.mixture`). Arguments as `DiffusionHead`."""

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        super().__init__()
        options = config.mixture
        if options.components < 1 or options.noise < 0:
            raise ValueError(
                f"policy.head.mixture: found components {options.components}, noise {options.noise}, wanted at least 1 "
                "and at least 0"
            )
        self.shape, self.options = (horizon, action_dim), options
        sizes = (options.components, horizon, action_dim, num_tokens, token_width)
        self.mixture = MixtureNetwork(config, *sizes)

    def distribution(self, context: TokenGroup) -> GaussianMixture:
        """The mixture over flattened chunks [B, Tp * A] that each context calls for."""
        return self.mixture(context)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Negative log-likelihood in nats per number; in padding the last action is held. See `ActionHead.loss`."""
        chunk = hold(actions, is_pad).flatten(1)
        loss = negative_log_likelihood(self.distribution(context), chunk, (~is_pad).any(1))
        return Losses(loss, {"nll": loss.detach()})

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """One draw per context, clipped; see `ActionHead.sample`."""
        return (
            self.distribution(context)
            .sample(1, generators, self.options.noise)[0]
            .unflatten(1, self.shape)
            .clamp(-1, 1)
        )
