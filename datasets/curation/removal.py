"""Taking stretches out of a piece, and what is then too little to keep."""

from __future__ import annotations

from collections.abc import Sequence

from .clocks import Clocks
from .pieces import Piece, without
from .report import Drop

NOT_CUT = "left as it is: one of its clocks does not increase; run `deixis data check`"


def begins_in_phase(clocks: Clocks, piece: Piece, stretch: tuple[int, int]) -> tuple[int, int] | None:
    """The stretch to take out so that what comes after it begins where a cut may begin; None if nothing is left of it.

    Rows of the stretch that are in the way stay with what comes after.
    """
    first, stop = stretch
    if stop == piece.stop:
        return stretch  # nothing comes after
    begin = clocks.begin_before(stop, first + 1)
    return None if begin is None else (first, begin)


def remove(
    clocks: Clocks, piece: Piece, drops: Sequence[Drop], shortest_seconds: float
) -> tuple[list[Piece], list[Drop]]:
    """What is left of a piece without the rows of these drops, and the drops, with those of parts too short to keep.

    A piece that loses nothing stays, however short it is.
    """
    if not drops:
        return [piece], []
    kept, short = [], []
    for part in without(piece, [drop.rows for drop in drops if drop.rows is not None]):
        seconds = clocks.seconds(part.first, part.stop)
        stream = clocks.empty_stream(part.first, part.stop)
        if seconds >= shortest_seconds and stream is None:
            kept.append(part)
            continue
        why = "what was left here is too short" + ("" if stream is None else f": it has no row of {stream!r}")
        numbers = {"seconds": seconds, "wanted": shortest_seconds}
        short.append(Drop(part.episode, (part.first, part.stop), why, numbers))
    return kept, [*drops, *short]
