"""Planting faults: each kind that the gate must find, put at a random place into a copy of clean episodes.

Used to measure the gate (`deixis bench integrity`), and by whoever wants to see what their own check misses. Only what
a fault touches is copied; everything else is shared with the clean episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .episode import Episode, Stream, StreamSpec
from .findings import Finding
from .lag import late
from .spec import ACTION_STREAM
from .trajectories import MemoryTrajectories


@dataclass(frozen=True)
class Planted:
    """What was planted where.

    episodes: empty where the whole store is wrong. check: the name of the check that is right for it. delay: the rows
    by which values come too late: the finding must say it, or a range of at most three delays that holds it.
    """

    kind: str
    episodes: tuple[int, ...]
    streams: tuple[str, ...]
    severity: str
    check: str
    delay: int = 0

    def judge(self, errors: Sequence[Finding]) -> Verdict:
        """What findings make of it."""
        there = [e for e in errors if e.stream in self.streams and (not self.episodes or e.episode in self.episodes)]
        right = [e for e in there if e.check == self.check and self._tells(e.found)]
        elsewhere = tuple(e for e in errors if e not in there)
        return Verdict(
            bool(there), bool(right) and not elsewhere, any(self._tells(e.found, 0) for e in right), elsewhere
        )

    def _tells(self, found: str, width: int = 2) -> bool:
        """Whether a finding tells the delay, or a range of at most `width` more rows that holds it."""
        if not self.delay:
            return True
        side, size = 1 if self.delay > 0 else -1, abs(self.delay)
        ranges = [(low, low + more) for more in range(width + 1) for low in range(size - more, size + 1) if low > 0]
        return any(found.startswith(late(side * low, side * high)) for low, high in ranges)


@dataclass(frozen=True)
class Verdict:
    """found: an error at the planted place; named: the right check is among them, and says how large the fault is where
    it can, and no other episode or stream is called wrong. exact: it does so to the row. elsewhere: what is.
    """

    found: bool
    named: bool
    exact: bool
    elsewhere: tuple[Finding, ...]


@dataclass
class _Bed:
    """Episodes to plant in, a chosen one of them, and the streams that can take the fault."""

    rng: np.random.Generator
    episodes: list[Episode]
    specs: dict[str, StreamSpec]
    chosen: int
    frozen: float  # equal rows from which the store calls a sensor frozen

    def stream(self, kinds: Sequence[str]) -> str:
        names = [name for name, spec in self.specs.items() if spec.kind in kinds and len(self.stamps(name)) > 12]
        if not names:
            raise ValueError(f"plant: found no stream of kind {list(kinds)} with more than 12 rows, wanted one")
        return names[int(self.rng.integers(len(names)))]

    def stamps(self, name: str) -> np.ndarray:
        return self.episodes[self.chosen].streams[name].stamps_ns

    def put(self, name: str, values: np.ndarray | None, stamps: np.ndarray | None, episode: int | None = None) -> None:
        """Replace values or stamps of a stream of the chosen (or another) episode by new arrays."""
        index = self.chosen if episode is None else episode
        old = self.episodes[index]
        stream = old.streams[name]
        new = Stream(stream.values if values is None else values, stream.stamps_ns if stamps is None else stamps)
        self.episodes[index] = replace(old, streams={**old.streams, name: new})


_TIMED = ("image", "proprio", "action")
_Done = tuple[tuple[str, ...], str, str] | tuple[tuple[str, ...], str, str, int]  # streams, severity, check, delay
Plant = Callable[[_Bed], _Done]


def plant(kind: str, clean: MemoryTrajectories, rng: np.random.Generator) -> tuple[MemoryTrajectories, Planted]:
    """A copy of `clean` with one fault of `kind` (one of KINDS) at a random place and of a random severity."""
    specs = dict(clean.streams)
    lengths = np.diff(clean.offsets(ACTION_STREAM))
    candidates = np.flatnonzero(lengths >= min(16, lengths.max()))
    bed = _Bed(rng, list(clean.episodes), specs, int(rng.choice(candidates)), clean.tolerance.frozen)
    streams, severity, check, *delay = KINDS[kind](bed)
    changed = [e for e, (old, new) in enumerate(zip(clean.episodes, bed.episodes, strict=True)) if old is not new]
    touched = tuple(changed) if len(changed) < len(bed.episodes) else ()
    faulty = MemoryTrajectories(bed.episodes, clean.env_spec, bed.specs, clean.tolerance, clean.path)
    return faulty, Planted(kind, touched, streams, severity, check, *delay)


def _swapped_stamps(bed: _Bed) -> _Done:
    name = bed.stream(_TIMED)
    stamps, apart = bed.stamps(name).copy(), int(bed.rng.choice([1, 2, 5]))
    row = int(bed.rng.integers(1, len(stamps) - apart))
    stamps[[row, row + apart]] = stamps[[row + apart, row]]
    bed.put(name, None, stamps)
    return (name,), f"{apart} rows apart", "swapped"


def _duplicated_row(bed: _Bed) -> _Done:
    name, copies = bed.stream(_TIMED), int(bed.rng.choice([1, 2, 3]))
    stream = bed.episodes[bed.chosen].streams[name]
    row = int(bed.rng.integers(1, len(stream.values) - 1))
    rows = np.repeat(np.arange(len(stream.values)), np.where(np.arange(len(stream.values)) == row, copies + 1, 1))
    bed.put(name, stream.values[rows], stream.stamps_ns[rows])
    return (name,), f"{copies} copies", "duplicate"


def _deleted_rows(bed: _Bed) -> _Done:
    name, count = bed.stream(_TIMED), int(bed.rng.choice([1, 2, 5]))
    stream = bed.episodes[bed.chosen].streams[name]
    first = int(bed.rng.integers(1, len(stream.values) - count))
    keep = np.delete(np.arange(len(stream.values)), np.arange(first, first + count))
    bed.put(name, stream.values[keep], stream.stamps_ns[keep])
    return (name,), f"{count} rows", "dropped"


def _stall(bed: _Bed) -> _Done:
    """Everything, or one stream, stands still for a while; its later rows come later."""
    alone = bool(bed.rng.random() < 0.5)
    name, seconds = bed.stream(_TIMED), float(bed.rng.choice([0.5, 1.0, 2.0]))
    stamps = bed.stamps(name)
    at = stamps[int(bed.rng.integers(1, len(stamps) - 1))]
    touched = (name,) if alone else tuple(bed.specs)
    for stream in touched:
        own = bed.stamps(stream)
        bed.put(stream, None, own + np.where(own >= at, round(seconds * 1e9), 0))
    return touched, f"{seconds} s, {'one stream' if alone else 'all streams'}", "stall"


def _jitter(bed: _Bed) -> _Done:
    name, share = bed.stream(_TIMED), float(bed.rng.choice([0.3, 0.45, 0.7]))
    stamps = bed.stamps(name).copy()
    row = int(bed.rng.integers(1, len(stamps) - 1))
    stamps[row] += round(float(bed.rng.choice([-1, 1])) * share * bed.specs[name].period_ns)
    bed.put(name, None, stamps)
    return (name,), f"{share} periods", "jitter"


def _clock_offset(bed: _Bed) -> _Done:
    name, periods = bed.stream(_TIMED), float(bed.rng.choice([0.5, 1.0, 3.0]))
    shift = round(periods * bed.specs[name].period_ns)
    late = bool(bed.rng.random() < 0.5)
    for stream in (name,) if late else [other for other in bed.specs if other != name]:
        bed.put(stream, None, bed.stamps(stream) + shift)  # an early clock, told without negative stamps
    return (name,), f"{'+' if late else '-'}{periods} periods", "offset"


def _clock_drift(bed: _Bed) -> _Done:
    name, share = bed.stream(_TIMED), float(bed.rng.choice([0.01, 0.03, 0.1]))
    speed = 1 + share * float(bed.rng.choice([-1, 1]))
    stamps = bed.stamps(name)
    bed.put(name, None, stamps[0] + np.round((stamps - stamps[0]) * speed).astype(np.int64))
    return (name,), f"{100 * (speed - 1):+.0f} %", "drift"


def _wrong_rate(bed: _Bed) -> _Done:
    name, factor = bed.stream(_TIMED), float(bed.rng.choice([0.5, 0.9, 1.1, 2.0]))
    bed.specs[name] = replace(bed.specs[name], rate_hz=bed.specs[name].rate_hz * factor)
    return (name,), f"times {factor}", "rate"


def _shifted(kinds: Sequence[str]) -> Plant:
    def plant(bed: _Bed) -> _Done:
        """Values move against their perfect stamps; the ends repeat the outermost row."""
        name, rows = bed.stream(kinds), int(bed.rng.choice([-3, -2, -1, 1, 2, 3]))
        everywhere = bool(bed.rng.random() < 0.25)
        for episode in range(len(bed.episodes)) if everywhere else [bed.chosen]:
            values = bed.episodes[episode].streams[name].values
            bed.put(name, values[np.clip(np.arange(len(values)) - rows, 0, len(values) - 1)], None, episode)
        where = "all episodes" if everywhere else "one episode"
        return (name,), f"{where}: {late(rows)}", "lag", rows

    return plant


def _frozen(kinds: Sequence[str]) -> Plant:
    def plant(bed: _Bed) -> _Done:
        name = bed.stream(kinds)
        values = bed.episodes[bed.chosen].streams[name].values.copy()
        count = min(math.ceil(bed.frozen * float(bed.rng.choice([1.0, 1.5, 100.0]))), len(values) - 2)
        first = int(bed.rng.integers(0, len(values) - count))
        values[first : first + count] = values[first]
        bed.put(name, values, None)
        return (name,), f"{count} of {len(values)} rows", "frozen"

    return plant


def _not_finite(bed: _Bed) -> _Done:
    name, bad = bed.stream(("proprio", "action")), float(bed.rng.choice([np.nan, np.inf, -np.inf]))
    values = bed.episodes[bed.chosen].streams[name].values.copy()
    values.reshape(len(values), -1)[int(bed.rng.integers(len(values))), int(bed.rng.integers(values[0].size))] = bad
    bed.put(name, values, None)
    return (name,), f"{bad}", "finite"


def _border_crossed(bed: _Bed) -> _Done:
    """An episode runs on into the next one: the first rows of that one follow, with stamps that go on regularly."""
    count, other = int(bed.rng.choice([2, 4, 8])), (bed.chosen + 1) % len(bed.episodes)
    seconds, action = count / bed.specs[ACTION_STREAM].rate_hz, bed.stamps(ACTION_STREAM)
    begin = action[0] + round(len(action) * bed.specs[ACTION_STREAM].period_ns)
    for name, spec in bed.specs.items():
        own, following = (bed.episodes[episode].streams[name] for episode in (bed.chosen, other))
        first = following.stamps_ns[0]
        taken = following.stamps_ns < first + round(seconds * 1e9)
        late = np.round((following.stamps_ns[taken] - first) / spec.period_ns) * spec.period_ns
        stamps = max(begin, own.stamps_ns[-1] + round(spec.period_ns)) + late.astype(np.int64)
        bed.put(name, np.concatenate([own.values, following.values[taken]]), np.concatenate([own.stamps_ns, stamps]))
    return tuple(bed.specs), f"{count} rows", "jump"


def _negative_stamps(bed: _Bed) -> _Done:
    name = bed.stream(_TIMED)
    whole = bool(bed.rng.random() < 0.5)
    stamps = bed.stamps(name).copy()
    rows = slice(None) if whole else slice(int(bed.rng.integers(len(stamps))), None)
    stamps[rows] = stamps[rows] - stamps[-1] - 10**9 if whole else -stamps[rows] - 1
    bed.put(name, None, stamps)
    return (name,), "all rows" if whole else "from some row on", "negative"


def _fractional_stamps(bed: _Bed) -> _Done:
    name = bed.stream(_TIMED)
    for episode in range(len(bed.episodes)):
        bed.put(name, None, bed.episodes[episode].streams[name].stamps_ns / 1e9, episode)
    return (name,), "seconds", "type"


def _swapped_episodes(bed: _Bed) -> _Done:
    """Actions or pictures of two episodes change places, clock and all."""
    name = bed.stream(("image", "action"))
    other = int(bed.rng.choice([e for e in range(len(bed.episodes)) if e != bed.chosen]))
    first, second = bed.episodes[bed.chosen].streams[name], bed.episodes[other].streams[name]
    bed.put(name, second.values, second.stamps_ns)
    bed.put(name, first.values, first.stamps_ns, other)
    return (name,), f"with episode {other}", "mismatch"


KINDS: Mapping[str, Plant] = {
    "swapped_stamps": _swapped_stamps,
    "duplicated_row": _duplicated_row,
    "deleted_rows": _deleted_rows,
    "stall": _stall,
    "jitter": _jitter,
    "clock_offset": _clock_offset,
    "clock_drift": _clock_drift,
    "wrong_rate": _wrong_rate,
    "action_shift": _shifted(("action",)),
    "camera_shift": _shifted(("image",)),
    "frozen_camera": _frozen(("image",)),
    "frozen_proprio": _frozen(("proprio",)),
    "not_finite": _not_finite,
    "border_crossed": _border_crossed,
    "negative_stamps": _negative_stamps,
    "fractional_stamps": _fractional_stamps,
    "swapped_episodes": _swapped_episodes,
}
"""Kinds of faults -> what plants one."""

__all__ = ["KINDS", "Planted", "Verdict", "plant"]
