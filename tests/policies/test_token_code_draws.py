"""Draws from the token head, whatever its code, have the distribution of the data: a wave up or down, of any height."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from deixis.policies.config import AutoencoderConfig, CompressionConfig, HeadConfig, TokenConfig
from deixis.policies.heads.regression import RegressionHead
from deixis.policies.heads.token import CODES, TokenHead
from deixis.policies.interfaces import ActionHead, TokenGroup

HORIZON, TOKENS, WIDTH = 8, 2, 8
TINY = TokenConfig(
    bins=16,
    width=16,
    layers=2,
    heads=2,
    temperature=1.0,
    compression=CompressionConfig(scale=10.0, vocabulary=128),
    autoencoder=AutoencoderConfig(vectors=1, levels=2, codes=32, code_width=4, width=32, steps=300),
)


def waves(count: int, seed: int) -> tuple[TokenGroup, Tensor]:
    """Half a wave up or down, with equal chance, of a height between 0.4 and 0.8, or half of that where told so."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.arange(count) % 2
    tokens = torch.nn.functional.one_hot(which, WIDTH).float()[:, None].repeat(1, TOKENS, 1)
    side = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    height = side * (0.4 + 0.4 * torch.rand(count, generator=generator)) / (1 + which)
    shape = torch.sin(torch.linspace(0, torch.pi, HORIZON))
    return TokenGroup(tokens, torch.ones(count, TOKENS, dtype=torch.bool)), (height[:, None] * shape)[..., None]


def train(head: ActionHead, steps: int) -> ActionHead:
    head.fit(waves(1000, 999)[1], torch.zeros(1000, HORIZON, dtype=torch.bool))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for step in range(steps):
        seen, actions = waves(128, step)
        optimizer.zero_grad()
        head.loss(seen, actions, torch.zeros(128, HORIZON, dtype=torch.bool)).total.backward()
        optimizer.step()
        decay.step()
    return head.eval()


def p_values(samples: Tensor, truth: Tensor) -> list[float]:
    """Two-sample tests of the height in each context."""
    middle = HORIZON // 2
    return [
        float(ks_2samp(samples[which::2, middle, 0].numpy(), truth[which::2, middle, 0].numpy()).pvalue)  # pyright: ignore
        for which in (0, 1)
    ]


@pytest.mark.parametrize("code", CODES)
def test_draws_have_the_distribution_of_the_coded_truth(code: str) -> None:
    torch.manual_seed(0)
    config = HeadConfig(kind="token", token=replace(TINY, code=code))
    head = train(TokenHead(config, HORIZON, 1, TOKENS, WIDTH), 200)
    assert isinstance(head, TokenHead)
    seen, truth = waves(800, 1000)
    torch.manual_seed(4)
    samples = head.sample(seen)
    coded = head.code.decode(head.code.encode(truth))
    assert (coded - truth).square().mean().sqrt() < 0.05
    assert min(p_values(samples, coded)) > 0.001
    # Chunks that exist: every sample is near a wave of its own height.
    height = samples[:, HORIZON // 2]
    shape = truth / truth[:, HORIZON // 2 :][:, :1]
    assert (samples - height[:, None] * shape).square().mean().sqrt() < 0.1


def test_regression_fails_the_same_test() -> None:
    torch.manual_seed(0)
    head = train(RegressionHead(HeadConfig(context_width=16, denoiser_width=16), HORIZON, 1, TOKENS, WIDTH), 200)
    with torch.inference_mode():
        assert max(p_values(head.sample(waves(800, 1000)[0]), waves(800, 1000)[1])) < 1e-6
