"""Mixture-density head: a conditional mixture of diagonal Gaussians over the flattened chunk (Bishop 1994)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .conditioning import Conditioning
from .noise import Noise

MINIMUM_STD = 0.01  # of actions in [-1, 1]: keeps the likelihood bounded where demonstrations repeat exactly


def pick(candidates: Tensor, index: Tensor) -> Tensor:
    """Of candidates [S, B, D] those that index [..., B] names, each element its own: [..., B, D]."""
    return candidates[index, torch.arange(candidates.shape[1], device=candidates.device)]


@dataclass(frozen=True)
class GaussianMixture:
    """Mixtures of K diagonal Gaussians in D dimensions, one per context, in float32.

    Attributes:
        logits: of the components [B, K].
        mean: [B, K, D].
        std: [B, K, D].
    """

    logits: Tensor
    mean: Tensor
    std: Tensor

    def log_prob(self, chunks: Tensor, keep: Tensor) -> Tensor:
        """Log-density, in nats, of chunks [S, B, D] in the dimensions that keep [B, D] names: [S, B]."""
        deviation = (chunks[:, :, None].float() - self.mean) / self.std
        log_density = -0.5 * deviation.square() - self.std.log() - 0.5 * math.log(2 * math.pi)
        within = (log_density * keep[:, None]).sum(-1)
        return torch.logsumexp(within + self.logits.log_softmax(-1), dim=-1)

    def sample(self, count: int, generators: Generators = None) -> Tensor:
        """Chunks [count, B, D], unclipped; element b draws component and noise from `generators[b]` alone."""
        noise = Noise(generators, self.mean.shape[0], self.mean.device)
        component = noise.choose(self.logits, count)
        mean, std = (pick(of.transpose(0, 1), component) for of in (self.mean, self.std))
        return mean + std * noise.normal(count, self.mean.shape[-1])

    def spread(self) -> Tensor:
        """Standard deviation within a component, averaged over components: [B, D]."""
        return (self.logits.softmax(-1)[..., None] * self.std).sum(1)

    def detach(self) -> GaussianMixture:
        """The same mixture, through which no gradient flows."""
        return GaussianMixture(self.logits.detach(), self.mean.detach(), self.std.detach())


class MixtureNetwork(nn.Module):
    """Conditioning vector [B, condition] to a `GaussianMixture` over `dim` numbers."""

    def __init__(self, condition: int, width: int, dim: int, components: int) -> None:
        super().__init__()
        self.shape = (components, dim)
        self.hidden = nn.Sequential(nn.Linear(condition, width), nn.SiLU())
        self.logits = nn.Linear(width, components)
        self.mean = nn.Linear(width, components * dim)
        self.std = nn.Linear(width, components * dim)
        nn.init.uniform_(self.mean.bias, -0.7, 0.7)  # components that start in one place stay there

    def forward(self, condition: Tensor) -> GaussianMixture:
        hidden = self.hidden(condition)
        with torch.autocast(hidden.device.type, enabled=False):  # bf16 knows actions to 1/256 only
            hidden = hidden.float()
            std = MINIMUM_STD + F.softplus(self.std(hidden) - 1)
            return GaussianMixture(
                self.logits(hidden), self.mean(hidden).unflatten(1, self.shape), std.unflatten(1, self.shape)
            )


def kept_dimensions(is_pad: Tensor, action_dim: int) -> Tensor:
    """Which numbers of the flattened chunk count, bool [B, Tp * A], from the rows that do not, is_pad [B, Tp]."""
    return (~is_pad).repeat_interleave(action_dim, dim=1)


def negative_log_likelihood(mixture: GaussianMixture, chunk: Tensor, keep: Tensor) -> Tensor:
    """Nats per number that counts, a scalar, for chunks [B, D] and keep [B, D]; without any it is 0."""
    return -(mixture.log_prob(chunk[None], keep)[0] * keep.any(1)).sum() / keep.sum().clamp_min(1)


class MixtureHead(ActionHead):
    """Maximum likelihood of a mixture of `config.components` Gaussians. Arguments as `DiffusionHead`."""

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        super().__init__()
        self.shape = (horizon, action_dim)
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.mixture = MixtureNetwork(
            config.context_width, config.denoiser_width, horizon * action_dim, config.components
        )

    def distribution(self, context: TokenGroup) -> GaussianMixture:
        """The mixture over flattened chunks [B, Tp * A] that each context calls for."""
        return self.mixture(self.conditioning(context))

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Negative log-likelihood in nats per number that is not padding; see `ActionHead.loss`."""
        keep = kept_dimensions(is_pad, self.shape[1])
        loss = negative_log_likelihood(self.distribution(context), actions.flatten(1), keep)
        return Losses(loss, {"nll": loss.detach()})

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """One draw per context, clipped; see `ActionHead.sample`."""
        return self.distribution(context).sample(1, generators)[0].unflatten(1, self.shape).clamp(-1, 1)
