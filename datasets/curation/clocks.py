"""How an episode's streams are cut to a stretch of its actions without touching a clock.

Where a cut may begin is decided by all clocks: at an action row to which every stream stands as it did at the episode's
own begin. A camera at half the actions' rate then begins as it always does, not now and then half a period later, and
the gate finds the streams of a cut where it finds those of every other episode.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..episode import StreamSpec
from ..spec import ACTION_STREAM
from ..store import TrajectoryStore

_PLAY = 0.2  # periods by which a stream may begin elsewhere against the actions; the gate allows 0.4


class Clocks:
    """All clocks of one episode: stamps int64 [T] ns by stream.

    Attributes: bounds, int64 [C + 1]: action row k lasts from bound k to k + 1; ordered: whether all clocks increase
    (one that does not cannot be cut by time).
    """

    def __init__(self, stamps: Mapping[str, np.ndarray], streams: Mapping[str, StreamSpec]) -> None:
        self.stamps, self.streams = stamps, streams
        controls = stamps[ACTION_STREAM]
        self.bounds = np.append(controls, controls[-1] + round(streams[ACTION_STREAM].period_ns))
        self.ordered = all(bool((np.diff(clock) > 0).all()) for clock in stamps.values())

    @classmethod
    def of(cls, store: TrajectoryStore, episode: int) -> Clocks:
        """Those of an episode of a store."""
        return cls({name: store.stamps(name, [episode]) for name in store.streams}, store.streams)

    @property
    def rows(self) -> int:
        """Number of action rows C."""
        return len(self.bounds) - 1

    def seconds(self, first: int, stop: int) -> float:
        """How long action rows `first` to `stop` (not included) last."""
        return float(self.bounds[stop] - self.bounds[first]) / 1e9

    def begin_before(self, row: int, earliest: int) -> int | None:
        """The last action row from `earliest` to `row` at which a cut may begin, if there is one."""
        return next((first for first in range(row, earliest - 1, -1) if self._in_phase(first)), None)

    def begin_after(self, row: int) -> int:
        """The first action row from `row` on at which a cut may begin; the number of rows if there is none."""
        return next((first for first in range(row, self.rows) if self._in_phase(first)), self.rows)

    def span(self, name: str, first: int, stop: int) -> tuple[int, int]:
        """First and stop row of a stream that go with action rows `first` to `stop`; equal ones if there is no row.

        A stream begins with the row that stands to the first action as its first row stood to the episode's, and has
        every row that some action sees, being the newest that is not later. It ends as long before the actions' end as
        it begins before their begin, so that streams of one rate stay of one length. Segmentations are read at their
        own stamps, and an action must stand there: theirs are from the first action to the last. At the episode's own
        begin and end nothing is cut.
        """
        if name == ACTION_STREAM:
            return first, stop
        stamps = self.stamps[name]
        start = self._first_row(name, first)
        if stop == self.rows:
            return start, len(stamps)
        last = int(np.searchsorted(stamps, self.bounds[stop - 1], "right"))
        if self.streams[name].kind == "segmentation" or start == len(stamps):
            return start, max(start, last)
        # Half a period of play: a row that jitters over the limit is not one more row.
        limit = self.bounds[stop] + stamps[start] - self.bounds[first] - round(self.streams[name].period_ns / 2)
        return start, max(start + 1, last, int(np.searchsorted(stamps, limit, "left")))

    def empty_stream(self, first: int, stop: int) -> str | None:
        """The name of a stream that has no row for these action rows, if there is one."""
        spans = {name: self.span(name, first, stop) for name in self.streams}
        return next((name for name, (start, end) in spans.items() if start >= end), None)

    def _usual(self, name: str) -> int:
        """How much later than the actions a stream begins in this episode, ns."""
        return int(self.stamps[name][0] - self.bounds[0])

    def _first_row(self, name: str, first: int) -> int:
        if first == 0:
            return 0
        stamps, begin, usual = self.stamps[name], self.bounds[first], self._usual(name)
        if self.streams[name].kind == "segmentation":
            return int(np.searchsorted(stamps, begin, "left"))
        after = int(np.searchsorted(stamps, begin + usual, "left"))
        nearest = min(max(after - 1, 0), len(stamps) - 1)
        if after < len(stamps) and stamps[after] - begin - usual < begin + usual - stamps[nearest]:
            nearest = after
        # What the first action sees must be there: where the episode began with it, so does the cut.
        return nearest - 1 if usual <= 0 and nearest > 0 and stamps[nearest] > begin else nearest

    def _in_phase(self, first: int) -> bool:
        if first == 0:
            return True
        for name, spec in self.streams.items():
            row, stamps = self._first_row(name, first), self.stamps[name]
            if row == len(stamps):
                return False
            moved = int(stamps[row] - self.bounds[first]) - self._usual(name)
            if abs(moved) > _PLAY * max(spec.period_ns, self.streams[ACTION_STREAM].period_ns):
                return False
        return True
