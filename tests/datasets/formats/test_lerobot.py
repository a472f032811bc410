"""LeRobot sets of both versions come in as they are, go out and come back the same, and hostile ones are refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.formats import lerobot_files
from deixis.datasets.formats.images import decode_image, encode_png
from deixis.datasets.formats.lerobot import export_lerobot, import_lerobot
from deixis.datasets.formats.lerobot_layout import inside
from deixis.datasets.formats.lerobot_stats import number_stats, picture_counts, picture_stats
from deixis.datasets.formats.lerobot_write import aligned_rows
from deixis.datasets.formats.options import FormatError, ImportOptions
from deixis.datasets.formats.video import VideoWriter, read_frames
from deixis.datasets.spec import EnvSpec
from deixis.datasets.store import Episode, StreamSpec, TrajectoryStore
from deixis.datasets.timestamps import check_store

FPS = 10
STEPS = (5, 9, 4)
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {
    "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["shoulder", "elbow"]}},
    "action": {"dtype": "float32", "shape": [2], "names": ["shoulder", "elbow"]},
    "next.reward": {"dtype": "float32", "shape": [1], "names": None},
    "grid": {"dtype": "int64", "shape": [2, 3], "names": None},
    "note": {"dtype": "string", "shape": [1], "names": None},
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
TASKS = ["push the block", "把方块推过去"]


def smooth_frames(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Pictures that a codec keeps well: slow colour ramps."""
    y, x = np.mgrid[0:32, 0:48]
    phases = rng.uniform(0, 3, 3) + np.arange(rows)[:, None] * 0.2
    waves = np.sin(x[None, :, :, None] / 20 + y[None, :, :, None] / 15 + phases[:, None, None, :])
    return (127 + 100 * waves).astype(np.uint8)


def build(index: int, steps: int) -> dict[str, np.ndarray]:
    """Columns of an episode; `timestamp` is frame_index / fps."""
    rng = np.random.default_rng(index)
    first = sum(STEPS[:index])
    return {
        "observation.state": rng.normal(size=(steps, 2)).astype(np.float32),
        "action": rng.uniform(-3, 5, (steps, 2)).astype(np.float32),
        "next.reward": rng.normal(size=steps).astype(np.float32),
        "grid": rng.integers(0, 9, (steps, 2, 3)),
        "note": np.full(steps, "a note"),
        "timestamp": (np.arange(steps) / FPS).astype(np.float32),
        "frame_index": np.arange(steps),
        "episode_index": np.full(steps, index),
        "index": first + np.arange(steps),
        "task_index": np.full(steps, index % 2),
        "observation.images.top": smooth_frames(rng, steps),
    }


def table_of(episodes: list[dict[str, np.ndarray]], images: bool) -> pa.Table:
    joined = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    frames = joined.pop("observation.images.top")
    columns: dict[str, Any] = {key: pa.array(list(values.tolist())) for key, values in joined.items()}
    for key in ("observation.state", "action"):
        columns[key] = pa.array(joined[key].tolist(), pa.list_(pa.float32(), 2))
    for key in ("next.reward", "timestamp"):
        columns[key] = pa.array(joined[key], pa.float32())
    if images:
        pictures = [{"bytes": encode_png(frame), "path": "x.png"} for frame in frames]
        columns["observation.images.top"] = pa.array(pictures, PICTURE)
    return pa.table(columns)


def info_of(version: str, dtype: str, **changes: Any) -> dict[str, Any]:
    camera = {"dtype": dtype, "shape": [32, 48, 3], "names": ["height", "width", "channel"]}
    totals = {"total_episodes": len(STEPS), "total_frames": sum(STEPS), "total_tasks": len(TASKS)}
    features = {**FEATURES, "observation.images.top": camera}
    base = {"codebase_version": version, "robot_type": "arm", "fps": FPS, "chunks_size": 1000, **totals}
    return {**base, "features": features, **changes}


