"""What curation left out, step by step: for each drop the episode, the rows, the reason and its numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .pieces import Piece

SHOWN_DROPS = 10  # of each step, in the readable text; the JSON has all


@dataclass(frozen=True)
class Drop:
    """One thing that was left out.

    episode: index in the source. rows: (first, stop) of the action rows left out, stop not included; None where only a
    text was. numbers: what the decision was taken by.
    """

    episode: int
    rows: tuple[int, int] | None
    why: str
    numbers: Mapping[str, float | int | str] = field(default_factory=dict)

    def __str__(self) -> str:
        where = "" if self.rows is None else f", rows {self.rows[0]} to {self.rows[1] - 1}"
        numbers = ", ".join(f"{name} {_shown(value)}" for name, value in self.numbers.items())
        return f"episode {self.episode}{where}: {self.why}" + (f" ({numbers})" if numbers else "")


@dataclass(frozen=True)
class Outcome:
    """What a step leaves, what it drops, and what it has to say beside."""

    pieces: list[Piece]
    drops: list[Drop]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StepReport:
    """One step: its settings, episodes and action rows before and after it, its drops and notes."""

    step: str
    settings: dict[str, Any]
    episodes: tuple[int, int]
    rows: tuple[int, int]
    drops: list[Drop]
    notes: list[str]

    def __str__(self) -> str:
        (before, after), (rows_before, rows_after) = self.episodes, self.rows
        lines = [
            f"{self.step}: {before} -> {after} episodes, {rows_before} -> {rows_after} rows, {len(self.drops)} drops",
            *(f"  {note}" for note in self.notes),
            *(f"  {drop}" for drop in self.drops[:SHOWN_DROPS]),
        ]
        if len(self.drops) > SHOWN_DROPS:
            lines.append(f"  ... and {len(self.drops) - SHOWN_DROPS} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class CurationReport:
    """What `curate` did: source, destination, and a `StepReport` for each step that was on, in order."""

    source: str
    destination: str
    episodes: tuple[int, int]
    rows: tuple[int, int]
    steps: list[StepReport]

    def to_json(self) -> str:
        """Everything, as JSON. episodes and rows are [before, after]."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        (before, after), (rows_before, rows_after) = self.episodes, self.rows
        head = f"{self.source} -> {self.destination}: {before} -> {after} episodes, {rows_before} -> {rows_after} rows"
        return "\n".join([head, *map(str, self.steps)])


def _shown(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
