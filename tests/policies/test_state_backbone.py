"""A policy that sees no camera: the same training, from states alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from deixis.policies.backbones.state import StateBackbone
from deixis.policies.config import BackboneConfig, StageConfig, TrainConfig
from deixis.policies.policy import Observation, Policy
from deixis.policies.serialisation import load_tensors
from deixis.policies.training.train import train

from .conftest import tiny_config


def state_config(**changes) -> TrainConfig:
    config = tiny_config(align=StageConfig(steps=0))
    config = replace(config, policy=replace(config.policy, backbone=BackboneConfig(kind="state", width=16)))
    trainable = {"projector": 1.0, "head": 1.0}
    return replace(config, unaligned=replace(config.unaligned, trainable=trainable), **changes)


def test_a_policy_learns_from_states_saves_and_acts(toy_store: Path, tmp_path: Path) -> None:
    policy = Policy.load(train(state_config(), toy_store, tmp_path))
    assert isinstance(policy.backbone, StateBackbone) and policy.cameras == {}
    proprio = torch.randn(3, policy.config.obs_horizon, 3, generator=torch.Generator().manual_seed(0))
    observation = Observation({}, proprio, [""] * 3)
    generators = [torch.Generator().manual_seed(i) for i in range(3)]
    chunk = policy.act(observation, generators)
    assert chunk.shape == (3, policy.config.action_horizon, 2) and chunk.isfinite().all()
    alone = policy.act(Observation({}, proprio[1:2], [""]), [torch.Generator().manual_seed(1)])
    torch.testing.assert_close(alone[0], chunk[1], rtol=0, atol=1e-5)


def test_alignment_is_refused(toy_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"align.steps, perceive.steps: the backbone 'state' sees and reads nothing"):
        train(replace(state_config(), align=tiny_config().align), toy_store, tmp_path)


def test_the_last_policies_are_kept_from_the_averaged_weights(toy_store: Path, tmp_path: Path) -> None:
    config = state_config(policy_every=2, keep_policies=2)
    plain, kept = tmp_path / "plain", tmp_path / "kept"
    train(state_config(), toy_store, plain)
    train(config, toy_store, kept)
    steps = config.unaligned.steps
    names = [path.name for path in sorted((kept / "policies").iterdir())]
    assert names == [f"{steps - 2:08d}", f"{steps:08d}"]
    final = load_tensors(kept / "policy" / "model.safetensors")
    for other in (plain / "policy", kept / "policies" / names[-1]):
        found = load_tensors(other / "model.safetensors")
        assert all(torch.equal(final[name], found[name]) for name in final), "keeping policies changes nothing"
    earlier = load_tensors(kept / "policies" / names[0] / "model.safetensors")
    assert any(not torch.equal(final[name], earlier[name]) for name in final)


def test_a_head_is_given_every_chunk_of_the_store_once(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deixis.policies.heads.diffusion import DiffusionHead

    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def fit(self: DiffusionHead, actions: torch.Tensor, is_pad: torch.Tensor) -> None:
        seen.append((actions.numpy(), is_pad.numpy()))

    monkeypatch.setattr(DiffusionHead, "fit", fit)
    train(state_config(), toy_store, tmp_path)
    train(state_config(), toy_store, tmp_path)  # finished: nothing to fit again
    (actions, is_pad), *again = seen
    assert not again and actions.shape[0] == is_pad.shape[0] and actions.shape[1:] == (*is_pad.shape[1:], 2)
    assert np.abs(actions[~is_pad]).max() == pytest.approx(1.0)
