"""The trajectory store: episodes of named streams, each with its own int64 nanosecond clock, in one zarr v3 folder.

    zarr.json                      format, version, EnvSpec, StreamSpecs, Tolerance and meta, as attributes "deixis"
    streams/<name>/values          [rows, ...] rows of all episodes, stored with the stream's codec (`codecs.py`)
    streams/<name>/stamps_ns       int64 [rows] their clock
    streams/<name>/arrivals_ns     int64 [rows] when they reached the recorder, where that was kept
    episodes/000017/zarr.json      a record: instruction, meta and, for each stream, its first row and number of rows

Plain `zarr.open` reads all of it. Each episode begins at a new file of each array, so there are unused rows between
episodes: the records say which rows count. An episode exists once its record does (see `recorder.py`). A file holds
four seconds of rows; where those are large it is a shard of small chunks, so that a window unpacks only a few of them.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from . import image_codec  # noqa: F401  (registers the codecs of images with zarr)
from .chunks import ChunkedArray
from .codecs import chunk_bytes, zarr_codecs
from .episode import Encoded, Episode, StoreError, Stream, StreamSpec, check_streams
from .files import Files, files_at, local_path
from .recorder import EpisodeRecord, EpisodeWriter, parts_of, read_records
from .spec import EnvSpec
from .tolerance import Tolerance

__all__ = ["Episode", "EpisodeWriter", "StoreError", "Stream", "StreamSpec", "TrajectoryStore"]

FORMAT, VERSION = "deixis trajectories", 1
_FILE_SECONDS = 4.0  # an episode of a few seconds is one file a stream
_FILE_BYTES = 1 << 28  # and a file of large images still has a size that any tool handles


class TrajectoryStore:
    """Episodes in a folder or, for reading, at a URL. Make one with `create`, read with `open`, write with `writer`.

    A store object sees the episodes that were finished when it was opened, and those written through it.

    Attributes: path (a Path, or the URL as a string); env_spec; streams (StreamSpec by name); tolerance; meta (JSON,
    about the whole store).
    """

    def __init__(
        self,
        files: Files,
        env_spec: EnvSpec,
        streams: Sequence[StreamSpec],
        tolerance: Tolerance,
        meta: dict[str, Any],
        records: list[EpisodeRecord],
    ) -> None:
        self.path: Any = Path(files.place) if files.local else files.place
        self.env_spec, self.tolerance, self.meta = env_spec, tolerance, meta
        self.streams = {spec.name: spec for spec in streams}
        self._files, self._records = files, records
        self._arrays: dict[str, ChunkedArray] = {}

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
        path, meta, tolerance = local_path(path), meta or {}, tolerance or Tolerance()
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
        """Open an existing store: a folder for reading (and, through `writer`, writing), a URL for reading.

        URLs are those that fsspec knows: "s3://bucket/store.zarr", "https://host/store.zarr", "memory://store.zarr".

        Raises StoreError if there is none, or its version is not known.
        """
        files = files_at(path)
        try:
            attributes = json.loads(files.read("zarr.json"))["attributes"]["deixis"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"{path}: found no deixis trajectory store ({error!r}), wanted one made by `collect`"
            ) from error
        found = (attributes.get("format"), attributes.get("version"))
        if found != (FORMAT, VERSION):
            raise StoreError(f"{path}: found format {found}, wanted {(FORMAT, VERSION)}; use the deixis that wrote it")
        try:
            return cls(
                files,
                EnvSpec.from_dict(attributes["env_spec"]),
                [StreamSpec.from_dict(spec) for spec in attributes["streams"]],
                Tolerance.from_dict(attributes["tolerance"]),
                attributes["meta"],
                read_records(files),
            )
        except KeyError as error:
            raise StoreError(
                f"{path}/zarr.json: missing attribute {error}; the file was changed, restore it"
            ) from error

    def writer(self, sync: bool = True, ordered: bool = True) -> EpisodeWriter:
        """The one writer: `with store.writer() as writer: writer.append(episode)`. StoreError if another is at work.

        `sync=False` leaves it to the system when rows reach the disk: many times faster on a busy disk, safe when the
        process is killed, not safe when the power fails. `ordered=False` takes clocks as they come, for imports: the
        gate then says what is wrong with them. A store at a URL is a StoreError.
        """
        if not self._files.local:
            raise StoreError(f"{self.path}: found a URL, which is read-only, wanted a folder; write into a local copy")
        return EpisodeWriter(self.path, self.streams, self._published, sync, ordered)

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
        values, stamps = self._rows(stream, "values", episodes), self._rows(stream, "stamps_ns", episodes)
        spec, encoded = self.streams[stream], None
        if spec.lossy:
            array = self._array(stream, "values")
            spans = self._spans(stream, episodes)
            rows = (row for first, count in spans for row in array.encoded_rows(first, first + count))
            encoded = Encoded(spec.codec, tuple(rows))
        return Stream(values, stamps, self._rows(stream, "arrivals_ns", episodes) if spec.arrivals else None, encoded)

    def stamps(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray:
        """The clock of `read_all`, int64 [rows] ns, without reading the values."""
        return self._rows(stream, "stamps_ns", episodes)

    def offsets(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray:
        """Row bounds of the episodes in `read_all`: int64 [E + 1]; episode e is rows offsets[e] to offsets[e + 1]."""
        return np.cumsum([0, *(rows for _, rows in self._spans(stream, episodes))], dtype=np.int64)

    def missing_rows(self, stream: str) -> np.ndarray:
        """Rows that each record counts and the arrays lack, int64 [E, 2] (values, stamps_ns): 0 in a sound store."""
        arrays = [self._array(stream, part) for part in ("values", "stamps_ns")]
        spans = self._spans(stream, None)
        missing = [[array.missing(first, first + rows) for array in arrays] for first, rows in spans]
        return np.array(missing, np.int64).reshape(-1, 2)

    def held_types(self, stream: str) -> tuple[np.dtype, tuple[int, ...], np.dtype]:
        """What the arrays of a stream really hold: dtype and shape of a row, and dtype of its clock."""
        values = self._array(stream, "values")
        return values.dtype, values.shape[1:], self._array(stream, "stamps_ns").dtype

    def array(self, stream: str) -> zarr.Array:
        """The zarr array of a stream's values, unused rows included, as plain `zarr.open` shows it."""
        self._spans(stream, [])  # is there such a stream
        if self._files.local:
            return zarr.open_array(self.path / f"streams/{stream}/values", mode="r")
        from .remote import open_remote_array

        return open_remote_array(self.path, f"streams/{stream}/values")

    def chunks(self, stream: str) -> ChunkedArray:
        """A stream's values by chunk; `first_rows` says where in it an episode begins."""
        self._spans(stream, [])
        return self._array(stream, "values")

    def first_rows(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray:
        """Rows of `chunks` (and `array`) at which the episodes begin: int64 [E]."""
        return np.array([first for first, _ in self._spans(stream, episodes)], np.int64)

    def _rows(self, stream: str, part: str, episodes: Sequence[int] | None) -> np.ndarray:
        spans = self._spans(stream, episodes)
        array = self._array(stream, part)
        stop = max((first + count for first, count in spans), default=0)
        if stop > array.shape[0]:
            raise StoreError(f"{array.where}: found {array.shape[0]} rows, wanted {stop}; run the gate on this store")
        total = sum(count for _, count in spans)
        try:
            rows = np.empty((total, *array.shape[1:]), array.dtype)
        except (MemoryError, ValueError) as error:
            raise StoreError(f"{array.where}: found {total} rows of {array.shape[1:]}: {error}") from error
        filled = 0
        for first, count in spans:
            array.read(first, first + count, rows[filled : filled + count])
            filled += count
        return rows

    def _spans(self, stream: str, episodes: Sequence[int] | None) -> list[tuple[int, int]]:
        if stream not in self.streams:
            raise StoreError(f"{self.path}: found no stream {stream!r}, wanted one of {list(self.streams)}")
        records = self._records if episodes is None else [self._record(index) for index in episodes]
        return [record.spans[stream] for record in records]

    def _array(self, stream: str, part: str) -> ChunkedArray:
        key = f"streams/{stream}/{part}"
        if key not in self._arrays:
            self._arrays[key] = ChunkedArray(self._files, key)
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
    row_bytes = dtype.itemsize * math.prod(spec.shape)
    seconds = max(1, min(round(_FILE_SECONDS * spec.rate_hz), _FILE_BYTES // row_bytes))
    chunk = max(1, min(seconds, chunk_bytes(spec.codec) // row_bytes))
    file = -(-seconds // chunk) * chunk
    # "c.3.0.0" instead of "c/3/0/0": one folder an array, which is quicker to write and to sync.
    keys: Any = {"name": "default", "separator": "."}
    group.create_array(
        f"{spec.name}/values",
        shape=(0, *spec.shape),
        chunks=(chunk, *spec.shape),
        shards=(file, *spec.shape) if file > chunk else None,
        dtype=dtype,
        chunk_key_encoding=keys,
        attributes=spec.to_dict(),
        **zarr_codecs(spec.codec, dtype),
    )
    for part in parts_of(spec)[1:]:
        group.create_array(
            f"{spec.name}/{part}",
            shape=(0,),
            chunks=(file,),
            dtype=np.int64,
            compressors=None,
            chunk_key_encoding=keys,
            attributes={"unit": "ns"},
        )


def _copy(meta: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(meta))
