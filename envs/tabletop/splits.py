"""What training may see and what is kept for the test, as part of the suite's definition.

A `Split` holds out colour-shape pairs, relations of a verb, and phrasings by name. The held-out parts of
`SPLITS` are new combinations: every colour, shape, verb and side is still met in training in another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...datasets.language import LANGUAGES, check_language, check_word, pick
from .goals import VERBS, Goal, ObjectRef, all_goals
from .grammar import PHRASINGS, RESERVED_PHRASINGS, Phrasing, phrasings


@dataclass(frozen=True)
class Split:
    """A division of goals and phrasings into training and held out.

    held_out_pairs: (colour, shape) that no training goal names.
    held_out_relations: (verb, relation) that no training goal has.
    held_out_phrasings: names of `PHRASINGS` that no training instruction uses.
    Raises ValueError for a pair, relation or phrasing that does not exist, or a verb left without a training phrasing.
    """

    name: str
    held_out_pairs: frozenset[tuple[str, str]] = frozenset()
    held_out_relations: frozenset[tuple[str, str]] = frozenset()
    held_out_phrasings: frozenset[str] = RESERVED_PHRASINGS

    def __post_init__(self) -> None:
        for colour, shape in sorted(self.held_out_pairs):
            ObjectRef(colour, shape)
        relations = [f"{verb} {relation}" for verb, relation in _verb_relations()]
        for verb, relation in sorted(self.held_out_relations):
            check_word(f"split {self.name}: held_out_relations", f"{verb} {relation}", relations)
        for phrasing in sorted(self.held_out_phrasings):
            check_word(f"split {self.name}: held_out_phrasings", phrasing, tuple(PHRASINGS))
        for verb in VERBS:
            for language in LANGUAGES:
                if not self.phrasings(verb, language):
                    raise ValueError(
                        f"split {self.name}: no training phrasing left for {verb} in {language!r}; hold out fewer"
                    )

    def allows_object(self, obj: ObjectRef) -> bool:
        """Whether training may name this object."""
        return (obj.colour, obj.shape) not in self.held_out_pairs

    def allows(self, goal: Goal) -> bool:
        """Whether training may ask for this goal. Goals that are not allowed are the held-out ones."""
        objects = [goal.target] if goal.reference is None else [goal.target, goal.reference]
        return all(map(self.allows_object, objects)) and (goal.verb, goal.relation) not in self.held_out_relations

    def phrasings(self, verb: str, language: str, heldout: bool = False) -> tuple[Phrasing, ...]:
        """The training phrasings of a verb, or with ``heldout`` those that training does not use."""
        return tuple(p for p in phrasings(verb, language) if (p.name in self.held_out_phrasings) == heldout)

    def sample_instruction(
        self, goal: Goal, rng: np.random.Generator, languages: Sequence[str] = LANGUAGES, heldout: bool = False
    ) -> str:
        """One sentence that asks for the goal, by a training phrasing or with ``heldout`` by one kept from training.

        Raises ValueError when there is no language, or the split holds out no phrasing of this verb.
        """
        if not languages:
            raise ValueError(f"languages: found none, wanted some of {', '.join(LANGUAGES)}")
        language = pick(rng, languages)
        check_language(language)
        options = self.phrasings(goal.verb, language, heldout)
        if not options:
            raise ValueError(f"split {self.name}: holds out no phrasing of {goal.verb} in {language!r}")
        return pick(rng, options).sample(goal, rng)


def _verb_relations() -> list[tuple[str, str]]:
    return sorted({(goal.verb, goal.relation) for goal in all_goals() if goal.relation is not None})


# Two colours for each shape, one shape for each colour.
HELD_OUT_PAIRS = frozenset(
    {
        ("green", "cube"),
        ("purple", "cube"),
        ("blue", "cylinder"),
        ("orange", "cylinder"),
        ("red", "ball"),
        ("yellow", "ball"),
    }
)
# Each side is still met with the other verb.
HELD_OUT_RELATIONS = frozenset({("push", "left"), ("move", "behind")})
_REQUEST_MARKS = {"en": ("please", "could you"), "zh": ("请", "麻烦", "吗？")}
REQUEST_PHRASINGS = frozenset(
    name for name, p in PHRASINGS.items() if any(mark in p.template for mark in _REQUEST_MARKS[p.language])
)

SPLITS: dict[str, Split] = {
    split.name: split
    for split in (
        Split("all"),
        Split("pairs", held_out_pairs=HELD_OUT_PAIRS),
        Split("relations", held_out_relations=HELD_OUT_RELATIONS),
        # Training hears commands only; the test asks politely as well.
        Split("phrasings", held_out_phrasings=RESERVED_PHRASINGS | REQUEST_PHRASINGS),
    )
}
