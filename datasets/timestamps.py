"""The gate: what must hold of clocks, values and content before a store may be trained on.

`check_store` reads everything and reports findings that name the episode, the stream and the row. All thresholds are
the store's own `Tolerance`. What is checked, and how, stands in `clocks.py` and `content.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .clocks import clock_findings
from .content import check_content
from .episode import StoreError, StreamSpec
from .findings import Finding, GateError, GateReport
from .motion import FrameCache
from .spec import ACTION_STREAM, ActionSpec
from .tolerance import Tolerance
from .trajectories import Trajectories

__all__ = ["Finding", "GateError", "GateReport", "check_store", "require_ok"]

_HARMLESS = ("border", "lengths")  # of a clock: its rows can still be compared with the others


def check_store(store: Trajectories, cache: FrameCache | None = None) -> GateReport:
    """Run all checks and return the report; nothing is raised for what is found.

    Checks: empty; type (dtype and shape as declared) and rows (as many values and stamps as recorded) of the arrays;
    finite and limits of the values; those of `clocks.clock_findings`; and those of `content.check_content`.
    cache: of frames that were read before, for whoever checks nearly the same data again and again.
    """
    report = GateReport(str(store.path), len(store), store.tolerance)
    report.synthetic.extend(name for name, spec in store.streams.items() if spec.clock == "synthetic")
    if len(store) == 0:
        report.findings.append(
            Finding("error", None, "", None, "empty", "0 episodes", "at least one", "collect demonstrations first")
        )
        return report
    readable = []
    for name, spec in store.streams.items():
        broken = list(_type_findings(store, spec)) or list(
            _row_findings(store.missing_rows(name), np.diff(store.offsets(name)), name)
        )
        report.findings.extend(broken)
        if not broken:  # else its rows cannot be read, or would be read as something else
            readable.append(name)
    report.findings.extend(clock_findings(store, readable))
    for name in readable:
        if (spec := store.streams[name]).kind not in ("image", "segmentation"):
            limits = store.env_spec.action if name == ACTION_STREAM else None
            values, offsets = store.read_all(name).values, store.offsets(name)
            report.findings.extend(_value_findings(values, offsets, spec, limits, store.tolerance))
    spoiled: dict[str, set[int]] = {}
    for finding in report.errors:
        if finding.episode is not None and finding.check not in _HARMLESS:
            spoiled.setdefault(finding.stream, set()).add(finding.episode)
    content = check_content(store, readable, spoiled, cache)
    report.findings.extend(content.findings)
    report.lags.update(content.lags)
    return report


def require_ok(store: Trajectories, checked: GateReport | None = None) -> GateReport:
    """The report of `check_store`, or GateError if it has errors: what training calls before it reads a store.

    checked: what the gate has just said; if it is of this store, it is not asked again.
    """
    if checked is None or (checked.store, checked.episodes) != (str(store.path), len(store)):
        checked = check_store(store)
    if not checked.ok:
        raise GateError(checked)
    return checked


def _type_findings(store: Trajectories, spec: StreamSpec) -> Iterator[Finding]:
    try:
        dtype, shape, clock = store.held_types(spec.name)
    except StoreError as error:
        yield Finding(
            "error", None, spec.name, None, "type", str(error), "arrays that can be read", "restore the store"
        )
        return
    if (dtype, shape) != (np.dtype(spec.dtype), spec.shape):
        found, expected = f"{dtype} {list(shape)}", f"{spec.dtype} {list(spec.shape)} a row"
        yield Finding("error", None, spec.name, None, "type", found, expected, "write the stream as it is declared")
    if clock != np.int64:
        found, advice = f"stamps of {clock}", "keep the raw clock in whole nanoseconds"
        yield Finding("error", None, spec.name, None, "type", found, "int64 [rows] ns", advice)


def _row_findings(missing: np.ndarray, lengths: np.ndarray, name: str) -> Iterator[Finding]:
    for episode in np.flatnonzero(missing.any(1) | (lengths == 0)):
        found = f"{missing[episode, 0]} values and {missing[episode, 1]} stamps missing"
        yield Finding(
            "error", int(episode), name, None, "rows", found if lengths[episode] else "no rows at all",
            "a value and a stamp for each recorded row", "restore the store from a copy, or record the episode again",
        )  # fmt: skip


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
