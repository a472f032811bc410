"""Parts of stores keep every row and every stamp, and leave nothing behind when they fail."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.datasets.merge import merge
from deixis.datasets.slicing import cut, split, take
from deixis.datasets.store import Episode, StoreError, Stream, StreamSpec, TrajectoryStore

PERIOD = 100_000_000


@pytest.fixture
def store(make_store: Any, make_episode: Any) -> TrajectoryStore:
    return make_store([make_episode(i, 5 + 9 * i, 10**12 * i) for i in range(5)])


def test_take_copies_episodes_in_the_order_asked_for(
    store: TrajectoryStore, make_episode: Any, assert_same: Any, tmp_path: Path
) -> None:
    taken = take(store, [4, 0, 2], tmp_path / "taken")
    for found, wanted in zip(range(3), (4, 0, 2), strict=True):
        assert_same(taken.episode(found), make_episode(wanted, 5 + 9 * wanted, 10**12 * wanted))
    assert (taken.meta, taken.streams, taken.env_spec, taken.tolerance) == (
        store.meta, store.streams, store.env_spec, store.tolerance
    )  # fmt: skip


def test_split_and_merge_are_inverse(store: TrajectoryStore, assert_same: Any, tmp_path: Path) -> None:
    parts = split(store, [[0, 3], [], [1, 2, 4]], [tmp_path / name for name in "abc"])
    assert [len(part) for part in parts] == [2, 0, 3]
    whole = merge(parts, tmp_path / "whole")
    for found, wanted in enumerate((0, 3, 1, 2, 4)):
        assert_same(whole.episode(found), store.episode(wanted))


def test_clocks_that_are_wrong_stay_as_they_are(make_episode: Any, make_store: Any, tmp_path: Path) -> None:
    store, episode = make_store([]), make_episode(0)
    stamps = episode.streams["proprio"].stamps_ns
    stamps[3:5] = stamps[4], stamps[3]
    with store.writer(ordered=False) as writer:
        writer.append(episode)
    for copy in (take(store, [0], tmp_path / "a"), merge([store], tmp_path / "b")):
        np.testing.assert_array_equal(copy.read(0, "proprio").stamps_ns, stamps)


def test_a_split_that_fails_leaves_nothing(store: TrajectoryStore, tmp_path: Path) -> None:
    (store.path / "streams/action/values/c.5.0").unlink()  # of the last episode
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError, match="wanted the rows of a finished episode"):
        split(TrajectoryStore.open(store.path), [[0, 1], [4]], [tmp_path / "a", tmp_path / "b"])
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_split_is_refused(store: TrajectoryStore, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for groups, places, message in (
        ([[0], [1]], [a], "found 2 groups"),
        ([[0], [1]], [a, a], "wanted one for each group"),
        ([[0, 1], [1]], [a, b], r"found the episodes \[1\] more than once"),
        ([[0, 0]], [a], r"found the episodes \[0\] more than once"),
        ([[0]], [store.path], "found something there"),
        ([[0]], ["memory://there"], "found a URL, which is read-only"),
    ):
        with pytest.raises(StoreError, match=message):
            split(store, groups, places)
    with pytest.raises(IndexError, match="found episode index 5"):
        take(store, [0, 5], a)
    assert not a.exists() and not b.exists()


@settings(max_examples=40)
@given(bounds=st.tuples(st.integers(-2, 42), st.integers(-2, 42)), shift=st.integers(-1, 1))
def test_a_cut_is_the_rows_of_an_interval(
    tmp_path_factory: pytest.TempPathFactory,
    env_spec: Any,
    stream_specs: tuple[StreamSpec, ...],
    bounds: tuple[int, int],
    shift: int,
) -> None:
    store, whole = _shared_store(tmp_path_factory, env_spec, stream_specs)
    start, stop = (10**9 + PERIOD * bound + shift for bound in bounds)
    inside = {name: (s.stamps_ns >= start) & (s.stamps_ns < stop) for name, s in whole.streams.items()}
    if not all(rows.any() for rows in inside.values()):
        with pytest.raises(StoreError, match="wanted one piece of at least one"):
            cut(store, 1, start, stop)
        return
    part = cut(store, 1, start, stop)
    assert (part.instruction, part.meta) == (whole.instruction, whole.meta)
    for name, rows in inside.items():
        np.testing.assert_array_equal(part.streams[name].values, whole.streams[name].values[rows])
        np.testing.assert_array_equal(part.streams[name].stamps_ns, whole.streams[name].stamps_ns[rows])


_made: list[tuple[TrajectoryStore, Episode]] = []


def _shared_store(factory: pytest.TempPathFactory, env_spec: Any, streams: Any) -> tuple[TrajectoryStore, Episode]:
    if not _made:
        store = TrajectoryStore.create(factory.mktemp("cut") / "s", env_spec, streams)
        rng = np.random.default_rng(0)
        with store.writer(sync=False) as writer:
            for steps in (9, 40, 9):
                rows = {}
                for spec in streams:
                    stamps = 10**9 + PERIOD * np.arange(0, steps, round(10 / spec.rate_hz), dtype=np.int64)
                    rows[spec.name] = Stream(rng.integers(0, 99, (len(stamps), *spec.shape)).astype(spec.dtype), stamps)
                writer.append(Episode(rows, f"{steps} steps", {"steps": steps}))
        _made.append((store, store.episode(1)))
    return _made[0]


def test_a_clock_that_runs_backward_is_not_cut(make_episode: Any, make_store: Any) -> None:
    store, episode = make_store([]), make_episode(0)
    stamps = episode.streams["proprio"].stamps_ns
    stamps[2], stamps[7] = stamps[7], stamps[2]
    with store.writer(ordered=False) as writer:
        writer.append(episode)
    with pytest.raises(StoreError, match=r"episode 0, stream 'proprio': found 5 rows .* wanted one piece"):
        cut(store, 0, 0, 5 * PERIOD)


def test_lossy_rows_are_copied_as_they_are(make_episode: Any, tmp_path: Path, env_spec: Any, stream_specs: Any) -> None:
    lossy = [replace(spec, codec="jpeg:30") if spec.kind == "image" else spec for spec in stream_specs]
    store = TrajectoryStore.create(tmp_path / "s", env_spec, lossy)
    with store.writer(sync=False) as writer:
        for index in range(2):
            writer.append(make_episode(index, 20))
    copy = merge([take(store, [1], tmp_path / "a"), store], tmp_path / "b")
    part = TrajectoryStore.create(tmp_path / "c", env_spec, lossy)
    with part.writer(sync=False) as writer:
        writer.append(cut(copy, 0, 5 * PERIOD, 9 * PERIOD))
    for camera in ("camera.front", "camera.wrist"):
        wanted = store.read(1, camera)
        assert wanted.encoded is not None
        assert copy.read(0, camera).encoded == wanted.encoded
        found = part.read(0, camera)
        assert found.encoded is not None and found.encoded.rows == wanted.encoded.rows[5:9]
        np.testing.assert_array_equal(found.values, wanted.values[5:9])
    with pytest.raises(StoreError, match="only stores of one declaration"):
        merge([store, TrajectoryStore.create(tmp_path / "d", env_spec, stream_specs)], tmp_path / "e")


def test_stores_of_other_lossless_codecs_are_merged(
    make_store: Any, make_episode: Any, assert_same: Any, tmp_path: Path, env_spec: Any, stream_specs: Any
) -> None:
    packed = [replace(spec, codec="png" if spec.kind == "image" else "zstd") for spec in stream_specs]
    other = TrajectoryStore.create(tmp_path / "png", env_spec, packed)
    with other.writer(sync=False) as writer:
        writer.append(make_episode(1))
    merged = merge([make_store([make_episode(0)]), other], tmp_path / "all")
    for index in range(2):
        assert_same(merged.episode(index), make_episode(index))
    assert merged.streams["camera.front"].codec == "lz4"
