"""Heads against distributions that are known in closed form: samplers, and what they learn, which regression cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from deixis.policies.config import HeadConfig
from deixis.policies.heads import build_head
from deixis.policies.heads.diffusion import DiffusionHead
from deixis.policies.heads.flow import FlowHead
from deixis.policies.interfaces import ActionHead, TokenGroup

MEAN, DEVIATION = 0.2, 0.15
SMALL = HeadConfig(
    context_width=32, denoiser_width=64, denoiser_blocks=2, noise_samples=4, inference_steps=50, clip_sample=False,
    prediction_type="v_prediction",
)  # fmt: skip
HEADS = {
    "diffusion": SMALL,
    "diffusion, DPM-Solver": replace(SMALL, sampler="dpm_solver"),
    "diffusion, DDPM": replace(SMALL, sampler="ddpm"),
    "diffusion, transformer": replace(SMALL, denoiser="transformer", denoiser_width=16, noise_samples=2),
    "flow": replace(SMALL, kind="flow", inference_steps=20),
}


def _context(values: Tensor) -> TokenGroup:
    """Numbers [B, W] as one token."""
    return TokenGroup(values[:, None], torch.ones(len(values), 1, dtype=torch.bool))


class _Known(torch.nn.Module):
    """The best denoiser of N(MEAN, DEVIATION^2) in every dimension, from the signal and noise at a step."""

    def __init__(self, scales: Callable[[Tensor], tuple[Tensor, Tensor]], prediction: str) -> None:
        super().__init__()
        self.scales, self.prediction = scales, prediction

    def modulation(self, condition: Tensor) -> Tensor:
        return condition

    def forward(self, noisy: Tensor, timestep: Tensor, modulation: Tensor) -> Tensor:
        signal, noise = (part[..., None, None] for part in self.scales(timestep))
        gain = signal * DEVIATION**2 / (signal**2 * DEVIATION**2 + noise**2)
        clean = MEAN + gain * (noisy - signal * MEAN)
        left = (noisy - signal * clean) / noise
        return {"sample": clean, "epsilon": left, "v_prediction": signal * left - noise * clean, "flow": clean - left}[
            self.prediction
        ]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm_solver"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_schedulers_take_noise_to_a_known_gaussian(sampler: str, prediction: str) -> None:
    steps = 100 if sampler == "dpm_solver" else 1000  # of second order
    config = replace(SMALL, sampler=sampler, prediction_type=prediction, train_timesteps=1000, inference_steps=steps)
    head = build_head(config, 2, 2, 1, 3)
    assert isinstance(head, DiffusionHead)
    kept = torch.as_tensor(head.noise_scheduler.alphas_cumprod)
    head.denoiser = _Known(lambda t: (kept[t].sqrt(), (1 - kept[t]).sqrt()), prediction)  # pyright: ignore
    torch.manual_seed(0)
    with torch.inference_mode():
        samples = head.sample(_context(torch.zeros(3000, 3))).flatten()
    assert abs(samples.mean() - MEAN) < 0.01
    assert abs(samples.std() / DEVIATION - 1) < 0.03
    assert stats.kstest(samples.numpy()[::4], "norm", (MEAN, float(samples.std()))).pvalue > 0.001


@pytest.mark.parametrize("steps", [4, 100])
def test_euler_steps_take_noise_to_a_known_gaussian(steps: int) -> None:
    """The flow of a Gaussian scales every start alike; the scale of K Euler steps is known, too."""
    head = build_head(replace(SMALL, kind="flow", prediction_type="v_prediction", inference_steps=steps), 2, 2, 1, 3)
    assert isinstance(head, FlowHead)
    head.denoiser = _Known(lambda t: (t / 100, 1 - t / 100), "flow")  # pyright: ignore
    generators = [torch.Generator().manual_seed(seed) for seed in range(200)]
    starts = torch.stack([torch.randn(2, 2, generator=torch.Generator().manual_seed(seed)) for seed in range(200)])
    with torch.inference_mode():
        samples = head.sample(_context(torch.zeros(200, 3)), generators)
    scale = 1.0  # of what is left of the start; the mean is on its way from 0 to MEAN at every time
    for time in np.arange(steps) / steps:
        gain = time * DEVIATION**2 / (time**2 * DEVIATION**2 + (1 - time) ** 2)
        scale *= 1 + (gain - (1 - time * gain) / (1 - time)) / steps
    np.testing.assert_allclose(samples, (MEAN + scale * starts).clamp(-1, 1), atol=1e-4)
    if steps == 100:
        assert abs(scale / DEVIATION - 1) < 0.05


def _bimodal(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Either side of what is seen, with equal chance."""
    seen = rng.uniform(-0.3, 0.3, count)
    return seen, seen + rng.choice([-0.5, 0.5], count) + 0.1 * rng.normal(size=count)


def _step(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A jump that depends on what is seen."""
    seen = rng.uniform(-1, 1, count)
    return seen, np.where(seen > 0, 0.6, -0.6) + 0.1 * rng.normal(size=count)


def _centre(draw: Callable[..., tuple[np.ndarray, np.ndarray]], seen: np.ndarray) -> np.ndarray:
    """Mean of the actions where this is seen."""
    return seen if draw is _bimodal else np.where(seen > 0, 0.6, -0.6)


def _learn(config: HeadConfig, draw: Callable[..., tuple[np.ndarray, np.ndarray]], steps: int = 400) -> ActionHead:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    head = build_head(config, 1, 1, 1, 2)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        seen, action = (torch.tensor(part, dtype=torch.float32) for part in draw(256, rng))
        context = _context(torch.stack([seen, torch.ones_like(seen)], dim=1))
        head.loss(context, action[:, None, None], torch.zeros(256, 1, dtype=torch.bool)).total.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return head.eval()


def _two_samples(head: ActionHead, draw: Callable[..., tuple[np.ndarray, np.ndarray]], count: int = 600) -> float:
    """p-value of the head's residuals having the distribution of the truth's, around their mean given what is seen."""
    seen, truth = draw(count, np.random.default_rng(7))
    again, _ = draw(count, np.random.default_rng(8))
    torch.manual_seed(1)
    with torch.inference_mode():
        context = _context(torch.tensor(np.stack([again, np.ones(count)], axis=1), dtype=torch.float32))
        found = head.sample(context)[:, 0, 0].numpy()
    _, chance = stats.ks_2samp(truth - _centre(draw, seen), found - _centre(draw, again))
    return float(chance)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("draw", [_bimodal, _step])
def test_generative_heads_learn_what_regression_cannot(name: str, draw) -> None:
    assert _two_samples(_learn(HEADS[name], draw), draw) > 0.001


@pytest.mark.parametrize("draw", [_bimodal, _step])
def test_regression_fails_the_same_test(draw) -> None:
    assert _two_samples(_learn(replace(SMALL, kind="regression"), draw), draw) < 0.001


def test_flow_does_not_predict_noise() -> None:
    with pytest.raises(ValueError, match="wanted 'sample' or 'v_prediction'"):
        build_head(replace(SMALL, kind="flow", prediction_type="epsilon"), 2, 2, 1, 3)


def test_a_transformer_of_uneven_width_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of denoiser_heads, 4"):
        build_head(replace(SMALL, denoiser="transformer", denoiser_width=30), 2, 2, 1, 3)
