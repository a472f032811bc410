"""Writing episodes into a store so that each is there whole or not at all.

An episode's rows go into chunks that no finished episode shares, and count for nothing until its record, one small
folder `episodes/000017`, appears by a single rename. A writer killed at any moment leaves at most rows beyond the last
record; readers never look there, and the next writer overwrites them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zarr

from .episode import Episode, StoreError, StreamSpec, check_episode
from .lock import WriterLock

_SYNC_THREADS = 16  # a file system gathers concurrent syncs into one: 2 ms an episode instead of 100
_GROW_CHUNKS = 64  # arrays grow by this many chunks at a time: a resize rewrites the array's metadata


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


def read_records(path: Path) -> list[EpisodeRecord]:
    """Records of the finished episodes of the store at `path`, in order. StoreError if one is missing or unreadable."""
    try:
        names = sorted(entry.name for entry in os.scandir(path / "episodes") if entry.name.isdigit())
    except FileNotFoundError as error:
        raise StoreError(f"{path}/episodes: found nothing, wanted the episodes' records; restore the folder") from error
    records = []
    for index, name in enumerate(names):
        if int(name) != index:
            raise StoreError(
                f"{path}/episodes: found {name} where {index:06d} was wanted; an episode's folder was removed"
            )
        file = path / "episodes" / name / "zarr.json"
        try:
            records.append(EpisodeRecord.from_dict(json.loads(file.read_bytes())["attributes"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{file}: found no readable episode record ({error!r}); restore it from a copy") from error
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
    ) -> None:
        self._path, self._streams, self._published, self._sync = path, streams, published, sync
        self._lock: WriterLock | None = None
        self._pool = ThreadPoolExecutor(_SYNC_THREADS, "store-sync")

    def __enter__(self) -> EpisodeWriter:
        self._lock = WriterLock(self._path / ".writer.lock")
        try:
            records = read_records(self._path)
            for leftover in (self._path / "episodes").glob(".partial-*"):
                shutil.rmtree(leftover)
            group = zarr.open_group(self._path / "streams", mode="r+")
            parts = [(name, part) for name in self._streams for part in ("values", "stamps_ns")]
            with zarr.config.set({"array.write_empty_chunks": True}):  # a chunk of zeros is a file too: it is synced
                self._arrays = {(name, part): _array(group, f"{name}/{part}") for name, part in parts}
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
        text = check_episode(episode, self._streams, f"{self._path}, new episode {self._count}")
        spans: dict[str, tuple[int, int]] = {}
        written: list[Path] = []
        for name in self._streams:
            stream = episode.streams[name]
            spans[name] = (self._next_start(name), len(stream.values))
            written += self._write(name, "values", stream.values, spans[name][0])
            written += self._write(name, "stamps_ns", stream.stamps_ns, spans[name][0])
        if self._sync:
            deque(
                self._pool.map(_sync, written), maxlen=0
            )  # the rows are on the disk before the record that counts them
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
            self._pool.shutdown()
            self._lock.release()
            self._lock = None

    def _next_start(self, name: str) -> int:
        chunk = self._arrays[name, "values"].chunks[0]
        return -(-self._ends[name] // chunk) * chunk

    def _write(self, name: str, part: str, rows: np.ndarray, start: int) -> list[Path]:
        array = self._arrays[name, part]
        chunk = array.chunks[0]
        stop = start + -(-len(rows) // chunk) * chunk
        if stop > array.shape[0]:
            array.resize((stop + (_GROW_CHUNKS - 1) * chunk, *array.shape[1:]))
        whole_chunks = np.zeros(
            (stop - start, *rows.shape[1:]), rows.dtype
        )  # a part of a chunk would be read before written
        whole_chunks[: len(rows)] = rows
        array[start:stop] = whole_chunks
        folder = self._path / "streams" / name / part
        zeros = ".0" * (array.ndim - 1)
        chunks = [folder / f"c.{index}{zeros}" for index in range(start // chunk, stop // chunk)]
        return [*chunks, folder / "zarr.json", folder]

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
