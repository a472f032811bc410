"""One episode as arrays, the declaration of its streams, and the check at the store's border."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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


class StoreError(ValueError):
    """A store, or what is handed to it, is not as declared. The message names the place, what was found and wanted."""


@dataclass
class Stream:
    """Rows and the clock they were taken at: values [T, ...], stamps_ns int64 [T] in nanoseconds."""

    values: np.ndarray
    stamps_ns: np.ndarray


@dataclass
class Episode:
    """One episode: streams by name, the instruction in words, and `meta`, JSON (task, seed, scene, goal, success)."""

    streams: dict[str, Stream]
    instruction: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class StreamSpec:
    """Declaration of a stream: `dtype` and `shape` of one row, declared rate in Hz, kind (one of KINDS), and unit."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    rate_hz: float
    kind: str
    unit: str

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
        if self.kind == "image" and (dtype != np.uint8 or len(self.shape) != 3 or self.shape[2] != 3):
            raise SpecError(f"{where}: found {self.dtype} {self.shape}, wanted uint8 [H, W, 3] for an image")
        if self.kind == "segmentation" and (dtype != np.uint8 or len(self.shape) != 2):
            raise SpecError(f"{where}: found {self.dtype} {self.shape}, wanted uint8 [H, W] for a segmentation")

    @property
    def period_ns(self) -> float:
        """Declared time between two rows, ns."""
        return 1e9 / self.rate_hz

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "rate_hz": self.rate_hz,
            "kind": self.kind,
            "unit": self.unit,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StreamSpec:
        """Inverse of `to_dict`. Raises SpecError on a missing, unknown or malformed field."""
        return cls(**checked_fields(cls, data))


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


def check_episode(episode: Episode, streams: Mapping[str, StreamSpec], where: str) -> str:
    """Check that an episode is as declared and return its instruction and meta as JSON text.

    Raises StoreError, beginning with `where`, for wrong stream names, dtypes or shapes, for a clock that is not int64
    and strictly increasing, for rows and stamps of unequal number, and for meta that is not JSON.
    """
    missing, unknown = sorted(set(streams) - set(episode.streams)), sorted(set(episode.streams) - set(streams))
    if missing or unknown:
        raise StoreError(f"{where}: missing streams {missing}, undeclared streams {unknown}, wanted {sorted(streams)}")
    for name, spec in streams.items():
        _check_stream(episode.streams[name], spec, f"{where}, stream {name!r}")
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


def _check_stream(stream: Stream, spec: StreamSpec, where: str) -> None:
    values, stamps = stream.values, stream.stamps_ns
    if not isinstance(values, np.ndarray) or values.dtype != np.dtype(spec.dtype):
        found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
        raise StoreError(f"{where}: found values of {found}, wanted a numpy array of {spec.dtype}")
    if values.ndim == 0 or values.shape[1:] != spec.shape or len(values) == 0:
        wanted = ", ".join(["T", *map(str, spec.shape)])
        raise StoreError(f"{where}: found values of shape {values.shape}, wanted [{wanted}] with T >= 1")
    if not isinstance(stamps, np.ndarray) or stamps.dtype != np.int64:
        found = stamps.dtype if isinstance(stamps, np.ndarray) else type(stamps).__name__
        raise StoreError(f"{where}: found stamps of {found}, wanted an int64 numpy array in ns; do not store seconds")
    if stamps.shape != (len(values),):
        raise StoreError(f"{where}: found stamps of shape {stamps.shape}, wanted ({len(values)},), one for each row")
    backward = np.flatnonzero(stamps[1:] <= stamps[:-1])
    if len(backward):
        row = int(backward[0]) + 1
        raise StoreError(
            f"{where}, row {row}: found stamp {stamps[row]} ns after {stamps[row - 1]} ns, wanted strictly increasing "
            "stamps; drop the repeated row or mend the recorder's clock"
        )
