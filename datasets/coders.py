"""From the rows of a chunk to bytes and back, for each of the codecs, without zarr's event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Coder(Protocol):
    """Of one chunk: `encode` rows (C order), `decode` bytes into rows; ValueError, RuntimeError if they do not fit."""

    def encode(self, rows: np.ndarray) -> bytes: ...
    def decode(self, data: bytes, out: np.ndarray) -> None: ...


def coder_of(codecs: Sequence[dict[str, Any]], dtype: np.dtype) -> Coder:
    """The coder that does what these zarr v3 codecs (as in zarr.json) do. Raises ValueError for others than deixis'."""
    names = [codec["name"] for codec in codecs]
    configurations = [codec.get("configuration") or {} for codec in codecs]
    if names in (["deixis.png"], ["deixis.jpeg"]):
        return ImageCoder(configurations[0].get("quality"))
    if names[:1] == ["bytes"] and (dtype.itemsize == 1 or configurations[0].get("endian") == "little"):
        if names == ["bytes"]:
            return RawCoder()
        if names == ["bytes", "blosc"]:
            return BloscCoder(configurations[1])
        if names == ["bytes", "zstd"]:
            return ZstdCoder(configurations[1])
    raise ValueError(f"codecs {names}")


class RawCoder:
    """Little-endian bytes as they are."""

    def encode(self, rows: np.ndarray) -> bytes:
        return rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes()

    def decode(self, data: bytes, out: np.ndarray) -> None:
        _check_size(len(data), out)
        out[...] = np.frombuffer(data, out.dtype.newbyteorder("<")).reshape(out.shape)


class BloscCoder:
    """Blosc with any of its compressors."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        import numcodecs.blosc

        numcodecs.blosc.use_threads = False  # our own threads decode side by side
        shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}[configuration["shuffle"]]
        options = {
            key: configuration[key] for key in ("cname", "clevel", "blocksize", "typesize") if key in configuration
        }
        self._blosc = numcodecs.blosc.Blosc(shuffle=shuffle, **options)

    def encode(self, rows: np.ndarray) -> bytes:
        return self._blosc.encode(rows.reshape(-1).view(np.uint8))

    def decode(self, data: bytes, out: np.ndarray) -> None:
        if len(data) < 16:
            raise ValueError(f"found {len(data)} bytes, wanted a Blosc buffer")
        _check_size(int.from_bytes(data[4:8], "little"), out)  # as its header says, before anything is unpacked
        self._blosc.decode(data, out)


class ZstdCoder:
    """Plain Zstandard."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        from numcodecs.zstd import Zstd

        self._zstd = Zstd(configuration["level"], configuration.get("checksum", False))

    def encode(self, rows: np.ndarray) -> bytes:
        return self._zstd.encode(rows)

    def decode(self, data: bytes, out: np.ndarray) -> None:
        _check_size(_zstd_size(data), out)
        self._zstd.decode(data, out)


class ImageCoder:
    """One frame [1, H, W, 3] as a PNG file, or as a JPEG file where there is a quality."""

    def __init__(self, quality: int | None) -> None:
        self._quality, self._form = quality, "PNG" if quality is None else "JPEG"

    def encode(self, rows: np.ndarray) -> bytes:
        from .image_codec import encode_image

        return encode_image(rows[0], self._quality)

    def decode(self, data: bytes, out: np.ndarray) -> None:
        from .image_codec import decode_image

        decode_image(data, self._form, out[0])


def _check_size(found: int, out: np.ndarray) -> None:
    if found != out.nbytes:
        raise ValueError(f"found {found} bytes of rows, wanted {out.nbytes}")


def _zstd_size(data: bytes) -> int:
    """Content size in the header of a Zstandard frame (RFC 8878, 3.1.1.1)."""
    header = data[:18].ljust(18, b"\0")
    single_segment, flag = header[4] >> 5 & 1, header[4] >> 6
    width = (single_segment, 2, 4, 8)[flag]
    if header[:4] != b"\x28\xb5\x2f\xfd" or width == 0:
        raise ValueError("found no Zstandard frame that tells its size")
    begin = 5 + (1 - single_segment) + (0, 1, 2, 4)[header[4] & 3]
    return int.from_bytes(header[begin : begin + width], "little") + (256 if width == 2 else 0)
