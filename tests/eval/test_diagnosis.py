"""The ladder: what a sound policy's first broken rung is, and whether each planted fault is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from deixis.cli import main
from deixis.datasets.normalisation import fit_normalisers
from deixis.datasets.spec import PROPRIO_STREAM, ProprioSpec
from deixis.datasets.store import Episode, StoreError, Stream, TrajectoryStore
from deixis.envs.collect import collect
from deixis.envs.config import CollectConfig
from deixis.envs.suites import Suite, suite_named
from deixis.eval.diagnosis import RUNGS, Diagnosis, diagnose
from deixis.eval.diagnosis.closed_loop import _judge as judge_rung
from deixis.eval.diagnosis.closed_loop import exact_start
from deixis.eval.diagnosis.planted import FaultyPolicy, FaultyWorld, planted_faults
from deixis.eval.diagnosis.rung import Case
from deixis.eval.diagnosis.show import show_diagnosis
from deixis.eval.diagnosis.suspects import quaternion_dimensions
from deixis.eval.diagnosis.tracks import Recording, read_recording
from deixis.policies.config import PolicyConfig
from deixis.policies.interfaces import Generators, Observation

EPISODES = 4
SUITE = suite_named("tabletop-demo")


class Memory:
    """A policy that has learned its recordings by heart: it does what was done when things looked so, else nothing."""

    def __init__(self, store: TrajectoryStore) -> None:
        self.config, self.spec = PolicyConfig(), store.env_spec
        self.cameras = {camera.name: (camera.height, camera.width) for camera in self.spec.cameras}
        normalisers = fit_normalisers(store)
        self.proprio_normaliser, self.action_normaliser = normalisers["proprio"], normalisers["action"]
        self.recordings: list[Recording] = [
            read_recording(store, episode, tuple(self.cameras), self.config.action_horizon)
            for episode in range(len(store))
        ]
        self._keys = np.concatenate(
            [
                self._key(recording.track.observation(np.arange(len(recording.track)), 1))
                for recording in self.recordings
            ]
        )
        self._chunks = np.concatenate([recording.chunks for recording in self.recordings])

    def act(
        self, observation: Observation, generators: Generators = None, subgoals: Sequence[str] | None = None
    ) -> Tensor:
        away = np.stack([((self._keys - key) ** 2).sum(1) for key in self._key(observation)])
        known = away.min(1) < 1e-3
        return torch.from_numpy(np.where(known[:, None, None], self._chunks[away.argmin(1)], 0))

    def say(self, observation: Observation) -> list[str] | None:
        return None

    def _key(self, observation: Observation) -> np.ndarray:
        """What is seen now [B, K]: all of it, pictures in blocks of four pixels."""
        proprio = self.proprio_normaliser.normalise(observation.proprio[:, -1].numpy())
        pictures = [x[:, -1, ::4, ::4].flatten(1).numpy() / 255 for x in observation.images.values()]
        return np.concatenate([proprio, *pictures], 1).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    """Demonstrations without noise, so that what was done is what is to be done."""
    config = CollectConfig(suite=SUITE.name, episodes=EPISODES, workers=1, noise=0.0, image_size=32)
    return collect(config, tmp_path_factory.mktemp("diagnosis") / "store.zarr")


@pytest.fixture(scope="module")
def policy(store: TrajectoryStore) -> Memory:
    return Memory(store)


def make(suite: Suite, **kwargs: Any) -> gymnasium.Env:
    return suite.make(disable_env_checker=True, image_size=32, **kwargs)


def judge(policy: Any, store: TrajectoryStore, world: Any = lambda env: env) -> Diagnosis:
    return diagnose(policy, store, SUITE, lambda suite, **kwargs: world(make(suite, **kwargs)), EPISODES)


def test_a_policy_that_knows_its_recordings_by_heart_climbs_to_other_scenes(
    policy: Memory, store: TrajectoryStore
) -> None:
    found = judge(policy, store)
    assert [rung.name for rung in found.rungs] == list(RUNGS)
    assert [rung.holds for rung in found.rungs] == [True, True, True, True, False, None]
    assert found.rungs[0].numbers == {"repeated": EPISODES, "episodes": EPISODES}
    assert set(found.rungs[1].numbers["apart"].values()) == {0.0}
    assert found.rungs[2].numbers["unexplained"] == 0
    assert found.broken is not None and "by heart" in found.broken.causes[0]
    show_diagnosis(found, console := Console(record=True, width=100))
    text = console.export_text()
    assert "First broken rung: training scenes" in text and f"{EPISODES} of {EPISODES} recorded successes" in text


PLANTED = (
    *("world: sign", "world: stale proprioception", "world: action sign", "world: chunk shift", "world: channel order"),
    *("world: flipped image", "world: swapped cameras", "policy: action sign", "policy: chunk shift"),
    *("policy: normaliser", "policy: channel order", "policy: flipped image", "policy: swapped cameras"),
)


def test_all_planted_faults_are_tried(policy: Memory) -> None:
    assert set(planted_faults(policy)) == set(PLANTED)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_faults_are_named(name: str, policy: Memory, store: TrajectoryStore) -> None:
    planted = planted_faults(policy)[name]
    broken = judge(planted.policy(policy), store, planted.world).broken
    assert broken is not None
    assert broken.causes[0].startswith(f"{planted.fault}: "), (broken.found, broken.causes)
    side = "policy" if name.startswith("policy") else "world"
    assert f"(between the recordings and the {side})" in broken.causes[0]


QUATERNION = ("tool_qw", "tool_qx", "tool_qy", "tool_qz")


def _turned(proprio: np.ndarray) -> np.ndarray:
    """Proprioception [..., 13] with the tool's yaw as a quaternion in the place of sine and cosine."""
    half = np.arctan2(proprio[..., 3], proprio[..., 4]) / 2
    nothing = np.zeros_like(half)
    turned = np.stack([np.cos(half), nothing, nothing, np.sin(half)], -1)
    return np.concatenate([proprio[..., :3], turned, proprio[..., 5:]], -1).astype(np.float32)


