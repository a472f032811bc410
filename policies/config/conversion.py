"""Configurations as nested plain values, and back with every field checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

ConfigT = TypeVar("ConfigT")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain dictionaries and lists, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(asdict(config))


def from_dict(kind: type[ConfigT], values: Mapping[str, Any], where: str = "config") -> ConfigT:
    """Build a configuration from nested dictionaries; the inverse of `to_dict`.

    Args:
        kind: the dataclass to build.
        values: field name -> value. Absent fields keep their defaults.
        where: how errors call this place.

    Raises:
        ValueError: an unknown field (the nearest valid one is named) or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: found {type(values).__name__}, wanted a mapping of {kind.__name__} fields")
    types = get_type_hints(kind)
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            near = get_close_matches(str(name), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"valid fields: {', '.join(names)}"
            raise ValueError(f"{where}.{name}: unknown field; {hint}")
    return kind(**{name: _checked(types[name], value, f"{where}.{name}") for name, value in values.items()})


def _checked(wanted: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `wanted`, or an error that names `where`."""
    if is_dataclass(wanted):
        return from_dict(wanted, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where}: found {value!r}, wanted one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        item_types = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(item_types) == len(value):
            return tuple(
                _checked(t, v, f"{where}[{i}]") for i, (t, v) in enumerate(zip(item_types, value, strict=True))
            )
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _checked(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if wanted is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if origin is None and type(value) is wanted:
        return value
    name = getattr(wanted, "__name__", None) if origin is None else None
    raise ValueError(f"{where}: found {value!r} ({type(value).__name__}), wanted {name or wanted}")
