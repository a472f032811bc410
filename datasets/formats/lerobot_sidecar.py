"""What a store knows and LeRobot has no place for, in meta/deixis.json of an exported set: read back, nothing is lost.

    env_spec   names, units and limits                   streams   feature -> StreamSpec
    meta       of the store                              episodes  meta of each

LeRobot does not look at it. The clocks stand in the data itself: the column `stamp_ns` is the raw control clock, and
`stamp_ns.FEATURE` the clock of a stream that has another; a row held for several control steps repeats its stamp.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..episode import StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM, EnvSpec, SpecError
from ..store import TrajectoryStore
from .metadata import read_object
from .options import FormatError

CLOCK = "stamp_ns"
VERSION = 1


def clock_column(feature: str) -> str:
    """The column with the own clock of a feature."""
    return f"{CLOCK}.{feature}"


@dataclass(frozen=True)
class Sidecar:
    """meta/deixis.json: the spec, the streams by feature, the store's meta, and that of each episode."""

    env_spec: EnvSpec
    streams: dict[str, StreamSpec]
    meta: dict[str, Any]
    episodes: list[dict[str, Any]]

    def declared(self, features: Iterable[str]) -> tuple[EnvSpec, dict[str, StreamSpec]]:
        """The spec and the streams of `features`, at the rates that are left: none is above the control rate."""
        control = self.env_spec.action.rate_hz
        streams = {key: _as_exported(self.streams[key], control) for key in features if key in self.streams}
        rates = {spec.name: spec.rate_hz for spec in streams.values()}
        cameras = tuple(
            replace(camera, rate_hz=rates[camera.stream]) for camera in self.env_spec.cameras if camera.stream in rates
        )
        proprio = replace(self.env_spec.proprio, rate_hz=rates.get(PROPRIO_STREAM, control))
        return replace(self.env_spec, cameras=cameras, proprio=proprio), streams


def _as_exported(spec: StreamSpec, control_hz: float) -> StreamSpec:
    codec = "png" if spec.lossy else spec.codec  # the pixels were lost once: not again
    return replace(spec, rate_hz=min(spec.rate_hz, control_hz), arrivals=False, codec=codec)


def write_sidecar(root: Path, store: TrajectoryStore, features: Mapping[str, str], episodes: Sequence[Any]) -> None:
    """Write meta/deixis.json. features: feature -> stream. episodes: meta of each."""
    record = {
        "version": VERSION,
        "env_spec": store.env_spec.to_dict(),
        "streams": {feature: store.streams[name].to_dict() for feature, name in features.items()},
        "meta": store.meta,
        "episodes": list(episodes),
    }
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    (root / "meta" / "deixis.json").write_text(text, encoding="utf-8")


def read_sidecar(root: Path, episodes: int) -> Sidecar | None:
    """meta/deixis.json, or None where there is none. FormatError where it is damaged or of another data set."""
    path = root / "meta" / "deixis.json"
    if not path.is_file():
        return None
    record = read_object(path)
    try:
        if record["version"] != VERSION:
            raise FormatError(f"{path}, version: found {record['version']!r}, wanted {VERSION}")
        streams = {str(key): StreamSpec.from_dict(spec) for key, spec in record["streams"].items()}
        sidecar = Sidecar(EnvSpec.from_dict(record["env_spec"]), streams, record["meta"], record["episodes"])
    except (KeyError, AttributeError, TypeError, SpecError) as error:
        raise FormatError(f"{path}: found {error!r}, wanted what a deixis export wrote; remove the file") from error
    metas = sidecar.episodes
    if not isinstance(metas, list) or len(metas) != episodes or not all(isinstance(meta, dict) for meta in metas):
        raise FormatError(
            f"{path}, episodes: found other than one object for each of {episodes} episodes; remove the file"
        )
    if not isinstance(sidecar.meta, dict) or ACTION_STREAM not in {spec.name for spec in streams.values()}:
        raise FormatError(f"{path}: found no meta or no stream {ACTION_STREAM!r}, wanted both; remove the file")
    return sidecar


def own_rows(stamps: np.ndarray) -> np.ndarray:
    """Rows at which a held stream changes: int64 [rows], the first of each run of equal stamps."""
    return np.flatnonzero(np.concatenate(([True], stamps[1:] != stamps[:-1])))
