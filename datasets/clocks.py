"""Clocks: what the stamps of a stream say by themselves, and what the clocks of one episode say of each other.

Everything is judged against declared periods and the store's `Tolerance`. A stream whose declared rate is wrong is said
to be so once, and judged by its measured rate from there on. One finding stands for all rows of an episode and stream
that fail one check, at the first of them; gaps get one each.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .episode import StreamSpec
from .findings import Finding
from .spec import ACTION_STREAM
from .tolerance import Tolerance
from .trajectories import Trajectories, episode_clocks

_EXCHANGED = "exchange the stamps again, or sort rows by the time at which they were taken"
_ONE_CLOCK = "put all streams on one clock: correct this stream's stamps, or drop the episode"


@dataclass
class ClockReading:
    """The clock of one stream in one episode.

    begin, end: ns; a row stands for one period, so the end is the last stamp plus a period. speed: mean regular
    interval in periods, its standard error in `speed_error`. gaps: rows before an interval that is too long.
    """

    stamps: np.ndarray
    period: float
    begin: float = 0.0
    end: float = 0.0
    speed: float = 1.0
    speed_error: float = np.inf
    gaps: list[int] = field(default_factory=list)
    irregular: bool = False
    findings: list[Finding] = field(default_factory=list)


def clock_findings(data: Trajectories, names: Sequence[str]) -> list[Finding]:
    """Findings about the clocks of streams `names`, in all episodes.

    Checks: rate, negative, swapped, monotonic, duplicate, dropped, stall, jitter, drift, offset, border, lengths.
    """
    tolerance, specs = data.tolerance, {name: data.streams[name] for name in names}
    clocks = {name: episode_clocks(data, name) for name in names}
    findings, periods = [], {}
    for name, spec in specs.items():
        wrong = _rate_finding(clocks[name], spec, tolerance)
        findings += [wrong[1]] if wrong else []
        periods[name] = wrong[0] if wrong else spec.period_ns
    usual = _usual_offsets(clocks)
    read = [
        {n: _read(clocks[n][episode], specs[n], periods[n], tolerance, episode) for n in names}
        for episode in range(len(data))
    ]
    speeds = _usual_speeds(read)
    partners = {name: _partners(read, name) for name in names}
    for episode, readings in enumerate(read):
        for name, reading in readings.items():
            findings += reading.findings
            findings += _gap_findings(name, readings, tolerance, episode)
        foreign = [name for name in names if episode in partners[name]]
        findings += [_exchange_finding(episode, name, partners[name][episode]) for name in foreign]
        own = {name: reading for name, reading in readings.items() if name not in foreign}
        if ACTION_STREAM in own:
            declared = {name: specs[name].rate_hz for name in names if periods[name] == specs[name].period_ns}
            findings += _between(own, usual, speeds, declared, tolerance, episode)
    return findings


def _rate_finding(clocks: Sequence[np.ndarray], spec: StreamSpec, tolerance: Tolerance) -> tuple[float, Finding] | None:
    """The measured period (ns) and the finding, where most of the store's episodes disagree with the declared rate."""
    period = measured_period(clocks)
    if not period or abs(spec.period_ns / period - 1) <= tolerance.rate:
        return None
    return period, Finding(
        "error", None, spec.name, None, "rate", f"{1e9 / period:.6g} Hz",
        f"{spec.rate_hz:g} Hz +- {100 * tolerance.rate:g} %",
        "declare the rate that was recorded, or record at the declared rate",
    )  # fmt: skip


def measured_period(clocks: Sequence[np.ndarray]) -> float:
    """Median over episodes of the usual interval between stamps that increase, ns; 0 where none do."""
    usual = [interval for interval in map(_usual_interval, clocks) if interval > 0]
    return float(np.median(usual)) if usual else 0.0


def _usual_interval(stamps: np.ndarray) -> float:
    """Mean of the intervals that are neither repeats nor gaps: clocks that count whole milliseconds have no median."""
    intervals = np.diff(stamps)
    intervals = intervals[intervals > 0]
    if not len(intervals):
        return 0.0
    median = np.median(intervals)
    return float(intervals[(intervals > 0.5 * median) & (intervals < 1.5 * median)].mean())


