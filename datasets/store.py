"""The trajectory store: episodes of named streams, each with its own int64 nanosecond clock, in one zarr v3 folder.

    zarr.json                      format, version, EnvSpec, StreamSpecs, Tolerance and meta, as attributes "deixis"
    streams/<name>/values          [rows, ...] rows of all episodes
    streams/<name>/stamps_ns       int64 [rows] their clock
    episodes/000017/zarr.json      a record: instruction, meta and, for each stream, its first row and number of rows

Plain `zarr.open` reads all of it. Each episode begins at a chunk, so there are unused rows between episodes: the
records say which rows count. An episode exists once its record does (see `recorder.py`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from .episode import Episode, StoreError, Stream, StreamSpec, check_streams
from .recorder import EpisodeRecord, EpisodeWriter, read_records
from .spec import EnvSpec
from .tolerance import Tolerance

__all__ = ["Episode", "EpisodeWriter", "StoreError", "Stream", "StreamSpec", "TrajectoryStore"]

FORMAT, VERSION = "deixis trajectories", 1
_CHUNK_SECONDS = 4.0  # an episode of a few seconds is one chunk a stream
_CHUNK_BYTES = 8 << 20  # and one of large images still has chunks that load quickly
_READ_BYTES = 64 << 20  # rows read at once, before the unused ones are dropped


class TrajectoryStore:
    """Episodes in a folder. Make one with `create`, read one with `open`, write with `writer`.

    A store object sees the episodes that were finished when it was opened, and those written through it.

    Attributes: path; env_spec; streams (StreamSpec by name); tolerance; meta (JSON, about the whole store).
    """

    def __init__(
        self,
        path: Path,
        env_spec: EnvSpec,
        streams: Sequence[StreamSpec],
        tolerance: Tolerance,
        meta: dict[str, Any],
        records: list[EpisodeRecord],
    ) -> None:
        self.path, self.env_spec, self.tolerance, self.meta = path, env_spec, tolerance, meta
        self.streams = {spec.name: spec for spec in streams}
        self._records = records
        self._arrays: dict[str, zarr.Array] = {}

    @classmethod
    def create(
        cls,
        path: str | Path,
        env_spec: EnvSpec,
        streams: Sequence[StreamSpec],
        meta: dict[str, Any] | None = None,
        tolerance: Tolerance | None = None,
    ) -> TrajectoryStore:
        """Make an empty store at `path`, which must not exist yet.

        Raises StoreError if `path` exists, the streams contradict `env_spec`, or `meta` is not JSON.
        """
        path, meta, tolerance = Path(path), meta or {}, tolerance or Tolerance()
        if path.exists():
            raise StoreError(
                f"{path}: found something there, wanted nothing; open it, remove it, or choose another path"
            )
        check_streams(streams, env_spec)
        try:
            json.dumps(meta, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(f"{path}: meta: {error}; wanted plain JSON") from error
        attributes = {
            "format": FORMAT,
            "version": VERSION,
            "env_spec": env_spec.to_dict(),
            "streams": [spec.to_dict() for spec in streams],
            "tolerance": tolerance.to_dict(),
            "meta": meta,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
        try:
            root = zarr.create_group(partial, attributes={"deixis": attributes}, overwrite=True)
            root.create_group("episodes")
            group = root.create_group("streams")
            for spec in streams:
                _create_arrays(group, spec)
            os.rename(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path) -> TrajectoryStore:
        """Open an existing store for reading (and, through `writer`, writing).

        Raises StoreError if there is none, or its version is not known.
        """
        path = Path(path)
        try:
            attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]["deixis"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{path}: found no deixis trajectory store ({error!r}), wanted one made by `collect`"
            ) from error
        found = (attributes.get("format"), attributes.get("version"))
        if found != (FORMAT, VERSION):
            raise StoreError(f"{path}: found format {found}, wanted {(FORMAT, VERSION)}; use the deixis that wrote it")
        try:
            return cls(
                path,
                EnvSpec.from_dict(attributes["env_spec"]),
                [StreamSpec.from_dict(spec) for spec in attributes["streams"]],
                Tolerance.from_dict(attributes["tolerance"]),
                attributes["meta"],
                read_records(path),
            )
        except KeyError as error:
            raise StoreError(
                f"{path}/zarr.json: missing attribute {error}; the file was changed, restore it"
            ) from error

    def writer(self, sync: bool = True) -> EpisodeWriter:
        """The one writer: `with store.writer() as writer: writer.append(episode)`. StoreError if another is at work.

        `sync=False` leaves it to the system when rows reach the disk: many times faster on a busy disk, safe when the
        process is killed, not safe when the power fails.
        """
        return EpisodeWriter(self.path, self.streams, self._published, sync)

    def __len__(self) -> int:
        return len(self._records)

    def episode(self, index: int) -> Episode:
        """Episode `index`, all its streams read."""
        record = self._record(index)
        return Episode({name: self.read(index, name) for name in self.streams}, record.instruction, _copy(record.meta))

    def episode_info(self, index: int) -> dict[str, Any]:
        """What is known without reading arrays: {"instruction", "meta", "lengths": rows by stream}."""
        record = self._record(index)
        lengths = {name: rows for name, (_, rows) in record.spans.items()}
        return {"instruction": record.instruction, "meta": _copy(record.meta), "lengths": lengths}

    def read(self, index: int, stream: str) -> Stream:
        """One stream of one episode: values [T, ...] and stamps_ns [T]."""
        return self.read_all(stream, [index])

    def read_all(self, stream: str, episodes: Sequence[int] | None = None) -> Stream:
        """One stream of several episodes (default all), joined in that order; `offsets` says where each begins."""
        return Stream(self._rows(stream, "values", episodes), self._rows(stream, "stamps_ns", episodes))

    def stamps(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray:
        """The clock of `read_all`, int64 [rows] ns, without reading the values."""
        return self._rows(stream, "stamps_ns", episodes)

    def offsets(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray:
        """Row bounds of the episodes in `read_all`: int64 [E + 1]; episode e is rows offsets[e] to offsets[e + 1]."""
        return np.cumsum([0, *(rows for _, rows in self._spans(stream, episodes))], dtype=np.int64)

    def missing_rows(self, stream: str) -> np.ndarray:
        """Rows that each record counts and the arrays lack, int64 [E, 2] (values, stamps_ns): 0 in a sound store."""
        stops = np.array([sum(span) for span in self._spans(stream, None)], np.int64).reshape(-1, 1)
        held = np.array([self._array(stream, part).shape[0] for part in ("values", "stamps_ns")], np.int64)
        rows = np.array([rows for _, rows in self._spans(stream, None)], np.int64).reshape(-1, 1)
        return np.clip(stops - held, 0, rows)

    def array(self, stream: str) -> zarr.Array:
        """The zarr array of a stream's values, unused rows included, as plain `zarr.open` shows it."""
        return self._array(stream, "values")

    def _rows(self, stream: str, part: str, episodes: Sequence[int] | None) -> np.ndarray:
        spans = self._spans(stream, episodes)
        array = self._array(stream, part)
        rows = np.empty((sum(count for _, count in spans), *array.shape[1:]), array.dtype)
        filled = 0
        for block in _blocks(spans, array):
            first, stop = block[0][0], sum(block[-1])
            if stop > array.shape[0]:
                raise StoreError(
                    f"{array.store_path}: found {array.shape[0]} rows, wanted {stop}; run the gate on this store"
                )
            raw = np.asarray(array[first:stop])
            for start, count in block:
                rows[filled : filled + count] = raw[start - first : start - first + count]
                filled += count
        return rows

    def _spans(self, stream: str, episodes: Sequence[int] | None) -> list[tuple[int, int]]:
        if stream not in self.streams:
            raise StoreError(f"{self.path}: found no stream {stream!r}, wanted one of {list(self.streams)}")
        records = self._records if episodes is None else [self._record(index) for index in episodes]
        return [record.spans[stream] for record in records]

    def _array(self, stream: str, part: str) -> zarr.Array:
        key = f"streams/{stream}/{part}"
        if key not in self._arrays:
            self._arrays[key] = zarr.open_array(self.path / key, mode="r")
        return self._arrays[key]

    def _record(self, index: int) -> EpisodeRecord:
        if not 0 <= index < len(self._records):
            raise IndexError(f"{self.path}: found episode index {index}, wanted 0 to {len(self._records) - 1}")
        return self._records[index]

    def _published(self, record: EpisodeRecord) -> None:
        self._records.append(record)
        self._arrays.clear()  # they may have grown


