"""What is declared of a robot that is known from recordings alone: action limits, names of dimensions, streams."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..episode import StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM, ActionSpec, CameraSpec, EnvSpec, ProprioSpec, camera_stream
from .importing import checked_name
from .options import FormatError

UNSTATED = "unstated"
WIDENING = 0.05  # of the recorded range, on each side: the recording did not go to the limits of the robot


class ActionRange:
    """Least and greatest action of each dimension over all recorded rows. NaN and infinity do not count."""

    def __init__(self, width: int) -> None:
        self.low, self.high = np.full(width, np.inf), np.full(width, -np.inf)

    def update(self, actions: np.ndarray) -> None:
        """Take in more rows [T, A]."""
        finite = np.isfinite(actions)
        self.low = np.minimum(self.low, np.where(finite, actions, np.inf).min(0, initial=np.inf))
        self.high = np.maximum(self.high, np.where(finite, actions, -np.inf).max(0, initial=-np.inf))

    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Limits that hold all recorded actions with room: low and high, one number a dimension.

        A dimension that never moved gets 1 on each side, one that was never finite gets -1 and 1.
        """
        seen = self.low <= self.high
        low, high = np.where(seen, self.low, 0.0), np.where(seen, self.high, 0.0)
        room = np.where(high > low, WIDENING * (high - low), np.maximum(1.0, 1e-6 * np.abs(low)))
        return tuple(map(float, low - room)), tuple(map(float, high + room))


def camera_name(key: str, where: str) -> str:
    """Short name of a camera from the part of its key that names it: `images.top/left` is top_left."""
    return checked_name(re.sub(r"[./]", "_", key), where)


def named_once(cameras: Sequence[tuple[str, str]], where: str) -> dict[str, str]:
    """(short name, key) pairs as a mapping; FormatError where two keys give one name."""
    found: dict[str, str] = {}
    for name, key in cameras:
        if name in found:
            raise FormatError(f"{where}: found {found[name]!r} and {key!r}, which both name a camera {name!r}")
        found[name] = key
    return found


def dimension_names(prefix: str, width: int, names: Any) -> tuple[str, ...]:
    """One name for each of `width` dimensions: those in `names`, or `prefix` and a number where it has none that fit.

    names: a list of strings, or, as LeRobot writes it, a mapping of which one value is that list, or with a key for
    each dimension.
    """
    if isinstance(names, Mapping):
        lists = [value for value in names.values() if isinstance(value, Sequence) and not isinstance(value, str)]
        names = lists[0] if len(lists) == 1 else list(names)
    usable = (
        isinstance(names, Sequence)
        and not isinstance(names, str)
        and len(names) == width
        and all(isinstance(name, str) and name for name in names)
        and len(set(names)) == width
    )
    if usable:
        return tuple(names)
    return (prefix,) if width == 1 else tuple(f"{prefix}_{i}" for i in range(width))


def declared_robot(
    env_id: str,
    cameras: Mapping[str, tuple[int, int]],
    proprio: Sequence[str],
    action: Sequence[str],
    limits: tuple[tuple[float, ...], tuple[float, ...]],
    rate_hz: float,
) -> EnvSpec:
    """The EnvSpec of a robot whose streams all have one rate. cameras: short name -> height, width. Units unstated."""
    return EnvSpec(
        env_id,
        tuple(CameraSpec(name, height, width, rate_hz) for name, (height, width) in cameras.items()),
        ProprioSpec(tuple(proprio), (UNSTATED,) * len(proprio), rate_hz),
        ActionSpec(tuple(action), (UNSTATED,) * len(action), *limits, rate_hz),
    )


def declared_streams(
    env_spec: EnvSpec, privileged: Mapping[str, tuple[str, tuple[int, ...]]], clock: str
) -> list[StreamSpec]:
    """The streams of `declared_robot`, and privileged ones: stream -> dtype, shape of a row."""
    rate = env_spec.action.rate_hz
    return [
        *(
            StreamSpec(camera_stream(camera.name), "uint8", (camera.height, camera.width, 3), rate, "image", "1", clock)
            for camera in env_spec.cameras
        ),
        StreamSpec(PROPRIO_STREAM, "float32", (env_spec.proprio.dim,), rate, "proprio", UNSTATED, clock),
        StreamSpec(ACTION_STREAM, "float32", (env_spec.action.dim,), rate, "action", UNSTATED, clock),
        *(
            StreamSpec(name, dtype, shape, rate, "privileged", UNSTATED, clock)
            for name, (dtype, shape) in privileged.items()
        ),
    ]
