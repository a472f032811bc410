"""The mixture head's density is exact, ignores padding, and its draws follow distributions that L1 cannot."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from deixis.policies.config import HeadConfig, MixtureConfig
from deixis.policies.heads.mixture import MINIMUM_STD, GaussianMixture, MixtureHead, Noise
from deixis.policies.heads.regression import RegressionHead
from deixis.policies.interfaces import ActionHead, TokenGroup

from .head_inputs import TOKENS, WIDTH, context, generators

TINY = HeadConfig(kind="mixture", context_width=32, denoiser_width=32, mixture=MixtureConfig(components=3))
HORIZON, DIM = 4, 3


def make(config: HeadConfig = TINY) -> MixtureHead:
    torch.manual_seed(0)
    return MixtureHead(config, HORIZON, DIM, TOKENS, WIDTH)


def random_mixture(seed: int, batch: int, components: int, dim: int) -> GaussianMixture:
    generator = torch.Generator().manual_seed(seed)
    mean, raw = torch.randn(2, batch, components, dim, generator=generator)
    return GaussianMixture(torch.randn(batch, components, generator=generator), mean, raw.exp() + MINIMUM_STD)


@given(seed=st.integers(0, 10_000), batch=st.integers(1, 3), components=st.integers(1, 4), dim=st.integers(1, 6))
@settings(max_examples=25)
def test_log_density_is_that_of_torch(seed: int, batch: int, components: int, dim: int) -> None:
    mixture = random_mixture(seed, batch, components, dim)
    normals = Independent(Normal(mixture.mean, mixture.std), 1)
    reference = MixtureSameFamily(Categorical(logits=mixture.logits), normals)
    chunks = torch.randn(5, batch, dim, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(mixture.log_prob(chunks), reference.log_prob(chunks))


def test_along_a_basis_the_gaussians_are_independent() -> None:
    """Against torch's multivariate normal with the covariance that follows: density, draws and centres."""
    basis = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    plain = random_mixture(0, 1, 1, 4)
    mixture = GaussianMixture(plain.logits, plain.mean, plain.std, basis)
    covariance = basis.T @ torch.diag(plain.std[0, 0].square()) @ basis
    normal = MultivariateNormal(plain.mean[0, 0] @ basis, covariance)
    chunks = torch.randn(6, 1, 4)
    torch.testing.assert_close(mixture.log_prob(chunks)[:, 0], normal.log_prob(chunks[:, 0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(mixture.centres()[0, 0], normal.mean)
    draws = mixture.sample(40_000, generators(0))[:, 0]
    assert ((draws.T.cov() - covariance).abs() < 0.05 * covariance.diagonal().max()).all()


def test_draws_are_as_smooth_as_the_demonstrations() -> None:
    """Ramps of any slope: draws bend as little as they do, where noise on each action by itself would bend them."""
    torch.manual_seed(0)
    config = HeadConfig(kind="mixture", context_width=16, denoiser_width=64, mixture=MixtureConfig(components=1))
    head = MixtureHead(config, 8, 1, 1, 1)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    nothing = TokenGroup(torch.zeros(64, 1, 1), torch.ones(64, 1, dtype=torch.bool))
    for _ in range(300):
        ramps = (torch.rand(64, 1, 1) - 0.5) * torch.linspace(-1, 1, 8)[:, None]
        loss = head.loss(nothing, ramps, torch.zeros(64, 8, dtype=torch.bool)).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    draws = head.sample(nothing, generators(*range(64)))[..., 0]
    bends = draws.diff(n=2, dim=1).std()
    assert draws[:, -1].std() > 0.1 and bends < 0.25 * draws[:, -1].std()


def test_draws_have_the_moments_of_the_mixture() -> None:
    mixture = random_mixture(3, 2, 3, 2)
    weight = mixture.logits.softmax(-1)[..., None]
    mean = (weight * mixture.mean).sum(1)
    variance = (weight * (mixture.std.square() + mixture.mean.square())).sum(1) - mean.square()
    draws = mixture.sample(20_000, generators(0, 1))
    assert ((draws.mean(0) - mean).abs() < 5 * (variance / 20_000).sqrt()).all()
    assert ((draws.var(0) / variance - 1).abs() < 0.15).all()


def test_less_noise_draws_nearer_to_the_components() -> None:
    mixture = random_mixture(4, 2, 3, 2)
    whole, fifth, none = (mixture.sample(2_000, generators(0, 1), share) for share in (1.0, 0.2, 0.0))
    means = mixture.mean.transpose(0, 1)[:, None]
    assert torch.isclose(none, means).all(-1).any(0).all(), "without noise a draw is a component's mean"
    torch.testing.assert_close(fifth - none, 0.2 * (whole - none))


@pytest.mark.parametrize("options", [{"components": 0}, {"noise": -0.1}])
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="wanted at least 1"):
        make(replace(TINY, mixture=MixtureConfig(**options)))


def test_choices_follow_the_weights() -> None:
    logits = torch.tensor([[0.0, 1.0, -2.0], [3.0, -torch.inf, 0.0]])
    chosen = Noise(generators(0, 1), 2, torch.device("cpu")).choose(logits, 20_000)
    share = torch.stack([(chosen == k).float().mean(0) for k in range(3)], dim=1)
    torch.testing.assert_close(share, logits.softmax(1), atol=0.02, rtol=0)
    assert share[1, 1] == 0


def test_loss_has_gradients_and_samples_are_bounded_and_independent_of_the_batch() -> None:
    head = make()
    actions = torch.rand(3, HORIZON, DIM) * 2 - 1
    losses = head.loss(context(), actions, torch.zeros(3, HORIZON, dtype=torch.bool))
    losses.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in head.parameters())
    assert losses.parts and all(not part.requires_grad for part in losses.parts.values())
    head.eval()
    whole = context()
    with torch.inference_mode():
        together = head.sample(whole, generators(5, 6, 7))
        alone = head.sample(TokenGroup(whole.tokens[1:2], whole.mask[1:2]), generators(6))
        torch.manual_seed(0)
        assert head.sample(whole).shape == together.shape == (3, HORIZON, DIM)
    assert together.abs().max() <= 1
    torch.testing.assert_close(together[1:2], alone)


def test_padding_rows_do_not_count() -> None:
    head = make()
    actions = torch.rand(3, HORIZON, DIM) * 2 - 1
    is_pad = torch.zeros(3, HORIZON, dtype=torch.bool)
    is_pad[:, 2:] = True
    changed = actions.clone()
    changed[:, 2:] = 0.9
    assert head.loss(context(), actions, is_pad).total == head.loss(context(), changed, is_pad).total
    assert head.loss(context(), actions, torch.ones_like(is_pad)).total == 0
    row_counts = is_pad.clone()
    row_counts[:, 2] = False
    assert head.loss(context(), actions, row_counts).total != head.loss(context(), changed, row_counts).total


def test_densities_stay_in_float32_under_autocast() -> None:
    head = make()
    actions = torch.rand(3, HORIZON, DIM) * 2 - 1
    is_pad = torch.zeros(3, HORIZON, dtype=torch.bool)
    exact = head.loss(context(), actions, is_pad).total
    with torch.autocast("cpu", torch.bfloat16):
        rounded = head.loss(context(), actions, is_pad).total
    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(exact.item(), abs=0.05)


def bimodal(number: int) -> tuple[Tensor, Tensor]:
    """Two opposite actions, either as likely, that move with x."""
    x = torch.rand(number, 1) * 2 - 1
    side = torch.randint(0, 2, (number, 1)) * 2.0 - 1
    return x, side * (0.5 + 0.2 * x) + 0.05 * torch.randn(number, 1)


def step(number: int) -> tuple[Tensor, Tensor]:
    """The action jumps where x changes sign."""
    x = torch.rand(number, 1) * 2 - 1
    return x, 0.6 * x.sign() + 0.05 * torch.randn(number, 1)


def ring(number: int) -> tuple[Tensor, Tensor]:
    """Two actions on a circle, whatever x."""
    x, angle = torch.rand(number, 1) * 2 - 1, torch.rand(number, 1) * 2 * math.pi
    radius = 0.7 + 0.05 * torch.randn(number, 1)
    return x, torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)


