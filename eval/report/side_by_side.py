"""Several runs in one view: their rates beside each other, and differences over the episodes that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...envs.conditions import WORLDS, meaning
from ..comparison import Comparison
from ..results import EpisodeRecord
from ..versus import compare_records
from .rows import interval

SCALES = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class JudgedRun:
    """A run by its name, with its episodes and their summary."""

    name: str
    records: list[EpisodeRecord]
    summary: dict[str, Any]


@dataclass(frozen=True)
class Differences:
    """Of one run to another, over the episodes that both have.

    run, base: their names. by_condition: condition -> run - base, each with how it went for either.
    shared: how many episodes. scale: largest difference that the chart has to show.
    """

    run: str
    base: str
    by_condition: dict[str, Comparison]
    shared: int
    scale: float


def rates(runs: Sequence[JudgedRun]) -> dict[str, list[dict[str, Any]]]:
    """Groups of rows, a row for each run, of what at least two runs have: "all" tasks and each of them, "conditions",
    and those that are other "worlds"."""
    everything = [
        interval(run.name, run.summary["success_rate"], run.summary["ci95"], run.summary["episodes"]) for run in runs
    ]
    tasks = [{task: interval(run.name, **values) for task, values in run.summary["per_task"].items()} for run in runs]
    conditions = _groups(
        [
            {
                condition: interval(run.name, values["success_rate"], values["success_ci95"], values["episodes"])
                for condition, values in run.summary["conditions"].items()
            }
            for run in runs
        ]
    )
    return {
        "all": [{"label": "all tasks", "meaning": "", "rows": everything}, *_groups(tasks)],
        "conditions": [group for group in conditions if group["label"] not in ("correct", *WORLDS)],
        "worlds": [group for group in conditions if group["label"] in WORLDS],
    }


def _groups(found: Sequence[dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Rows by what they are of, from a dictionary for each run; what one run alone has is left out."""
    names = dict.fromkeys(name for rows in found for name in rows)
    by_name = {name: [rows[name] for rows in found if name in rows] for name in names}
    return [{"label": name, "meaning": meaning(name), "rows": rows} for name, rows in by_name.items() if len(rows) > 1]


def differences(runs: Sequence[JudgedRun]) -> list[Differences]:
    """Every run after the first, minus the first, condition by condition."""
    return [difference(run, runs[0]) for run in runs[1:]]


def difference(run: JudgedRun, base: JudgedRun) -> Differences:
    """Over the episodes of one suite, task, number, scene and condition; none is shared where the suites differ."""
    others = {_identity(record): record for record in base.records}
    shared = [(record, others[key]) for record in run.records if (key := _identity(record)) in others]
    found = {
        condition: compare_records([pair for pair in shared if pair[0].condition == condition])
        for condition in dict.fromkeys(record.condition for record, _ in shared)
    }
    reach = max((max(abs(one.low), abs(one.high)) for one in found.values()), default=0.0)
    return Differences(run.name, base.name, found, len(shared), next((s for s in SCALES if reach <= s), 1.0))


def _identity(record: EpisodeRecord) -> tuple[str, str, int, int, str]:
    """The seed makes the scene: episodes of one number are others where a version has changed how scenes are drawn."""
    return (record.suite, record.task, record.index, record.seed, record.condition)
