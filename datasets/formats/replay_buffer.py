"""Diffusion Policy's replay buffers (a zarr v2 group) into a store.

    data/<name>         [rows, ...] one array for each quantity, the rows of all episodes one behind the other
    meta/episode_ends   int [episodes] where each episode ends, exclusive, counted from the first row of all

Source: `diffusion_policy/common/replay_buffer.py` of that project. There is no instruction and no clock, unless the
recorder of a real robot left data/timestamp in seconds. What is not named as proprioception is privileged; Push-T is
known by its arrays.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..episode import Episode, Stream, StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM, ActionSpec, CameraSpec, EnvSpec, ProprioSpec, camera_stream
from ..store import TrajectoryStore
from .declaring import UNSTATED, ActionRange, camera_name, dimension_names, named_once
from .demonstrations import shown_rate
from .importing import (
    MAX_ROWS,
    Progress,
    checked_size,
    chosen_cameras,
    needed_rate,
    stamps_from_seconds,
    synthetic_stamps,
    write_store,
)
from .options import FormatError, ImportOptions
from .replay_layout import Columns, ReplayLayout, chosen_proprio, known_layout, remaining
from .zarr_v2 import RowReader, array_names

_BLOCK_ROWS = 1 << 16


def import_replay_buffer(
    source: str | Path,
    destination: str | Path,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> TrajectoryStore:
    """Read a replay buffer, the folder `source`, into a new store at `destination`.

    `options.proprio` names arrays ("agent_pos") or columns of them ("state[0:2]"); the columns left are privileged.
    Pictures may be floats of 0 to 255 or of 0 to 1; what rounding changed is said in the episode's meta. One episode
    and, of each array, one chunk are in memory at a time.

    Raises FormatError for a folder that is damaged, leads elsewhere, or contradicts itself.
    """
    source, options = Path(source), options or ImportOptions()
    data = source / "data"
    readers = {name: RowReader(data / name) for name in array_names(data)}
    spans = _spans(source, readers)[: options.limit]
    rows = {name: reader.shape[1:] for name, reader in readers.items()}
    checked_size(
        max(stop - start for start, stop in spans), sum(reader.row_bytes for reader in readers.values()), str(data)
    )
    layout, images = known_layout(rows), [name for name, shape in rows.items() if len(shape) == 3 and shape[2] == 3]
    proprio = chosen_proprio(options.proprio, layout, rows, images, str(data))
    privileged = remaining(proprio, layout, rows, (*images, ACTION_STREAM))
    cameras = named_once([(camera_name(re.sub("_(image|rgb)$", "", key), str(data)), key) for key in images], str(data))
    pictures = {name: _Pictures(data / cameras[name]) for name in chosen_cameras(cameras, options, str(data))}
    clock = _recorded_clock(readers)
    own_rate = shown_rate(_stamps(clock, spans[0], 1.0)) if clock else layout.rate_hz if layout else None
    rate = needed_rate(options, own_rate, str(source))
    env_spec = EnvSpec(
        layout.env_id if layout else f"replay_buffer/{source.name.removesuffix('.zarr')}",
        tuple(CameraSpec(name, picture.height, picture.width, rate) for name, picture in pictures.items()),
        _proprio_spec(proprio, layout, rows, rate),
        _action_spec(readers[ACTION_STREAM], layout, spans, rate),
    )
    streams = _streams(env_spec, readers, proprio, privileged, "measured" if clock else "synthetic")
    meta = {
        "format": "diffusion policy replay buffer",
        "source": source.name,
        "dataset": layout.name if layout else None,
        "proprio": [str(columns) for columns in proprio],
        "privileged": {stream: str(columns) for stream, columns in privileged.items()},
        "images": {name: picture.statement for name, picture in pictures.items()},
        "clock": "data/timestamp" if clock else "made from the declared rate: the data set keeps none",
    }

    def episodes() -> Iterator[Episode]:
        for number, (start, stop) in enumerate(spans):
            used = {ACTION_STREAM, *(columns.array for columns in (*proprio, *privileged.values()))}
            read = {name: readers[name].read(start, stop) for name in used}
            values = {stream: _take(read, columns) for stream, columns in privileged.items()}
            parts = [_take(read, columns).reshape(stop - start, -1) for columns in proprio]
            values[PROPRIO_STREAM] = np.concatenate(parts, axis=1)
            values[ACTION_STREAM] = read[ACTION_STREAM]
            rounding = {}
            for name, picture in pictures.items():
                values[camera_stream(name)], rounding[name] = picture.read(start, stop)
            stamps = _stamps(clock, (start, stop), rate)
            arrays = {spec.name: Stream(values[spec.name].astype(spec.dtype, copy=False), stamps) for spec in streams}
            info = {"episode_in_source": number, "largest_rounding_of_images": rounding}
            yield Episode(arrays, options.instruction or "", info)

    return write_store(destination, env_spec, streams, meta, episodes(), len(spans), progress)


def count_windows(lengths: Sequence[int], horizon: int, pad_before: int = 0, pad_after: int = 0) -> int:
    """Windows of `horizon` rows in episodes of these lengths, of which at most so many rows are padding on each side.

    Diffusion Policy's count (its `SequenceSampler`): a window begins up to `pad_before` rows before its episode and
    ends up to `pad_after` rows behind it, and never without a row of the episode.
    """
    if horizon < 1 or pad_before < 0 or pad_after < 0:
        raise ValueError(f"found horizon {horizon}, padding {pad_before} and {pad_after}, wanted at least 1, 0 and 0")
    padding = min(pad_before, horizon - 1) + min(pad_after, horizon - 1)
    return sum(max(0, length + padding - horizon + 1) for length in lengths if length > 0)


class _Pictures:
    """An array of pictures, read as uint8. Attributes: height, width, statement (what is done to the values)."""

    def __init__(self, path: Path) -> None:
        self._path, self._scale, self._rounding = path, 1.0, 0.0
        reader = RowReader(path)
        self.height, self.width, self.statement = *reader.shape[1:3], "uint8, as in the data set"
        if reader.dtype != np.uint8:
            first = reader.read(0, min(reader.chunk_rows, reader.shape[0]))
            if first.dtype.kind == "f" and np.nanmax(first) <= 1 and np.any(first % 1):
                self._scale = 255.0
            self.statement = f"{reader.dtype} times {self._scale:g}, rounded to uint8"
            self._reader = RowReader(path, self._to_uint8)
        else:
            self._reader = reader

    def read(self, start: int, stop: int) -> tuple[np.ndarray, float]:
        """Pictures uint8 [T, H, W, 3], and the most that rounding has changed a value of them, in steps of 1 of 255."""
        self._rounding = 0.0
        return self._reader.read(start, stop), round(self._rounding, 6)

    def _to_uint8(self, block: np.ndarray) -> np.ndarray:
        scaled = block * block.dtype.type(self._scale)
        if not (scaled.min() > -0.5 and scaled.max() < 255.5):  # NaN too
            raise FormatError(
                f"{self._path}: found values of {block.min()} to {block.max()}, wanted pictures of 0 to "
                f"{255 / self._scale:g}"
            )
        whole = np.rint(scaled)
        self._rounding = max(self._rounding, float(np.abs(scaled - whole).max()))
        return whole.astype(np.uint8)


def _spans(source: Path, readers: Mapping[str, RowReader]) -> list[tuple[int, int]]:
    """First row and end of each episode. FormatError where the ends are no rising counts, or arrays have other rows."""
    if ACTION_STREAM not in readers or len(readers[ACTION_STREAM].shape) != 2:
        found = {name: reader.shape for name, reader in readers.items()}
        raise FormatError(f"{source}/data: found the arrays {found}, wanted 'action' [rows, A] among them")
    reader, where = RowReader(source / "meta" / "episode_ends"), f"{source}/meta/episode_ends"
    if reader.dtype.kind not in "iu" or len(reader.shape) != 1:
        raise FormatError(f"{where}: found {reader.dtype} {reader.shape}, wanted whole numbers [episodes]")
    ends = reader.read(0, reader.shape[0]).astype(object)  # Python ints: uint64 does not wrap
    for index, (before, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        if not before < end <= MAX_ROWS:
            raise FormatError(f"{where}[{index}]: found {end} after {before}, wanted rising numbers of rows")
    for name, array in readers.items():
        if array.shape[0] != ends[-1]:
            raise FormatError(
                f"{source}/data/{name}: found {array.shape[0]} rows, wanted {ends[-1]}, where the last episode ends"
            )
    return [(int(start), int(stop)) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]


def _recorded_clock(readers: Mapping[str, RowReader]) -> RowReader | None:
    """data/timestamp, seconds; float32 cannot hold a time of day to the millisecond, so it is no clock."""
    reader = readers.get("timestamp")
    return reader if reader and len(reader.shape) == 1 and reader.dtype == np.float64 else None


def _stamps(clock: RowReader | None, span: tuple[int, int], rate: float) -> np.ndarray:
    if clock is None:
        return synthetic_stamps(span[1] - span[0], rate)
    return stamps_from_seconds(clock.read(*span), f"data/timestamp from row {span[0]}")


def _proprio_spec(
    proprio: Sequence[Columns], layout: ReplayLayout | None, rows: Mapping[str, tuple[int, ...]], rate: float
) -> ProprioSpec:
    named: list[tuple[str, str]] = []
    for columns in proprio:
        width = int(np.prod(rows[columns.array], dtype=np.int64))
        known = layout.columns.get(columns.array) if layout else None
        all_of_it = known or [(name, UNSTATED) for name in dimension_names(columns.array, width, ())]
        for name, unit in all_of_it[columns.first : columns.stop]:
            named += [(f"cos({name})", "1"), (f"sin({name})", "1")] if columns.angle else [(name, unit)]
    return ProprioSpec(tuple(name for name, _ in named), tuple(unit for _, unit in named), rate)


def _action_spec(
    reader: RowReader, layout: ReplayLayout | None, spans: Sequence[tuple[int, int]], rate: float
) -> ActionSpec:
    """The known limits, or those of what was recorded."""
    width = reader.shape[1]
    if layout:
        low, high = ((limit,) * width for limit in layout.limits)
        return ActionSpec(layout.action_names, (layout.unit,) * width, low, high, rate)
    recorded = ActionRange(width)
    for start in range(0, spans[-1][1], _BLOCK_ROWS):
        recorded.update(reader.read(start, min(start + _BLOCK_ROWS, spans[-1][1])))
    return ActionSpec(dimension_names("action", width, ()), (UNSTATED,) * width, *recorded.limits(), rate)


def _streams(
    env_spec: EnvSpec,
    readers: Mapping[str, RowReader],
    proprio: Sequence[Columns],
    privileged: Mapping[str, Columns],
    clock: str,
) -> list[StreamSpec]:
    rate = env_spec.action.rate_hz
    joined = np.result_type(np.float32, *(readers[columns.array].dtype for columns in proprio)).name
    shapes = {
        **{camera.stream: ("uint8", (camera.height, camera.width, 3), "image") for camera in env_spec.cameras},
        PROPRIO_STREAM: (joined, (env_spec.proprio.dim,), "proprio"),
        ACTION_STREAM: (readers[ACTION_STREAM].dtype.name, (env_spec.action.dim,), "action"),
    }
    for stream, columns in privileged.items():
        reader = readers[columns.array]
        shape = reader.shape[1:] if columns.stop is None else (columns.stop - columns.first,)
        shapes[stream] = (reader.dtype.name, shape, "privileged")
    own = set(env_spec.proprio.units)
    units = {PROPRIO_STREAM: own.pop() if len(own) == 1 else "mixed", ACTION_STREAM: env_spec.action.units[0]}
    return [
        StreamSpec(name, dtype, shape, rate, kind, units.get(name, UNSTATED), clock)
        for name, (dtype, shape, kind) in shapes.items()
    ]


def _take(rows: Mapping[str, np.ndarray], columns: Columns) -> np.ndarray:
    found = rows[columns.array]
    found = found if columns.stop is None else np.ascontiguousarray(found[:, columns.first : columns.stop])
    if not columns.angle:
        return found
    return np.stack([np.cos(found), np.sin(found)], axis=-1).reshape(len(found), -1)
