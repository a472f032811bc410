"""The energy head ranks chunks as the data's density does, under every objective and search it offers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from deixis.policies.config import EnergyConfig, HeadConfig
from deixis.policies.heads.energy import EnergyHead
from deixis.policies.heads.energy_samplers import SAMPLERS, Landscape
from deixis.policies.heads.mixture import GaussianMixture, pick
from deixis.policies.heads.noise import Noise
from deixis.policies.heads.regression import RegressionHead
from deixis.policies.interfaces import TokenGroup

from .test_mixture_head import PROBLEMS, as_context, context, fit_and_draw, generators, p_value

HORIZON, DIM, TOKENS, WIDTH = 4, 3, 5, 8
SMALL = EnergyConfig(
    width=32, blocks=2, negatives=16, proposal_components=3, samples=32, iterations=2, langevin_iterations=5
)
TINY = HeadConfig(kind="energy", context_width=32, energy=SMALL)
VARIANTS: list[dict[str, Any]] = [
    {"objective": objective, "sampler": sampler, "draw": draw}
    for objective, sampler, draw in itertools.product(("ranking", "info_nce"), SAMPLERS, ("mode", "sample"))
] + [
    {"spectral_norm": True, "sampler": "langevin"},
    {"gradient_penalty": 1.0, "gradient_margin": 0.0},
    {"objective": "info_nce", "sampler": "langevin", "spectral_norm": True, "gradient_penalty": 1.0},
]


def make(**options: Any) -> EnergyHead:
    torch.manual_seed(0)
    return EnergyHead(replace(TINY, energy=replace(SMALL, **options)), HORIZON, DIM, TOKENS, WIDTH)


def some_actions() -> tuple[Tensor, Tensor]:
    actions = torch.rand(3, HORIZON, DIM, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return actions, torch.zeros(3, HORIZON, dtype=torch.bool)


@pytest.mark.parametrize("options", VARIANTS, ids=lambda o: "-".join(map(str, o.values())))
def test_loss_has_gradients_and_samples_are_bounded_and_independent_of_the_batch(options: dict[str, Any]) -> None:
    head = make(**options)
    losses = head.loss(context(), *some_actions())
    losses.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in head.parameters())
    assert all(not part.requires_grad and part.isfinite() for part in losses.parts.values())
    assert {"energy", "energy_gap", "effective_negatives", "argmin_l1"} <= losses.parts.keys()
    assert 1 <= losses.parts["effective_negatives"] <= SMALL.negatives * 1.001
    uses_proposal = options.get("objective") != "info_nce" or options.get("sampler") == "proposal"
    assert ("proposal" in losses.parts) == (head.proposal is not None) == uses_proposal

    head.eval()
    whole = context()
    with torch.inference_mode():
        together = head.sample(whole, generators(5, 6, 7))
        alone = head.sample(TokenGroup(whole.tokens[1:2], whole.mask[1:2]), generators(6))
        assert head.sample(whole).shape == together.shape == (3, HORIZON, DIM)
    assert together.abs().max() <= 1
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)
    if head.options.draw == "sample":  # a minimum may be found from any start
        assert not torch.equal(head.sample(whole, generators(8, 9, 10)), together)


@pytest.mark.parametrize("objective", ["ranking", "info_nce"])
@pytest.mark.parametrize("gradient_penalty", [0.0, 1.0])
def test_padding_rows_do_not_count(objective: str, gradient_penalty: float) -> None:
    head = make(objective=objective, gradient_penalty=gradient_penalty, gradient_margin=0.0)
    actions, is_pad = some_actions()
    is_pad[:, 2:] = True
    changed = actions.clone()
    changed[:, 2:] = 0.9

    def totals(target: Tensor, padding: Tensor) -> tuple[float, dict[str, float]]:
        torch.manual_seed(3)
        losses = head.loss(context(), target, padding)
        return losses.total.item(), {name: part.item() for name, part in losses.parts.items()}

    assert totals(actions, is_pad) == totals(changed, is_pad)
    is_pad[1] = True  # an element without any row left does not count at all
    moved = actions.clone()
    moved[1] = 0.5
    assert totals(actions, is_pad) == totals(moved, is_pad)
    assert totals(actions, torch.ones_like(is_pad))[0] == 0
    none = torch.zeros_like(is_pad)
    assert totals(actions, none)[0] != totals(changed, none)[0]


@pytest.mark.parametrize("objective", ["ranking", "info_nce"])
def test_loss_under_autocast_is_that_of_float32(objective: str) -> None:
    head = make(objective=objective)

    def total() -> Tensor:
        torch.manual_seed(3)
        return head.loss(context(), *some_actions()).total

    exact = total()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = total()
    rounded.backward()
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), abs=0.05)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("name", ["negatives", "proposal_components", "samples"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}': 0.*wanted at least 1"):
        make(**{name: 0})


def test_the_counter_examples_do_not_train_the_proposal() -> None:
    """Its gradient is that of its own likelihood, whatever the energy."""

    def gradients(scale: float) -> list[Tensor]:
        head = make()
        with torch.no_grad():
            head.energy.leave.weight.mul_(scale)  # pyright: ignore
        torch.manual_seed(3)
        head.loss(context(), *some_actions()).total.backward()
        assert head.proposal is not None
        return [p.grad for p in head.proposal.parameters() if p.grad is not None]

    for first, second in zip(gradients(1.0), gradients(5.0), strict=True):
        assert torch.equal(first, second)


def test_langevin_follows_weights_made_in_inference_mode_too() -> None:
    with torch.inference_mode():
        made_inside = make(sampler="langevin").eval()
        inside = made_inside.sample(context(), generators(1, 2, 3))
    outside = make(sampler="langevin").eval().sample(context(), generators(1, 2, 3))
    assert not outside.requires_grad
    torch.testing.assert_close(inside.clone(), outside, atol=1e-4, rtol=0)


def test_spectral_norm_limits_every_layer() -> None:
    head = make(spectral_norm=True)
    with torch.no_grad():
        for layer in [head.energy.enter, *head.energy.first, *head.energy.second]:
            layer.parametrizations["weight"].original.mul_(20)  # pyright: ignore
    for _ in range(30):  # every step in training improves the estimate of the largest singular value
        head.loss(context(), *some_actions())
    head.eval()
    for layer in [head.energy.enter, *head.energy.first, *head.energy.second]:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.05)  # pyright: ignore


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_searches_find_the_minimum_of_a_known_energy(sampler: str) -> None:
    centre = torch.tensor([[0.5, -0.3], [-0.7, 0.1]])

    def energy(chunks: Tensor) -> Tensor:
        return ((chunks - centre) / 0.1).square().sum(-1) / 2

    def gradient(chunks: Tensor) -> Tensor:
        return (chunks - centre) / 0.01

    far = GaussianMixture(torch.zeros(2, 1), torch.zeros(2, 1, 2), torch.full((2, 1, 2), 0.5))
    noise = Noise(generators(0, 1), 2, torch.device("cpu"))
    landscape = Landscape(energy, gradient, far, noise, 2)
    found = SAMPLERS[sampler](landscape, EnergyConfig(sampler=sampler))  # pyright: ignore
    assert (found - centre).abs().max() < 0.06

    wide = EnergyConfig(sampler=sampler, draw="sample", samples=64)  # pyright: ignore
    many = Noise([torch.Generator().manual_seed(seed) for seed in range(300)], 300, torch.device("cpu"))
    centre = centre[:1].expand(300, 2)
    far = GaussianMixture(torch.zeros(300, 1), torch.zeros(300, 1, 2), torch.full((300, 1, 2), 0.5))
    drawn = SAMPLERS[sampler](Landscape(energy, gradient, far, many, 2), wide)
    assert (drawn.mean(0) - centre[0]).abs().max() < 0.05
    if sampler in ("proposal", "autoregressive"):  # the others are searches more than draws
        assert (drawn.std(0) - 0.1).abs().max() < 0.03


@pytest.mark.parametrize("problem", PROBLEMS)
def test_draws_pass_the_two_sample_test_that_regression_fails(problem: str) -> None:
    torch.manual_seed(0)
    size = 2 if problem == "ring" else 1
    options = EnergyConfig(width=32, blocks=2, negatives=16, proposal_components=4, samples=128, draw="sample")
    config = HeadConfig(kind="energy", context_width=32, denoiser_width=32, energy=options)
    assert p_value(*fit_and_draw(EnergyHead(config, 1, size, 1, 1), problem, 400), problem) > 0.001
    assert p_value(*fit_and_draw(RegressionHead(config, 1, size, 1, 1), problem, 400), problem) < 0.001


def fit(head: EnergyHead, data: Callable[[int], tuple[Tensor, Tensor]], steps: int, batch: int) -> None:
    """Train on contexts [B, 1] and chunks [B, Tp, A]."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x, actions = data(batch)
        optimizer.zero_grad()
        head.loss(as_context(x), actions, torch.zeros(actions.shape[:2], dtype=torch.bool)).total.backward()
        optimizer.step()
        decay.step()
    head.eval()


