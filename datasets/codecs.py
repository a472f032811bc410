"""The codecs a stream can be stored with, by name, and what each is in zarr's words.

    raw       the bytes as they are
    lz4       Blosc LZ4: the quickest to read and to write
    zstd      Blosc Zstandard: smaller than lz4, about as quick to read
    png       images only, lossless: each frame is a PNG file
    jpeg:Q    images only, LOSSY: each frame is a JPEG file of quality Q (1 to 100) with colour at full resolution;
              "jpeg" alone is "jpeg:95"

All but jpeg give back every bit. `StreamSpec.lossy` and the store's own declaration say which streams are lossy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .spec import SpecError

LOSSLESS = ("raw", "lz4", "zstd", "png")
LZ4_LEVEL, ZSTD_LEVEL, JPEG_QUALITY = 5, 3, 95


def checked_codec(field: str, codec: Any, kind: str) -> str:
    """The codec's full name ("jpeg" -> "jpeg:95"). SpecError, naming `field`, if there is none or not for that kind."""
    wanted = f"wanted one of {[*LOSSLESS, 'jpeg:1', '...', 'jpeg:100']}"
    if codec == "jpeg":
        codec = f"jpeg:{JPEG_QUALITY}"
    if codec not in LOSSLESS and jpeg_quality(codec) is None:
        raise SpecError(f"{field}: found {codec!r}, {wanted}")
    if of_images(codec) and kind != "image":
        raise SpecError(f"{field}: found {codec!r} for a stream of kind {kind!r}, which is for images; take 'zstd'")
    return codec


def of_images(codec: str) -> bool:
    """Whether each row is an image file of its own."""
    return codec == "png" or codec.startswith("jpeg")


def is_lossy(codec: str) -> bool:
    """Whether what is read may differ from what was written."""
    return codec not in LOSSLESS


def jpeg_quality(codec: Any) -> int | None:
    """Q of "jpeg:Q", None of anything else."""
    name, _, quality = codec.partition(":") if isinstance(codec, str) else ("", "", "")
    if name != "jpeg" or not (quality.isascii() and quality.isdigit()) or str(int(quality)) != quality:
        return None
    return int(quality) if 1 <= int(quality) <= 100 else None


def zarr_codecs(codec: str, dtype: np.dtype) -> dict[str, Any]:
    """The arguments of `zarr.create_array` that store rows of `dtype` with that codec."""
    from zarr.codecs import BloscCodec, ZstdCodec

    from .image_codec import JpegCodec, PngCodec

    if codec == "raw":
        return {"compressors": None}
    if codec == "png":
        return {"serializer": PngCodec(), "compressors": None}
    if quality := jpeg_quality(codec):
        return {"serializer": JpegCodec(quality), "compressors": None}
    if dtype.itemsize > 1:  # Blosc first sorts the bytes of numbers by significance: that is what makes them repeat
        level = LZ4_LEVEL if codec == "lz4" else ZSTD_LEVEL
        return {"compressors": BloscCodec(typesize=dtype.itemsize, cname=codec, clevel=level, shuffle="shuffle")}  # type: ignore[arg-type]
    if codec == "lz4":
        return {"compressors": BloscCodec(typesize=1, cname="lz4", clevel=LZ4_LEVEL, shuffle="noshuffle")}
    return {"compressors": ZstdCodec(level=ZSTD_LEVEL)}


def chunk_bytes(codec: str) -> int:
    """Rows are encoded together up to so many bytes: few, so that a window unpacks little; more where it saves much."""
    if of_images(codec):
        return 1
    return 1 << 20 if codec == "zstd" else 1 << 18
