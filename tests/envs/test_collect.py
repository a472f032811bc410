"""Demonstrations: reproducible, successful, clean actions recorded, and the same for any number of workers."""

from pathlib import Path

import numpy as np
import pytest

from deixis.datasets.store import TrajectoryStore
from deixis.datasets.timestamps import check_store
from deixis.envs.collect import Attempts, CollectionError, collect
from deixis.envs.config import CollectConfig


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    return collect(CollectConfig(episodes=6, workers=2), tmp_path_factory.mktemp("collect") / "demos.zarr")


def test_collected_store_passes_the_gate(store: TrajectoryStore) -> None:
    report = check_store(store)
    assert report.ok, report.findings
    assert len(store) == 6
    assert [store.episode_info(i)["meta"]["task"] for i in range(6)] == ["lift", "push", "place"] * 2
    assert store.meta["versions"]["mujoco"]


def test_workers_do_not_change_what_comes_out(store: TrajectoryStore, tmp_path: Path) -> None:
    alone = collect(CollectConfig(episodes=3, workers=1), tmp_path / "alone.zarr")
    for index in range(3):
        one, two = alone.episode(index), store.episode(index)
        assert one.instruction == two.instruction and one.meta == two.meta
        for name in one.streams:
            assert np.array_equal(one.streams[name].values, two.streams[name].values), name
            assert np.array_equal(one.streams[name].stamps_ns, two.streams[name].stamps_ns)


def test_segmentation_has_its_own_slower_clock(store: TrajectoryStore) -> None:
    episode = store.episode(0)
    action, segments = episode.streams["action"], episode.streams["segmentation.front"]
    assert np.all(np.diff(action.stamps_ns) == 100_000_000)
    assert np.all(np.diff(segments.stamps_ns) == 400_000_000)
    assert np.isin(segments.stamps_ns, action.stamps_ns).all()


def test_the_clean_action_is_recorded() -> None:
    """With noise the arm goes elsewhere, yet the recorded action is what the expert asked for."""
    episode = Attempts(CollectConfig(noise=0.3, workers=1), 0)(0)
    assert episode is not None
    proprio, actions = episode.streams["proprio"].values, episode.streams["action"].values
    moved = np.diff(proprio[:, :3], axis=0)
    assert np.abs(moved - actions[:-1, :3]).max() > 0.01  # the disturbance was executed
    assert (
        np.abs(np.linalg.norm(actions[:, :3], axis=1)).max() <= 0.0455
    )  # and not recorded: the expert's speed limit holds


def test_an_expert_that_cannot_succeed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="noise"):
        collect(CollectConfig(episodes=2, workers=1, noise=30.0), tmp_path / "none.zarr")
