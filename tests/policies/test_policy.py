"""The policy's border, its purity, and its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from deixis.datasets.normalisation import MinMaxNormaliser
from deixis.policies.backbones.tokenizer import TextTokenizer
from deixis.policies.config import EnergyConfig, TokenConfig
from deixis.policies.heads import HEADS
from deixis.policies.policy import Batch, Observation, Policy

from .conftest import SPEC, TINY_HEAD, TINY_POLICY
from .head_inputs import generators

Observe = Callable[..., Observation]


def make(tokenizer: TextTokenizer, **head: object) -> Policy:
    torch.manual_seed(0)
    policy = Policy(
        replace(TINY_POLICY, head=replace(TINY_HEAD, **head)),  # type: ignore[arg-type]
        SPEC,
        ["front", "wrist"],
        MinMaxNormaliser.fit(np.array([[-1.0, -2.0, 1.0], [1.0, 2.0, 1.0]], np.float32)),
        MinMaxNormaliser.fit(np.array([[-0.9, -1.0], [0.5, 1.0]], np.float32)),
        tokenizer,
    )
    policy.head.fit(torch.rand(100, 4, 2) * 2 - 1, torch.zeros(100, 4, dtype=torch.bool))
    return policy.eval()


def test_actions_are_in_environment_units_and_do_not_depend_on_the_rest_of_the_batch(
    tokenizer: TextTokenizer, observe: Observe
) -> None:
    policy, seen = make(tokenizer), observe(batch=3)
    chunk = policy.act(seen, generators(1, 2, 3))
    assert chunk.shape == (3, 4, 2) and chunk.dtype == torch.float32
    assert (chunk[..., 0] <= 0.5 + 1e-6).all() and (chunk[..., 0] >= -0.9 - 1e-6).all()
    alone = Observation({c: i[1:2] for c, i in seen.images.items()}, seen.proprio[1:2], seen.instruction[1:2])
    assert torch.allclose(policy.act(alone, generators(2)), chunk[1:2], atol=1e-5)
    assert torch.equal(policy.act(seen, generators(1, 2, 3)), chunk)


def test_every_input_matters(tokenizer: TextTokenizer, observe: Observe) -> None:
    policy, seen = make(tokenizer, prediction_type="sample"), observe(batch=1)
    reference = policy.context(seen).tokens
    dark = {**seen.images, "front": torch.zeros_like(seen.images["front"])}
    for changed in (
        Observation(dark, seen.proprio, seen.instruction),
        Observation(seen.images, seen.proprio + 1, seen.instruction),
        Observation(seen.images, seen.proprio, ["碰红色方块"]),
    ):
        assert not torch.allclose(policy.context(changed).tokens, reference)


def test_loss_checks_and_has_named_parts(tokenizer: TextTokenizer, observe: Observe) -> None:
    policy = make(tokenizer)
    pad = torch.zeros(2, 4, dtype=torch.bool)
    losses = policy.loss(Batch(observe(), torch.zeros(2, 4, 2), pad))
    assert torch.isfinite(losses.total) and set(losses.parts) == {"diffusion"}
    with pytest.raises(ValueError, match=r"batch.actions: found float32 \[2, 3, 2\], wanted float32 \[2, 4, 2\]"):
        policy.loss(Batch(observe(), torch.zeros(2, 3, 2), pad))


def test_what_does_not_fit_is_refused_by_name(tokenizer: TextTokenizer, observe: Observe) -> None:
    policy, seen = make(tokenizer), observe()
    without = {"front": seen.images["front"]}
    cases = [
        (replace(seen, images=without), "camera 'wrist' is missing"),
        (replace(seen, images={**seen.images, "wrist": seen.images["wrist"].float()}), "wanted uint8"),
        (
            replace(seen, images={**seen.images, "wrist": seen.images["wrist"][:, :1]}),
            r"wanted uint8 \[2, 2, 32, 32, 3\]",
        ),
        (replace(seen, proprio=seen.proprio[..., :2]), "observation.proprio: found float32"),
        (replace(seen, proprio=seen.proprio.double()), "wanted float32"),
        (replace(seen, proprio=seen.proprio * float("nan")), "not finite"),
        (replace(seen, instruction=["one"]), "found 1 texts, wanted a list of 2"),
        (replace(seen, instruction="one text"), "found one text"),
    ]
    for observation, message in cases:
        with pytest.raises(ValueError, match=message):
            policy.act(observation)
    with pytest.raises(ValueError, match="generators: found 1, wanted 2"):
        policy.act(seen, generators(0))


@pytest.mark.parametrize(
    "head",
    [
        *({"kind": "diffusion", "denoiser": denoiser} for denoiser in ("mlp", "unet", "transformer")),
        *({"kind": kind} for kind in HEADS if kind != "diffusion"),
        *({"kind": "energy", "energy": EnergyConfig(sampler=name)} for name in ("derivative_free", "langevin")),
        {"kind": "token", "token": TokenConfig(decoding="parallel", temperature=1.0)},
    ],
)
def test_a_saved_policy_acts_as_before(tmp_path: Path, tokenizer: TextTokenizer, observe: Observe, head: dict) -> None:
    policy = make(tokenizer, **head)
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    assert torch.equal(loaded.act(observe(), generators(1, 2)), policy.act(observe(), generators(1, 2)))
    assert loaded.config == policy.config and loaded.spec == policy.spec
    assert sorted(p.name for p in (tmp_path / "policy").iterdir()) == [
        "config.yaml",
        "model.safetensors",
        "spec.json",
        "tokenizer.json",
    ]


def test_loading_is_strict(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    folder = tmp_path / "policy"
    policy = make(tokenizer)

    def refused(kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message):
            Policy.load(folder)
        policy.save(folder)

    policy.save(folder)
    (folder / "tokenizer.json").unlink()
    refused(FileNotFoundError, "tokenizer.json: no such file")
    (folder / "tokenizer.json").write_text("{}")
    refused(ValueError, "tokenizer.json")
    values = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**values, "obs_horizn": 3}))
    refused(ValueError, "obs_horizn: unknown field; did you mean 'obs_horizon'")
    (folder / "config.yaml").write_text(yaml.safe_dump({**values, "format": "other"}))
    refused(ValueError, "config.yaml: format: found 'other'")
    (folder / "config.yaml").write_text(yaml.safe_dump({**values, "action_horizon": 8}))
    refused(ValueError, "model.safetensors: tensor head.*found .* wanted")
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**spec, "env": {}}))
    refused(ValueError, "spec.json: env")
    (folder / "model.safetensors").write_bytes(b"not tensors")
    refused(ValueError, "model.safetensors: not a readable safetensors file")
    Policy.load(folder)
