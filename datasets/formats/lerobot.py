"""LeRobot data sets of version 2 and 3 into a store; `export_lerobot` is the way back.

    observation.images.NAME -> camera.NAME     observation.state -> proprio     action -> action
    any other numbers       -> privileged.KEY

LeRobot's `timestamp` counts seconds from the episode's begin. Where it is frame_index / fps, as far as float32 can say,
nobody measured it, and the clock is declared synthetic. Action limits are those of the recorded actions, with room.
Sources: LeRobot's documentation, "LeRobotDataset v3.0", and the releases 0.4 to 0.6 that read and write these sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..episode import Episode, Stream, StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM, EnvSpec, camera_stream
from ..store import TrajectoryStore
from .declaring import ActionRange, camera_name, declared_robot, declared_streams, dimension_names, named_once
from .images import checked_picture, decode_image
from .importing import (
    Progress,
    checked_dtype,
    checked_name,
    checked_size,
    chosen_cameras,
    needed_rate,
    stamps_from_seconds,
    synthetic_stamps,
    write_store,
)
from .lerobot_layout import DEFAULT_FEATURES, Entry, Feature, Layout, read_layout
from .lerobot_rows import DataFiles
from .lerobot_sidecar import CLOCK, Sidecar, clock_column, own_rows, read_sidecar
from .lerobot_write import export_lerobot
from .options import FormatError, ImportOptions
from .video import read_frames

__all__ = ["export_lerobot", "import_lerobot"]

STATE = "observation.state"


@dataclass(frozen=True)
class _Plan:
    """Which features become which stream. privileged: stream -> feature. left_out: features that are not numbers."""

    cameras: dict[str, str]
    proprio: tuple[str, ...]
    privileged: dict[str, str]
    left_out: list[str]

    @property
    def features(self) -> dict[str, tuple[str, ...]]:
        """The features of each stream."""
        return {
            **{camera_stream(name): (key,) for name, key in self.cameras.items()},
            PROPRIO_STREAM: self.proprio,
            ACTION_STREAM: ("action",),
            **{name: (key,) for name, key in self.privileged.items()},
        }


def import_lerobot(
    source: str | Path,
    destination: str | Path,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> TrajectoryStore:
    """Read the LeRobot data set in the folder `source` into a new store at `destination`.

    Proprioception is `observation.state` unless `options.proprio` names features. A set that deixis exported gets back
    its own clocks, names, units and limits.

    Raises FormatError for a data set that is damaged, leads elsewhere, or contradicts itself.
    """
    root, options = Path(source), options or ImportOptions()
    layout = read_layout(root)
    entries = layout.episodes[: options.limit]
    if not entries:
        raise FormatError(f"{root}: found no episodes, wanted at least one")
    by_choice = options.proprio or options.rate_hz is not None
    sidecar = None if by_choice else read_sidecar(root, len(layout.episodes))
    plan = _plan(layout, options)
    actions, synthetic = _survey(layout, entries)
    rate = needed_rate(options, layout.fps, str(root))
    if sidecar is None:
        env_spec, streams, note = _declared(layout, plan, actions, rate, synthetic)
    else:
        env_spec, streams = _restored(root, layout, plan, sidecar)
        note = f"from the column {CLOCK}"
    meta = {
        "format": "lerobot",
        "source": root.name,
        "codebase_version": layout.version,
        "robot_type": layout.robot_type,
        "camera_keys": plan.cameras,
        "proprio_keys": list(plan.proprio),
        "privileged_keys": plan.privileged,
        "left_out": plan.left_out,
        "clock": note,
        **({"exported_from": sidecar.meta} if sidecar else {}),
    }
    reader = _Reader(layout, streams, rate, synthetic, sidecar)
    episodes = (reader.episode(entry, options.instruction) for entry in entries)
    return write_store(destination, env_spec, [spec for spec, _ in streams], meta, episodes, len(entries), progress)


def _plan(layout: Layout, options: ImportOptions) -> _Plan:
    where = f"{layout.root}/meta/info.json"
    features = layout.features
    pictures = [key for key, feature in features.items() if feature.size is not None]
    short = [(camera_name(_camera_part(key), f"{where}, features[{key!r}]"), key) for key in pictures]
    cameras = named_once(short, where)
    for key in pictures:
        checked_picture(features[key].size or (0, 0), f"{where}, features[{key!r}]")
    kept = chosen_cameras(cameras, options, where)
    numeric = [key for key, feature in features.items() if _dtype(feature) is not None and key not in DEFAULT_FEATURES]
    proprio = tuple(key if key in features else f"observation.{key}" for key in options.proprio or (STATE,))
    missing = [key for key in ("action", *proprio) if key not in numeric]
    if missing:
        raise FormatError(
            f"{where}: found numbers in {numeric}, wanted {missing}; name features in ImportOptions.proprio"
        )
    if len(features["action"].shape) != 1:
        raise FormatError(f"{where}, action: found shape {features['action'].shape}, wanted one axis [A]")
    others = [key for key in numeric if key not in proprio and key != "action"]
    privileged = {f"privileged.{checked_name(key.replace(' ', '_'), where)}": key for key in others}
    if len(privileged) != len(others):
        raise FormatError(
            f"{where}: found features that differ in blanks alone among {others}, wanted names that differ"
        )
    left_out = [key for key in features if key not in (*pictures, *numeric, *DEFAULT_FEATURES)]
    return _Plan({name: cameras[name] for name in kept}, proprio, privileged, left_out)


def _camera_part(key: str) -> str:
    """`observation.images.top` is top, `observation.image` is image."""
    return key.removeprefix("observation.").removeprefix("images.")


def _dtype(feature: Feature) -> np.dtype | None:
    """dtype of a feature of numbers, None for pictures, texts and what is not known."""
    try:
        return None if feature.pictures else checked_dtype(np.dtype(feature.dtype), "")
    except (TypeError, FormatError):
        return None


def _survey(layout: Layout, entries: list[Entry]) -> tuple[ActionRange, bool]:
    """What the whole data set must tell before it is read: range of the actions, and whether the clock is synthetic."""
    actions, synthetic = ActionRange(layout.features["action"].shape[0]), True
    data = DataFiles(layout, ("action",))
    for entry in entries:
        columns = data.numbers(entry)
        actions.update(columns["action"].astype(np.float64))
        wanted = np.arange(entry.rows) / layout.fps
        seconds = columns["timestamp"][:, 0].astype(np.float64)
        synthetic &= bool((np.abs(seconds - wanted) <= 2 * np.spacing(wanted.astype(np.float32))).all())
    return actions, synthetic


def _declared(
    layout: Layout, plan: _Plan, actions: ActionRange, rate: float, synthetic: bool
) -> tuple[EnvSpec, list[tuple[StreamSpec, tuple[str, ...]]], str]:
    features = layout.features
    sizes = {name: features[key].size or (0, 0) for name, key in plan.cameras.items()}
    names = [_names(key, features[key]) for key in plan.proprio]
    joined = [name for group in names for name in group]
    if len(set(joined)) != len(joined):
        joined = [f"{key}.{name}" for key, group in zip(plan.proprio, names, strict=True) for name in group]
    env_spec = declared_robot(
        f"lerobot/{layout.root.name}",
        sizes,
        joined,
        _names("action", features["action"]),
        actions.limits(),
        rate,
    )
    kinds = {name: (features[key].dtype, features[key].shape) for name, key in plan.privileged.items()}
    specs = declared_streams(env_spec, kinds, "synthetic" if synthetic else "measured")
    note = (
        "made from the declared rate: `timestamp` is frame_index / fps" if synthetic else "from `timestamp` (float32)"
    )
    return env_spec, [(spec, plan.features[spec.name]) for spec in specs], note


def _names(key: str, feature: Feature) -> tuple[str, ...]:
    width = int(np.prod(feature.shape, dtype=np.int64))
    return dimension_names(key.rsplit(".", 1)[-1], width, feature.names)


def _restored(
    root: Path, layout: Layout, plan: _Plan, sidecar: Sidecar
) -> tuple[EnvSpec, list[tuple[StreamSpec, tuple[str, ...]]]]:
    """What the exported store declared, checked against what the data set has."""
    kept = [key for keys in plan.features.values() for key in keys if not key.startswith(CLOCK)]
    env_spec, streams = sidecar.declared(kept)
    for key in kept:
        feature, spec = layout.features[key], streams.get(key)
        found = ((*feature.size, 3), "uint8") if feature.size else (feature.shape, feature.dtype)
        if spec is None or found != (spec.shape or (1,), spec.dtype):
            raise FormatError(f"{root}/meta/deixis.json: found {spec} for {key!r}, wanted {found}; remove the file")
    return env_spec, [(spec, (key,)) for key, spec in streams.items()]


class _Reader:
    """Builds episodes."""

    def __init__(
        self,
        layout: Layout,
        streams: list[tuple[StreamSpec, tuple[str, ...]]],
        rate: float,
        synthetic: bool,
        sidecar: Sidecar | None,
    ) -> None:
        self._layout, self._streams, self._rate = layout, streams, rate
        self._synthetic, self._sidecar = synthetic, sidecar
        keys = [key for _, group in streams for key in group]
        clocks = [key for key in layout.features if key == CLOCK or key.startswith(CLOCK + ".")] if sidecar else []
        numeric = tuple(key for key in (*keys, *clocks) if not layout.features[key].pictures)
        images = tuple(key for key in keys if layout.features[key].dtype == "image")
        self._data = DataFiles(layout, tuple(dict.fromkeys(numeric)), images)

    def episode(self, entry: Entry, instruction: str | None) -> Episode:
        where = f"{entry.data}, episode {entry.index}"
        row_bytes = sum(np.dtype(spec.dtype).itemsize * int(np.prod(spec.shape)) for spec, _ in self._streams)
        checked_size(entry.rows, row_bytes, where)
        columns = self._data.numbers(entry)
        control = self._control_clock(columns, where)
        streams = {}
        for spec, keys in self._streams:
            if spec.kind == "image":
                values = self._frames(entry, keys[0])
            else:
                values = _joined([columns[key] for key in keys], spec, where)
            stamps = columns.get(clock_column(keys[0])) if self._sidecar else None
            if stamps is None:
                streams[spec.name] = Stream(values, control.copy())
            else:
                rows = own_rows(stamps[:, 0])
                streams[spec.name] = Stream(values[rows], stamps[rows, 0])
        tasks = self._tasks(columns["task_index"][:, 0], where)
        meta: dict[str, Any] = {"source_episode": entry.index}
        if len(tasks) > 1:
            meta["tasks"] = tasks
        if self._sidecar:
            meta = self._sidecar.episodes[entry.index]
        return Episode(streams, tasks[0] if instruction is None else instruction, meta)

    def _control_clock(self, columns: Mapping[str, np.ndarray], where: str) -> np.ndarray:
        if self._sidecar and CLOCK in columns:
            return columns[CLOCK][:, 0].astype(np.int64)
        if self._synthetic:
            return synthetic_stamps(len(columns["timestamp"]), self._rate)
        return stamps_from_seconds(columns["timestamp"][:, 0].astype(np.float64), f"{where}, timestamp")

    def _frames(self, entry: Entry, key: str) -> np.ndarray:
        feature = self._layout.features[key]
        size = feature.size or (0, 0)
        if feature.dtype == "video":
            path, begin_s = entry.videos[key]
            return read_frames(path, size, begin_s, entry.rows, self._layout.fps, alone=self._layout.version == 2)
        where = f"{entry.data}, episode {entry.index}, column {key!r}"
        frames = np.empty((entry.rows, *size, 3), np.uint8)
        for row, data in enumerate(self._data.pictures(entry, key)):
            frames[row] = decode_image(data, size, f"{where}, row {row}")
        return frames

    def _tasks(self, numbers: np.ndarray, where: str) -> list[str]:
        """The task texts of an episode, in the order they come."""
        found = list(dict.fromkeys(numbers.tolist()))
        unknown = [number for number in found if number not in self._layout.tasks]
        if unknown:
            raise FormatError(f"{where}, task_index: found {unknown[0]!r}, wanted one of {sorted(self._layout.tasks)}")
        return [self._layout.tasks[number] for number in found]


def _joined(columns: list[np.ndarray], spec: StreamSpec, where: str) -> np.ndarray:
    """Columns side by side as the stream declares them. FormatError where its dtype would lose more than precision."""
    rows = len(columns[0])
    values = columns[0] if len(columns) == 1 else np.concatenate([column.reshape(rows, -1) for column in columns], 1)
    values, wanted = values.reshape(rows, *spec.shape), np.dtype(spec.dtype)
    if np.can_cast(values.dtype, wanted, "same_kind"):
        cast = values.astype(wanted)
        if wanted.kind == "f" or np.array_equal(cast, values):
            return cast
    raise FormatError(f"{where}, stream {spec.name!r}: found {values.dtype}, wanted {wanted} as info.json says")
