"""Repairs drop, trim and re-declare; they change no stamp and no value, and what is left passes the gate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deixis.datasets.episode import Stream
from deixis.datasets.repair import NoRepairError, repair
from deixis.datasets.store import StoreError, TrajectoryStore
from deixis.datasets.timestamps import check_store
from deixis.datasets.trajectories import MemoryTrajectories

from .moving import moving_trajectories


def _written(data: MemoryTrajectories, path: Path) -> TrajectoryStore:
    store = TrajectoryStore.create(path, data.env_spec, list(data.streams.values()), {}, data.tolerance)
    with store.writer(sync=False, ordered=False) as writer:
        for episode in data.episodes:
            writer.append(episode)
    return TrajectoryStore.open(path)


@pytest.fixture
def data() -> MemoryTrajectories:
    return moving_trajectories(count=10)


def test_bad_episodes_go_others_stay_as_they_were(data: MemoryTrajectories, tmp_path: Path) -> None:
    actions = data.episodes[3].streams["action"]
    broken = Stream(actions.values.copy(), actions.stamps_ns)
    broken.values[5, 1] = np.nan
    data.episodes[3] = replace(data.episodes[3], streams={**data.episodes[3].streams, "action": broken})
    store = _written(data, tmp_path / "a")
    done = repair(store, check_store(store), tmp_path / "b")
    assert done == ["episode 3: dropped (finite)"]
    mended = TrajectoryStore.open(tmp_path / "b")
    assert len(mended) == 9 and check_store(mended).ok
    for new, old in enumerate([0, 1, 2, 4, 5, 6, 7, 8, 9]):
        for name, stream in data.episodes[old].streams.items():
            np.testing.assert_array_equal(mended.read(new, name).values, stream.values)
            np.testing.assert_array_equal(mended.read(new, name).stamps_ns, stream.stamps_ns)
    assert not check_store(TrajectoryStore.open(tmp_path / "a")).ok, "the source stays as it is"


def test_the_longer_side_of_a_stall_stays(data: MemoryTrajectories, tmp_path: Path) -> None:
    episode = data.episodes[0]
    rows = len(episode.streams["action"].values)
    at = episode.streams["action"].stamps_ns[4]
    stalled = {
        name: Stream(s.values, s.stamps_ns + np.where(s.stamps_ns >= at, 10**9, 0))
        for name, s in episode.streams.items()
    }
    data.episodes[0] = replace(episode, streams=stalled)
    store = _written(data, tmp_path / "a")
    done = repair(store, check_store(store), tmp_path / "b")
    assert done == [f"episode 0: trimmed to {rows - 4} control steps (stall)"]
    left = TrajectoryStore.open(tmp_path / "b").episode(0)
    np.testing.assert_array_equal(left.streams["action"].values, episode.streams["action"].values[4:])
    np.testing.assert_array_equal(left.streams["camera.above"].stamps_ns, stalled["camera.above"].stamps_ns[4:])
    assert check_store(TrajectoryStore.open(tmp_path / "b")).ok


def test_what_follows_a_hole_in_one_stream_or_goes_before_it(data: MemoryTrajectories, tmp_path: Path) -> None:
    episode = data.episodes[1]
    for first in (3, 19):
        camera = episode.streams["camera.above"]
        keep = np.delete(np.arange(len(camera.values)), np.arange(first, first + 3))
        data.episodes[1] = replace(
            episode,
            meta={"success": True},
            streams={**episode.streams, "camera.above": Stream(camera.values[keep], camera.stamps_ns[keep])},
        )
        store = _written(data, tmp_path / f"a{first}")
        assert "trimmed" in repair(store, check_store(store), tmp_path / f"b{first}")[0]
        mended = TrajectoryStore.open(tmp_path / f"b{first}")
        assert check_store(mended).ok, list(map(str, check_store(mended).errors))
        assert ("success" in mended.episode_info(1)["meta"]) == (first == 3), "its end is what made it a success"


def test_a_wrong_rate_is_declared_anew(data: MemoryTrajectories, tmp_path: Path) -> None:
    data.streams["proprio"] = replace(data.streams["proprio"], rate_hz=20.0)
    proprio = replace(data.env_spec.proprio, rate_hz=20.0)
    data.env_spec = replace(data.env_spec, proprio=proprio)
    store = _written(data, tmp_path / "a")
    report = check_store(store)
    assert [f.check for f in report.errors] == ["rate"]
    assert repair(store, report, tmp_path / "b") == ["stream 'proprio': declared 20 Hz, now 10 Hz as measured"]
    mended = TrajectoryStore.open(tmp_path / "b")
    assert mended.streams["proprio"].rate_hz == mended.env_spec.proprio.rate_hz == 10 and check_store(mended).ok


def test_what_cannot_be_mended_is_refused_and_nothing_is_written(data: MemoryTrajectories, tmp_path: Path) -> None:
    for index, episode in enumerate(data.episodes):
        actions = episode.streams["action"]
        late = Stream(np.roll(actions.values, 2, axis=0), actions.stamps_ns)
        data.episodes[index] = replace(episode, streams={**episode.streams, "action": late})
    store = _written(data, tmp_path / "a")
    with pytest.raises(NoRepairError, match="2 rows too late in the store as a whole"):
        repair(store, check_store(store), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    with pytest.raises(StoreError, match="found something there"):
        repair(store, check_store(store), tmp_path / "a")