def _create_arrays(group: zarr.Group, spec: StreamSpec) -> None:
    dtype = np.dtype(spec.dtype)
    row_bytes = dtype.itemsize * int(np.prod(spec.shape))
    chunk = max(1, min(round(_CHUNK_SECONDS * spec.rate_hz), _CHUNK_BYTES // row_bytes))
    pictures = BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle") if dtype == np.uint8 else None
    # "c.3.0.0" instead of "c/3/0/0": one folder an array, which is quicker to write and to sync.
    keys: Any = {"name": "default", "separator": "."}
    group.create_array(
        f"{spec.name}/values",
        shape=(0, *spec.shape),
        chunks=(chunk, *spec.shape),
        dtype=dtype,
        compressors=pictures,
        chunk_key_encoding=keys,
        attributes=spec.to_dict(),
    )
    group.create_array(
        f"{spec.name}/stamps_ns",
        shape=(0,),
        chunks=(chunk,),
        dtype=np.int64,
        compressors=None,
        chunk_key_encoding=keys,
        attributes={"unit": "ns"},
    )


def _blocks(spans: list[tuple[int, int]], array: zarr.Array) -> Iterator[list[tuple[int, int]]]:
    """Spans that lie one behind the other, in portions that fit the memory: each is read with one call."""
    chunk = array.chunks[0]
    limit = max(1, _READ_BYTES // max(1, array.dtype.itemsize * int(np.prod(array.shape[1:]))))
    block: list[tuple[int, int]] = []
    for span in spans:
        if block and not (0 <= span[0] - sum(block[-1]) < chunk and sum(span) - block[0][0] <= limit):
            yield block
            block = []
        block.append(span)
    if block:
        yield block


def _copy(meta: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(meta))
