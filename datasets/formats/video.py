"""Frames out of and into mp4 files, through PyAV: every frame is where the clock says, or nothing is read at all."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .importing import checked_size
from .options import FormatError

GRID = 0.25  # how far a frame may lie from where it should, in periods

CODECS = {"h264": ("libx264", {"crf": "18", "preset": "medium"}), "av1": ("libsvtav1", {"crf": "25", "preset": "8"})}
KEY_FRAME_INTERVAL = 2  # LeRobot's: any frame can be had by decoding two


def load_av() -> Any:
    """The module `av`; FormatError that says what to install where it is missing."""
    try:
        import av
    except ImportError as error:
        raise FormatError("LeRobot videos need PyAV: install the extra `deixis[formats]` (package `av`)") from error
    return av


def read_frames(path: Path, shape: tuple[int, int], begin_s: float, rows: int, fps: float, alone: bool) -> np.ndarray:
    """`rows` consecutive frames from `begin_s` seconds on, uint8 [rows, H, W, 3] RGB.

    shape: height and width that every frame must have. alone: the file holds these frames and no others.

    Raises FormatError where the file cannot be decoded, a frame is missing, damaged, of another size, or more than
    GRID periods from `begin_s + i / fps`.
    """
    checked_size(rows, 3 * shape[0] * shape[1], str(path))
    frames = np.empty((rows, *shape, 3), np.uint8)
    found, extra = 0, False
    for at_s, frame in _decoded(path, shape, begin_s, fps):
        if at_s < begin_s - GRID / fps:
            continue  # between the key frame and the first frame wanted
        if found == rows:
            extra = True
            break
        wanted_s = begin_s + found / fps
        if abs(at_s - wanted_s) > GRID / fps:
            raise FormatError(
                f"{path}, frame {found} of the episode: found it at {at_s:.6f} s, wanted {wanted_s:.6f} s at {fps:g} "
                "Hz; a frame was dropped or the declared rate is wrong"
            )
        frames[found] = frame.to_ndarray(format="rgb24")
        found += 1
    if found < rows or (alone and extra):
        raise FormatError(
            f"{path}: found {'more than ' if extra else ''}{found} frames from {begin_s:g} s on, wanted {rows}, one "
            "for each row; the video is cut short, or belongs to another episode"
        )
    return frames


def _decoded(path: Path, shape: tuple[int, int], begin_s: float, fps: float) -> Iterator[tuple[float, Any]]:
    """Time in seconds and frame, from the key frame before `begin_s` on."""
    av = load_av()
    try:
        # The demuxer is named: a playlist that calls itself .mp4 would open files of its own choice.
        with av.open(str(path.absolute()), format="mp4") as container:
            if not container.streams.video:
                raise FormatError(f"{path}: found no video stream, wanted one")
            stream = container.streams.video[0]
            _check_frame(path, stream, shape)
            if begin_s > 0:
                container.seek(max(0, int((begin_s - 0.5 / fps) / stream.time_base)), stream=stream)
            for frame in container.decode(stream):
                _check_frame(path, frame, shape)
                if frame.pts is None or frame.is_corrupt:
                    raise FormatError(f"{path}: found a damaged frame, wanted whole ones; fetch the file again")
                yield float(frame.pts * stream.time_base), frame
    except (av.FFmpegError, ValueError, OverflowError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{path}: found no mp4 video that can be decoded ({error}); fetch the file again") from error


def _check_frame(path: Path, frame: Any, shape: tuple[int, int]) -> None:
    if (frame.height, frame.width) != shape:
        raise FormatError(f"{path}: found frames of {frame.height, frame.width}, wanted {shape} (height, width)")


class VideoWriter:
    """Writes uint8 [T, H, W, 3] RGB frames, at `fps` from 0 on, into a new mp4 file. Lossy: yuv420p.

    codec: one of CODECS. Attributes: frames, bytes: written so far. A context manager.
    """

    def __init__(self, path: Path, shape: tuple[int, int], fps: float, codec: str) -> None:
        if codec not in CODECS:
            raise FormatError(f"video codec: found {codec!r}, wanted one of {sorted(CODECS)}")
        if shape[0] % 2 or shape[1] % 2:
            raise FormatError(f"{path}: found frames of {shape}, wanted even height and width; export images as PNG")
        av = load_av()
        self.frames = self.bytes = 0
        self._closed = False
        rate = Fraction(fps).limit_denominator(1_000_000)
        encoder, options = CODECS[codec]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._frame = av.VideoFrame.from_ndarray
        self._container = av.open(str(path.absolute()), "w", format="mp4")
        try:
            self._stream = self._container.add_stream(encoder, rate=rate, options=options)
        except (av.FFmpegError, ValueError) as error:
            self._container.close()
            raise FormatError(f"video codec {codec!r}: PyAV has no {encoder} here ({error}); take another") from error
        self._stream.height, self._stream.width = shape
        self._stream.pix_fmt = "yuv420p"
        self._stream.gop_size = KEY_FRAME_INTERVAL
        self._stream.time_base = self._period = 1 / rate

    def write(self, images: np.ndarray) -> None:
        """Append frames."""
        for image in images:
            frame = self._frame(np.ascontiguousarray(image), format="rgb24")
            frame.pts = self.frames
            frame.time_base = self._period  # the stream's own changes with the first packet
            self._mux(frame)
            self.frames += 1

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self.bytes += packet.size
            self._container.mux(packet)

    def close(self) -> None:
        """Write what the encoder still holds, and the file's index. Closing twice is closing once."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.frames:
                self._mux(None)
        finally:
            self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
