"""PNG and JPEG as zarr v3 array-to-bytes codecs: each chunk is one frame, and each frame an image file.

They are found by plain `zarr.open` through the entry points `zarr.codecs` of an installed deixis, and once this module
is imported.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from zarr.abc.codec import ArrayBytesCodec
from zarr.registry import register_codec

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

PNG_LEVEL = 4  # of zlib: 9 is several times slower for two per cent


def encode_image(frame: np.ndarray, quality: int | None) -> bytes:
    """A frame, uint8 [H, W, 3], as a JPEG file of that quality, or as a PNG file where it is None."""
    file, image = io.BytesIO(), Image.fromarray(frame)
    if quality is None:
        image.save(file, "PNG", compress_level=PNG_LEVEL)
    else:
        image.save(file, "JPEG", quality=quality, subsampling=0)  # small coloured things survive
    return file.getvalue()


def decode_image(data: bytes, form: str, out: np.ndarray) -> None:
    """Read an image file of form "PNG" or "JPEG" into `out`, uint8 [H, W, 3].

    Raises ValueError if it is damaged, or an image of another size or mode: that is seen before pixels are unpacked.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=[form])
        if (image.height, image.width, image.mode) != (*out.shape[:2], "RGB"):
            raise ValueError(f"found {image.mode} {image.height} x {image.width}, wanted RGB {out.shape[:2]}")
        out[...] = np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"found {len(data)} bytes that are no whole {form} image ({error})") from error


@dataclass(frozen=True)
class _ImageCodec(ArrayBytesCodec):
    is_fixed_size: ClassVar[bool] = False  # pyright: ignore[reportIncompatibleVariableOverride]
    NAME: ClassVar[str]
    FORM: ClassVar[str]

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        chunk = chunk_grid.chunk_shape
        if dtype.to_native_dtype() != np.uint8 or len(chunk) != 4 or (chunk[0], chunk[3]) != (1, 3):
            raise ValueError(f"{self.NAME}: found chunks {chunk} of {dtype}, wanted uint8 (1, H, W, 3)")

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        frame = np.empty(chunk_spec.shape, np.uint8)
        decode_image(chunk_data.to_bytes(), self.FORM, frame[0])
        return chunk_spec.prototype.nd_buffer.from_numpy_array(frame)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        frame = np.ascontiguousarray(chunk_data.as_numpy_array()[0])
        return chunk_spec.prototype.buffer.from_bytes(encode_image(frame, getattr(self, "quality", None)))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError


@dataclass(frozen=True)
class PngCodec(_ImageCodec):
    """Lossless: chunks uint8 [1, H, W, 3] as PNG files."""

    NAME: ClassVar[str] = "deixis.png"
    FORM: ClassVar[str] = "PNG"

    @classmethod
    def from_dict(cls, data: Any) -> PngCodec:
        return cls()

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.NAME, "configuration": {}}


@dataclass(frozen=True)
class JpegCodec(_ImageCodec):
    """Lossy: chunks uint8 [1, H, W, 3] as JPEG files of quality 1 to 100."""

    quality: int

    NAME: ClassVar[str] = "deixis.jpeg"
    FORM: ClassVar[str] = "JPEG"

    @classmethod
    def from_dict(cls, data: Any) -> JpegCodec:
        quality = data.get("configuration", {}).get("quality")
        if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
            raise ValueError(f"{cls.NAME}: found quality {quality!r}, wanted a whole number from 1 to 100")
        return cls(quality)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.NAME, "configuration": {"quality": self.quality}}


register_codec(PngCodec.NAME, PngCodec)
register_codec(JpegCodec.NAME, JpegCodec)
