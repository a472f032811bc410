"""What was asked for against what was acted on first: a table of counts, object by object or feature by feature."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..results import EpisodeRecord

CONDITIONS = ("correct", "swap")  # in the others nothing is there to be found, or words and worlds make it harder
MOST_NAMES = 10
NONE, OTHERS = "none", "others"


@dataclass(frozen=True)
class Confusion:
    """counts[i][j]: episodes in which `asked[i]` was asked for and `acted_on[j]` acted on, the last of which is none.

    what: what is told apart: "object", "colour" or "shape". right: for each row its column, None where it has none.
    """

    what: str
    asked: list[str]
    acted_on: list[str]
    counts: list[list[int]]
    right: list[int | None]

    @property
    def accuracy(self) -> float:
        """Share of all episodes in which the one asked for was acted on."""
        hits = sum(row[at] for row, at in zip(self.counts, self.right, strict=True) if at is not None)
        return hits / sum(map(sum, self.counts))


def confusions(records: Sequence[EpisodeRecord], most: int = MOST_NAMES) -> list[Confusion]:
    """Tables of the episodes with an instruction that names one object, by `CONDITIONS`; none where there are none.

    One table of objects where no more than `most` were asked for; else one of colours and one of shapes where names
    have both ("red cube"), and where they have not, one of the objects asked for most.
    """
    pairs = [(record.target, record.acted_on) for record in records if record.target and record.condition in CONDITIONS]
    names = {asked for asked, _ in pairs}
    if not names:
        return []
    if len(names) > most and all(len(name.split()) == 2 for name in names):
        return [_table("colour", pairs, _colour), _table("shape", pairs, _shape)]
    kept = {name for name, _ in Counter(asked for asked, _ in pairs).most_common(most)}
    return [_table("object", pairs, lambda name: name if name in kept or len(names) <= most else OTHERS)]


def _colour(name: str) -> str:
    """A plate or a bowl has no colour in its name: it stands for itself."""
    return name.split()[0]


def _shape(name: str) -> str:
    return name.split()[-1]


def _table(what: str, pairs: Sequence[tuple[str, str | None]], feature: Callable[[str], str]) -> Confusion:
    counts = Counter((feature(asked), NONE if acted_on is None else feature(acted_on)) for asked, acted_on in pairs)
    asked = sorted({one for one, _ in counts}, key=lambda name: (name == OTHERS, name))
    strange = sorted({other for _, other in counts} - {*asked, NONE})
    columns = [*asked, *strange, NONE]
    return Confusion(
        what,
        asked,
        columns,
        [[counts[row, column] for column in columns] for row in asked],
        [None if row == OTHERS else columns.index(row) for row in asked],
    )
