"""A store as a LeRobot data set of version 3.0, which LeRobot 0.4 to 0.6 open.

    meta/info.json  meta/tasks.parquet  meta/stats.json  meta/episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet     videos/KEY/chunk-000/file-000.mp4     meta/deixis.json

LeRobot has one rate and makes its clock from it: `timestamp` is frame_index / fps. A row is a control step of the
store; other streams show what had been seen by then. The raw clocks go along in columns of their own (see
`lerobot_sidecar`): of what was recorded, only rows of streams faster than control and arrival clocks are lost.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..episode import Episode, StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM
from ..store import TrajectoryStore
from .images import encode_png
from .importing import Progress
from .lerobot_arrow import PICTURE, arrow, arrow_type, write_tasks
from .lerobot_files import DATA_FILE_BYTES, FILES_A_CHUNK, PATHS, VIDEO_FILE_BYTES, DataFiles, VideoFiles
from .lerobot_layout import DEFAULT_FEATURES
from .lerobot_sidecar import CLOCK, clock_column, write_sidecar
from .lerobot_stats import number_stats, picture_counts, picture_stats
from .options import FormatError

_SCALARS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64"}


def export_lerobot(
    store: TrajectoryStore,
    destination: str | Path,
    images: Literal["png", "video"] = "png",
    codec: str = "h264",
    progress: Progress | None = None,
) -> Path:
    """Write all episodes of `store` as a LeRobot v3.0 data set in the new folder `destination`, there when complete.

    images: "png" keeps every pixel, inside the parquet files; "video" is small and lossy (`codec`: "h264" or "av1").
    Control rows before the first row of some other stream are left out; meta/deixis.json says how many.

    Raises FormatError if the destination exists, a stream cannot be expressed, or has no row recent enough (the store's
    `tolerance.align`) at a control stamp.
    """
    destination = Path(destination)
    if destination.exists() or destination.is_symlink():
        raise FormatError(f"{destination}: found something there, wanted nothing; remove it or choose another path")
    if images not in ("png", "video"):
        raise FormatError(f"images: found {images!r}, wanted 'png' (exact) or 'video' (lossy)")
    if len(store) == 0:
        raise FormatError(f"{store.path}: found no episodes, wanted at least one")
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.exporting-{os.getpid()}")
    try:
        (partial / "meta").mkdir(parents=True)
        with _Export(store, partial, images, codec) as export:
            for index in range(len(store)):
                export.add(index, store.episode(index))
                if progress is not None:
                    progress(index + 1, len(store))
        export.finish()
        os.rename(partial, destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return destination


def feature_of(spec: StreamSpec) -> str:
    """The feature that a stream becomes: camera.front is observation.images.front, privileged.reward is reward."""
    if spec.name in (ACTION_STREAM, PROPRIO_STREAM):
        return {ACTION_STREAM: "action", PROPRIO_STREAM: "observation.state"}[spec.name]
    if spec.kind == "image":
        return f"observation.images.{spec.name.removeprefix('camera.')}"
    short = spec.name.removeprefix("privileged.")
    taken = short in (*DEFAULT_FEATURES, "task", "action", "observation.state") or short.startswith(CLOCK)
    return f"privileged.{short}" if taken else short


def aligned_rows(stamps: np.ndarray, control: np.ndarray) -> np.ndarray:
    """For each control stamp the newest row that is not later, int64 [rows]; -1 before the first."""
    if np.array_equal(stamps, control):
        return np.arange(len(control))  # even where the clock itself is at fault: the rows were taken together
    return np.searchsorted(stamps, control, side="right") - 1


class _Export:
    """Writes episodes one by one."""

    def __init__(self, store: TrajectoryStore, root: Path, images: str, codec: str) -> None:
        self._store, self._root, self._codec = store, root, codec
        self._fps = store.streams[ACTION_STREAM].rate_hz
        self._features = {name: feature_of(spec) for name, spec in store.streams.items()}
        if len(set(self._features.values())) < len(self._features):
            raise FormatError(f"{store.path}: found streams {list(self._features)}, of which two become one feature")
        self._cameras = [name for name, spec in store.streams.items() if spec.kind == "image"]
        self._videos = {
            name: VideoFiles(root, self._features[name], self._fps, codec)
            for name in self._cameras
            if images == "video"
        }
        control = store.stamps(ACTION_STREAM)
        self._own_clocks = [name for name in store.streams if not np.array_equal(store.stamps(name), control)]
        self._schema = self._data_schema()
        self._data = DataFiles(root, self._schema)
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._metas: list[dict[str, Any]] = []
        self._frames = 0
        self._numbers: dict[str, list[np.ndarray]] = {}
        self._counts = {name: np.zeros((3, 256), np.int64) for name in self._cameras}

    def __enter__(self) -> _Export:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as files:  # each is closed, whatever happens to the others
            for file in (self._data, *self._videos.values()):
                files.callback(file.close)

    def add(self, index: int, episode: Episode) -> None:
        """Append an episode to the files, beginning new ones where they are full."""
        values, begin = self._rows(index, episode)
        rows = len(values["frame_index"])
        task = self._tasks.setdefault(episode.instruction, len(self._tasks))
        values["episode_index"] = np.full(rows, index)
        values["index"] = np.arange(self._frames, self._frames + rows)
        values["task_index"] = np.full(rows, task)
        record: dict[str, Any] = {"episode_index": index, "tasks": [episode.instruction], "length": rows}
        record |= {"dataset_from_index": self._frames, "dataset_to_index": self._frames + rows}
        for name in self._videos:
            record |= self._add_video(name, values.pop(self._features[name]))
        record |= self._add_rows(values)
        record |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        self._episodes.append(record)
        self._metas.append({**episode.meta, **({"control_rows_left_out": begin} if begin else {})})
        self._frames += rows

    def finish(self) -> None:
        """Write meta/."""
        meta = self._root / "meta"
        features = self._declared_features()
        info = {
            "codebase_version": "v3.0",
            "robot_type": self._store.env_spec.env_id,
            "total_episodes": len(self._episodes),
            "total_frames": self._frames,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_A_CHUNK,
            "data_files_size_in_mb": DATA_FILE_BYTES >> 20,
            "video_files_size_in_mb": VIDEO_FILE_BYTES >> 20,
            "fps": int(self._fps) if self._fps.is_integer() else self._fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            **(PATHS if self._videos else {**PATHS, "video_path": None}),
            "features": features,
        }
        (meta / "info.json").write_text(json.dumps(info, indent=4, ensure_ascii=False), encoding="utf-8")
        stats = {key: number_stats(np.concatenate(parts)) for key, parts in self._numbers.items()}
        stats |= {self._features[name]: picture_stats(counts, self._frames) for name, counts in self._counts.items()}
        (meta / "stats.json").write_text(json.dumps(stats, allow_nan=False), encoding="utf-8")
        write_tasks(meta / "tasks.parquet", list(self._tasks))
        path = meta / "episodes" / "chunk-000" / "file-000.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self._episodes), path)
        features_of = {feature: name for name, feature in self._features.items()}
        write_sidecar(self._root, self._store, features_of, self._metas)

    def _rows(self, index: int, episode: Episode) -> tuple[dict[str, np.ndarray], int]:
        """All features of an episode at its control stamps, and how many control rows at its begin were left out."""
        control = episode.streams[ACTION_STREAM].stamps_ns
        rows = {name: self._aligned(index, name, episode.streams[name].stamps_ns, control) for name in episode.streams}
        begin = max(int((chosen < 0).sum()) for chosen in rows.values())
        if begin == len(control):
            raise FormatError(f"{self._store.path}, episode {index}: found streams that never overlap with the actions")
        values = {self._features[name]: episode.streams[name].values[rows[name][begin:]] for name in rows}
        frames = np.arange(len(control) - begin)
        values[CLOCK] = control[begin:]
        for name in self._own_clocks:
            values[clock_column(self._features[name])] = episode.streams[name].stamps_ns[rows[name][begin:]]
        return {**values, "timestamp": (frames / self._fps).astype(np.float32), "frame_index": frames}, begin

    def _aligned(self, index: int, name: str, stamps: np.ndarray, control: np.ndarray) -> np.ndarray:
        where = f"{self._store.path}, episode {index}, stream {name!r}"
        if not np.array_equal(stamps, control) and (np.diff(stamps) <= 0).any():
            raise FormatError(f"{where}: found stamps that go back, wanted increasing ones; run the gate on this store")
        chosen = aligned_rows(stamps, control)
        age = np.where(chosen < 0, 0, control - stamps[np.maximum(chosen, 0)])
        allowed = self._store.tolerance.align * self._store.streams[name].period_ns
        if age.max() > allowed:
            raise FormatError(
                f"{where}: found its newest row {age.max()} ns old at control row {age.argmax()}, wanted at most "
                f"{allowed:.0f} ns; run the gate on this store"
            )
        return chosen

    def _add_rows(self, values: dict[str, np.ndarray]) -> dict[str, Any]:
        stats: dict[str, Any] = {}
        pictures = {self._features[name]: name for name in self._cameras}
        columns = {}
        for field in self._schema:
            column = values[field.name]
            if field.name in pictures:
                self._count(pictures[field.name], column, stats)
                columns[field.name] = pa.array(
                    [{"bytes": encode_png(image), "path": None} for image in column], PICTURE
                )
            else:
                self._numbers.setdefault(field.name, []).append(
                    column.reshape(len(column), *(column.shape[1:] or (1,)))
                )
                stats |= {f"stats/{field.name}/{name}": found for name, found in number_stats(column).items()}
                columns[field.name] = arrow(column, field.type)
        place = self._data.write(pa.Table.from_pydict(columns, self._schema))
        return {"data/chunk_index": place.chunk, "data/file_index": place.file, **stats}

    def _count(self, name: str, images: np.ndarray, stats: dict[str, Any]) -> None:
        counts = picture_counts(images)
        self._counts[name] += counts
        found = picture_stats(counts, len(images))
        stats |= {f"stats/{self._features[name]}/{measure}": value for measure, value in found.items()}

    def _add_video(self, name: str, images: np.ndarray) -> dict[str, Any]:
        feature = self._features[name]
        place, first, stop = self._videos[name].write(images)
        found = {"chunk_index": place.chunk, "file_index": place.file}
        found |= {"from_timestamp": first / self._fps, "to_timestamp": stop / self._fps}
        record: dict[str, Any] = {f"videos/{feature}/{key}": value for key, value in found.items()}
        self._count(name, images, record)
        return record

    def _data_schema(self) -> pa.Schema:
        fields = []
        for name, feature in self._features.items():
            spec = self._store.streams[name]
            if name in self._videos:
                continue
            fields.append(pa.field(feature, PICTURE if name in self._cameras else arrow_type(spec)))
        fields += [pa.field(key, pa.int64()) for key in self._clock_columns()]
        fields += [pa.field(key, pa.from_numpy_dtype(np.dtype(dtype))) for key, dtype in _SCALARS.items()]
        return pa.schema([*fields, pa.field("task_index", pa.int64())])

    def _clock_columns(self) -> list[str]:
        return [CLOCK, *(clock_column(self._features[name]) for name in self._own_clocks)]

    def _declared_features(self) -> dict[str, Any]:
        features: dict[str, Any] = {}
        for name, feature in self._features.items():
            spec = self._store.streams[name]
            features[feature] = {"dtype": spec.dtype, "shape": list(spec.shape or (1,)), "names": None}
            if name == ACTION_STREAM:
                features[feature]["names"] = list(self._store.env_spec.action.names)
            if name == PROPRIO_STREAM:
                features[feature]["names"] = list(self._store.env_spec.proprio.names)
            if name in self._cameras:
                features[feature] |= {"dtype": "image", "names": ["height", "width", "channels"]}
            if name in self._videos:
                features[feature] |= {"dtype": "video", "info": self._video_info(spec)}
        scalars = {**dict.fromkeys(self._clock_columns(), "int64"), **_SCALARS, "task_index": "int64"}
        return features | {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in scalars.items()}

    def _video_info(self, spec: StreamSpec) -> dict[str, Any]:
        height, width, channels = spec.shape
        return {
            "video.height": height,
            "video.width": width,
            "video.channels": channels,
            "video.codec": self._codec,
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": self._fps,
            "has_audio": False,
        }