def write_v2(root: Path, dtype: str = "image") -> list[dict[str, np.ndarray]]:
    """A v2.1 set with a file, and a video, for each episode."""
    episodes = [build(index, steps) for index, steps in enumerate(STEPS)]
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info_of("v2.1", dtype)))
    lines = [{"task_index": i, "task": task} for i, task in enumerate(TASKS)]
    (root / "meta" / "tasks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [{"episode_index": i, "tasks": [], "length": steps} for i, steps in enumerate(STEPS)]
    (root / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (root / "data" / "chunk-000").mkdir(parents=True)
    for i, episode in enumerate(episodes):
        path = root / "data" / "chunk-000" / f"episode_{i:06d}.parquet"
        pq.write_table(table_of([episode], dtype == "image"), path)
        if dtype == "video":
            video = root / "videos" / "chunk-000" / "observation.images.top" / f"episode_{i:06d}.mp4"
            with VideoWriter(video, (32, 48), FPS, "h264") as writer:
                writer.write(episode["observation.images.top"])
    return episodes


def write_v3(root: Path, dtype: str = "image") -> list[dict[str, np.ndarray]]:
    """A v3.0 set: two episodes in the first file, one in the second; all in one video."""
    episodes = [build(index, steps) for index, steps in enumerate(STEPS)]
    (root / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
    (root / "meta" / "info.json").write_text(json.dumps(info_of("v3.0", dtype)))
    # As LeRobot 0.4 wrote it: the index of the table has no name.
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": TASKS})
    pq.write_table(tasks, root / "meta" / "tasks.parquet")
    begins = np.concatenate(([0], np.cumsum(STEPS)))
    columns: dict[str, Any] = {
        "episode_index": [0, 1, 2],
        "length": list(STEPS),
        "tasks": [[TASKS[i % 2]] for i in range(3)],
        "data/chunk_index": [0, 0, 0],
        "data/file_index": [0, 0, 1],
        "dataset_from_index": begins[:-1].tolist(),
        "dataset_to_index": begins[1:].tolist(),
    }
    if dtype == "video":
        key = "videos/observation.images.top"
        columns |= {f"{key}/chunk_index": [0] * 3, f"{key}/file_index": [0] * 3}
        columns |= {
            f"{key}/from_timestamp": (begins[:-1] / FPS).tolist(),
            f"{key}/to_timestamp": (begins[1:] / FPS).tolist(),
        }
        video = root / "videos" / "observation.images.top" / "chunk-000" / "file-000.mp4"
        with VideoWriter(video, (32, 48), FPS, "h264") as writer:
            for episode in episodes:
                writer.write(episode["observation.images.top"])
    pq.write_table(pa.table(columns), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    (root / "data" / "chunk-000").mkdir(parents=True)
    for number, part in enumerate((episodes[:2], episodes[2:])):
        pq.write_table(table_of(part, dtype == "image"), root / "data" / "chunk-000" / f"file-{number:03d}.parquet")
    return episodes


WRITERS = {"v2": write_v2, "v3": write_v3}


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("dtype", ["image", "video"])
def test_a_set_of_either_version_comes_in(tmp_path: Path, version: str, dtype: str) -> None:
    episodes = WRITERS[version](tmp_path / "arm", dtype)
    calls: list[tuple[int, int]] = []
    store = import_lerobot(tmp_path / "arm", tmp_path / "out.zarr", progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert set(store.streams) == {"camera.top", "proprio", "action", "privileged.next.reward", "privileged.grid"}
    assert store.env_spec.action.names == store.env_spec.proprio.names == ("shoulder", "elbow")
    assert store.meta["left_out"] == ["note"] and store.meta["robot_type"] == "arm"
    for index, episode in enumerate(episodes):
        found = store.episode(index)
        assert found.instruction == TASKS[index % 2]
        np.testing.assert_array_equal(found.streams["proprio"].values, episode["observation.state"])
        np.testing.assert_array_equal(found.streams["action"].values, episode["action"])
        np.testing.assert_array_equal(found.streams["privileged.grid"].values, episode["grid"])
        reward = found.streams["privileged.next.reward"].values
        np.testing.assert_array_equal(reward[:, 0], episode["next.reward"])
        frames = found.streams["camera.top"].values
        if dtype == "image":
            np.testing.assert_array_equal(frames, episode["observation.images.top"])
        else:  # lossy, but of this row: the next one is farther away
            error = np.abs(frames.astype(float) - episode["observation.images.top"]).mean()
            shifted = np.abs(frames[:-1].astype(float) - episode["observation.images.top"][1:]).mean()
            assert error < 6 < shifted
        for stream in found.streams.values():
            np.testing.assert_array_equal(stream.stamps_ns, np.arange(STEPS[index]) * 100_000_000)
    assert {spec.clock for spec in store.streams.values()} == {"synthetic"}
    assert check_store(store).ok  # the recorded actions lie within the limits that were declared from them


def test_a_measured_clock_stays_measured(tmp_path: Path) -> None:
    write_v2(tmp_path / "arm")
    path = tmp_path / "arm" / "data" / "chunk-000" / "episode_000001.parquet"
    seconds = (np.arange(9) / FPS + np.random.default_rng(0).uniform(0, 0.01, 9)).astype(np.float32)
    _set_column(path, "timestamp", pa.array(seconds, pa.float32()))
    store = import_lerobot(tmp_path / "arm", tmp_path / "out.zarr")
    assert {spec.clock for spec in store.streams.values()} == {"measured"}
    assert "timestamp" in store.meta["clock"]
    found = store.read(1, "action").stamps_ns
    np.testing.assert_array_equal(found, np.rint(seconds.astype(np.float64) * 1e9).astype(np.int64))


def test_float32_rounding_far_into_an_episode_is_no_measurement(tmp_path: Path) -> None:
    """frame_index / fps at 30 Hz is not a float32, and further on less and less so."""
    rows = 40_000
    seconds = (np.arange(rows) / 30).astype(np.float32)
    assert np.abs(seconds.astype(np.float64) - np.arange(rows) / 30).max() > 2e-5
    root = tmp_path / "arm"
    write_v3(root)
    features = {key: feature for key, feature in FEATURES.items() if key not in ("grid", "note", "next.reward")}
    changes = {"fps": 30, "total_episodes": 1, "total_frames": rows, "features": features}
    (root / "meta" / "info.json").write_text(json.dumps(info_of("v3.0", "image") | changes))
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2 * rows, np.float32)), 2)
    columns: dict[str, Any] = {"observation.state": zeros, "action": zeros, "timestamp": pa.array(seconds)}
    columns |= {"frame_index": np.arange(rows), "index": np.arange(rows)}
    columns |= {key: np.zeros(rows, np.int64) for key in ("episode_index", "task_index")}
    pq.write_table(pa.table(columns), root / "data" / "chunk-000" / "file-000.parquet")
    episode = {"episode_index": [0], "length": [rows], "data/chunk_index": [0], "data/file_index": [0]}
    pq.write_table(pa.table(episode), root / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
    store = import_lerobot(root, tmp_path / "out.zarr")
    assert store.streams["action"].clock == "synthetic"
    np.testing.assert_array_equal(store.read(0, "action").stamps_ns, np.rint(np.arange(rows) * (1e9 / 30)).astype(int))
    assert store.env_spec.action.low == (-1, -1)  # a dimension that never moved has limits all the same


def test_options_choose(tmp_path: Path) -> None:
    write_v2(tmp_path / "arm")
    options = ImportOptions(rate_hz=5, instruction="go", limit=2, proprio=("state", "next.reward"))
    store = import_lerobot(tmp_path / "arm", tmp_path / "out.zarr", options)
    assert len(store) == 2 and store.episode_info(0)["instruction"] == "go"
    assert store.env_spec.proprio.names == ("shoulder", "elbow", "reward") and store.env_spec.action.rate_hz == 5
    assert store.read(0, "action").stamps_ns.tolist() == [i * 200_000_000 for i in range(5)]
    with pytest.raises(FormatError, match=r"no cameras \['side'\]"):
        import_lerobot(tmp_path / "arm", tmp_path / "no.zarr", ImportOptions(cameras=("side",)))
    with pytest.raises(FormatError, match=r"wanted \['note'\]"):
        import_lerobot(tmp_path / "arm", tmp_path / "no.zarr", ImportOptions(proprio=("note",)))


def test_export_comes_back_the_same(make_store: Any, make_episode: Any, assert_same: Any, tmp_path: Path) -> None:
    """Streams slower than control, a clock far from 0 with jitter, and units: all return."""
    episodes = [make_episode(i, steps, 10**18) for i, steps in enumerate((9, 41, 5))]
    jitter = np.random.default_rng(0).integers(-(10**7), 10**7, 41)
    for stream in episodes[1].streams.values():
        stream.stamps_ns = stream.stamps_ns + jitter[: len(stream.stamps_ns)]
    for name in ("camera.front", "camera.wrist", "proprio"):
        episodes[1].streams[name].stamps_ns = episodes[1].streams["action"].stamps_ns.copy()
    _align_slow_streams(episodes[1])
    store = make_store(episodes)
    assert export_lerobot(store, tmp_path / "set") == tmp_path / "set"
    back = import_lerobot(tmp_path / "set", tmp_path / "back.zarr")
    assert back.env_spec == store.env_spec and back.streams == store.streams
    assert back.meta["exported_from"] == store.meta
    for index, episode in enumerate(episodes):
        assert_same(back.episode(index), episode)


def _align_slow_streams(episode: Episode) -> None:
    """Every row of a slower stream is newest at some control row: none is lost when they are held."""
    control = episode.streams["action"].stamps_ns
    for name in ("segmentation.front", "segmentation.wrist", "privileged.objects"):
        episode.streams[name].stamps_ns = control[::4].copy()


def test_export_as_video_keeps_all_but_the_pixels(make_store: Any, make_episode: Any, tmp_path: Path) -> None:
    episodes = [make_episode(i, steps) for i, steps in enumerate((9, 5))]
    for episode in episodes:
        for camera in ("front", "wrist"):
            frames = smooth_frames(np.random.default_rng(1), len(episode.streams["action"].values))[:, :8, :6]
            episode.streams[f"camera.{camera}"].values = np.ascontiguousarray(frames)
    store = make_store(episodes)
    export_lerobot(store, tmp_path / "set", images="video")
    info = json.loads((tmp_path / "set" / "meta" / "info.json").read_text())
    assert info["features"]["observation.images.front"]["dtype"] == "video"
    back = import_lerobot(tmp_path / "set", tmp_path / "back.zarr")
    for index, episode in enumerate(episodes):
        found = back.episode(index)
        np.testing.assert_array_equal(found.streams["action"].values, episode.streams["action"].values)
        wanted = episode.streams["camera.wrist"].values
        assert np.abs(found.streams["camera.wrist"].values.astype(float) - wanted).mean() < 8


def test_what_a_lossy_store_lost_is_lost_once(
    env_spec: EnvSpec, stream_specs: tuple[StreamSpec, ...], make_episode: Any, tmp_path: Path
) -> None:
    lossy = [replace(spec, codec="jpeg:60") if spec.kind == "image" else spec for spec in stream_specs]
    store = TrajectoryStore.create(tmp_path / "lossy.zarr", env_spec, lossy)
    with store.writer(sync=False) as writer:
        writer.append(make_episode(0))
    export_lerobot(store, tmp_path / "set")
    back = import_lerobot(tmp_path / "set", tmp_path / "back.zarr")
    assert back.streams["camera.front"].codec == "png"
    np.testing.assert_array_equal(back.read_all("camera.front").values, store.read_all("camera.front").values)


@pytest.mark.parametrize("images", ["png", "video"])
def test_many_files_are_one_set(
    make_store: Any, make_episode: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: Any
) -> None:
    monkeypatch.setattr(lerobot_files, "DATA_FILE_BYTES", 1)
    monkeypatch.setattr(lerobot_files, "VIDEO_FILE_BYTES", 1)
    monkeypatch.setattr(lerobot_files, "FILES_A_CHUNK", 2)
    store = make_store([make_episode(i) for i in range(3)])
    export_lerobot(store, tmp_path / "set", images=images)
    names = sorted(path.relative_to(tmp_path / "set" / "data").as_posix() for path in tmp_path.glob("set/data/*/*"))
    assert names == ["chunk-000/file-000.parquet", "chunk-000/file-001.parquet", "chunk-001/file-000.parquet"]
    assert len(list(tmp_path.glob("set/videos/*/*/*.mp4"))) == (6 if images == "video" else 0)
    back = import_lerobot(tmp_path / "set", tmp_path / "back.zarr")
    for name in ("action", "camera.front") if images == "png" else ("action", "segmentation.wrist"):
        np.testing.assert_array_equal(back.read_all(name).values, store.read_all(name).values)


def test_what_lerobot_cannot_express_is_said(make_store: Any, make_episode: Any, tmp_path: Path) -> None:
    late = make_episode(0)
    late.streams["camera.front"].stamps_ns = late.streams["camera.front"].stamps_ns + 1000
    export_lerobot(make_store([late]), tmp_path / "late")
    sidecar = json.loads((tmp_path / "late" / "meta" / "deixis.json").read_text())
    assert sidecar["episodes"][0]["control_rows_left_out"] == 1  # at the first, the camera had seen nothing yet
    assert pq.read_metadata(tmp_path / "late" / "data" / "chunk-000" / "file-000.parquet").num_rows == 8
    stalled = make_episode(0)
    stalled.streams["proprio"].stamps_ns[5:] += 10**9
    with pytest.raises(FormatError, match=r"'proprio': found its newest row 400000000 ns old at control row 8"):
        export_lerobot(make_store([stalled], "stalled.zarr"), tmp_path / "stalled")
    with pytest.raises(FormatError, match="found no episodes"):
        export_lerobot(make_store([], "empty.zarr"), tmp_path / "empty")
    with pytest.raises(FormatError, match="wanted 'png'"):
        export_lerobot(make_store([late], "other.zarr"), tmp_path / "other", images="jpeg")  # pyright: ignore[reportArgumentType]
    with pytest.raises(FormatError, match="found something there"):
        export_lerobot(make_store([late], "again.zarr"), tmp_path / "late")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".zarr")) == ["late"]


def test_info_is_what_lerobot_reads(make_store: Any, make_episode: Any, tmp_path: Path) -> None:
    export_lerobot(make_store([make_episode(0), make_episode(0)]), tmp_path / "set")
    info = json.loads((tmp_path / "set" / "meta" / "info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 10 and info["video_path"] is None
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (2, 18, 1)
    tasks = pq.read_table(tmp_path / "set" / "meta" / "tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    rows = pq.read_table(tmp_path / "set" / "data" / "chunk-000" / "file-000.parquet")
    assert rows["index"].to_pylist() == list(range(18)) and set(info["features"]) == set(rows.column_names)
    stats = json.loads((tmp_path / "set" / "meta" / "stats.json").read_text())
    assert set(stats) == set(info["features"]) and np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)


Spoil = Callable[[Path], Any]


def _info(**changes: Any) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / "meta" / "info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def _feature(key: str, **changes: Any) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / "meta" / "info.json"
        info = json.loads(path.read_text())
        info["features"].setdefault(key, {"dtype": "float32", "shape": [1], "names": None}).update(changes)
        path.write_text(json.dumps(info))

    return spoil


def _cut(file: str, share: float = 0.5) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / file
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return spoil


def _text(file: str, text: str) -> Spoil:
    return lambda root: (root / file).write_text(text)


def _set_column(path: Path, name: str, values: pa.Array) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.column_names.index(name), name, values), path)


def _column(file: str, name: str, values: Callable[[pa.Table], Any]) -> Spoil:
    return lambda root: _set_column(root / file, name, values(pq.read_table(root / file)))


def _drop(file: str, name: str) -> Spoil:
    return lambda root: pq.write_table(pq.read_table(root / file).drop_columns([name]), root / file)


V2_DATA = "data/chunk-000/episode_000001.parquet"
V3_DATA = "data/chunk-000/file-000.parquet"
V3_EPISODES = "meta/episodes/chunk-000/file-000.parquet"
V2_VIDEO = "videos/chunk-000/observation.images.top/episode_000001.mp4"
BEGIN = "videos/observation.images.top/from_timestamp"
PICKLED = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."

HOSTILE: list[tuple[str, Spoil, str]] = [
    ("v2", lambda root: (root / "meta" / "info.json").unlink(), r"info.json: found no readable text"),
    ("v2", _text("meta/info.json", "{"), r"info.json: found no readable JSON"),
    ("v2", _text("meta/info.json", "[" * 100_000), r"info.json: found no readable JSON"),
    ("v2", _info(codebase_version="v1.6"), r"codebase_version: found 'v1.6', wanted v2.0"),
    ("v2", _info(fps=0), r"fps: found 0, wanted a positive rate"),
    ("v2", _info(features=[]), r"features: found list"),
    ("v2", _info(total_frames=17), r"total_frames: found 17, but the episodes' metadata has 18"),
    ("v3", _info(total_episodes=4), r"total_episodes: found 4"),
    ("v2", _info(data_path="../../{episode_index}.parquet"), r"data_path: found the path '../../0.parquet'"),
    ("v2", _info(data_path="/etc/passwd"), r"data_path: found the path '/etc/passwd'"),
    ("v2", _info(data_path="{episode_index.__class__}"), r"data_path: found the path '{episode_index.__class__}'"),
    ("v2", _info(data_path="{episode_index:>99999999d}"), r"data_path: found the path"),
    ("v2", _info(data_path="{root}/x.parquet"), r"data_path: found {root} in"),
    ("v3", _info(data_path="data/{file_index!r}"), r"data_path: found the path"),
    ("v2-video", _info(video_path="..\\{video_key}"), r"video_path: found the path"),
    ("v3-video", _info(video_path="{video_key}/../../x"), r"video_path: found the path"),
    ("v2", _feature("../evil"), r"'../evil'\]: found an odd name"),
    ("v2", _feature("action", shape=[10**12]), r"'action'\], shape: found"),
    ("v2", _feature("action", shape=[3]), r"column 'action', row 0: found 2 values, wanted 3"),
    ("v2", _feature("action", shape=[2, 2]), r"action: found shape \(2, 2\), wanted one axis"),
    ("v2", _feature("action", dtype="object"), r"wanted \['action'\]"),
    ("v2", _feature("grid", shape=[6]), r"column 'grid', row 0: found 2 values, wanted 6"),
    ("v2", _feature("grid", shape=[2, 3, 1]), r"column 'grid': found int64 at depth 2"),
    ("v2", _feature("next.reward", dtype="int64"), r"'privileged.next.reward': found float32, wanted int64"),
    ("v2", _feature("observation.images.top", shape=[33, 48, 3]), r"found an image of \(32, 48\), wanted \(33, 48\)"),
    ("v2", _feature("observation.images.top", shape=[90_000, 90_000, 3]), r"images of 90000 x 90000, wanted at most"),
    ("v2", _feature("observation.images.top", dtype="video"), r"mp4"),
    ("v2-video", _feature("observation.images.top", shape=[48, 32, 3]), r"frames of \(32, 48\), wanted \(48, 32\)"),
    ("v2", lambda root: (root / V2_DATA).unlink(), r"episode_000001.parquet: found nothing there"),
    ("v2", _cut(V2_DATA), r"episode_000001.parquet: found no readable parquet"),
    ("v3", _cut(V3_EPISODES), r"file-000.parquet: found no readable parquet"),
    ("v3", _text("meta/tasks.parquet", "PAR1"), r"tasks.parquet: found no readable parquet"),
    ("v2", _drop(V2_DATA, "action"), r"wanted \['action'\] too"),
    ("v3", _drop(V3_EPISODES, "length"), r"wanted \['length'\] too"),
    ("v2", _column(V2_DATA, "action", lambda t: pa.array([PICKLED] * len(t))), r"found binary at depth 0"),
    ("v2", _column(V2_DATA, "next.reward", lambda t: pa.array([PICKLED] * len(t))), r"objects are never unpickled"),
    ("v2", _column(V2_DATA, "next.reward", lambda t: pa.nulls(len(t), pa.float32())), r"row 0: found no value"),
    ("v2", _column(V2_DATA, "frame_index", lambda t: pa.array(range(1, 10))), r"found frame_index 1 at row 0"),
    ("v2", _column(V2_DATA, "episode_index", lambda t: pa.array([0] * len(t))), r"found 0 rows, wanted 9"),
    ("v2", _column(V2_DATA, "task_index", lambda t: pa.array([7] * len(t))), r"task_index: found 7"),
    ("v2", _column(V2_DATA, "timestamp", lambda t: pa.array([np.nan] * 9, pa.float32())), r"found nan s"),
    ("v2", lambda root: pq.write_table(pq.read_table(root / V2_DATA)[:5], root / V2_DATA), r"found 5 rows, wanted 9"),
    ("v3", lambda root: pq.write_table(pq.read_table(root / V3_DATA)[:9], root / V3_DATA), r"found 9 rows, wanted 14"),
    ("v2", _column(V2_DATA, "grid", lambda t: pa.array([[[0] * 10**5] * 2] * 9)), r"found 1800000 values, wanted 54"),
    ("v2", _text("meta/episodes.jsonl", '{"episode_index": 1, "length": 9}'), r"found episode 1 where 0 was wanted"),
    ("v2", _text("meta/episodes.jsonl", '{"episode_index": 0, "length": -1}'), r"length: found -1"),
    ("v2", _text("meta/episodes.jsonl", '{"episode_index": 0, "length": 1e400}'), r"length: found inf"),
    ("v2", _text("meta/tasks.jsonl", '{"task_index": 0, "task": null}'), r"task: found None"),
    ("v2-video", _cut(V2_VIDEO), r"episode_000001.mp4: found no mp4"),
    ("v2-video", _text(V2_VIDEO, "#EXTM3U\nfile:///etc/passwd"), r"no mp4"),
    ("v3-video", _column(V3_EPISODES, "length", lambda t: pa.array([5, 9, 5])), r"total_frames: found 18"),
    ("v3-video", _column(V3_EPISODES, BEGIN, lambda t: pa.array([0, 0.5, 1.5])),
     r"found 3 frames from 1.5 s on, wanted 4"),
    ("v3-video", _column(V3_EPISODES, BEGIN, lambda t: pa.array([0, 0.55, 1.4])),
     r"frame 0 of the episode: found it at 0.600000 s, wanted 0.550000 s"),
    ("v3-video", _column(V3_EPISODES, BEGIN, lambda t: pa.array([0, np.nan, 1])),
     r"from_timestamp: found nan"),
]  # fmt: skip


@pytest.fixture(scope="module")
def clean_sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("lerobot")
    for name, dtype in (("v2", "image"), ("v3", "image"), ("v2-video", "video"), ("v3-video", "video")):
        WRITERS[name[:2]](root / name, dtype)
    return {path.name: path for path in root.iterdir()}


@pytest.mark.parametrize(("kind", "spoil", "message"), HOSTILE)
def test_a_broken_or_hostile_set_is_refused(
    clean_sets: dict[str, Path], tmp_path: Path, kind: str, spoil: Spoil, message: str
) -> None:
    shutil.copytree(clean_sets[kind], tmp_path / "arm")
    spoil(tmp_path / "arm")
    with pytest.raises(FormatError, match=message):
        import_lerobot(tmp_path / "arm", tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["arm"]  # nothing half written is left


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (PICKLED, "no image that can be decoded"),
        (b"", "no image that can be decoded"),
        (encode_png(np.zeros((32, 48, 3), np.uint8))[:60], "no image that can be decoded"),
        (None, "found no image bytes"),
    ],
)
def test_pictures_that_are_none_are_refused(
    clean_sets: dict[str, Path], tmp_path: Path, picture: bytes | None, message: str
) -> None:
    shutil.copytree(clean_sets["v2"], tmp_path / "arm")
    pictures = pa.array([{"bytes": picture, "path": "/etc/passwd"}] * 9, PICTURE)
    _set_column(tmp_path / "arm" / V2_DATA, "observation.images.top", pictures)
    with pytest.raises(FormatError, match=message):
        import_lerobot(tmp_path / "arm", tmp_path / "out.zarr")


