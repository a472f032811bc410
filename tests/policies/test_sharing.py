"""One policy that several threads ask at once answers each as if it were asked alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from deixis.datasets.normalisation import MinMaxNormaliser
from deixis.policies.backbones.modular import ModularBackbone
from deixis.policies.backbones.tokenizer import TextTokenizer
from deixis.policies.config import AutoencoderConfig, EnergyConfig, HeadConfig, PolicyConfig, TokenConfig
from deixis.policies.heads import HEADS
from deixis.policies.interfaces import Marks, Observation
from deixis.policies.policy import Policy

from .conftest import SIZE, SPEC, TINY_BACKBONE, TINY_HEAD
from .test_compositional import BACKBONE as COMPOSITIONAL
from .test_fusion import BACKBONE as FUSION

THREADS, CALLS = 4, 8
TOKEN = TokenConfig(bins=16, width=16, layers=1, heads=2, temperature=1.0)
ENERGY = EnergyConfig(width=16, blocks=1, samples=16, langevin_iterations=8)
HEAD_CONFIGS = {
    **{kind: replace(TINY_HEAD, kind=kind, token=TOKEN, energy=ENERGY, inference_steps=4) for kind in HEADS},
    "ddpm": replace(TINY_HEAD, sampler="ddpm", inference_steps=4),
    "dpm_solver": replace(TINY_HEAD, sampler="dpm_solver", inference_steps=8),
    "langevin": replace(TINY_HEAD, kind="energy", energy=replace(ENERGY, sampler="langevin", spectral_norm=True)),
    "dct_bpe": replace(TINY_HEAD, kind="token", token=replace(TOKEN, code="dct_bpe")),
    "vq": replace(TINY_HEAD, kind="token", token=replace(TOKEN, code="vq", autoencoder=AutoencoderConfig(steps=2))),
    "lent decoder": replace(TINY_HEAD, kind="token", token=replace(TOKEN, decoder="backbone")),
}
BACKBONES = {"modular": TINY_BACKBONE, "compositional": COMPOSITIONAL, "fusion": FUSION}
CASES = [("modular", head) for head in HEAD_CONFIGS if head != "lent decoder"]
CASES += [("compositional", "regression"), ("fusion", "regression"), ("compositional", "lent decoder")]


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def make(backbone: str, head: HeadConfig, tokenizer: TextTokenizer) -> Policy:
    torch.manual_seed(0)
    config = PolicyConfig(BACKBONES[backbone], head, action_horizon=4)
    proprio, action = MinMaxNormaliser(np.zeros(3), np.ones(3)), MinMaxNormaliser(-np.ones(2), np.ones(2))
    policy = Policy(config, SPEC, SPEC.camera_names, proprio, action, tokenizer).eval()
    policy.head.fit(torch.rand(100, 4, 2) * 2 - 1, torch.zeros(100, 4, dtype=torch.bool))
    return policy


@pytest.mark.parametrize(("backbone", "head"), CASES, ids=lambda name: name)
def test_threads_do_not_disturb_each_other(
    backbone: str, head: str, tokenizer: TextTokenizer, observe: Callable[..., Observation]
) -> None:
    policy = make(backbone, HEAD_CONFIGS[head], tokenizer)
    seen = [observe(1, seed) for seed in range(CALLS)]

    def act(number: int) -> Tensor:
        return policy.act(seen[number], [torch.Generator().manual_seed(number)])

    parameters = dict(policy.named_parameters())
    alone = [act(number) for number in range(CALLS)]
    with ThreadPoolExecutor(THREADS) as threads:
        together = list(threads.map(act, [*range(CALLS)] * 4))
    assert all(parameter is parameters[name] for name, parameter in policy.named_parameters())
    assert len({chunk.numpy().tobytes() for chunk in alone}) == CALLS
    assert all(torch.equal(chunk, alone[number % CALLS]) for number, chunk in enumerate(together))


def test_what_one_thread_is_shown_another_does_not_see(
    tokenizer: TextTokenizer, observe: Callable[..., Observation]
) -> None:
    policy, seen = make("modular", TINY_HEAD, tokenizer), observe(1)
    assert isinstance(policy.backbone, ModularBackbone)
    masks = {camera: torch.zeros(1, 2, SIZE, SIZE, dtype=torch.uint8) for camera in policy.cameras}
    marks = Marks(masks, torch.ones(1, 2, dtype=torch.uint8))

    def act(marks: Marks | None = None) -> Tensor:
        return policy.act(seen, [torch.Generator().manual_seed(0)], marks=marks)

    plain, shown = act(), act(marks)
    assert not torch.equal(plain, shown)
    with ThreadPoolExecutor(1) as threads, policy._pointing(marks):
        assert torch.equal(threads.submit(act).result(), plain)
    assert torch.equal(act(), plain)
