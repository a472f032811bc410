"""What an environment shows and what it can be told to do: frozen specs that travel with each store and each policy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

PROPRIO_STREAM = "proprio"
ACTION_STREAM = "action"
EXECUTED_STREAM = "executed"  # what was done, where that is not what the expert wanted
OBJECTS_STREAM = "privileged.objects"  # [M, 3] metres: where each object of the scene is, zeros past the last


class SpecError(ValueError):
    """A spec is malformed. The message names the spec, the field, what was found and what is wanted."""


def camera_stream(camera: str) -> str:
    """Name of the image stream of a camera: `front` -> `camera.front`."""
    return f"camera.{camera}"


def segmentation_stream(camera: str) -> str:
    """Name of the segmentation stream of a camera: `front` -> `segmentation.front`."""
    return f"segmentation.{camera}"


def points_stream(camera: str) -> str:
    """Name of the stream of known points in a camera's picture [K, 2], pixels: `front` -> `privileged.points.front`."""
    return f"privileged.points.{camera}"


@dataclass(frozen=True)
class ActionSpec:
    """Action dimensions of an environment.

    names, units: one string a dimension (`dx`, `metre`). low, high: finite limits in those units, low < high.
    rate_hz: how often an action is commanded; an action holds until the next one.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rate_hz: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _names("ActionSpec.names", self.names))
        object.__setattr__(self, "units", _strings("ActionSpec.units", self.units))
        object.__setattr__(self, "low", _floats("ActionSpec.low", self.low))
        object.__setattr__(self, "high", _floats("ActionSpec.high", self.high))
        object.__setattr__(self, "rate_hz", checked_rate("ActionSpec.rate_hz", self.rate_hz))
        for field in ("units", "low", "high"):
            _same_length(f"ActionSpec.{field}", getattr(self, field), self.names)
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            if not low < high:
                raise SpecError(
                    f"ActionSpec dimension {name!r}: found low {low} and high {high}, wanted low < high; "
                    "give the limits in that order, or drop a dimension that cannot move"
                )

    @property
    def dim(self) -> int:
        """Number of action dimensions A."""
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ActionSpec:
        return cls(**checked_fields(cls, data))


@dataclass(frozen=True)
class CameraSpec:
    """One camera: its images are uint8 RGB [height, width, 3], upright, `rate_hz` times a second.

    `name` is the short name (`front`); its stream in a store and its key in an observation is `camera.front`.
    """

    name: str
    height: int
    width: int
    rate_hz: float

    def __post_init__(self) -> None:
        _name("CameraSpec.name", self.name)
        for field in ("height", "width"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise SpecError(f"CameraSpec.{field}: found {value!r}, wanted a positive int (pixels)")
        object.__setattr__(self, "rate_hz", checked_rate("CameraSpec.rate_hz", self.rate_hz))

    @property
    def stream(self) -> str:
        """`camera.<name>`, the image stream in a store and the key in an observation."""
        return camera_stream(self.name)

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CameraSpec:
        return cls(**checked_fields(cls, data))


@dataclass(frozen=True)
class ProprioSpec:
    """The robot's own state, float32 [P]. names, units: one string a dimension. rate_hz: readings a second."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    rate_hz: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", _names("ProprioSpec.names", self.names))
        object.__setattr__(self, "units", _strings("ProprioSpec.units", self.units))
        object.__setattr__(self, "rate_hz", checked_rate("ProprioSpec.rate_hz", self.rate_hz))
        _same_length("ProprioSpec.units", self.units, self.names)

    @property
    def dim(self) -> int:
        """Number of proprioceptive dimensions P."""
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProprioSpec:
        return cls(**checked_fields(cls, data))