def _usual_offsets(clocks: Mapping[str, Sequence[np.ndarray]]) -> dict[str, float]:
    """How much later than the actions each stream usually begins, ns: its median over the store."""
    if ACTION_STREAM not in clocks:
        return {}
    return {
        name: float(np.median([of[0] - action[0] for of, action in zip(own, clocks[ACTION_STREAM], strict=True)]))
        for name, own in clocks.items()
    }


def _usual_speeds(read: Sequence[Mapping[str, ClockReading]]) -> dict[str, float]:
    """Each clock's speed against the actions', in declared periods: its median over the store."""
    if not read or ACTION_STREAM not in read[0]:
        return {}
    return {name: float(np.median([r[name].speed / r[ACTION_STREAM].speed for r in read])) for name in read[0]}


def _partners(read: Sequence[Mapping[str, ClockReading]], name: str) -> dict[int, int]:
    """Episodes in whose place a stream begins and ends with the other streams of one other episode, and that episode.

    In both the stream ends, or begins, far from the others of its own episode.
    """
    if not read:
        return {}
    period = read[0][name].period
    peers = [other for other, own in read[0].items() if other != name and own.period < 1.5 * period]  # as fine as it
    if len(peers) < 2:
        return {}
    own, *others = (np.array([(r[n].begin, r[n].end) for r in read]) for n in (name, *peers))
    rest = np.median(others, axis=0)
    away = [e for e in np.flatnonzero(np.abs(own - rest).max(1) > 1.5 * period).tolist() if not read[e][name].irregular]
    fits = {e: [o for o in away if o != e and np.abs(own[e] - rest[o]).max() <= 0.75 * period] for e in away}
    return {e: found[0] for e, found in fits.items() if len(found) == 1 and fits[found[0]] == [e]}


def _exchange_finding(episode: int, name: str, other: int) -> Finding:
    found = f"a begin and an end that are those of episode {other}, and it has these"
    return Finding(
        "error", episode, name, None, "mismatch", found,
        "those of the episode's other streams", "exchange the streams of the two episodes in the source",
    )  # fmt: skip


def _read(stamps: np.ndarray, spec: StreamSpec, period: float, tolerance: Tolerance, episode: int) -> ClockReading:
    """What one clock says by itself; gaps are left to `_gap_findings`, which sees the other clocks too."""
    reading = ClockReading(stamps, period)

    def find(rows: np.ndarray, check: str, found: str, expected: str, action: str) -> None:
        more = f" ({len(rows)} such rows)" if len(rows) > 1 else ""
        row = int(rows[0])
        reading.findings.append(Finding("error", episode, spec.name, row, check, found + more, expected, action))

    if len(negative := np.flatnonzero(stamps < 0)):
        expected = "stamps from 0 on, int64 ns"
        find(
            negative, "negative", f"{stamps[negative[0]]} ns", expected, "add one constant to the clocks of an episode"
        )
    if (np.diff(stamps) < 0).any():
        ordered = np.sort(stamps)
        if _regular(ordered, tolerance):
            moved = np.flatnonzero(ordered != stamps)
            found = f"{stamps[moved[0]]} ns where {ordered[moved[0]]} ns belongs"
            find(moved, "swapped", found, "stamps in the order of the rows", _EXCHANGED)
        else:
            back = np.flatnonzero(np.diff(stamps) < 0)
            found = f"{np.diff(stamps)[back[0]] / 1e6:.6g} ms after row {back[0]}"
            find(back + 1, "monotonic", found, "a later stamp", "the clock was set back, or rows mixed: mend the clock")
            reading.irregular = True
        stamps = reading.stamps = ordered
    intervals = np.diff(stamps)
    if len(same := np.flatnonzero(intervals == 0)):
        found = f"0 ms after row {same[0]}"
        find(same + 1, "duplicate", found, "a later stamp", "a row was written twice: drop one of them")
    local = _usual_interval(stamps) or period
    usual = (intervals > 0) & (intervals < tolerance.stall * local)
    reading.gaps = np.flatnonzero(intervals >= tolerance.stall * local).tolist()
    if not reading.irregular and len(
        off := np.flatnonzero(usual & (np.abs(intervals - local) > tolerance.jitter * local))
    ):
        found = f"{intervals[off[0]] / 1e6:.6g} ms after row {off[0]}"
        expected = f"{local / 1e6:.6g} ms +- {tolerance.jitter:g} periods"
        advice = "stamp rows where they are taken, or declare a larger tolerance.jitter"
        find(off + 1, "jitter", found, expected, advice)
    regular = intervals[usual]
    if len(regular) > 1:
        reading.speed = float(regular.mean()) / period
        reading.speed_error = float(regular.std()) / len(regular) / period
    reading.begin, reading.end = float(stamps[0]), float(stamps[-1]) + period
    return reading


