"""The latency benchmark compares heads of equal size, and every head and sampler there is."""

from typing import get_args, get_type_hints

import pytest

from deixis.eval.bench import latency
from deixis.eval.bench._untrained import untrained_policy
from deixis.policies.config import EnergyConfig, HeadConfig, TokenConfig
from deixis.policies.heads import HEADS


@pytest.mark.parametrize("name", ["regression", "diffusion_unet_ddim4", "token_parallel", "energy_proposal"])
def test_heads_are_made_equally_large(name: str) -> None:
    policy = untrained_policy(latency.sized(latency.heads()[name]))
    assert sum(p.numel() for p in policy.head.parameters()) == pytest.approx(latency.PARAMETERS, rel=0.1)


def test_every_head_and_sampler_is_measured() -> None:
    configs = latency.heads().values()
    assert {config.kind for config in configs} == set(HEADS)
    for kind, field in ((HeadConfig, "denoiser"), (HeadConfig, "sampler")):
        assert {getattr(config, field) for config in configs} == set(get_args(get_type_hints(kind)[field]))
    assert {c.token.decoding for c in configs} == set(get_args(get_type_hints(TokenConfig)["decoding"]))
    assert {c.energy.sampler for c in configs} == set(get_args(get_type_hints(EnergyConfig)["sampler"]))


def test_what_is_measured_is_a_chunk() -> None:
    policy = untrained_policy(latency.heads()["mixture"])
    assert policy.act(latency._observation()).shape == (1, 16, 5)
    assert latency.milliseconds(lambda: policy.act(latency._observation())) > 0
