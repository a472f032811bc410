"""Demonstrations happen again; with a flipped gripper, a wrong frame or a wrong scale they do not."""

from pathlib import Path

import numpy as np
import pytest

from deixis.datasets.episode import Stream, StreamSpec
from deixis.datasets.store import StoreError, TrajectoryStore
from deixis.envs.collect import collect
from deixis.envs.config import CollectConfig
from deixis.eval.replay import replay


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    return collect(CollectConfig(episodes=6, workers=1), tmp_path_factory.mktemp("replay") / "store.zarr", seed=5)


def _changed(store: TrajectoryStore, path: Path, change) -> TrajectoryStore:
    copy = TrajectoryStore.create(path, store.env_spec, list(store.streams.values()), store.meta, store.tolerance)
    with copy.writer(sync=False) as writer:
        for index in range(len(store)):
            episode = store.episode(index)
            executed = episode.streams["executed"]
            episode.streams["executed"] = Stream(change(executed.values.copy()), executed.stamps_ns)
            writer.append(episode)
    return copy


def test_demonstrations_replay_exactly_and_succeed_again(store: TrajectoryStore) -> None:
    report = replay(store, "tabletop")
    assert report.ok and report.exact == report.repeated == report.successes == 6
    assert all(episode.deviation < 1e-5 for episode in report.episodes)


def test_normalised_and_back_they_still_succeed(store: TrajectoryStore) -> None:
    report = replay(store, "tabletop", "normalised")
    assert report.ok and report.repeated == 6
    tokens = replay(store, "tabletop", "tokens")
    assert tokens.exact == 0 and max(episode.deviation for episode in tokens.episodes) > 0


def _flip_gripper(values: np.ndarray) -> np.ndarray:
    values[:, 4] *= -1
    return values


@pytest.mark.parametrize(
    "change",
    [
        _flip_gripper,
        lambda values: values[:, [1, 0, 2, 3, 4]],
        lambda values: values * np.array([0.5, 0.5, 0.5, 1, 1], np.float32),
    ],
    ids=["flipped gripper", "x and y exchanged", "half the scale"],
)
def test_a_wrong_convention_shows_at_once(store: TrajectoryStore, tmp_path: Path, change) -> None:
    report = replay(_changed(store, tmp_path / "wrong.zarr", change), "tabletop")
    assert not report.ok and report.exact == 0 and report.repeated < 3
    assert all(episode.diverged is not None and episode.diverged <= 6 for episode in report.episodes)


def test_what_cannot_be_replayed_is_refused(store: TrajectoryStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="wanted one of"):
        replay(store, "nowhere")
    with pytest.raises(StoreError, match="wanted one of"):
        replay(store, "tabletop", "sideways")
    specs = [StreamSpec(s.name, s.dtype, s.shape, s.rate_hz, s.kind, s.unit) for s in store.streams.values()]
    moved = TrajectoryStore.create(tmp_path / "moved.zarr", store.env_spec, specs, store.meta)
    with moved.writer(sync=False) as writer:
        episode = store.episode(0)
        episode.meta["scene"] = []
        writer.append(episode)
    with pytest.raises(StoreError, match="gives another scene"):
        replay(moved, "tabletop")
