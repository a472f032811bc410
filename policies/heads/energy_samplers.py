"""Searches for a chunk of low energy.

All take a `Landscape` of B contexts and return flattened chunks [B, D] in [-1, 1]. With `draw` "mode" that is the
lowest energy found; with "sample" it is a draw from exp(-E), as far as the search explores it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import EnergyConfig
from .mixture import GaussianMixture, pick
from .noise import Noise

FIRST_NOISE, SHRINK = 0.33, 0.5  # of the derivative-free searches, as Florence et al. 2021 chose them
FIRST_STEP, LAST_STEP, POWER, LARGEST_MOVE = 0.1, 1e-5, 2.0, 0.1  # of Langevin sampling, likewise


@dataclass(frozen=True)
class Landscape:
    """What a search sees of B contexts.

    Attributes:
        energy: of candidates [S, B, D]: [S, B].
        gradient: of the energy by the candidates, [S, B, D]; also where the caller disabled gradients.
        proposal: learned distribution of chunks, if there is one.
        noise: the only source of randomness.
        dim: D.
    """

    energy: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor], Tensor]
    proposal: GaussianMixture | None
    noise: Noise
    dim: int

    def uniform(self, count: int) -> Tensor:
        """Candidates [count, B, D] anywhere in [-1, 1]."""
        return self.noise.uniform(count, self.dim) * 2 - 1

    def start(self, count: int) -> Tensor:
        """Candidates [count, B, D] of the proposal, or uniform ones where there is none."""
        if self.proposal is None:
            return self.uniform(count)
        return self.proposal.sample(count, self.noise.generators).clamp(-1, 1)

    def select(self, candidates: Tensor, energy: Tensor, config: EnergyConfig) -> Tensor:
        """One of candidates [S, B, D] per context by energy [S, B]: the lowest, or one by weight exp(-E)."""
        mode = config.draw == "mode"
        return pick(candidates, energy.argmin(0) if mode else self.noise.choose(-energy.T, 1)[0])


def best_of_proposal(landscape: Landscape, config: EnergyConfig) -> Tensor:
    """Draws of the proposal, judged by the energy.

    "sample" takes one by its importance weight exp(-E) / q. "mode" searches on around draws and component means (which
    no draw comes near in many dimensions), with noise in the proportions of the proposal's standard deviations.
    """
    proposal, noise = landscape.proposal, landscape.noise
    if proposal is None:
        raise ValueError('policy.head.energy.sampler: "proposal" needs a head with a proposal')
    draws = proposal.sample(config.samples, noise.generators)
    if config.draw == "sample":
        weight = -landscape.energy(draws) - proposal.log_prob(draws)
        return pick(draws, noise.choose(weight.T, 1)[0]).clamp(-1, 1)
    candidates = torch.cat([proposal.centres(), draws]).clamp(-1, 1)
    energy, scale = landscape.energy(candidates), proposal.spread()
    for _ in range(config.iterations):
        scale = scale * SHRINK
        best = pick(candidates, energy.argmin(0))
        around = pick(candidates, noise.choose(-energy.T, config.samples))
        moved = around + proposal.along(scale * noise.normal(config.samples, landscape.dim))
        candidates = torch.cat([best[None], moved.clamp(-1, 1)])
        energy = landscape.energy(candidates)
    return pick(candidates, energy.argmin(0))


def derivative_free(landscape: Landscape, config: EnergyConfig) -> Tensor:
    """Uniform candidates, drawn again by weight exp(-E) and moved by noise that shrinks (Florence et al. 2021)."""
    candidates = landscape.uniform(config.samples)
    energy, scale = landscape.energy(candidates), FIRST_NOISE
    for _ in range(config.iterations):
        chosen = pick(candidates, landscape.noise.choose(-energy.T, config.samples))
        moved = chosen + scale * landscape.noise.normal(config.samples, landscape.dim)
        candidates = moved.clamp(-1, 1)
        energy, scale = landscape.energy(candidates), scale * SHRINK
    return landscape.select(candidates, energy, config)


def autoregressive(landscape: Landscape, config: EnergyConfig) -> Tensor:
    """Derivative-free along one number of the chunk after the other, given the others' present values.

    The first sweep tries all of [-1, 1], later ones the neighbourhood. With "sample" this is Gibbs sampling on random
    grids. Unlike Florence et al. 2021 it uses one energy of the whole chunk, not one model per prefix.
    """
    candidates = landscape.start(config.samples)
    chunk = landscape.select(candidates, landscape.energy(candidates), config)
    for sweep in range(config.iterations):
        scale = FIRST_NOISE * SHRINK**sweep
        for number in range(landscape.dim):
            if sweep:
                values = chunk[:, number] + scale * landscape.noise.normal(config.samples)
            else:
                values = landscape.noise.uniform(config.samples) * 2 - 1
            candidates = chunk.repeat(config.samples, 1, 1)
            candidates[1:, :, number] = values[1:].clamp(-1, 1)  # the first stays where it is
            chunk = landscape.select(candidates, landscape.energy(candidates), config)
    return chunk


def langevin(landscape: Landscape, config: EnergyConfig) -> Tensor:
    """Gradient steps with noise, of a size that decays polynomially (Florence et al. 2021, appendix B)."""
    candidates = landscape.start(config.samples)
    steps = max(config.langevin_iterations - 1, 1)
    for i in range(config.langevin_iterations):
        size = (FIRST_STEP - LAST_STEP) * (1 - i / steps) ** POWER + LAST_STEP
        direction = 0.5 * landscape.gradient(candidates) + landscape.noise.normal(config.samples, landscape.dim)
        candidates = (candidates - (size * direction).clamp(-LARGEST_MOVE, LARGEST_MOVE)).clamp(-1, 1)
    if config.draw == "sample":
        return candidates[0]  # each chain is a draw already
    return landscape.select(candidates, landscape.energy(candidates), config)


SAMPLERS = {
    "proposal": best_of_proposal,
    "derivative_free": derivative_free,
    "autoregressive": autoregressive,
    "langevin": langevin,
}
