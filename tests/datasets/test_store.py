"""What goes into a store comes out of it, and what does not belong is refused before anything is written."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from deixis.datasets.spec import EnvSpec
from deixis.datasets.store import Episode, StoreError, Stream, StreamSpec, TrajectoryStore


def test_episodes_come_back_exactly(make_store: Any, make_episode: Any, assert_same: Any) -> None:
    # One row, a part of a chunk (40 rows), exactly a chunk, several chunks; a clock far from 0.
    episodes = [make_episode(i, steps, 10**18) for i, steps in enumerate((1, 9, 40, 41, 130))]
    written = make_store(episodes)
    for store in (written, TrajectoryStore.open(written.path)):
        assert len(store) == 5
        for i, episode in enumerate(episodes):
            assert_same(store.episode(i), episode)
    assert store.episode_info(1) == {
        "instruction": episodes[1].instruction,
        "meta": episodes[1].meta,
        "lengths": {name: len(stream.values) for name, stream in episodes[1].streams.items()},
    }
    assert store.meta == {"suite": "tiny"}


def test_rows_of_zeros_are_rows(make_store: Any, make_episode: Any, assert_same: Any) -> None:
    episode = make_episode(0, 1)
    for stream in episode.streams.values():
        stream.values[:] = 0
    assert_same(make_store([episode]).episode(0), episode)


def test_several_episodes_are_read_as_one_array(make_store: Any, make_episode: Any) -> None:
    episodes = [make_episode(i, 5 + 20 * i) for i in range(5)]
    store = make_store(episodes)
    for chosen in (None, [0, 1], [4, 0, 2], [3, 3], []):
        order = range(5) if chosen is None else chosen
        parts = [episodes[i].streams["camera.front"] for i in order]
        found, offsets = store.read_all("camera.front", chosen), store.offsets("camera.front", chosen)
        assert offsets.tolist() == np.cumsum([0, *(len(part.values) for part in parts)]).tolist()
        for part, begin, end in zip(parts, offsets, offsets[1:], strict=False):
            np.testing.assert_array_equal(found.values[begin:end], part.values)
            np.testing.assert_array_equal(found.stamps_ns[begin:end], part.stamps_ns)


def test_plain_zarr_reads_a_store(make_store: Any, make_episode: Any) -> None:
    episode = make_episode(3)
    root = zarr.open(make_store([make_episode(2), episode]).path, mode="r")
    assert isinstance(root, zarr.Group)
    record: Any = root["episodes/000001"].attrs.asdict()
    first, rows = record["spans"]["proprio"]
    found: Any = root["streams/proprio/values"]
    np.testing.assert_array_equal(found[first : first + rows], episode.streams["proprio"].values)
    assert record["instruction"] == episode.instruction
    assert sorted(dict(root["episodes"].members())) == ["000000", "000001"]  # type: ignore[union-attr]


def test_writing_goes_on_in_an_old_store(make_store: Any, make_episode: Any, assert_same: Any) -> None:
    path = make_store([make_episode(0)]).path
    store = TrajectoryStore.open(path)
    with store.writer() as writer:
        assert writer.append(make_episode(1, 77)) == 1
        assert_same(store.episode(1), make_episode(1, 77))
    with store.writer() as writer:
        assert writer.append(make_episode(2)) == 2
    assert len(TrajectoryStore.open(path)) == 3
    for i, steps in enumerate((9, 77, 9)):
        assert_same(store.episode(i), make_episode(i, steps))


@pytest.fixture(scope="module")
def shared_store(
    tmp_path_factory: pytest.TempPathFactory, env_spec: EnvSpec, stream_specs: tuple[StreamSpec, ...]
) -> TrajectoryStore:
    return TrajectoryStore.create(tmp_path_factory.mktemp("shared") / "store.zarr", env_spec, stream_specs)


Spoil = Callable[[Episode], Any]


def _stream(name: str, values: Any = None, stamps: Any = None) -> Spoil:
    def spoil(episode: Episode) -> None:
        old = episode.streams[name]
        new_values = old.values if values is None else values(old.values)
        episode.streams[name] = Stream(new_values, old.stamps_ns if stamps is None else stamps(old.stamps_ns))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: e.streams.pop("action"), r"missing streams \['action'\]"),
        (lambda e: e.streams.update(sound=e.streams["action"]), r"undeclared streams \['sound'\]"),
        (_stream("proprio", values=lambda v: v.astype(np.float64)), r"'proprio': found values of float64.*float32"),
        (_stream("proprio", values=lambda v: v.tolist()), r"'proprio': found values of list"),
        (_stream("camera.wrist", values=lambda v: v[:, :4]), r"'camera.wrist': found .* wanted \[T, 8, 6, 3\]"),
        (_stream("action", values=lambda v: v[:0], stamps=lambda s: s[:0]), r"T >= 1"),
        (_stream("action", stamps=lambda s: s[:-1]), r"stamps of shape \(8,\), wanted \(9,\)"),
        (_stream("action", stamps=lambda s: s / 1e9), r"stamps of float64, wanted an int64"),
        (_stream("action", stamps=lambda s: s[::-1].copy()), r"'action', row 1: found stamp .* strictly increasing"),
        (_stream("action", stamps=lambda s: np.maximum(s, s[3])), r"'action', row 1: found stamp"),
        (lambda e: e.meta.update(goal=np.float32(1)), r"meta\['goal'\]: .*float32"),
        (lambda e: e.meta.update(value=float("nan")), r"meta\['value'\]"),
        (lambda e: setattr(e, "instruction", None), r"instruction: found None"),
    ],
)
def test_what_is_not_as_declared_is_refused_whole(
    shared_store: TrajectoryStore, make_episode: Any, assert_same: Any, spoil: Spoil, message: str
) -> None:
    count = len(shared_store)
    spoiled = make_episode(1)
    spoil(spoiled)
    with shared_store.writer() as writer:
        with pytest.raises(StoreError, match=message):
            writer.append(spoiled)
        writer.append(make_episode(2))  # the writer is as good as before
    store = TrajectoryStore.open(shared_store.path)
    assert len(store) == count + 1
    assert_same(store.episode(count), make_episode(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: [spec for spec in s if spec.name != "action"], "wanted one named 'action'"),
        (lambda s: [*s, s[0]], "wanted each name once"),
        (lambda s: [*s, replace(s[0], name="camera.side")], "'camera.side': found kind 'image'"),
        (
            lambda s: [replace(spec, rate_hz=20) if spec.kind == "action" else spec for spec in s],
            r"'action': .* 20.0 Hz",
        ),
        (
            lambda s: [replace(spec, shape=(4,)) if spec.kind == "proprio" else spec for spec in s],
            r"'proprio': .*\(4,\)",
        ),
    ],
)
def test_streams_must_fit_the_environment(
    tmp_path: Path, env_spec: EnvSpec, stream_specs: tuple[StreamSpec, ...], change: Any, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        TrajectoryStore.create(tmp_path / "s", env_spec, change(list(stream_specs)))
    assert list(tmp_path.iterdir()) == []


def test_create_does_not_overwrite(make_store: Any) -> None:
    make_store([])
    with pytest.raises(StoreError, match="found something there"):
        make_store([])


def test_open_says_what_is_wrong(make_store: Any, make_episode: Any, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="found no deixis trajectory store"):
        TrajectoryStore.open(tmp_path / "nothing")
    zarr.create_group(tmp_path / "other")
    with pytest.raises(StoreError, match="found no deixis trajectory store"):
        TrajectoryStore.open(tmp_path / "other")
    store = make_store([make_episode(i) for i in range(3)])
    shutil.rmtree(store.path / "episodes" / "000001")
    with pytest.raises(StoreError, match="found 000002 where 000001 was wanted"):
        TrajectoryStore.open(store.path)
    attributes = json.loads((store.path / "zarr.json").read_text("utf-8"))
    attributes["attributes"]["deixis"]["version"] = 99
    (store.path / "zarr.json").write_text(json.dumps(attributes), "utf-8")
    with pytest.raises(StoreError, match=r"found format .*99.*use the deixis that wrote it"):
        TrajectoryStore.open(store.path)


def test_questions_about_what_is_not_there(make_store: Any, make_episode: Any) -> None:
    store = make_store([make_episode(0)])
    with pytest.raises(IndexError, match="found episode index 1, wanted 0 to 0"):
        store.episode(1)
    with pytest.raises(StoreError, match=r"found no stream 'camera.side'"):
        store.read(0, "camera.side")
