"""Push-T as an environment of deixis: the benchmark's starts, marks and pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from deixis.datasets.formats import IMPORTERS
from deixis.datasets.formats.options import ImportOptions
from deixis.datasets.store import TrajectoryStore
from deixis.datasets.timestamps import check_store
from deixis.envs.pusht import drawn_start
from deixis.envs.suites import suite_named

pytest.importorskip("gym_pusht", reason="needs deixis[pusht]", exc_type=ImportError)
SOURCE = (
    Path(os.environ.get("DEIXIS_DATA", Path(__file__).parents[3] / "shared" / "data")) / "pusht_cchi_v7_replay.zarr"
)
STATE = ("state[0:4]", "angle(state[4:5])")


def imported(path: Path, proprio: tuple[str, ...] = ()) -> TrajectoryStore:
    if not SOURCE.exists():
        pytest.skip(f"{SOURCE} is not here: the Push-T demonstrations of Chi et al. 2023")
    return IMPORTERS["replay_buffer"](SOURCE, path, ImportOptions(limit=3, proprio=proprio))


@pytest.mark.parametrize("suite", ["pusht-state", "pusht-image"])
def test_it_is_a_gymnasium_environment(suite: str) -> None:
    check_env(suite_named(suite).make(disable_env_checker=True, render_mode="rgb_array").unwrapped)


def test_the_seeds_are_the_benchmark_s() -> None:
    suite = suite_named("pusht-state")
    assert [suite.episode_seed("push-t", index) for index in (0, 49)] == [100_000, 100_049]
    env = suite.make(disable_env_checker=True)
    first, _ = env.reset(seed=100_007)
    again, _ = env.reset(seed=100_007)
    other, _ = env.reset(seed=100_008)
    assert np.array_equal(first["proprio"], again["proprio"]) and not np.array_equal(first["proprio"], other["proprio"])
    agent, angle = drawn_start(100_007)[:2], drawn_start(100_007)[4]
    np.testing.assert_allclose(first["proprio"][:2], agent, atol=1e-3)
    np.testing.assert_allclose(first["proprio"][4:], [np.cos(angle), np.sin(angle)], atol=1e-2)


def test_the_score_is_the_best_mark_and_success_is_95_percent() -> None:
    env = suite_named("pusht-state").make(disable_env_checker=True).unwrapped
    env.reset(seed=0)
    inner = env._env  # pyright: ignore
    inner.block.angle = float(inner.goal_pose[2])
    inner.block.position = [float(value) for value in inner.goal_pose[:2]]
    away = np.array([20.0, 20.0], np.float32)
    _, reward, terminated, _, info = env.step(away)
    assert info["success"] and terminated and reward == 1.0 and info["score"] == 1.0 and info["coverage"] > 0.95
    inner.block.position = [60.0, 60.0]
    _, reward, terminated, _, info = env.step(away)
    assert float(reward) < 0.3 and not terminated and info["score"] == 1.0, "the best mark stays"


@pytest.mark.parametrize("proprio", [(), STATE])
def test_an_imported_store_is_of_the_same_robot(tmp_path: Path, proprio: tuple[str, ...]) -> None:
    spec = imported(tmp_path / "store.zarr", proprio).env_spec
    env = suite_named("pusht-state" if proprio else "pusht-image").make(disable_env_checker=True).unwrapped.env_spec  # pyright: ignore
    assert (env.action, env.proprio) == (spec.action, spec.proprio)
    assert set(env.cameras) <= set(spec.cameras)


def test_an_angle_is_told_by_cosine_and_sine(tmp_path: Path) -> None:
    plain = imported(tmp_path / "plain.zarr")
    store = imported(tmp_path / "state.zarr", STATE)
    told, pose = store.read(1, "proprio").values, plain.read(1, "privileged.block_pose").values
    np.testing.assert_array_equal(told[:, :2], plain.read(1, "proprio").values)
    np.testing.assert_array_equal(told[:, 2:4], pose[:, :2])
    np.testing.assert_allclose(told[:, 4], np.cos(pose[:, 2]), atol=1e-6)
    np.testing.assert_allclose(told[:, 5], np.sin(pose[:, 2]), atol=1e-6)
    assert not check_store(store).errors


def test_the_picture_is_the_recorded_one(tmp_path: Path) -> None:
    """At a recorded state the environment's picture is the demonstration's, but for a pixel here and there."""
    store = imported(tmp_path / "store.zarr")
    agent, block = (store.read(0, name).values for name in ("proprio", "privileged.block_pose"))
    pictures = store.read(0, "camera.img").values
    env = suite_named("pusht-image").make(disable_env_checker=True).unwrapped
    env.reset(seed=0)
    inner = env._env  # pyright: ignore
    for row in (0, 40, 100):
        inner.agent.position = [float(value) for value in agent[row]]
        inner.block.angle = float(block[row, 2])
        inner.block.position = [float(value) for value in block[row, :2]]
        for body in (inner.agent, inner.block):
            inner.space.reindex_shapes_for_body(body)
        seen = env._observe(np.zeros(5))["camera.img"]  # pyright: ignore
        assert np.abs(seen.astype(int) - pictures[row]).mean() < 0.2


@pytest.mark.parametrize(
    ("options", "said"), [({"task": "lift"}, "task.*'lift'.*'push-t'"), ({"condition": "null"}, "condition.*'null'")]
)
def test_another_task_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        suite_named("pusht-state").make(disable_env_checker=True).reset(seed=0, options=options)