PROBLEMS = {"bimodal": bimodal, "step": step, "ring": ring}


def fit_and_draw(head: ActionHead, problem: str, steps: int) -> tuple[Tensor, Tensor]:
    """Train a head for one token of width 1 and compare 400 draws with 400 fresh targets: both [400, A]."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x, y = PROBLEMS[problem](128)
        optimizer.zero_grad()
        head.loss(as_context(x), y[:, None], torch.zeros(128, 1, dtype=torch.bool)).total.backward()
        optimizer.step()
        decay.step()
    head.eval()
    x, y = PROBLEMS[problem](400)
    with torch.inference_mode():
        return head.sample(as_context(x), generators(*range(400)))[:, 0], y


def as_context(x: Tensor) -> TokenGroup:
    return TokenGroup(x[:, None], torch.ones(len(x), 1, dtype=torch.bool))


def p_value(draws: Tensor, truth: Tensor, problem: str) -> float:
    """Two-sample Kolmogorov-Smirnov test of the first action; of the ring, the lesser p of both actions."""
    columns = range(2 if problem == "ring" else 1)
    return min(float(ks_2samp(draws[:, c].numpy(), truth[:, c].numpy()).pvalue) for c in columns)  # pyright: ignore


@pytest.mark.parametrize("problem", PROBLEMS)
def test_draws_pass_the_two_sample_test_that_regression_fails(problem: str) -> None:
    torch.manual_seed(0)
    size = 2 if problem == "ring" else 1
    config = replace(TINY, mixture=MixtureConfig(components=12 if problem == "ring" else 3))
    assert p_value(*fit_and_draw(MixtureHead(config, 1, size, 1, 1), problem, 400), problem) > 0.001
    assert p_value(*fit_and_draw(RegressionHead(config, 1, size, 1, 1), problem, 400), problem) < 0.001
