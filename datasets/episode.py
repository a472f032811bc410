"""One episode as arrays, the declaration of its streams, and the check at the store's border."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .codecs import checked_codec, is_lossy
from .spec import (
    ACTION_STREAM,
    PROPRIO_STREAM,
    EnvSpec,
    SpecError,
    camera_stream,
    checked_fields,
    checked_rate,
    segmentation_stream,
)

KINDS = ("image", "proprio", "action", "segmentation", "privileged")
CLOCKS = ("measured", "synthetic")


class StoreError(ValueError):
    """A store, or what is handed to it, is not as declared. The message names the place, what was found and wanted."""


@dataclass(frozen=True)
class Encoded:
    """Rows as a lossy codec has stored them, so that a copy of them loses nothing more."""

    codec: str
    rows: tuple[bytes, ...]


@dataclass
class Stream:
    """Rows and the clock they were taken at: values [T, ...], stamps_ns int64 [T] in nanoseconds.

    arrivals_ns: int64 [T], when each row reached the recorder, on the same clock; None where that was not kept.
    encoded: how the store holds `values`, given by lossy streams. It is written again where it still says the same as
    `values`, to a stream of the same codec.
    """

    values: np.ndarray
    stamps_ns: np.ndarray
    arrivals_ns: np.ndarray | None = None
    encoded: Encoded | None = field(default=None, repr=False)

    def part(self, start: int, stop: int) -> Stream:
        """Rows `start` to `stop`, as they are."""
        arrivals = None if self.arrivals_ns is None else self.arrivals_ns[start:stop]
        encoded = None if self.encoded is None else Encoded(self.encoded.codec, self.encoded.rows[start:stop])
        return Stream(self.values[start:stop], self.stamps_ns[start:stop], arrivals, encoded)


@dataclass
class Episode:
    """One episode: streams by name, the instruction in words, and `meta`, JSON (task, seed, scene, goal, success)."""

    streams: dict[str, Stream]
    instruction: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class StreamSpec:
    """Declaration of a stream: `dtype` and `shape` of one row, declared rate in Hz, kind (one of KINDS), and unit.

    clock: "measured", or "synthetic" where the source kept no clock and stamps were made from the declared rate: all
    that can be said of them is that nobody measured them.
    arrivals: the stream also keeps when each row reached the recorder.
    codec: how values are stored, one of those in `codecs.py`; only "jpeg:Q" loses anything, and `lossy` then says so.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    rate_hz: float
    kind: str
    unit: str
    clock: str = "measured"
    arrivals: bool = False
    codec: str = "lz4"

    def __post_init__(self) -> None:
        where = f"StreamSpec {self.name!r}"
        if not isinstance(self.name, str) or not self.name or self.name.startswith(".") or set("/\\ ") & set(self.name):
            raise SpecError(f"{where}: wanted a name without '/', '\\' or spaces, such as 'camera.front'")
        try:
            dtype = np.dtype(self.dtype)
        except TypeError as error:
            raise SpecError(f"{where}.dtype: found {self.dtype!r}, wanted a numpy dtype such as 'float32'") from error
        if dtype.kind not in "biuf":
            raise SpecError(f"{where}.dtype: found {self.dtype!r}, wanted a bool, int or float dtype")
        object.__setattr__(self, "dtype", dtype.name)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        if any(size <= 0 for size in self.shape):
            raise SpecError(f"{where}.shape: found {self.shape}, wanted positive sizes")
        object.__setattr__(self, "rate_hz", checked_rate(f"{where}.rate_hz", self.rate_hz))
        if self.kind not in KINDS:
            raise SpecError(f"{where}.kind: found {self.kind!r}, wanted one of {list(KINDS)}")
        if not isinstance(self.unit, str):
            raise SpecError(f"{where}.unit: found {self.unit!r}, wanted a string")
        if self.clock not in CLOCKS:
            raise SpecError(f"{where}.clock: found {self.clock!r}, wanted one of {list(CLOCKS)}")
        if not isinstance(self.arrivals, bool):
            raise SpecError(f"{where}.arrivals: found {self.arrivals!r}, wanted true or false")
        if self.kind == "image" and (dtype != np.uint8 or len(self.shape) != 3 or self.shape[2] != 3):
            raise SpecError(f"{where}: found {self.dtype} {self.shape}, wanted uint8 [H, W, 3] for an image")
        if self.kind == "segmentation" and (dtype != np.uint8 or len(self.shape) != 2):
            raise SpecError(f"{where}: found {self.dtype} {self.shape}, wanted uint8 [H, W] for a segmentation")
        object.__setattr__(self, "codec", checked_codec(f"{where}.codec", self.codec, self.kind))

    @property
    def period_ns(self) -> float:
        """Declared time between two rows, ns."""
        return 1e9 / self.rate_hz

    @property
    def lossy(self) -> bool:
        """Whether what is read may differ from what was written."""
        return is_lossy(self.codec)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "shape": list(self.shape), "lossy": self.lossy}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StreamSpec:
        """Inverse of `to_dict`. Raises SpecError on a missing, unknown or malformed field."""
        if not isinstance(data, Mapping):
            return cls(**checked_fields(cls, data))
        # Stores written before streams said so hold measured clocks without arrivals, compressed in this way.
        earlier = {"clock": "measured", "arrivals": False, "codec": "lz4" if data.get("dtype") == "uint8" else "raw"}
        fields = {**earlier, **data}
        lossy = fields.pop("lossy", False)
        spec = cls(**checked_fields(cls, fields))
        if lossy != spec.lossy:
            raise SpecError(
                f"StreamSpec {spec.name!r}.lossy: found {lossy!r}, wanted {spec.lossy} as for {spec.codec!r}"
            )
        return spec