def _regular(stamps: np.ndarray, tolerance: Tolerance) -> bool:
    intervals = np.diff(stamps)
    return bool((np.abs(intervals - np.median(intervals)) <= tolerance.jitter * np.median(intervals)).all())


def _gap_findings(
    name: str, readings: Mapping[str, ClockReading], tolerance: Tolerance, episode: int
) -> Iterator[Finding]:
    """A gap is dropped rows if the other clocks ran on and this one still ends with them; otherwise it is a stall."""
    own = readings[name]
    if own.irregular:
        return
    others = [reading for other, reading in readings.items() if other != name]
    together = not others or abs(own.end - np.median([o.end for o in others])) <= tolerance.border * own.period
    for row in own.gaps:
        first, last = own.stamps[row] + 0.25 * own.period, own.stamps[row + 1] - 0.25 * own.period
        ran_on = any(((o.stamps > first) & (o.stamps < last)).any() for o in others)
        missing = round(float(last - first) / own.period - 0.5)
        found = f"{(own.stamps[row + 1] - own.stamps[row]) / 1e6:.6g} ms after row {row}"
        expected = f"{own.period / 1e6:.6g} ms, below {tolerance.stall:g} periods"
        check = "dropped" if ran_on and together else "stall"
        advice = f"{missing} rows are missing: cut the episode here or record it again"
        if check == "stall":
            advice = "the recording stood still: cut the episode here or record it again"
        yield Finding("error", episode, name, row + 1, check, found, expected, advice)


def _between(
    readings: Mapping[str, ClockReading],
    usual: Mapping[str, float],
    speeds: Mapping[str, float],
    declared: Mapping[str, float],
    tolerance: Tolerance,
    episode: int,
) -> Iterator[Finding]:
    """Clocks of one episode against that of the actions: usual speed, usual offset, common begin and end.

    declared: rate in Hz of the streams whose rate is as declared. If all others disagree with the actions in one and
    the same way, it is the actions' clock that is wrong.
    """
    action = readings[ACTION_STREAM]
    others = {name: reading for name, reading in readings.items() if name != ACTION_STREAM}
    drift = {name: own.speed / action.speed / speeds[name] - 1 for name, own in others.items()}
    unsure = {name: max(tolerance.drift, 5 * (own.speed_error + action.speed_error)) for name, own in others.items()}
    drifts = _blamed(drift, unsure)
    late = {name: own.begin - action.begin - usual[name] for name, own in others.items()}
    slack = {name: tolerance.offset * max(own.period, action.period) for name, own in others.items()}
    shifts = _blamed(late, slack, drifting=drifts)
    for name, by in drifts.items():
        found = f"a clock {100 * abs(by):.3g} % too {'fast' if by > 0 else 'slow'}"
        wanted = f"its usual speed against the actions', within {100 * tolerance.drift:g} %"
        yield Finding("error", episode, name, None, "drift", found, wanted, _ONE_CLOCK)
    for name, by in shifts.items():
        # Rows that are missing at one end move the begin alone; a clock that is off moves both ends.
        expected = f"within {tolerance.offset:g} periods of the usual begin"
        found = f"stamps {by / 1e6:+.6g} ms from where they usually are"
        both = name == ACTION_STREAM or abs(others[name].end - action.end) > 0.5 * abs(by) or others[name].gaps
        check = "offset" if both else "border"
        yield Finding("error", episode, name, 0, check, found, expected, _ONE_CLOCK)
    blamed = set(drifts) | set(shifts)
    longer = {name: own.end - action.end for name, own in others.items()}
    ends = _blamed(longer, {n: tolerance.border * max(own.period, action.period) for n, own in others.items()})
    if not blamed and ACTION_STREAM in ends and not action.gaps:
        found = f"an end {ends[ACTION_STREAM] / 1e6:+.6g} ms from that of all other streams"
        expected = f"within {tolerance.border:g} periods of theirs"
        advice = "actions were lost at the end, or are of another episode: drop the episode"
        yield Finding("error", episode, ACTION_STREAM, len(action.stamps) - 1, "border", found, expected, advice)
        return
    for name, own in others.items():
        if {name, ACTION_STREAM} & blamed or own.gaps or action.gaps or own.irregular or action.irregular:
            continue  # said already, and the cause of what would follow
        yield from _end_finding(name, own, action, usual[name], tolerance, episode)
        if declared.get(name) and declared.get(name) == declared.get(ACTION_STREAM):
            yield from _length_finding(name, own, action, episode)


