"""Every head learns, ignores padding, and draws noise from its own generators alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deixis.policies.config import EnergyConfig, HeadConfig, TokenConfig
from deixis.policies.heads import build_head
from deixis.policies.interfaces import ActionHead, TokenGroup

from .head_inputs import TOKENS, WIDTH, context, generators

TINY = HeadConfig(context_width=16, denoiser_width=16, denoiser_blocks=1, unet_channels=(8, 16), train_timesteps=20)
KINDS = [
    replace(TINY, kind="regression"),
    *[
        replace(TINY, denoiser=denoiser, prediction_type=prediction)
        for denoiser in ("mlp", "unet", "transformer")
        for prediction in ("epsilon", "sample", "v_prediction")
    ],
    *[replace(TINY, sampler=sampler) for sampler in ("ddpm", "dpm_solver")],
    *[replace(TINY, kind="flow", prediction_type=prediction) for prediction in ("sample", "v_prediction")],
    replace(TINY, kind="mixture"),
    replace(TINY, kind="energy", energy=EnergyConfig(width=16, blocks=1, negatives=8, samples=16)),
    replace(TINY, kind="token", token=TokenConfig(bins=16, width=16, layers=2, heads=2)),
]
HORIZON, DIM = 4, 3


def make(config: HeadConfig) -> ActionHead:
    torch.manual_seed(0)
    head = build_head(config, HORIZON, DIM, TOKENS, WIDTH)
    head.fit(torch.rand(100, HORIZON, DIM) * 2 - 1, torch.zeros(100, HORIZON, dtype=torch.bool))
    return head


@pytest.mark.parametrize("config", KINDS, ids=lambda c: f"{c.kind}-{c.denoiser}-{c.prediction_type}-{c.sampler}")
def test_loss_has_gradients_and_samples_are_bounded_and_independent_of_the_batch(config: HeadConfig) -> None:
    head = make(config)
    actions = torch.rand(3, HORIZON, DIM) * 2 - 1
    losses = head.loss(context(), actions, torch.zeros(3, HORIZON, dtype=torch.bool))
    losses.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert losses.parts and all(not part.requires_grad for part in losses.parts.values())

    head.eval()  # dropout is for training
    with torch.inference_mode():
        together = head.sample(context(), generators(5, 6, 7))
        whole = context()
        alone = head.sample(TokenGroup(whole.tokens[1:2], whole.mask[1:2]), generators(6))
    assert together.shape == (3, HORIZON, DIM)
    assert together.abs().max() <= 1
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("config", KINDS[:3], ids=lambda c: f"{c.kind}-{c.denoiser}-{c.prediction_type}")
def test_padding_rows_do_not_count(config: HeadConfig) -> None:
    head = make(replace(config, prediction_type="sample"))
    actions = torch.rand(3, HORIZON, DIM) * 2 - 1
    is_pad = torch.zeros(3, HORIZON, dtype=torch.bool)
    is_pad[:, 2:] = True

    def gradient_free_loss(head_output_target: torch.Tensor) -> float:
        torch.manual_seed(3)
        noisy_free = head.loss(context(), head_output_target, is_pad)
        return noisy_free.total.item()

    if config.kind == "regression":  # the diffused input carries the padded rows too, so only L1 is exactly unchanged
        changed = actions.clone()
        changed[:, 2:] = 0.9
        assert gradient_free_loss(actions) == gradient_free_loss(changed)
    nothing = head.loss(context(), actions, torch.ones(3, HORIZON, dtype=torch.bool))
    assert nothing.total.item() == 0


def test_diffusion_learns_a_constant() -> None:
    head = make(replace(TINY, denoiser_width=32))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    actions = torch.linspace(-0.8, 0.8, HORIZON * DIM).view(1, HORIZON, DIM).expand(3, -1, -1)
    for _ in range(150):
        loss = head.loss(context(), actions, torch.zeros(3, HORIZON, dtype=torch.bool)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    head.eval()
    with torch.inference_mode():
        assert (head.sample(context()) - actions).abs().max() < 0.1


def test_masked_tokens_do_not_reach_the_action() -> None:
    head = make(TINY).eval()
    mask = torch.ones(1, TOKENS, dtype=torch.bool)
    mask[0, 2] = False
    tokens = torch.randn(1, TOKENS, WIDTH)
    other = tokens.clone()
    other[0, 2] = 9.0
    with torch.inference_mode():
        first, second = (head.sample(TokenGroup(t, mask), [torch.Generator().manual_seed(0)]) for t in (tokens, other))
    assert torch.equal(first, second)


def test_wrong_tokens_and_horizons_are_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted \[B, 5, 8\]"):
        make(TINY).sample(TokenGroup(torch.zeros(1, 4, WIDTH), torch.ones(1, 4, dtype=torch.bool)))
    with pytest.raises(ValueError, match="action_horizon 5"):
        build_head(replace(TINY, denoiser="unet"), 5, DIM, TOKENS, WIDTH)