def test_energies_rank_as_the_density() -> None:
    means, stds = torch.tensor([[-0.4, -0.3], [0.4, 0.4]]), torch.tensor([[0.2, 0.3], [0.3, 0.2]])
    truth = GaussianMixture(torch.tensor([[0.0, 0.7]]), means[None], stds[None])
    torch.manual_seed(0)
    options = EnergyConfig(width=32, blocks=2, negatives=16, proposal_components=1)
    head = EnergyHead(HeadConfig(kind="energy", context_width=16, energy=options), 1, 2, 1, 1)
    fit(head, lambda number: (torch.zeros(number, 1), truth.sample(number)), 400, batch=64)
    line = torch.linspace(-0.9, 0.9, 25)
    grid = torch.cartesian_prod(line, line)[:, None]
    with torch.no_grad():
        energy = head.energies(as_context(torch.zeros(1, 1)), grid[:, :, None])[:, 0]
        assert head.proposal is not None
        proposal = head.proposal(as_context(torch.zeros(1, 1))).log_prob(grid)[:, 0]
    density = truth.log_prob(grid)[:, 0]
    ranks = float(spearmanr(-energy, density).statistic)  # pyright: ignore
    print("spearman", ranks, float(spearmanr(proposal, density).statistic))  # pyright: ignore
    assert ranks > 0.9
    assert ranks > float(spearmanr(proposal, density).statistic)  # pyright: ignore


