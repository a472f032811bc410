"""Encoded pictures in and out: PNG and JPEG, their size checked before a pixel is decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from .options import FormatError

MAX_PIXELS = 64_000_000


def checked_picture(size: tuple[int, int], where: str) -> tuple[int, int]:
    """Height and width, if that is a picture and no bomb; FormatError otherwise."""
    if size[0] * size[1] > MAX_PIXELS:
        raise FormatError(f"{where}: found images of {size[0]} x {size[1]}, wanted at most {MAX_PIXELS} pixels")
    return size


def decode_image(data: bytes, shape: tuple[int, int] | None, where: str) -> np.ndarray:
    """A PNG or JPEG as uint8 [H, W, 3] RGB; grey becomes three equal channels, transparency is dropped.

    shape: the height and width it must have, None for any sane size. FormatError for another size, another format,
    samples that are not 8 bits (depth), and data that cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:  # reads the header alone
            size = (picture.height, picture.width)
            if shape is not None and size != shape:
                raise FormatError(f"{where}: found an image of {size}, wanted {shape} (height, width)")
            checked_picture(size, where)
            if picture.mode not in ("RGB", "RGBA", "L", "P"):
                raise FormatError(f"{where}: found an image of mode {picture.mode!r}, wanted 8-bit colour or grey")
            return np.asarray(picture.convert("RGB"))
    except FormatError:
        raise
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise FormatError(f"{where}: found no image that can be decoded ({error}), wanted PNG or JPEG") from error


def image_size(data: bytes, where: str) -> tuple[int, int]:
    """Height and width of a PNG or JPEG, from its header."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            return picture.height, picture.width
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise FormatError(f"{where}: found no image that can be decoded ({error}), wanted PNG or JPEG") from error


def encode_png(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] RGB as PNG, lossless; quick rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
