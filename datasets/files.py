"""The files of a store, wherever it lies: a local folder, or (see `remote.py`) a URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .episode import StoreError


class Files(Protocol):
    """Files by name, relative to the place of the store. A file that is not there is a FileNotFoundError.

    place: the folder, or the URL, as error messages show it. local: whether it is a folder of this machine.
    """

    @property
    def place(self) -> str: ...
    @property
    def local(self) -> bool: ...
    def read(self, name: str) -> bytes: ...
    def read_range(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes from `start` on, which counts from the file's end where it is negative."""
        ...

    def numbered(self, folder: str, name: str) -> Iterator[tuple[int, bytes]]:
        """(number, content) of `folder/000000/name`, `folder/000001/name`, ... as far as they are there, in order."""
        ...


class LocalFiles:
    """Files in a folder."""

    local = True

    def __init__(self, folder: str | Path) -> None:
        self.place = os.fspath(folder)

    def read(self, name: str) -> bytes:
        with open(f"{self.place}/{name}", "rb", buffering=0) as file:
            return file.read()

    def read_range(self, name: str, start: int, length: int) -> bytes:
        file = os.open(f"{self.place}/{name}", os.O_RDONLY)
        try:
            if start < 0:
                start = max(0, os.fstat(file).st_size + start)
            return os.pread(file, length, start)
        finally:
            os.close(file)

    def numbered(self, folder: str, name: str) -> Iterator[tuple[int, bytes]]:
        for number in sorted(entry.name for entry in os.scandir(f"{self.place}/{folder}") if entry.name.isdigit()):
            yield int(number), self.read(f"{folder}/{number}/{name}")


def is_url(path: str | Path) -> bool:
    """Whether `path` names a place by URL that is no local folder."""
    return isinstance(path, str) and "://" in path and urlsplit(path).scheme not in ("", "file")


def files_at(path: str | Path) -> Files:
    """The files of the store at `path`: a folder, "file://...", or a URL that fsspec knows.

    Raises StoreError if what the URL needs is not installed.
    """
    if is_url(path):
        from .remote import RemoteFiles

        return RemoteFiles(str(path))
    return LocalFiles(local_path(path))


def local_path(path: str | Path) -> Path:
    """The folder that `path`, plain or "file://...", names. StoreError if it is another URL: those are read-only."""
    if is_url(path):
        raise StoreError(f"{path}: found a URL, which is read-only, wanted a folder; write there and upload it")
    if isinstance(path, str) and path.startswith("file://"):
        return Path(url2pathname(urlsplit(path).path))
    return Path(path)