def test_a_picture_of_any_size_is_judged_by_its_header() -> None:
    header = encode_png(np.zeros((1, 1, 3), np.uint8))
    bomb = header[:16] + (60_000).to_bytes(4, "big") * 2 + header[24:]
    for shape in ((1, 1), None):
        with pytest.raises(FormatError, match=r"found (an image of \(60000, 60000\)|no image that can be decoded)"):
            decode_image(bomb, shape, "here")


@pytest.mark.parametrize("change", ["version", "episodes", "streams", "env_spec"])
def test_a_damaged_sidecar_is_refused(make_store: Any, make_episode: Any, tmp_path: Path, change: str) -> None:
    export_lerobot(make_store([make_episode(0)]), tmp_path / "set")
    path = tmp_path / "set" / "meta" / "deixis.json"
    record = json.loads(path.read_text())
    record[change] = {"version": 9, "episodes": [], "streams": {"action": record["streams"]["action"]}, "env_spec": {}}[
        change
    ]
    path.write_text(json.dumps(record))
    with pytest.raises(FormatError, match=r"deixis.json"):
        import_lerobot(tmp_path / "set", tmp_path / "back.zarr")
    path.unlink()
    plain = import_lerobot(tmp_path / "set", tmp_path / "plain.zarr")  # without it, it is a set like any other
    np.testing.assert_array_equal(plain.read(0, "privileged.stamp_ns").values[:, 0], plain.read(0, "action").stamps_ns)