def waves(x: Tensor) -> Tensor:
    """Chunks [..., 8, 2] that move with x [..., 1]."""
    phase = torch.linspace(0, 3, 8) + 2 * x
    return 0.6 * torch.stack([phase.sin(), phase.cos()], dim=-1)


def sided(chunks: Tensor) -> Tensor:
    """Each chunk [..., 8, 2], or its opposite."""
    return chunks * (torch.randint(0, 2, (*chunks.shape[:-2], 1, 1)) * 2.0 - 1)


def two_waves(number: int) -> tuple[Tensor, Tensor]:
    x = torch.rand(number, 1) * 2 - 1
    return x, sided(waves(x)) + 0.03 * torch.randn(number, 8, 2)


def errors_in_sixteen_dimensions(objective: Any) -> dict[str, float]:
    """Mean distance to the nearer of the two waves, trained by an objective at a fixed budget.

    "common": of the arg-min of candidates at all distances from the data, the same for every objective; "proposal" and
    "derivative_free": of the chunk that this search finds.
    """
    torch.manual_seed(0)
    options = EnergyConfig(width=64, blocks=2, negatives=16, objective=objective, sampler="proposal")
    head = EnergyHead(HeadConfig(kind="energy", context_width=32, energy=options), 8, 2, 1, 1)
    fit(head, two_waves, 300, batch=64)
    x = torch.linspace(-0.9, 0.9, 16)[:, None]

    def error(found: Tensor) -> float:
        both = torch.stack([found - waves(x), found + waves(x)]).abs().mean((-1, -2))
        return both.min(0).values.mean().item()

    with torch.inference_mode():
        found = {}
        for sampler in ("proposal", "derivative_free"):
            head.options = replace(options, sampler=sampler)
            found[sampler] = error(head.sample(as_context(x), generators(*range(16))))
        torch.manual_seed(1)
        distance = 10 ** (torch.rand(4000, 1, 1) * 2 - 2)
        neighbours = sided(waves(x + 0.3 * distance * torch.randn(4000, 16, 1)))
        candidates = neighbours + 0.3 * distance[..., None] * torch.randn(4000, 16, 8, 2)
        lowest = pick(candidates.flatten(2), head.energies(as_context(x), candidates).argmin(0))
        found["common"] = error(lowest.unflatten(1, (8, 2)))
    return found


def test_ranking_keeps_its_minimum_on_the_data_in_sixteen_dimensions_where_uniform_negatives_do_not() -> None:
    ranking, uniform = (errors_in_sixteen_dimensions(objective) for objective in ("ranking", "info_nce"))
    print("errors", ranking, uniform)
    assert ranking["common"] < 0.01
    assert ranking["common"] < 0.33 * uniform["common"]
    assert ranking["proposal"] < 0.1 * uniform["derivative_free"]  # each method as published, search included
    assert ranking["proposal"] < uniform["proposal"]