def check_streams(streams: Sequence[StreamSpec], env_spec: EnvSpec) -> None:
    """Raise StoreError where the declared streams contradict each other or the environment's spec."""
    names = [spec.name for spec in streams]
    if len(set(names)) != len(names):
        raise StoreError(f"streams: found names {names}, wanted each name once")
    if ACTION_STREAM not in names:
        raise StoreError(f"streams: found {names}, wanted one named {ACTION_STREAM!r}: its clock is the control clock")
    wanted: dict[str, tuple[str, tuple[int, ...], float | None]] = {
        ACTION_STREAM: ("action", (env_spec.action.dim,), env_spec.action.rate_hz),
        PROPRIO_STREAM: ("proprio", (env_spec.proprio.dim,), env_spec.proprio.rate_hz),
    }
    for camera in env_spec.cameras:
        wanted[camera_stream(camera.name)] = ("image", (camera.height, camera.width, 3), camera.rate_hz)
        wanted[segmentation_stream(camera.name)] = ("segmentation", (camera.height, camera.width), None)
    for spec in streams:
        if spec.name not in wanted:
            if spec.kind != "privileged":
                raise StoreError(
                    f"stream {spec.name!r}: found kind {spec.kind!r}, but the spec of {env_spec.env_id!r} has only "
                    f"{sorted(wanted)}; name it so, or give it the kind 'privileged'"
                )
            continue
        kind, shape, rate_hz = wanted[spec.name]
        if (spec.kind, spec.shape) != (kind, shape) or (rate_hz is not None and spec.rate_hz != rate_hz):
            raise StoreError(
                f"stream {spec.name!r}: found kind {spec.kind!r}, shape {spec.shape}, {spec.rate_hz} Hz, wanted "
                f"{kind!r}, {shape}, {'any rate' if rate_hz is None else f'{rate_hz} Hz'} as {env_spec.env_id!r} says"
            )


def check_episode(episode: Episode, streams: Mapping[str, StreamSpec], where: str, ordered: bool = True) -> str:
    """Check that an episode is as declared and return its instruction and meta as JSON text.

    ordered: whether stamps must increase. What is recorded must; what is imported keeps the clock it came with, and the
    gate says what is wrong with it.

    Raises StoreError, beginning with `where`, for wrong stream names, dtypes or shapes, for a clock that is not int64
    or not strictly increasing, for rows and stamps of unequal number, and for meta that is not JSON.
    """
    missing, unknown = sorted(set(streams) - set(episode.streams)), sorted(set(episode.streams) - set(streams))
    if missing or unknown:
        raise StoreError(f"{where}: missing streams {missing}, undeclared streams {unknown}, wanted {sorted(streams)}")
    for name, spec in streams.items():
        _check_stream(episode.streams[name], spec, f"{where}, stream {name!r}", ordered)
    if not isinstance(episode.instruction, str):
        raise StoreError(
            f"{where}, instruction: found {episode.instruction!r}, wanted a string (empty if there is none)"
        )
    if not isinstance(episode.meta, dict):
        raise StoreError(f"{where}, meta: found {type(episode.meta).__name__}, wanted a dict")
    for key, value in episode.meta.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise StoreError(
                f"{where}, meta[{key!r}]: {error}; wanted plain JSON (str, int, finite float, list)"
            ) from error
    return json.dumps({"instruction": episode.instruction, "meta": episode.meta}, allow_nan=False)


def _check_stream(stream: Stream, spec: StreamSpec, where: str, ordered: bool) -> None:
    values, stamps, arrivals = stream.values, stream.stamps_ns, stream.arrivals_ns
    if not isinstance(values, np.ndarray) or values.dtype != np.dtype(spec.dtype):
        found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise StoreError(f"{where}: found values of {found}, wanted a numpy array of {spec.dtype}")
    if values.ndim == 0 or values.shape[1:] != spec.shape or len(values) == 0:
        wanted = ", ".join(["T", *map(str, spec.shape)])
        raise StoreError(f"{where}: found values of shape {values.shape}, wanted [{wanted}] with T >= 1")
    _check_clock(stamps, len(values), f"{where}: found stamps")
    if (arrivals is not None) != spec.arrivals:
        found, wanted = ("no arrivals", "some") if arrivals is None else ("arrivals", "none")
        raise StoreError(f"{where}: found {found}, wanted {wanted}, as its StreamSpec.arrivals declares")
    if arrivals is not None:
        _check_clock(arrivals, len(values), f"{where}: found arrivals")
    backward = np.flatnonzero(stamps[1:] <= stamps[:-1])
    if ordered and len(backward):
        row = int(backward[0]) + 1
        raise StoreError(
            f"{where}, row {row}: found stamp {stamps[row]} ns after {stamps[row - 1]} ns, wanted strictly increasing "
            "stamps; drop the repeated row or mend the recorder's clock"
        )


def _check_clock(clock: np.ndarray, rows: int, where: str) -> None:
    if not isinstance(clock, np.ndarray) or clock.dtype != np.int64:
        found = clock.dtype if isinstance(clock, np.ndarray) else type(clock).__name__
        raise StoreError(f"{where} of {found}, wanted an int64 numpy array in ns; do not store seconds")
    if clock.shape != (rows,):
        raise StoreError(f"{where} of shape {clock.shape}, wanted ({rows},), one for each row")
