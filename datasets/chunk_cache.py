"""Decoded chunks kept in memory up to a limit, and rows gathered through them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

import numpy as np

from .chunks import ChunkedArray


class ChunkCache:
    """Arrays by key, the least recently used dropped first, so that together they stay within `limit` bytes.

    Threads may share one: a chunk that two of them want at once is decoded once. A limit of 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"ChunkCache: found a limit of {limit} bytes, wanted 0 or more")
        self.limit, self.held, self.loads = limit, 0, 0
        self._chunks: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._loading: dict[Hashable, Future[np.ndarray]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, load: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of `key`, from memory or else from `load()`. It must not be changed."""
        with self._lock:
            chunk = self._chunks.get(key)
            if chunk is not None:
                self._chunks.move_to_end(key)
                return chunk
            future = self._loading.get(key)
            ours = future is None
            if future is None:
                future = self._loading[key] = Future()
        if not ours:
            return future.result()
        try:
            chunk = load()
        except BaseException as error:
            with self._lock:
                del self._loading[key]
            future.set_exception(error)
            raise
        with self._lock:
            del self._loading[key]
            self.loads += 1
            if chunk.nbytes <= self.limit:
                self._chunks[key] = chunk
                self.held += chunk.nbytes
                while self.held > self.limit:
                    self.held -= self._chunks.popitem(last=False)[1].nbytes
        future.set_result(chunk)
        return chunk

    def rows(self, array: ChunkedArray, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows int64 [N] of `array` into `out` [N, ...], each chunk decoded at most once."""
        size = array.layout.chunk_rows
        numbers, places = rows // size, rows % size
        order = np.argsort(numbers, kind="stable")
        last, chunk = -1, np.empty(0)
        for index, number, place in zip(order.tolist(), numbers[order].tolist(), places[order].tolist(), strict=True):
            if number != last:
                chunk = self.get((array.where, number), lambda number=number: array.chunk(number))
                last = number
            out[index] = chunk[place]

    def __getstate__(self) -> dict[str, Any]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["limit"])  # another process has its own memory, and begins with none of it filled
