"""Energy head: implicit behaviour cloning with uniform counter-examples, or with those of a learned proposal."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .conditioning import Conditioning
from .energy_samplers import SAMPLERS, Landscape
from .mixture import GaussianMixture, MixtureNetwork, mean_of_counted, negative_log_likelihood, pick
from .noise import Noise, hold

WIDENED = 1.1  # uniform counter-examples reach beyond [-1, 1], so that the energy also rises outside


class EnergyNetwork(nn.Module):
    """Residual MLP over the flattened chunk, every block modulated by the context (FiLM), to one number per chunk.

    The context enters by its modulation alone, computed once for all candidates. First and last layer stay in float32
    under autocast: bf16 would round actions to 1/256 and energies to a quarter of a nat.
    """

    def __init__(self, dim: int, condition: int, width: int, blocks: int, normalised: bool) -> None:
        super().__init__()
        limit = spectral_norm if normalised else nn.Identity()
        self.blocks = blocks
        self.enter = limit(nn.Linear(dim, width))
        self.from_condition = nn.Linear(condition, 2 * width * blocks)
        self.norms = nn.ModuleList([nn.LayerNorm(width, elementwise_affine=False) for _ in range(blocks)])
        self.first = nn.ModuleList([limit(nn.Linear(width, width)) for _ in range(blocks)])
        self.second = nn.ModuleList([limit(nn.Linear(width, width)) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.leave = limit(nn.Linear(width, 1, bias=False))  # a constant would change nothing

    def modulation(self, condition: Tensor) -> Tensor:
        """All that the energy needs of the context: [B, M]."""
        return self.from_condition(condition)

    def forward(self, chunks: Tensor, modulation: Tensor) -> Tensor:
        """Energies float32 [S, B] of chunks [S, B, D] given modulation [B, M]."""
        device = chunks.device.type
        with torch.autocast(device, enabled=False):
            x = self.enter(chunks.float())
        film = modulation.chunk(2 * self.blocks, dim=-1)
        for i, (norm, first, second) in enumerate(zip(self.norms, self.first, self.second, strict=True)):
            hidden = film[2 * i + 1] + norm(x) * (1 + film[2 * i])
            x = x + second(F.silu(first(hidden)))
        with torch.autocast(device, enabled=False):
            return self.leave(F.silu(self.norm(x.float())))[..., 0]


class EnergyHead(ActionHead):
    """exp(-E(context, chunk)) as the unnormalised density of chunks. Arguments as `DiffusionHead`.

    "info_nce" finds the true chunk among uniform ones (Florence et al. 2021, arXiv:2109.00137). "ranking" finds it
    among draws of a mixture trained beside it, whose log-density is subtracted from every logit (Singh et al. 2023,
    arXiv:2309.05803): exp(-E) still tends to the density of the data, while the counter-examples stay hard in many
    dimensions.

    With "ranking" the network learns what the energy differs by from -log q of that mixture, which is a constant where
    the mixture is right. Learned from nothing, an energy has to undo log q first, which in a chunk of 100 numbers
    differs by tens of nats from one candidate to the next, and in a training of minutes it did not get there.
    """

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        super().__init__()
        options = config.energy
        counts = {name: getattr(options, name) for name in ("negatives", "proposal_components", "samples")}
        if min(counts.values()) < 1:
            raise ValueError(f"policy.head.energy: found {counts}, wanted at least 1 of each")
        self.shape, self.options, dim = (horizon, action_dim), options, horizon * action_dim
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.energy = EnergyNetwork(dim, config.context_width, options.width, options.blocks, options.spectral_norm)
        self.proposal = None
        if options.objective == "ranking" or options.sampler == "proposal":
            # With a conditioning of its own: in a shared one the energy's gradient kept the likelihood from falling.
            sizes = (options.proposal_components, horizon, action_dim, num_tokens, token_width)
            self.proposal = MixtureNetwork(config, *sizes)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Cross-entropy of the true chunk among counter-examples, plus the proposal's likelihood.

        In rows that are padding the last action is held; see `ActionHead.loss`.
        The parts tell: "energy" (the cross-entropy), "energy_gap" (of the mean counter-example above the truth),
        "effective_negatives" (exponential of the entropy of the counter-examples' softmax), "argmin_l1" (of the
        counter-example of lowest energy to the truth), and what else is trained ("proposal", "gradient_penalty").
        """
        condition = self.conditioning(context)
        truth, counts = hold(actions, is_pad).flatten(1).float(), (~is_pad).any(1)
        proposal = None if self.proposal is None else self.proposal(context)
        candidates, log_proposal = self._candidates(truth, proposal)
        candidates.requires_grad_(self.options.gradient_penalty > 0)
        learned = self.energy(candidates, self.energy.modulation(condition))
        energy, logits = learned - log_proposal, -learned
        loss = mean_of_counted(logits.logsumexp(0) - logits[0], counts)
        total, parts = loss, {"energy": loss.detach(), **_diagnostics(candidates, energy, logits, counts)}
        if proposal is not None:
            likelihood = negative_log_likelihood(proposal, truth, counts)
            total, parts["proposal"] = total + likelihood, likelihood.detach()
        if self.options.gradient_penalty > 0:
            (slope,) = torch.autograd.grad(learned.sum(), candidates, create_graph=True)
            steep = F.relu(slope.abs().amax(-1) - self.options.gradient_margin).square().mean(0)
            penalty = mean_of_counted(steep, counts)
            total, parts["gradient_penalty"] = total + self.options.gradient_penalty * penalty, penalty.detach()
        return Losses(total, parts)

    @torch.no_grad()
    def _candidates(self, truth: Tensor, proposal: GaussianMixture | None) -> tuple[Tensor, Tensor]:
        """The truth and then its counter-examples [1 + N, B, D], and their log-density [1 + N, B] or a constant, 0."""
        count = self.options.negatives
        if self.options.objective == "ranking":
            assert proposal is not None  # the constructor sees to it
            candidates = torch.cat([truth[None], proposal.sample(count)])
            return candidates, proposal.log_prob(candidates)
        uniform = (torch.rand(count, *truth.shape, device=truth.device) * 2 - 1) * WIDENED
        return torch.cat([truth[None], uniform]), truth.new_zeros(())

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """A chunk of low energy by the configured search; see `ActionHead.sample`."""
        modulation = self.energy.modulation(self.conditioning(context))
        proposal = None if self.proposal is None else self.proposal(context)
        landscape = Landscape(
            energy=self._energy_under(modulation, proposal),
            gradient=self._gradient_under(modulation, proposal),
            proposal=proposal,
            noise=Noise(generators, modulation.shape[0], modulation.device),
            dim=self.shape[0] * self.shape[1],
        )
        with torch.no_grad():
            return SAMPLERS[self.options.sampler](landscape, self.options).unflatten(1, self.shape)

    def energies(self, context: TokenGroup, chunks: Tensor) -> Tensor:
        """Energies float32 [S, B] of chunks [S, B, Tp, A]; exp(-E) is the density, but for a factor of the context."""
        proposal = None if self.proposal is None else self.proposal(context)
        return self._energy_under(self.energy.modulation(self.conditioning(context)), proposal)(chunks.flatten(2))

    def _energy_under(self, modulation: Tensor, proposal: GaussianMixture | None) -> Callable[[Tensor], Tensor]:
        """The energy of flattened chunks [S, B, D]: [S, B]."""
        if proposal is None or self.options.objective != "ranking":
            return lambda chunks: self.energy(chunks, modulation)
        return lambda chunks: self.energy(chunks, modulation) - proposal.log_prob(chunks)

    def _gradient_under(self, modulation: Tensor, proposal: GaussianMixture | None) -> Callable[[Tensor], Tensor]:
        """The energy's gradient by candidates [S, B, D], which works within `torch.inference_mode` too.

        Tensors made in inference mode cannot take part in a gradient; their copies made outside of it can.
        """

        def ordinary(tensor: Tensor) -> Tensor:
            return tensor.clone() if tensor.is_inference() else tensor.detach()

        with torch.inference_mode(False):
            weights = itertools.chain(self.energy.parameters(), self.energy.buffers())
            network = copy.deepcopy(self.energy) if any(w.is_inference() for w in weights) else self.energy
            context = ordinary(modulation)
            base = None
            if proposal is not None and self.options.objective == "ranking":
                waves = None if proposal.basis is None else ordinary(proposal.basis)
                logits, mean, std = map(ordinary, (proposal.logits, proposal.mean, proposal.std))
                base = GaussianMixture(logits, mean, std, waves)

        def gradient(chunks: Tensor) -> Tensor:
            with torch.inference_mode(False), torch.enable_grad():
                moving = chunks.clone().requires_grad_()
                energy = network(moving, context)
                if base is not None:
                    energy = energy - base.log_prob(moving)
                return torch.autograd.grad(energy.sum(), moving)[0]

        return gradient


@torch.no_grad()
def _diagnostics(candidates: Tensor, energy: Tensor, logits: Tensor, counts: Tensor) -> dict[str, Tensor]:
    """What `EnergyHead.loss` tells of candidates [1 + N, B, D], the truth first, over contexts that count, bool [B]."""
    weight = logits[1:].log_softmax(0)
    lowest = pick(candidates[1:], energy[1:].argmin(0))
    distance = (lowest - candidates[0]).abs().mean(1)
    return {
        "energy_gap": mean_of_counted(energy[1:].mean(0) - energy[0], counts),
        "effective_negatives": mean_of_counted((-(weight.exp() * weight).sum(0)).exp(), counts),
        "argmin_l1": mean_of_counted(distance, counts),
    }
