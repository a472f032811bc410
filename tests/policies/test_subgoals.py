"""V -> L -> A: the policy says what to do next, and acts on what was said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deixis.datasets.store import StoreError, TrajectoryStore
from deixis.datasets.subgoals import PHASE_STREAM, PHASES, subgoal, with_subgoal
from deixis.datasets.timestamps import check_store
from deixis.envs.collect import collect
from deixis.envs.config import CollectConfig
from deixis.envs.suites import suite_named
from deixis.eval.media import film
from deixis.eval.results import read_table, write_table
from deixis.eval.rollout import make_env, run_episode
from deixis.eval.summary import summarise
from deixis.policies.config import BackboneConfig, DecoderConfig, StageConfig, TrainConfig, VisionConfig
from deixis.policies.interfaces import Observation
from deixis.policies.policy import Policy
from deixis.policies.training.preparation import prepare
from deixis.policies.training.train import train

from .conftest import TINY_POLICY, tiny_config

SIZE, SUITE = 32, "tabletop-demo"
PARTS = {"vision": 1.0, "bridge": 1.0, "decoder": 1.0, "projector": 1.0}
BACKBONE = BackboneConfig(
    kind="compositional",
    width=32,
    vocabulary=400,
    vision=VisionConfig(patch=8, width=32, layers=1),
    decoder=DecoderConfig(width=64, layers=2, heads=2, readouts=2),
)


def config(steps: int = 250, **policy: Any) -> TrainConfig:
    options = {"backbone": BACKBONE, "subgoals": True, **policy}
    align = StageConfig(
        steps=steps, batch_size=16, warmup_steps=20, lr=3e-3, documents=2, mixture={"subgoal": 1.0}, shift_pixels=0,
        colour_jitter=0.0, trainable={**PARTS, "action": 1.0}, losses={"text": 1.0, "place": 1.0},
    )  # fmt: skip
    imitate = StageConfig(
        steps=4, batch_size=8, trainable={"bridge": 1.0, "decoder": 0.1, "projector": 1.0, "head": 1.0}
    )
    return tiny_config(policy=replace(TINY_POLICY, **options), align=align, imitate=imitate, log_every=50)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("said") / "store.zarr"
    collect(CollectConfig(suite=SUITE, episodes=3, image_size=SIZE, workers=1), path)
    return path


@pytest.fixture(scope="module")
def speaking(demonstrations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that has learned the sub-goals of three demonstrations by heart."""
    return train(config(), str(demonstrations), tmp_path_factory.mktemp("run") / "run")


def frames(store: TrajectoryStore, policy: Policy, episode: int, rows: list[int]) -> Observation:
    """What was seen at these rows of an episode, twice over, as windows of two."""
    seen = store.episode(episode)
    images = {
        camera: torch.from_numpy(np.stack([seen.streams[f"camera.{camera}"].values[rows]] * 2, axis=1))
        for camera in policy.cameras
    }
    proprio = torch.from_numpy(np.stack([seen.streams["proprio"].values[rows]] * 2, axis=1))
    return Observation(images, proprio, [seen.instruction] * len(rows))


def test_demonstrations_say_what_the_expert_was_about_and_pass_the_gate(demonstrations: Path) -> None:
    store = TrajectoryStore.open(demonstrations)
    assert check_store(store).ok
    for number in range(len(store)):
        episode = store.episode(number)
        phases = [PHASES[int(p)] for p in episode.streams[PHASE_STREAM].values[:, 0]]
        assert len(phases) == len(episode.streams["action"].values)
        verb = episode.meta["goal"]["verb"]
        first = {"push": "behind"}.get(verb, "above")
        assert phases[0] == first
        wanted = {"lift": {"down", "grip", "raise"}, "push": {"push"}, "place": {"grip", "carry", "lower", "release"}}
        assert wanted[verb] <= set(phases), (verb, phases)


