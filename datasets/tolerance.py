"""How far clocks and values may stray before they count as wrong: declared with each store, in no check hidden."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .spec import SpecError


@dataclass(frozen=True)
class Tolerance:
    """Thresholds of the gate and of alignment. A period is 1 / (the stream's declared rate).

    rate: largest relative difference of the measured (median) rate from the declared rate.
    jitter: largest deviation of one interval from the period, in periods.
    stall: an interval of at least this many periods is a stall or dropped rows.
    border: largest difference of two streams' begin or end in one episode, in periods of the slower one.
    align: oldest row an observation may use, in periods of that stream.
    limit: how far an action may pass its limits, relative to the width of the limits.
    """

    rate: float = 0.02
    jitter: float = 0.25
    stall: float = 1.75
    border: float = 1.25
    align: float = 1.25
    limit: float = 1e-6

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise SpecError(f"Tolerance.{field.name}: found {value!r}, wanted a finite number, 0 or more")

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tolerance:
        """Inverse of `to_dict`. Raises SpecError on a missing or unknown key."""
        wanted = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or set(data) != wanted:
            raise SpecError(f"Tolerance: found {data!r}, wanted a mapping with exactly the keys {sorted(wanted)}")
        return cls(**data)
