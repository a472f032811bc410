"""The gate: what must hold of clocks and values before a store may be trained on.

`check_store` reads every clock and every number (images are judged by their declared type alone) and reports findings
that name the episode, the stream and the row. All thresholds are the store's own `Tolerance`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

from .episode import StreamSpec
from .spec import ACTION_STREAM, ActionSpec
from .store import TrajectoryStore
from .tolerance import Tolerance


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. episode and row are None where the finding is about all of them."""

    severity: Literal["error", "warning"]
    episode: int | None
    stream: str
    row: int | None
    check: str
    found: str
    expected: str
    action: str

    def __str__(self) -> str:
        where = "all episodes" if self.episode is None else f"episode {self.episode}"
        row = "" if self.row is None else f", row {self.row}"
        return (
            f"{self.severity} [{self.check}] {where}, stream {self.stream!r}{row}: "
            f"found {self.found}, expected {self.expected}; {self.action}"
        )


@dataclass(frozen=True)
class GateReport:
    """What the gate found in a store of `episodes` episodes, read with `tolerance`."""

    store: str
    episodes: int
    tolerance: Tolerance
    findings: list[Finding] = field(default_factory=list)

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def ok(self) -> bool:
        """True if training may use the store: there may be warnings, but there is no error."""
        return not self.errors

    def to_json(self) -> str:
        record = {
            "store": self.store,
            "episodes": self.episodes,
            "ok": self.ok,
            "tolerance": self.tolerance.to_dict(),
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(record, indent=2, ensure_ascii=False)


class GateError(ValueError):
    """A store is refused. The message lists the first errors; `report` has all findings."""

    SHOWN = 5

    def __init__(self, report: GateReport) -> None:
        self.report = report
        errors = report.errors
        lines = [f"{report.store}: the gate refuses this store, {len(errors)} errors:", *map(str, errors[: self.SHOWN])]
        if len(errors) > self.SHOWN:
            lines.append(f"... and {len(errors) - self.SHOWN} more")
        super().__init__("\n  ".join(lines))


def check_store(store: TrajectoryStore) -> GateReport:
    """Run all checks and return the report; nothing is raised for what is found.

    Checks: rows (as many values and stamps as recorded), type (dtype and shape as declared), monotonic, duplicate,
    stall, spacing, rate, finite, limits, border (streams begin and end together), lengths (streams of one rate), empty.
    """
    report = GateReport(str(store.path), len(store), store.tolerance)
    if len(store) == 0:
        report.findings.append(
            Finding("error", None, "", None, "empty", "0 episodes", "at least one", "collect demonstrations first")
        )
        return report
    clocks: dict[str, list[np.ndarray]] = {}
    for name, spec in store.streams.items():
        missing = store.missing_rows(name)
        broken = list(_type_findings(store, spec)) + list(_row_findings(missing, name))
        report.findings.extend(broken)
        if broken:
            continue  # its rows cannot be read, or would be read as something else
        offsets = store.offsets(name)
        clocks[name] = np.split(store.stamps(name), offsets[1:-1])
        for episode, stamps in enumerate(clocks[name]):
            report.findings.extend(_clock_findings(stamps, spec, store.tolerance, episode))
        if spec.kind not in ("image", "segmentation"):
            values = store.read_all(name).values
            limits = store.env_spec.action if name == ACTION_STREAM else None
            report.findings.extend(_value_findings(values, offsets, spec, limits, store.tolerance))
    if ACTION_STREAM in clocks:
        for episode in range(len(store)):
            streams = {name: stamps[episode] for name, stamps in clocks.items()}
            report.findings.extend(_border_findings(streams, store.streams, store.tolerance, episode))
    return report


def require_ok(store: TrajectoryStore) -> GateReport:
    """The report of `check_store`, or GateError if it has errors: what training calls before it reads a store."""
    report = check_store(store)
    if not report.ok:
        raise GateError(report)
    return report


def _type_findings(store: TrajectoryStore, spec: StreamSpec) -> Iterator[Finding]:
    array = store.array(spec.name)
    if (array.dtype, array.shape[1:]) != (np.dtype(spec.dtype), spec.shape):
        found, expected = f"{array.dtype} {list(array.shape[1:])}", f"{spec.dtype} {list(spec.shape)} a row"
        yield Finding("error", None, spec.name, None, "type", found, expected, "write the stream as it is declared")
    clock = store.stamps(spec.name, [])
    if clock.dtype != np.int64 or clock.ndim != 1:
        found = f"{clock.dtype} with {clock.ndim} axes"
        yield Finding("error", None, spec.name, None, "type", found, "int64 [rows] ns", "keep the raw clock in ns")


def _row_findings(missing: np.ndarray, name: str) -> Iterator[Finding]:
    for episode in np.flatnonzero(missing.any(1)):
        found = f"{missing[episode, 0]} values and {missing[episode, 1]} stamps missing"
        yield Finding(
            "error", int(episode), name, None, "rows", found, "a value and a stamp for each recorded row",
            "restore the store from a copy, or record the episode again",
        )  # fmt: skip


def _clock_findings(stamps: np.ndarray, spec: StreamSpec, tolerance: Tolerance, episode: int) -> Iterator[Finding]:
    period = spec.period_ns
    intervals = np.diff(stamps)
    shown = f"{period / 1e6:.6g} ms"

    def at(row: int, check: str, expected: str, action: str) -> Finding:
        found = f"{intervals[row] / 1e6:.6g} ms after row {row}"
        return Finding("error", episode, spec.name, row + 1, check, found, expected, action)

    for row in np.flatnonzero(intervals < 0):
        yield at(
            int(row), "monotonic", "a later stamp", "two stamps are swapped or the clock was set back: mend the clock"
        )
    for row in np.flatnonzero(intervals == 0):
        yield at(int(row), "duplicate", "a later stamp", "a row was written twice: drop one of them")
    for row in np.flatnonzero(intervals >= tolerance.stall * period):
        advice = (
            f"a stall, or {round(intervals[row] / period) - 1} dropped rows: cut the episode here or record it again"
        )
        yield at(int(row), "stall", f"{shown}, below {tolerance.stall:g} periods", advice)
    near = (intervals > 0) & (intervals < tolerance.stall * period)
    for row in np.flatnonzero(near & (np.abs(intervals - period) > tolerance.jitter * period)):
        advice = "stamp rows where they are taken, or declare a larger tolerance.jitter"
        yield at(int(row), "spacing", f"{shown} +- {tolerance.jitter:g} periods", advice)
    if len(intervals) and (median := float(np.median(intervals))) > 0:
        rate = 1e9 / median
        if abs(rate / spec.rate_hz - 1) > tolerance.rate:
            found, expected = f"{rate:.6g} Hz (median)", f"{spec.rate_hz:g} Hz +- {100 * tolerance.rate:g} %"
            advice = "declare the rate that was recorded, or record at the declared rate"
            yield Finding("error", episode, spec.name, None, "rate", found, expected, advice)


def _value_findings(
    values: np.ndarray, offsets: np.ndarray, spec: StreamSpec, limits: ActionSpec | None, tolerance: Tolerance
) -> Iterator[Finding]:
    flat = values.reshape(len(values), -1)
    bad = ~np.isfinite(flat)
    yield from _first_of_each_episode(
        bad, flat, offsets, spec, "finite", lambda _: "finite numbers", "repair the sensor's reader or drop the episode"
    )
    if limits is not None:
        low, high = np.array(limits.low), np.array(limits.high)
        slack = tolerance.limit * (high - low)
        outside = ((flat < low - slack) | (flat > high + slack)) & ~bad
        yield from _first_of_each_episode(
            outside, flat, offsets, spec, "limits",
            lambda d: f"{limits.names[d]} from {low[d]:g} to {high[d]:g} {limits.units[d]}",
            "clip the command before it is executed and recorded, or declare the real limits",
        )  # fmt: skip


def _first_of_each_episode(
    bad: np.ndarray,
    flat: np.ndarray,
    offsets: np.ndarray,
    spec: StreamSpec,
    check: str,
    expected: Callable[[int], str],
    action: str,
) -> Iterator[Finding]:
    """One finding an episode for the rows of `flat` [rows, D] where `bad` holds, at the first of them."""
    rows = np.flatnonzero(bad.any(1))
    episodes = np.searchsorted(offsets, rows, side="right") - 1
    for episode in np.unique(episodes):
        of_episode = rows[episodes == episode]
        row = of_episode[0]
        dimension = int(np.flatnonzero(bad[row])[0])
        found = f"{flat[row, dimension]:g} in dimension {dimension} ({len(of_episode)} such rows)"
        local = int(row - offsets[episode])
        yield Finding("error", int(episode), spec.name, local, check, found, expected(dimension), action)


def _border_findings(
    clocks: dict[str, np.ndarray], specs: dict[str, StreamSpec], tolerance: Tolerance, episode: int
) -> Iterator[Finding]:
    """Every stream must begin and end with the actions. A row stands for one period: an end is last stamp + period."""
    action, action_period = clocks[ACTION_STREAM], specs[ACTION_STREAM].period_ns
    begin, end = action[0], action[-1] + action_period
    for name, stamps in clocks.items():
        if name == ACTION_STREAM:
            continue
        period = specs[name].period_ns
        slack = tolerance.border * max(period, action_period)
        expected = f"within {slack / 1e6:.6g} ms of the actions'"
        advice = "put all streams on one clock, and start and stop them together"
        stream_begin, stream_end = stamps[0], stamps[-1] + period
        if stream_end <= begin or stream_begin >= end:
            found = f"{stream_begin} to {stamps[-1]} ns"
            whole = f"an overlap with the actions, {action[0]} to {action[-1]} ns"
            yield Finding("error", episode, name, 0, "border", found, whole, advice)
        elif abs(stream_begin - begin) > slack:
            found = f"a begin {(stream_begin - begin) / 1e6:+.6g} ms from the actions'"
            yield Finding("error", episode, name, 0, "border", found, expected, advice)
        elif abs(stream_end - end) > slack:
            found = f"an end {(stream_end - end) / 1e6:+.6g} ms from the actions'"
            yield Finding("error", episode, name, len(stamps) - 1, "border", found, expected, advice)
        if specs[name].rate_hz == specs[ACTION_STREAM].rate_hz and (extra := len(stamps) - len(action)):
            # One row more or less is how some recorders end an episode; more is a sign of dropped rows.
            severity = "error" if abs(extra) > 1 else "warning"
            found, wanted = f"{len(stamps)} rows", f"{len(action)}, as many as actions, at the same rate"
            yield Finding(
                severity, episode, name, None, "lengths", found, wanted, "check the recorder for dropped rows"
            )