@given(
    frames=st.integers(1, 40),
    begin=st.integers(0, 39),
    count=st.integers(1, 40),
    fps=st.sampled_from([3.0, 10.0, 29.97, 30.0, 60.0]),
)
def test_any_stretch_of_a_video_is_found(
    tmp_path_factory: pytest.TempPathFactory, frames: int, begin: int, count: int, fps: float
) -> None:
    path = tmp_path_factory.mktemp("video") / "x.mp4"
    levels = np.linspace(0, 255, frames).astype(np.uint8)
    with VideoWriter(path, (16, 16), fps, "h264") as writer:
        writer.write(np.broadcast_to(levels[:, None, None, None], (frames, 16, 16, 3)))
    if begin + count > frames:
        with pytest.raises(FormatError, match="wanted"):
            read_frames(path, (16, 16), begin / fps, count, fps, alone=False)
    else:
        found = read_frames(path, (16, 16), begin / fps, count, fps, alone=False)
        assert np.abs(found.mean((1, 2, 3)) - levels[begin : begin + count]).max() < 3


@given(
    st.lists(st.integers(0, 10**6), min_size=1, unique=True), st.lists(st.integers(0, 10**6), min_size=1, unique=True)
)
def test_alignment_is_the_newest_row_not_later(stamps: list[int], control: list[int]) -> None:
    clock, wanted = np.sort(stamps), np.sort(control)
    for row, found in zip(wanted, aligned_rows(clock, wanted), strict=True):
        seen = [i for i, stamp in enumerate(clock) if stamp <= row]
        assert found == (seen[-1] if seen else -1)


