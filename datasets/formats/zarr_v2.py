"""Arrays of a zarr v2 folder from elsewhere, judged by their headers before zarr opens them, and read in row order.

A zarr v2 header may name a codec that unpickles, or any size; a chunk that is missing reads as the fill value. Both
are refused here. Source: the zarr storage specification, version 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from .importing import MAX_EPISODE_BYTES, MAX_ROWS, checked_dtype, checked_name, parsed_object
from .options import FormatError

_CODECS = ("blosc", "zstd", "lz4", "gzip", "zlib", "bz2", "lzma")
_FILTERS = ("delta", "shuffle", "fixedscaleoffset", "quantize", "bitround", "astype")
_HEADER_BYTES = 1 << 20


def array_names(group: Path) -> list[str]:
    """Names of the arrays in a zarr v2 group. FormatError for links, odd names and groups within."""
    if not group.is_dir() or group.is_symlink():
        raise FormatError(f"{group}: found no folder there, wanted a zarr v2 group")
    found = sorted(entry for entry in group.iterdir() if not entry.name.startswith("."))
    for entry in found:
        checked_name(entry.name, str(group))
        if entry.is_symlink() or not (entry / ".zarray").is_file():
            raise FormatError(f"{entry}: found no zarr v2 array, wanted a folder with .zarray; a link is not followed")
    return [entry.name for entry in found]


class RowReader:
    """Rows of the zarr v2 array at `path`, in rising order: each chunk is decoded once and only the last one is held.

    convert: applied to each chunk's rows when they are decoded. Attributes: dtype, shape (rows first).

    Raises FormatError for a header that cannot be trusted: objects, unknown codecs, absurd chunks, no axis.
    """

    def __init__(self, path: Path, convert: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        self._path, self._convert, self._index, self._block = path, convert, -1, np.empty(0)
        header, where = _header(path), f"{path}/.zarray"
        self.dtype = _dtype(header, where)
        self.shape, self._chunks = _sizes(header, "shape", where), _sizes(header, "chunks", where)
        if len(self.shape) != len(self._chunks):
            raise FormatError(f"{where}: found shape {self.shape} and chunks {self._chunks}, wanted as many sizes")
        if self.shape[0] > MAX_ROWS or self.dtype.itemsize * math.prod(self._chunks) > MAX_EPISODE_BYTES >> 2:
            raise FormatError(
                f"{where}: found shape {self.shape} in chunks {self._chunks}, wanted at most {MAX_ROWS} rows in chunks "
                f"of at most {MAX_EPISODE_BYTES >> 2} bytes; the header is damaged"
            )
        _check_codecs(header, where)
        self._separator = header.get("dimension_separator", ".")
        if self._separator not in (".", "/"):
            raise FormatError(f"{where}, dimension_separator: found {self._separator!r}, wanted '.' or '/'")
        self._array: Any = None

    @property
    def chunk_rows(self) -> int:
        return self._chunks[0]

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start to stop, converted. FormatError for a chunk that is missing, a link, or cannot be decoded."""
        height, parts = self._chunks[0], []
        for index in range(start // height, -(-stop // height)):
            if index != self._index:
                self._block, self._index = self._decode(index), index
            first = index * height
            parts.append(self._block[max(start - first, 0) : stop - first])
        return np.concatenate(parts)

    def _decode(self, index: int) -> np.ndarray:
        self._check_files(index)
        try:
            if self._array is None:
                self._array = zarr.open_array(self._path, mode="r", zarr_format=2)
            height = self._chunks[0]
            block = np.asarray(self._array[index * height : (index + 1) * height])
        except (ValueError, TypeError, KeyError, OSError, RuntimeError, EOFError) as error:
            raise FormatError(
                f"{self._path}, rows of chunk {index}: cannot be decoded ({error}); copy the data set again"
            ) from error
        block = block.astype(self.dtype, copy=False)
        return block if self._convert is None else self._convert(block)

    def _check_files(self, index: int) -> None:
        """All chunk files of these rows are there, as files: zarr would take a missing one for the fill value."""
        counts = [-(-size // chunk) for size, chunk in zip(self.shape[1:], self._chunks[1:], strict=True)]
        for inner in np.ndindex(*counts):
            file = self._path / self._separator.join(map(str, (index, *inner)))
            if file.is_symlink() or not file.is_file():
                raise FormatError(
                    f"{file}: found no file there, wanted a chunk of rows, even if all are 0; copy the set again"
                )


def _header(path: Path) -> dict[str, Any]:
    file = path / ".zarray"
    if path.is_symlink() or file.is_symlink() or not file.is_file():
        raise FormatError(f"{file}: found no file there, wanted the header of a zarr v2 array")
    if file.stat().st_size > _HEADER_BYTES:
        raise FormatError(f"{file}: found {file.stat().st_size} bytes, wanted a header of at most {_HEADER_BYTES}")
    header = parsed_object(file.read_bytes(), str(file))
    if header.get("zarr_format") != 2:
        raise FormatError(f"{file}, zarr_format: found {header.get('zarr_format')!r}, wanted 2")
    return header


def _dtype(header: dict[str, Any], where: str) -> np.dtype:
    found = header.get("dtype")
    try:
        dtype = np.dtype(found) if isinstance(found, str) else None
    except TypeError:
        dtype = None
    if dtype is None:
        raise FormatError(f"{where}, dtype: found {found!r}, wanted a plain number such as '<f4'")
    return checked_dtype(dtype, where)


def _sizes(header: dict[str, Any], field: str, where: str) -> tuple[int, ...]:
    found = header.get(field)
    if not isinstance(found, list) or not found or any(type(size) is not int or size < 1 for size in found):
        raise FormatError(f"{where}, {field}: found {found!r}, wanted [rows, ...], each at least 1")
    return tuple(found)


def _check_codecs(header: dict[str, Any], where: str) -> None:
    filters = header.get("filters") or []
    for field, found, known in (("compressor", [header.get("compressor")], _CODECS), ("filters", filters, _FILTERS)):
        for codec in found if isinstance(found, list) else [found]:
            if codec is None and field == "compressor":
                continue
            if not isinstance(codec, dict) or codec.get("id") not in known:
                raise FormatError(
                    f"{where}, {field}: found {codec!r}, wanted one of {list(known)}; others may run code"
                )
