"""Writing episodes into a store so that each is there whole or not at all.

An episode's rows go into files that no finished episode shares, and count for nothing until its record, one small
folder `episodes/000017`, appears by a single rename. A writer killed at any moment leaves at most rows beyond the last
record; readers never look there, and the next writer overwrites them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zarr

from .chunks import ChunkedArray, write_rows
from .episode import Episode, StoreError, Stream, StreamSpec, check_episode
from .files import Files, LocalFiles
from .lock import WriterLock

_SYNC_THREADS = 16  # a file system gathers concurrent syncs into one: 2 ms an episode instead of 100
_GROW_FILES = 64  # arrays grow by this many files at a time: a resize rewrites the array's metadata


@dataclass(frozen=True)
class EpisodeRecord:
    """What is known of an episode without its arrays. spans: stream -> (first row, number of rows) in the arrays."""

    instruction: str
    meta: dict[str, Any]
    spans: dict[str, tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        return {
            "instruction": self.instruction,
            "meta": self.meta,
            "spans": {k: list(v) for k, v in self.spans.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EpisodeRecord:
        return cls(
            data["instruction"], data["meta"], {name: (int(a), int(n)) for name, (a, n) in data["spans"].items()}
        )


def parts_of(spec: StreamSpec) -> tuple[str, ...]:
    """Names of the arrays that hold a stream."""
    return ("values", "stamps_ns", "arrivals_ns") if spec.arrivals else ("values", "stamps_ns")


def read_records(files: Files) -> list[EpisodeRecord]:
    """Records of the finished episodes of a store, in order. StoreError if one is missing or unreadable."""
    records: list[EpisodeRecord] = []
    try:
        for number, content in files.numbered("episodes", "zarr.json"):
            if number != len(records):
                raise StoreError(
                    f"{files.place}/episodes: found {number:06d} where {len(records):06d} was wanted; "
                    "an episode's folder was removed"
                )
            try:
                records.append(EpisodeRecord.from_dict(json.loads(content)["attributes"]))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StoreError(
                    f"{files.place}/episodes/{number:06d}/zarr.json: found no readable episode record ({error!r}); "
                    "restore it from a copy"
                ) from error
    except FileNotFoundError as error:
        raise StoreError(f"{files.place}/episodes: found nothing ({error}), wanted the episodes' records") from error
    return records


class EpisodeWriter:
    """Appends episodes to the store at `path`; made by `TrajectoryStore.writer()` and used as a context manager.

    `published` is called with each new record. With `sync`, an episode is on the disk when `append` returns; without,
    a killed process loses nothing either, but a power failure may lose the last seconds. Raises StoreError on entering
    if another writer is at work.
    """

    def __init__(
        self,
        path: Path,
        streams: Mapping[str, StreamSpec],
        published: Callable[[EpisodeRecord], None],
        sync: bool = True,
        ordered: bool = True,
    ) -> None:
        self._path, self._streams, self._published, self._sync, self._ordered = path, streams, published, sync, ordered
        self._lock: WriterLock | None = None
        self._pool = ThreadPoolExecutor(_SYNC_THREADS, "store-sync") if sync else None

    def __enter__(self) -> EpisodeWriter:
        self._lock = WriterLock(self._path / ".writer.lock")
        try:
            records = read_records(LocalFiles(self._path))
            for leftover in (self._path / "episodes").glob(".partial-*"):
                shutil.rmtree(leftover)
            group = zarr.open_group(self._path / "streams", mode="r+")
            parts = [(name, part) for name, spec in self._streams.items() for part in parts_of(spec)]
            self._arrays = {(name, part): _array(group, f"{name}/{part}") for name, part in parts}
            streams = LocalFiles(self._path / "streams")
            self._layouts = {part: ChunkedArray(streams, "/".join(part)).layout for part in parts}
        except BaseException:
            self._lock.release()
            self._lock = None
            raise
        self._count = len(records)
        self._ends = {name: sum(records[-1].spans[name]) if records else 0 for name in self._streams}
        return self

    def append(self, episode: Episode) -> int:
        """Write one episode and return its index. When this returns, readers see the episode.

        Raises StoreError, and writes nothing, if the episode is not as the store declares its streams.
        """
        if self._lock is None:
            raise StoreError(f"{self._path}: append on a closed writer; use `with store.writer() as writer:`")
        text = check_episode(episode, self._streams, f"{self._path}, new episode {self._count}", self._ordered)
        spans: dict[str, tuple[int, int]] = {}
        written: list[Path] = []
        for name in self._streams:
            stream = episode.streams[name]
            spans[name] = (self._next_start(name), len(stream.values))
            written += self._write(name, "values", stream.values, spans[name][0], self._encoded(name, stream))
            written += self._write(name, "stamps_ns", stream.stamps_ns, spans[name][0])
            if stream.arrivals_ns is not None:
                written += self._write(name, "arrivals_ns", stream.arrivals_ns, spans[name][0])
        if self._pool:  # the rows are on the disk before the record that counts them
            deque(self._pool.map(_sync, written), maxlen=0)
        # The record is read back from the checked text: what is published is what a later reader will see.
        record = EpisodeRecord(**json.loads(text), spans=spans)
        self._publish(record)
        index = self._count
        self._count += 1
        self._ends = {name: sum(span) for name, span in spans.items()}
        self._published(record)
        return index

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is None:
            return
        try:
            for (name, _), array in self._arrays.items():
                if array.shape[0] != self._ends[name]:
                    array.resize((self._ends[name], *array.shape[1:]))
        finally:
            if self._pool:
                self._pool.shutdown()
            self._lock.release()
            self._lock = None

    def _next_start(self, name: str) -> int:
        file = self._layouts[name, "values"].file_rows
        return -(-self._ends[name] // file) * file

    def _write(
        self, name: str, part: str, rows: np.ndarray, start: int, encoded: Sequence[bytes] | None = None
    ) -> list[Path]:
        array, layout = self._arrays[name, part], self._layouts[name, part]
        stop = start + -(-len(rows) // layout.file_rows) * layout.file_rows
        if stop > array.shape[0]:
            array.resize((stop + (_GROW_FILES - 1) * layout.file_rows, *array.shape[1:]))
        folder = self._path / "streams" / name / part
        return [*write_rows(folder, layout, start, rows, encoded), folder / "zarr.json", folder]

    def _encoded(self, name: str, stream: Stream) -> Sequence[bytes] | None:
        """What a lossy stream was read as, where that still is what its values say."""
        encoded, layout = stream.encoded, self._layouts[name, "values"]
        if encoded is None or encoded.codec != self._streams[name].codec or len(encoded.rows) != len(stream.values):
            return None
        found = np.empty((1, *layout.row_shape), layout.dtype)
        for data, row in zip(encoded.rows, stream.values, strict=True):
            layout.coder.decode(data, found)
            if not np.array_equal(found[0], row):
                return None
        return encoded.rows

    def _publish(self, record: EpisodeRecord) -> None:
        episodes = self._path / "episodes"
        partial = episodes / f".partial-{self._count:06d}"
        partial.mkdir(exist_ok=True)
        text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": record.to_dict()}, ensure_ascii=False)
        (partial / "zarr.json").write_text(text, encoding="utf-8")
        if self._sync:
            _sync(partial / "zarr.json")
            _sync(partial)
        os.rename(partial, episodes / f"{self._count:06d}")
        if self._sync:
            _sync(episodes)


def _array(group: zarr.Group, key: str) -> zarr.Array:
    array = group[key]
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{group.store_path}/{key}: found a group, wanted an array")
    return array


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