@given(st.text(max_size=60))
def test_no_template_leads_outside(template: str) -> None:
    root = Path("/data/set")
    try:
        path = inside(root, template, {"episode_index": 7, "video_key": "observation.images.top"}, "here")
    except FormatError:
        return
    assert path.resolve().is_relative_to(root)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_picture_statistics_are_those_of_all_pixels(frames: int, seed: int) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (frames, 5, 7, 3), dtype=np.uint8)
    stats = picture_stats(picture_counts(images), frames)
    pixels = images.reshape(-1, 3) / 255.0
    wanted = {"min": pixels.min(0), "max": pixels.max(0), "mean": pixels.mean(0), "std": pixels.std(0)}
    wanted |= {"q50": np.quantile(pixels, 0.5, axis=0, method="inverted_cdf")}
    for name, values in wanted.items():
        np.testing.assert_allclose(np.ravel(stats[name]), values, atol=1e-9)


def test_number_statistics_leave_nan_out() -> None:
    stats = number_stats(np.array([[1.0, np.nan], [3.0, np.nan]], np.float32))
    assert stats["mean"] == [2.0, 0.0] and stats["max"] == [3.0, 0.0] and stats["count"] == [2]


def test_a_clock_that_goes_back_goes_out_and_comes_in(tmp_path: Path) -> None:
    """Where all streams share it, each row is still where it belongs; the gate is who objects."""
    write_v2(tmp_path / "arm")
    seconds = pa.array(np.array([0, 0.1, 0.2, 0.15, 0.4, 0.5, 0.6, 0.7, 0.8], np.float32))
    _set_column(tmp_path / "arm" / V2_DATA, "timestamp", seconds)
    store = import_lerobot(tmp_path / "arm", tmp_path / "out.zarr")
    assert not check_store(store).ok
    export_lerobot(store, tmp_path / "set")
    back = import_lerobot(tmp_path / "set", tmp_path / "back.zarr")
    np.testing.assert_array_equal(back.read(1, "action").stamps_ns, store.read(1, "action").stamps_ns)
