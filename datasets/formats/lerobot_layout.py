"""Where a LeRobot data set keeps what: its features, and for each episode the file, the rows and the videos.

Version 2 has a file for each episode (meta/info.json, meta/tasks.jsonl, meta/episodes.jsonl), version 3 several
episodes a file (meta/tasks.parquet, meta/episodes/*/*.parquet). Source: LeRobot's documentation, "LeRobotDataset v3.0",
and its `DatasetInfo`. All of it is data from outside: paths are built from known placeholders alone and stay inside.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from . import parquet
from .importing import MAX_ROWS, parsed_object
from .metadata import read_object, read_text
from .options import FormatError

DEFAULT_FEATURES = ("timestamp", "frame_index", "episode_index", "index", "task_index")

_PLACEHOLDER = re.compile(r"\{(\w+)(?::0?(\d{1,2})d)?\}", re.ASCII)
_DEFAULT_PATHS = {
    2: (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    ),
    3: (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    ),
}


@dataclass(frozen=True)
class Feature:
    """One feature of info.json: a numpy dtype, "image", "video" or "string"; shape of a row; names as they stand."""

    dtype: str
    shape: tuple[int, ...]
    names: Any
    depth: bool = False

    @property
    def pictures(self) -> bool:
        return self.dtype in ("image", "video")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of a colour picture, None for anything else."""
        if not self.pictures or self.depth or len(self.shape) != 3:
            return None
        first = self.names[0] if isinstance(self.names, list) and self.names else ""
        if str(first).startswith("channel") or (self.shape[0] == 3 and self.shape[2] != 3):
            return self.shape[1:] if self.shape[0] == 3 else None  # pyright: ignore[reportReturnType]
        return self.shape[:2] if self.shape[2] == 3 else None  # pyright: ignore[reportReturnType]