def test_what_was_demonstrated_is_said_again_and_changes_what_is_done(speaking: Path, demonstrations: Path) -> None:
    policy, store = Policy.load(speaking), TrajectoryStore.open(demonstrations)
    right = []
    for number in range(len(store)):
        episode = store.episode(number)
        phases = episode.streams[PHASE_STREAM].values[:, 0]
        rows = list(range(0, len(phases), 4))
        said = policy.say(frames(store, policy, number, rows))
        assert said is not None
        goal, scene = episode.meta["goal"], episode.meta["scene"]
        language = "en" if episode.instruction.isascii() else "zh"
        right += [
            text == subgoal(PHASES[int(phases[row])], goal, scene, language)
            for text, row in zip(said, rows, strict=True)
        ]
    assert np.mean(right) > 0.8, f"{np.mean(right):.2f} of what was said is right"

    seen, luck = frames(store, policy, 0, [0]), lambda: [torch.Generator().manual_seed(0)]
    said = policy.say(seen)
    own, given = policy.act(seen, luck()), policy.act(seen, luck(), said)
    other = policy.act(seen, luck(), ["push the red cube"])
    assert torch.equal(own, given) and not torch.equal(own, other)


def test_windows_are_told_the_sub_goal_of_their_own_instant(demonstrations: Path) -> None:
    prepared = prepare(config(), str(demonstrations))
    windows, store = prepared.windows, prepared.store
    texts = windows.numbers(np.arange(len(windows)))["instruction"]
    for row in (0, len(windows) // 2, len(windows) - 1):
        info = store.episode_info(int(windows.episode[row]))
        episode = store.episode(int(windows.episode[row]))
        phase = PHASES[int(episode.streams[PHASE_STREAM].values[windows.t[row], 0])]
        language = "en" if info["instruction"].isascii() else "zh"
        said = subgoal(phase, info["meta"]["goal"], info["meta"]["scene"], language)
        assert texts[row] == with_subgoal(info["instruction"], said)


@torch.no_grad()
def test_an_episode_counts_and_films_what_is_said(
    speaking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, suite = Policy.load(speaking).eval(), suite_named(SUITE)
    env = make_env(suite, policy, render_mode="rgb_array")
    heard: list[str] = []

    def run(**options: Any) -> Any:
        return run_episode(env, policy, suite, "lift", 0, "correct", policy_hash="", versions={}, **options)

    record = run(exec_horizon=4, on_say=heard.append)
    assert record.subgoals == len(heard) == -(-record.steps // 4)
    assert record.subgoals_right is not None and record.subgoals_right <= record.subgoals
    monkeypatch.setattr(policy, "say", lambda observation: [env.unwrapped.subgoal()])  # type: ignore[attr-defined]
    knowing = run(exec_horizon=4)
    assert knowing.subgoals == knowing.subgoals_right
    summary = summarise([record, replace(knowing, index=1)], {})
    expected = (record.subgoals_right + knowing.subgoals) / (record.subgoals + knowing.subgoals)
    assert summary["subgoal_accuracy"] == pytest.approx(expected)
    write_table([record, knowing], tmp_path / "episodes.parquet")
    assert read_table(tmp_path / "episodes.parquet") == [record, knowing]
    clip = film(env, lambda on_step, on_say: run(exec_horizon=4, on_step=on_step, on_say=on_say), tmp_path / "films")
    assert clip.said[0][0] == 0 and {step % 4 for step, _ in clip.said} == {0}
    assert all(text for _, text in clip.said)


def test_a_store_without_phases_and_a_backbone_without_words_are_refused(
    toy_store: Path, demonstrations: Path, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"found no stream 'privileged.phase'.*collect the demonstrations"):
        prepare(config(), str(toy_store))
    plain = replace(config(), policy=replace(TINY_POLICY, subgoals=True))
    with pytest.raises(ValueError, match=r"policy\.subgoals: found true with policy.backbone.kind 'modular'"):
        train(replace(plain, align=replace(plain.align, steps=0)), str(demonstrations), tmp_path / "run")