def _blamed(by: Mapping[str, float], slack: Mapping[str, float], drifting: Collection[str] = ()) -> dict[str, float]:
    """Whose clock is wrong, and by how much: that of the streams which differ from the actions by more than slack.

    Or that of the actions, if all streams that are fine enough to tell differ in one and the same way.
    """
    differ = {name: value for name, value in by.items() if abs(value) > slack[name] and name not in drifting}
    usual = float(np.median(list(differ.values()))) if differ else 0.0
    able = [name for name in by if name in differ or slack[name] < abs(usual)]
    if len(differ) > 1 and len(able) == len(differ) and np.ptp(list(differ.values())) < 0.5 * abs(usual):
        return {ACTION_STREAM: -usual}
    return differ


def _end_finding(
    name: str, own: ClockReading, action: ClockReading, usual: float, tolerance: Tolerance, episode: int
) -> Iterator[Finding]:
    slack = tolerance.border * max(own.period, action.period)
    advice = "put all streams on one clock, and start and stop them together"
    expected = f"within {slack / 1e6:.6g} ms of the actions'"
    if own.end <= action.begin or own.begin >= action.end:
        found = f"{own.begin:.0f} to {own.end:.0f} ns"
        whole = f"an overlap with the actions, {action.begin:.0f} to {action.end:.0f} ns"
        yield Finding("error", episode, name, 0, "border", found, whole, advice)
    elif abs(usual) > slack:
        found = f"a begin {usual / 1e6:+.6g} ms from the actions'"
        yield Finding("error", episode, name, 0, "border", found, expected, advice)
    elif abs(own.end - action.end) > slack:
        found = f"an end {(own.end - action.end) / 1e6:+.6g} ms from the actions'"
        yield Finding("error", episode, name, len(own.stamps) - 1, "border", found, expected, advice)


def _length_finding(name: str, own: ClockReading, action: ClockReading, episode: int) -> Iterator[Finding]:
    repeated = [int((np.diff(reading.stamps) == 0).sum()) for reading in (own, action)]
    extra = (len(own.stamps) - repeated[0]) - (len(action.stamps) - repeated[1])
    if extra:
        # One row more or less is how some recorders end an episode; more is a sign of dropped rows.
        severity = "error" if abs(extra) > 1 else "warning"
        found, wanted = f"{len(own.stamps)} rows", f"{len(action.stamps)}, as many as actions, at the same rate"
        yield Finding(severity, episode, name, None, "lengths", found, wanted, "check the recorder for dropped rows")
