"""Stores at a URL, read-only, through fsspec: memory://, http(s)://, s3:// and whatever else fsspec has a driver for.

Nothing is listed, because a plain web server cannot: episodes are asked for by number, many at once, until one is
missing. A server that does not know byte ranges is understood too, at the price of whole files.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zarr

from .episode import StoreError

_CONCURRENT = 16  # requests at once: what hides the latency of an object store


class RemoteFiles:
    """Files below a URL.

    Raises StoreError if fsspec or the URL's driver is not installed, and where a request fails for another reason than
    that the file is missing.
    """

    local = False

    def __init__(self, url: str) -> None:
        self.place = url.rstrip("/")
        try:
            from fsspec.core import url_to_fs

            self._system, root = url_to_fs(self.place)
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"{url}: {error}; install deixis[remote], or the fsspec driver of that protocol"
            ) from error
        self._root = root.rstrip("/")

    def read(self, name: str) -> bytes:
        return self._cat(name, None, None)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        found = self._cat(name, start, start + length if start >= 0 else None)
        if len(found) <= length:
            return found
        # The server does not know ranges and sent the whole file.
        return found[start:][:length] if start < 0 else found[start : start + length]

    def numbered(self, folder: str, name: str) -> Iterator[tuple[int, bytes]]:
        with ThreadPoolExecutor(_CONCURRENT) as pool:
            first = 0
            while True:
                numbers = range(first, first + 4 * _CONCURRENT)
                found = list(pool.map(self._read_or_none, (f"{folder}/{number:06d}/{name}" for number in numbers)))
                yield from ((number, content) for number, content in zip(numbers, found, strict=True) if content)
                if found[-1] is None:
                    return
                first = numbers.stop

    def _read_or_none(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def _cat(self, name: str, start: int | None, end: int | None) -> bytes:
        try:
            return self._system.cat_file(f"{self._root}/{name}", start=start, end=end)
        except FileNotFoundError:
            raise
        except Exception as error:  # each driver has its own errors
            raise StoreError(
                f"{self.place}/{name}: the request failed ({error!r}); try again, or copy the store"
            ) from error


def open_remote_array(url: str, key: str) -> zarr.Array[Any]:
    """The zarr array `key` of the store at a URL, for reading."""
    from zarr.storage import FsspecStore

    return zarr.open_array(FsspecStore.from_url(url, read_only=True), path=key, mode="r")