@dataclass(frozen=True)
class Entry:
    """An episode: its number, rows, data file, and for each video feature the file and the second it begins at."""

    index: int
    rows: int
    data: Path
    videos: dict[str, tuple[Path, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """A data set: version 2 or 3, rate in Hz, features by key, task texts by number, and its episodes in order."""

    root: Path
    version: int
    fps: float
    robot_type: str
    features: dict[str, Feature]
    tasks: dict[int, str]
    episodes: list[Entry]


def read_layout(root: Path) -> Layout:
    """Read meta/ of the data set at `root`.

    Raises FormatError where a file is missing or malformed, a path leads outside, or the numbers of episodes and frames
    contradict each other.
    """
    where = root / "meta" / "info.json"
    info = read_object(where)
    found = info.get("codebase_version")
    match = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+)?", found) if isinstance(found, str) else None
    version = int(match[1]) if match else 0
    if version not in _DEFAULT_PATHS:
        raise FormatError(f"{where}, codebase_version: found {found!r}, wanted v2.0, v2.1 or v3.0; convert it first")
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 1e6:
        raise FormatError(f"{where}, fps: found {fps!r}, wanted a positive rate in Hz")
    features = _features(info, where)
    videos = [key for key, feature in features.items() if feature.dtype == "video"]
    entries = list((_entries_v2 if version == 2 else _entries_v3)(root, info, videos, where))
    for wanted, entry in enumerate(entries):
        if entry.index != wanted:
            raise FormatError(f"{root}/meta: found episode {entry.index} where {wanted} was wanted; one is missing")
    _check_total(where, info, "total_episodes", len(entries))
    _check_total(where, info, "total_frames", sum(entry.rows for entry in entries))
    tasks = _tasks_v2(root) if version == 2 else _tasks_v3(root)
    robot = info.get("robot_type")
    return Layout(root, version, float(fps), robot if isinstance(robot, str) else "unknown", features, tasks, entries)


def inside(root: Path, template: Any, values: dict[str, int | str], where: str) -> Path:
    """`template` with its {placeholders} filled from `values`, as a path below `root`.

    Only {name} and, for numbers, {name:03d} are known: `str.format` would follow attributes that the data names.
    Raises FormatError for any other placeholder and for a path that is absolute or climbs.
    """
    if not isinstance(template, str) or len(template) > 1000:
        raise FormatError(f"{where}: found {template!r}, wanted a path with placeholders")

    def fill(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None or (match[2] and not isinstance(value, int)):
            raise FormatError(f"{where}: found {match[0]} in {template!r}, wanted only {sorted(values)}")
        return f"{value:0{int(match[2])}d}" if match[2] else str(value)

    path = _PLACEHOLDER.sub(fill, template)
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or set(path) & set("{}\\\0:"):
        raise FormatError(
            f"{where}: found the path {path!r}, wanted one below {root}; the data set is not to be trusted"
        )
    return root.joinpath(*parts)


def _features(info: dict[str, Any], where: Path) -> dict[str, Feature]:
    declared = info.get("features")
    if not isinstance(declared, dict):
        raise FormatError(f"{where}, features: found {type(declared).__name__}, wanted an object")
    features = {}
    for key, feature in declared.items():
        here = f"{where}, features[{key!r}]"
        if not re.fullmatch(r"[\w.+ -]{1,200}", key) or ".." in key:
            raise FormatError(f"{here}: found an odd name, wanted letters, digits, '.', '_' or '-', and no path")
        shape = feature.get("shape") if isinstance(feature, dict) else None
        if not isinstance(shape, list) or not isinstance(feature.get("dtype"), str):
            raise FormatError(f"{here}: found {feature!r}, wanted an object with dtype and shape")
        if len(shape) > 8 or not all(type(size) is int and 0 < size <= MAX_ROWS for size in shape):
            raise FormatError(f"{here}, shape: found {shape!r}, wanted up to 8 positive sizes")
        details = [value for name in ("info", "video_info") if isinstance(value := feature.get(name), dict)]
        depth = any(value.get(flag) is True for value in details for flag in ("is_depth_map", "video.is_depth_map"))
        features[key] = Feature(feature["dtype"], tuple(shape), feature.get("names"), depth)
    missing = [key for key in ("action", *DEFAULT_FEATURES) if key not in features and key != "index"]
    if missing:
        raise FormatError(f"{where}, features: found {sorted(features)}, wanted {missing} too")
    return features


def _check_total(where: Path, info: dict[str, Any], name: str, found: int) -> None:
    declared = info.get(name, found)
    if declared != found:
        raise FormatError(
            f"{where}, {name}: found {declared!r}, but the episodes' metadata has {found}; fetch it again"
        )


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            yield parsed_object(line, f"{path}, line {number}"), f"{path}, line {number}"


def _whole(value: Any, where: str, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= MAX_ROWS:
        raise FormatError(f"{where}: found {value!r}, wanted a whole number from {least} to {MAX_ROWS}")
    return value


def _entries_v2(root: Path, info: dict[str, Any], videos: list[str], where: Path) -> Iterator[Entry]:
    chunk = _whole(info.get("chunks_size", 1000), f"{where}, chunks_size", 1)
    data_path, video_path = (info.get(name) or default for name, default in _paths(2))
    for line, here in _lines(root / "meta" / "episodes.jsonl"):
        index = _whole(line.get("episode_index"), f"{here}, episode_index")
        values: dict[str, int | str] = {"episode_chunk": index // chunk, "episode_index": index}
        files = {key: inside(root, video_path, {**values, "video_key": key}, f"{where}, video_path") for key in videos}
        yield Entry(
            index,
            _whole(line.get("length"), f"{here}, length", 1),
            inside(root, data_path, values, f"{where}, data_path"),
            {key: (file, 0.0) for key, file in files.items()},
        )


def _entries_v3(root: Path, info: dict[str, Any], videos: list[str], where: Path) -> Iterator[Entry]:
    data_path, video_path = (info.get(name) or default for name, default in _paths(3))
    wholes = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    wholes += [f"videos/{key}/{part}" for key in videos for part in ("chunk_index", "file_index")]
    begins = [f"videos/{key}/from_timestamp" for key in videos]
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise FormatError(f"{root}/meta/episodes: found no parquet files, wanted the episodes' metadata")
    rows: list[dict[str, Any]] = []
    for file in files:
        table = parquet.read_table(file, dict.fromkeys((*wholes, *begins), (1,)))
        columns = {name: _column(table, name, "iu", file) for name in wholes}
        columns |= {name: _column(table, name, "fiu", file) for name in begins}
        rows += [
            {name: values[i].item() for name, values in columns.items()} | {"": f"{file}, row {i}"}
            for i in range(table.num_rows)
        ]
    for row in sorted(rows, key=lambda row: row["episode_index"]):
        here = row[""]
        for name in wholes:
            _whole(row[name], f"{here}, {name}", 1 if name == "length" else 0)
        spans = {}
        for key in videos:
            begin = float(row[f"videos/{key}/from_timestamp"])
            if not 0 <= begin < math.inf:
                raise FormatError(f"{here}, videos/{key}/from_timestamp: found {begin}, wanted 0 s or more")
            values = {part: row[f"videos/{key}/{part}"] for part in ("chunk_index", "file_index")}
            spans[key] = (inside(root, video_path, {**values, "video_key": key}, f"{where}, video_path"), begin)
        values = {part: row[f"data/{part}"] for part in ("chunk_index", "file_index")}
        data = inside(root, data_path, values, f"{where}, data_path")
        yield Entry(row["episode_index"], row["length"], data, spans)


def _paths(version: int) -> list[tuple[str, str]]:
    return list(zip(("data_path", "video_path"), _DEFAULT_PATHS[version], strict=True))


def _column(table: pa.Table, name: str, kinds: str, file: Path) -> np.ndarray:
    values = parquet.numbers(table.column(name), (1,), f"{file}, column {name!r}")[:, 0]
    if values.dtype.kind not in kinds:
        raise FormatError(
            f"{file}, column {name!r}: found {values.dtype}, wanted {'a number' if 'f' in kinds else 'int'}"
        )
    return values


def _tasks_v2(root: Path) -> dict[int, str]:
    tasks = {}
    for line, here in _lines(root / "meta" / "tasks.jsonl"):
        task = line.get("task")
        if not isinstance(task, str):
            raise FormatError(f"{here}, task: found {task!r}, wanted a text")
        tasks[_whole(line.get("task_index"), f"{here}, task_index")] = task
    return tasks


def _tasks_v3(root: Path) -> dict[int, str]:
    path = root / "meta" / "tasks.parquet"
    # The text is the index of a pandas table, which has had this name since LeRobot 0.5 and none before.
    text = "task" if "task" in parquet.column_names(path) else "__index_level_0__"
    table = parquet.read_table(path, {"task_index": (1,), text: None})
    numbers = _column(table, "task_index", "iu", path)
    return dict(zip(numbers.tolist(), parquet.texts(table.column(text), f"{path}, column {text!r}"), strict=True))