@pytest.fixture(scope="module")
def quaternions(store: TrajectoryStore, tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    """The demonstrations with a quaternion in their proprioception."""
    proprio = store.env_spec.proprio
    names = (*proprio.names[:3], *QUATERNION, *proprio.names[5:])
    units = (*proprio.units[:3], *("1",) * 4, *proprio.units[5:])
    spec = replace(store.env_spec, proprio=ProprioSpec(names, units, proprio.rate_hz))
    streams = [
        replace(stream, shape=(len(names),)) if stream.name == PROPRIO_STREAM else stream
        for stream in store.streams.values()
    ]
    made = TrajectoryStore.create(
        tmp_path_factory.mktemp("quaternions") / "store.zarr", spec, streams, store.meta, store.tolerance
    )
    with made.writer() as writer:
        for episode in range(len(store)):
            read = {name: store.read(episode, name) for name in store.streams}
            old = read[PROPRIO_STREAM]
            read[PROPRIO_STREAM] = Stream(_turned(old.values), old.stamps_ns)
            info = store.episode_info(episode)
            writer.append(Episode(read, info["instruction"], info["meta"]))
    return made


def test_a_quaternion_of_the_other_sign_is_named(quaternions: TrajectoryStore) -> None:
    def world(sign: float) -> Any:
        def show(_: Any, shown: dict[str, Any]) -> dict[str, Any]:
            proprio = _turned(shown[PROPRIO_STREAM])
            proprio[3:7] *= sign
            return {**shown, PROPRIO_STREAM: proprio}

        return lambda env: FaultyWorld(env, show)

    policy = Memory(quaternions)
    assert judge(policy, quaternions, world(1)).rungs[1].holds
    broken = judge(policy, quaternions, world(-1)).broken
    assert broken is not None and broken.name == "views"
    assert broken.causes[0].startswith("quaternion sign: tool (between the recordings and the world)")


def test_quaternions_are_known_by_the_names_of_their_dimensions() -> None:
    names = ("x", "eef_quat_x", "eef_quat_y", "eef_quat_z", "eef_quat_w", "qw", "qx", "qy", "qz", "joint_w", "other_qx")
    assert quaternion_dimensions(names) == {"eef": [1, 2, 3, 4], "quaternion": [5, 6, 7, 8]}


def test_a_stream_that_goes_wrong_in_closed_loop_is_found_by_putting_the_recorded_one_in_its_place(
    policy: Memory, store: TrajectoryStore
) -> None:
    def show(_: Any, shown: dict[str, Any]) -> dict[str, Any]:
        return {**shown, PROPRIO_STREAM: np.full_like(shown[PROPRIO_STREAM], 30.0)}

    recordings = policy.recordings
    case = Case(policy, store, recordings, SUITE, FaultyWorld(make(SUITE), show), 8, lambda *_: None, recordings)
    rung = exact_start(case)
    assert rung.holds is False and rung.causes[0].startswith("proprio: with it as recorded, 100%")
    assert exact_start(replace(case, env=make(SUITE))).holds


def with_meta(store: TrajectoryStore, path: Path, metas: Sequence[dict[str, Any]]) -> TrajectoryStore:
    """The first episodes of the store again, with these metas instead of their own."""
    made = TrajectoryStore.create(path, store.env_spec, list(store.streams.values()), store.meta, store.tolerance)
    with made.writer() as writer:
        for episode, meta in enumerate(metas):
            read = {name: store.read(episode, name) for name in store.streams}
            writer.append(Episode(read, store.episode_info(episode)["instruction"], meta))
    return made


def test_a_policy_that_has_learned_nothing_breaks_on_the_recordings(store: TrajectoryStore, policy: Memory) -> None:
    class Still(Memory):
        def act(self, observation: Observation, generators: Any = None, subgoals: Any = None) -> Tensor:
            return torch.zeros(len(observation.proprio), self.config.action_horizon, self.spec.action.dim)

    broken = judge(Still(store), store).broken
    assert broken is not None and broken.name == "teacher-forced"
    assert broken.causes[0].startswith("it has not learned what was recorded")


def test_recordings_without_a_seed_cannot_be_driven_again_which_is_said(store: TrajectoryStore, tmp_path: Path) -> None:
    made = with_meta(store, tmp_path / "store.zarr", [{"success": True}] * 2)
    rungs = {rung.name: rung for rung in judge(Memory(made), made).rungs}
    assert rungs["replay"].found.startswith("not testable: ")
    for name in ("replay", "views", "exact start"):
        assert rungs[name].holds is None and "meta lacks ['seed', 'task']" in rungs[name].found
    assert rungs["teacher-forced"].holds and rungs["training scenes"].holds is False
    alone = {rung.name: rung.holds for rung in diagnose(Memory(made), made, None, make, 2).rungs}
    assert alone == {**dict.fromkeys(RUNGS), "teacher-forced": True}, "without a world there are recordings alone"


def test_some_recordings_that_cannot_be_started_are_left_out(store: TrajectoryStore, tmp_path: Path) -> None:
    known = [store.episode_info(episode)["meta"] for episode in (1, 2)]
    made = with_meta(store, tmp_path / "store.zarr", [{"success": True}, *known])
    rungs = {rung.name: rung for rung in judge(Memory(made), made).rungs}
    assert rungs["replay"].numbers == {"repeated": 2, "episodes": 2} and rungs["exact start"].holds


def test_what_does_not_say_whether_it_succeeded_is_not_asked_to_where_others_say(
    store: TrajectoryStore, tmp_path: Path
) -> None:
    metas = [store.episode_info(episode)["meta"] for episode in range(3)]
    undecided = [{key: value for key, value in meta.items() if key != "success"} for meta in metas]
    for name, chosen, asked in (("some", [*undecided[:1], *metas[1:]], 2), ("none", undecided, 3)):
        made = with_meta(store, tmp_path / f"{name}.zarr", chosen)
        assert judge(Memory(made), made).rungs[0].numbers == {"repeated": asked, "episodes": asked}


class Never(gymnasium.Wrapper):
    """A world that moves as it was recorded, and never calls it a success."""

    def step(self, action: np.ndarray) -> Any:
        observation, _, terminated, truncated, info = self.env.step(action)
        return observation, 0.0, terminated, truncated, {**info, "success": False}


def test_what_no_fault_explains_is_blamed_on_none(policy: Memory, store: TrajectoryStore) -> None:
    broken = judge(policy, store, Never).broken
    assert broken is not None and broken.name == "replay"
    assert broken.causes[0].startswith("the world does something else with these actions")

    def bright(_: Any, shown: dict[str, Any]) -> dict[str, Any]:
        lit = {name: (255 - (255 - x) // 2) for name, x in shown.items() if name.startswith("camera")}
        return {**shown, **lit}

    broken = judge(policy, store, lambda env: FaultyWorld(env, bright)).broken
    assert broken is not None and broken.name == "views" and broken.causes[0].startswith("another world, other lights")

    def told(_: Any, shown: dict[str, Any]) -> dict[str, Any]:
        return {**shown, "instruction": "lift something else"}

    broken = judge(policy, store, lambda env: FaultyWorld(env, told)).broken
    assert broken is not None and broken.name == "views" and f"the instruction in {EPISODES}" in broken.found
    assert broken.causes[0].startswith("the policy is told something else")


def test_a_shift_of_two_steps_is_named(policy: Memory, store: TrajectoryStore) -> None:
    late = FaultyPolicy(policy, said=lambda x: torch.cat([x[:, 2:], x[:, -1:], x[:, -1:]], 1))
    broken = judge(late, store).broken
    assert broken is not None and broken.causes[0].startswith("chunk shift: actions come 2 control steps early")


@pytest.mark.parametrize(
    ("won", "of", "below", "holds"),
    [(10, 20, 1.0, True), (9, 20, 1.0, None), (5, 20, 1.0, False), (0, 3, 1.0, None), (5, 20, 0.5, True)],
)
def test_a_rung_holds_breaks_or_cannot_tell(won: int, of: int, below: float, holds: bool | None) -> None:
    rung = judge_rung("unseen scenes", [True] * won + [False] * (of - won), below, "succeed")
    assert rung.holds is holds and ("too few to be sure" in rung.found) == (holds is None)


def test_a_store_of_another_robot_is_refused(policy: Memory, quaternions: TrajectoryStore) -> None:
    with pytest.raises(StoreError, match=r"proprio: found .*tool_qw.*, the policy has .*tool_yaw_sin"):
        judge(policy, quaternions)


def test_large_pictures_are_looked_at_in_fewer_episodes(
    policy: Memory, store: TrajectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = len(store.stamps("action")) / len(store)
    monkeypatch.setattr("deixis.eval.diagnosis.MEMORY", int(2 * 2 * 32 * 32 * 3 * rows * 2.5))
    assert judge(policy, store).rungs[0].numbers["episodes"] == 2


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(tmp_path)]) == 1
    assert f"{tmp_path / 'policy'} is not there" in capsys.readouterr().err
    (tmp_path / "policy").mkdir()
    (tmp_path / "demonstrations.zarr").mkdir()
    assert main(["diagnose", str(tmp_path), "--episodes", "no"]) == 1
    assert "--episodes: found 'no', wanted a whole number" in capsys.readouterr().err


def test_the_command_writes_what_it_found(
    policy_folder: Path, store: TrajectoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    (tmp_path / "policy").symlink_to(policy_folder)
    command = ["diagnose", str(tmp_path), "--store", str(store.path), "--episodes", "2"]
    assert main([*command, "--json", str(tmp_path / "copy.json")]) == 0
    found = json.loads((tmp_path / "diagnosis.json").read_text())
    assert found == json.loads((tmp_path / "copy.json").read_text())
    assert found["broken"] in RUNGS and len(found["rungs"]) == len(RUNGS)
    assert "First broken rung" in capsys.readouterr().out
