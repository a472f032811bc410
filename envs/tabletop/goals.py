"""Goals of the tabletop: one thing to do with one object, and which of them make sense.

Words are in the viewer's frame of the front camera, which looks at the robot: left is world -y, right is +y, front
(nearer the camera) is +x, behind is -x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...datasets.language import check_word

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("cube", "cylinder", "ball")
CONTAINERS = ("plate", "bowl")
VERBS = ("touch", "lift", "push", "place", "stack", "move")
SIDES = ("left", "right", "front", "behind")
CONTAINER_RELATIONS = {"plate": "on", "bowl": "in"}
STACKABLE = ("cube", "cylinder")  # a ball neither stays on top nor bears one


@dataclass(frozen=True)
class ObjectRef:
    """An object by what is seen of it: a coloured cube, cylinder or ball, or the plate or bowl (colour None)."""

    colour: str | None
    shape: str

    def __post_init__(self) -> None:
        check_word("shape", self.shape, SHAPES + CONTAINERS)
        if self.shape in CONTAINERS:
            if self.colour is not None:
                raise ValueError(
                    f"colour: found {self.colour!r} for a {self.shape}, wanted None: it has no colour name"
                )
        else:
            check_word("colour", self.colour, COLOURS)

    @property
    def name(self) -> str:
        """``"red cube"`` or ``"plate"``."""
        return self.shape if self.colour is None else f"{self.colour} {self.shape}"

    @classmethod
    def from_name(cls, name: str) -> ObjectRef:
        """The inverse of `name`. Raises ValueError for anything else."""
        words = name.split(" ")
        if len(words) > 2:
            raise ValueError(f"object name: found {name!r}, wanted 'COLOUR SHAPE' or one of {', '.join(CONTAINERS)}")
        return cls(words[0] if len(words) == 2 else None, words[-1])


@dataclass(frozen=True)
class Goal:
    """One thing to do. Raises ValueError, naming the field and the nearest valid word, for a goal that makes no sense.

    touch, lift: target only. push: relation is the side to push towards. place: reference plate (relation "on") or bowl
    ("in"). stack: relation "on", target and reference a cube or cylinder. move: relation is the side of the reference.
    A target is always a coloured object; a reference of move may be anything else.
    """

    verb: str
    target: ObjectRef
    reference: ObjectRef | None = None
    relation: str | None = None

    def __post_init__(self) -> None:
        check_word("verb", self.verb, VERBS)
        check_word(f"target of {self.verb}", self.target.shape, targets(self.verb))
        if not references(self.verb):
            if self.reference is not None:
                raise ValueError(f"reference of {self.verb}: found {self.reference.name!r}, wanted None")
        elif self.reference is None:
            raise ValueError(f"reference of {self.verb}: found None, wanted an object")
        elif self.reference == self.target:
            raise ValueError(f"reference of {self.verb}: found the target {self.target.name!r}, wanted another object")
        else:
            check_word(f"reference of {self.verb}", self.reference.shape, references(self.verb))
        wanted = relations(self.verb, None if self.reference is None else self.reference.shape)
        if not wanted and self.relation is not None:
            raise ValueError(f"relation of {self.verb}: found {self.relation!r}, wanted None")
        if wanted:
            check_word(f"relation of {self.verb}", self.relation, wanted)

    def to_dict(self) -> dict[str, str | None]:
        """``{"verb", "target": name, "reference": name or None, "relation"}``, ready for JSON."""
        reference = None if self.reference is None else self.reference.name
        return {"verb": self.verb, "target": self.target.name, "reference": reference, "relation": self.relation}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Goal:
        """The inverse of `to_dict`. Raises ValueError for missing or unknown fields."""
        fields = ("verb", "target", "reference", "relation")
        if set(data) != set(fields):
            raise ValueError(f"goal: found fields {sorted(data)}, wanted {', '.join(fields)}")
        for field in fields:
            if not isinstance(data[field], str) and (field in ("verb", "target") or data[field] is not None):
                raise ValueError(f"goal field {field}: found {data[field]!r}, wanted a string")
        reference = None if data["reference"] is None else ObjectRef.from_name(data["reference"])
        return cls(data["verb"], ObjectRef.from_name(data["target"]), reference, data["relation"])


def targets(verb: str) -> tuple[str, ...]:
    """Shapes that a verb can be asked of."""
    return STACKABLE if verb == "stack" else SHAPES


def references(verb: str) -> tuple[str, ...]:
    """Shapes that a verb can refer to; none where it needs no second object."""
    return {"place": CONTAINERS, "stack": STACKABLE, "move": SHAPES + CONTAINERS}.get(verb, ())


def relations(verb: str, reference: str | None) -> tuple[str, ...]:
    """Relations that a verb can ask for to a reference of that shape; none where it needs none."""
    if verb in ("push", "move"):
        return SIDES
    if verb == "place" and reference is not None:
        return (CONTAINER_RELATIONS[reference],)
    return ("on",) if verb == "stack" else ()


def all_objects() -> tuple[ObjectRef, ...]:
    """The 18 coloured objects, then plate and bowl."""
    coloured = (ObjectRef(colour, shape) for colour in COLOURS for shape in SHAPES)
    return (*coloured, *(ObjectRef(None, shape) for shape in CONTAINERS))


def all_goals() -> tuple[Goal, ...]:
    """Every valid goal, verb by verb."""
    return tuple(
        Goal(verb, target, reference, relation)
        for verb in VERBS
        for target in all_objects()
        if target.shape in targets(verb)
        for reference in _references_for(verb, target)
        for relation in relations(verb, None if reference is None else reference.shape) or (None,)
    )


def _references_for(verb: str, target: ObjectRef) -> tuple[ObjectRef | None, ...]:
    wanted = references(verb)
    return tuple(ref for ref in all_objects() if ref.shape in wanted and ref != target) if wanted else (None,)
