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
    offset: largest deviation of a stream's begin from where it usually is against the actions', in the same periods.
    drift: largest relative difference of a stream's clock speed from the actions'.
    align: oldest row an observation may use, in periods of that stream.
    limit: how far an action may pass its limits, relative to the width of the limits.
    delay: rows by which an action may come before the motion it causes: the robot's own latency (0: it moves at once).
    longest_delay: rows up to which delays are looked for.
    delay_confidence: nats (logarithm of the odds) from which a delay counts as found.
    frozen: equal rows, while the rest moves, from which a sensor counts as frozen.
    jump: how far a step of the proprioception may be from what the action calls for, in times the largest deviation
        that the store usually has (root mean square of all dimensions): more where hands slip off what they press.
    """

    rate: float = 0.02
    jitter: float = 0.25
    stall: float = 1.75
    border: float = 1.25
    offset: float = 0.4
    drift: float = 0.005
    align: float = 1.25
    limit: float = 1e-6
    delay: float = 0.0
    longest_delay: float = 4.0
    delay_confidence: float = 4.0
    frozen: float = 4.0
    jump: float = 4.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise SpecError(f"Tolerance.{field.name}: found {value!r}, wanted a finite number, 0 or more")

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tolerance:
        """Inverse of `to_dict`; what is absent keeps its default. Raises SpecError on an unknown key."""
        wanted = {field.name for field in fields(cls)}
        if not isinstance(data, Mapping) or set(data) - wanted:
            raise SpecError(f"Tolerance: found {data!r}, wanted a mapping with keys out of {sorted(wanted)}")
        return cls(**data)