@dataclass(frozen=True)
class EnvSpec:
    """What a policy must know of an environment: cameras, proprioception and actions.

    env_id: its Gymnasium id. look: how its pictures are drawn, where that can be chosen: a policy is judged by pictures
    that look as those it learned from.
    """

    env_id: str
    cameras: tuple[CameraSpec, ...]
    proprio: ProprioSpec
    action: ActionSpec
    look: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.env_id, str) or not self.env_id:
            raise SpecError(
                f"EnvSpec.env_id: found {self.env_id!r}, wanted a Gymnasium id such as 'deixis/Tabletop-v0'"
            )
        _instances("EnvSpec.cameras", self.cameras, CameraSpec)
        object.__setattr__(self, "cameras", tuple(self.cameras))
        _instances("EnvSpec.proprio", [self.proprio], ProprioSpec)
        _instances("EnvSpec.action", [self.action], ActionSpec)
        if len(set(self.camera_names)) != len(self.cameras):
            raise SpecError(f"EnvSpec.cameras: found names {list(self.camera_names)}, wanted each name once")

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    def camera(self, name: str) -> CameraSpec:
        """The camera of that short name; SpecError naming the known ones if there is none."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise SpecError(f"EnvSpec {self.env_id!r}: found no camera {name!r}, wanted one of {list(self.camera_names)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` of it is equal to this."""
        return _plain(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EnvSpec:
        """Inverse of `to_dict`. Raises SpecError on a missing, unknown or malformed field."""
        if isinstance(data, Mapping) and "look" not in data:  # there was nothing to choose when it was written
            data = {**data, "look": ""}
        values = checked_fields(cls, data)
        if not isinstance(values["look"], str):
            raise SpecError(f"EnvSpec.look: found {values['look']!r}, wanted a string")
        if not isinstance(values["cameras"], Sequence) or isinstance(values["cameras"], str):
            raise SpecError(f"EnvSpec.cameras: found {values['cameras']!r}, wanted a list of cameras")
        return cls(
            env_id=values["env_id"],
            cameras=tuple(CameraSpec.from_dict(camera) for camera in values["cameras"]),
            proprio=ProprioSpec.from_dict(values["proprio"]),
            action=ActionSpec.from_dict(values["action"]),
            look=values["look"],
        )


def _plain(spec: Any) -> dict[str, Any]:
    return {key: _plain_value(value) for key, value in asdict(spec).items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_value(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    return value


def checked_fields(cls: type, data: Any) -> dict[str, Any]:
    """The fields of dataclass `cls` in `data`, a mapping with exactly those keys; SpecError otherwise."""
    wanted = [field.name for field in fields(cls)]
    if not isinstance(data, Mapping):
        raise SpecError(f"{cls.__name__}: found {data!r}, wanted a mapping with the keys {wanted}")
    missing = [key for key in wanted if key not in data]
    unknown = [key for key in data if key not in wanted]
    if missing or unknown:
        raise SpecError(f"{cls.__name__}: missing keys {missing}, unknown keys {unknown}, wanted exactly {wanted}")
    return dict(data)


def _instances(field: str, values: Any, wanted: type) -> None:
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence):
        raise SpecError(f"{field}: found {values!r}, wanted a sequence of {wanted.__name__}")
    for value in values:
        if not isinstance(value, wanted):
            raise SpecError(f"{field}: found {value!r}, wanted {wanted.__name__}; for plain data use from_dict")


def _strings(field: str, values: Any) -> tuple[str, ...]:
    if isinstance(values, str | Mapping) or not isinstance(values, Sequence) or len(values) == 0:
        raise SpecError(f"{field}: found {values!r}, wanted one string a dimension, at least one")
    for value in values:
        if not isinstance(value, str) or not value:
            raise SpecError(f"{field}: found {value!r}, wanted a string that is not empty")
    return tuple(values)


def _names(field: str, values: Any) -> tuple[str, ...]:
    names = _strings(field, values)
    if len(set(names)) != len(names):
        raise SpecError(f"{field}: found {list(names)}, wanted each name once")
    return names


def _name(field: str, value: Any) -> None:
    if not isinstance(value, str) or not value or any(c in "./\\ " for c in value):
        raise SpecError(
            f"{field}: found {value!r}, wanted a short name without '.', '/', '\\' or spaces, such as 'front'"
        )


def _floats(field: str, values: Any) -> tuple[float, ...]:
    if isinstance(values, str | Mapping) or not hasattr(values, "__iter__"):
        raise SpecError(f"{field}: found {values!r}, wanted one number a dimension")
    for value in values:
        if not _is_number(value):
            raise SpecError(f"{field}: found {value!r}, wanted a finite number")
    return tuple(float(value) for value in values)


def checked_rate(field: str, value: Any) -> float:
    """`value` as a float if it is a positive finite rate in Hz; SpecError naming `field` otherwise."""
    if not _is_number(value) or float(value) <= 0:
        raise SpecError(f"{field}: found {value!r}, wanted a positive finite number (Hz)")
    return float(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool | str):
        return False
    try:
        return math.isfinite(value)
    except (TypeError, ValueError):
        return False


def _same_length(field: str, values: Sequence[Any], names: Sequence[str]) -> None:
    if len(values) != len(names):
        raise SpecError(f"{field}: found {len(values)} entries, wanted {len(names)}, one for each of {list(names)}")
