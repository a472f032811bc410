"""CALVIN's 34 tasks: by which rule of CALVIN's each is judged, how it is asked for, and what it needs of the table.

Names, rules and their numbers are those of `new_playtable_tasks.yaml`, needs and effects those of
`multistep_sequences.py` in github.com/mees/calvin (Mees et al. 2022, arXiv:2112.03227). The sentences are our own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

COLOURS = ("red", "blue", "pink")
BLOCKS = tuple(f"block_{colour}" for colour in COLOURS)
HELD_OUT = 1  # phrasings of each task that only the condition "paraphrase-en" uses

_SIDES = ("right", "left")
_TURN_DEG, _PUSH_M, _SLIDE_M, _DRAWER_M = 60, 0.1, 0.15, 0.12
_SURFACES = {"table": ("base_link", 0.05), "slider": ("plank_link", 0.03), "drawer": ("drawer_link", 0.05)}

Table = Mapping[str, str | int]
"""What is where: `led`, `lightbulb` and `grasped` 0 or 1, `slider` left or right, `drawer` closed or open, and for each
block its place: table, slider_left, slider_right, drawer, grasped, stacked_top or stacked_bottom."""


@dataclass(frozen=True)
class Change:
    """One way in which a task can change the table. needs: what of the table must be one of these. makes: what it is
    then."""

    needs: Mapping[str, tuple[str | int, ...]]
    makes: Table = field(default_factory=dict)

    def after(self, table: Table) -> dict[str, str | int] | None:
        """The table once it is done; None where it cannot be."""
        return {**table, **self.makes} if all(table[name] in known for name, known in self.needs.items()) else None


@dataclass(frozen=True)
class Task:
    """One of the tasks.

    Attributes:
        rule: the predicate of CALVIN's task oracle that judges it, and its arguments.
        texts: how it is asked for; the last `HELD_OUT` are kept from training.
        target: what it is about, in words; "" where any block will do.
        kind: a chain has one task of each kind at most.
        changes: what it does to a table.
    """

    rule: tuple[Any, ...]
    texts: tuple[str, ...]
    target: str
    kind: str
    changes: tuple[Change, ...]

    def after(self, table: Table) -> list[dict[str, str | int]]:
        """The tables that it can lead to."""
        return [after for change in self.changes if (after := change.after(table)) is not None]


def _free(**needs: str | int) -> dict[str, tuple[str | int, ...]]:
    """A table of which this holds, and nothing is in the hand."""
    return {**{name: (value,) for name, value in needs.items()}, "grasped": (0,)}


def _holding(block: str, **needs: str | int) -> dict[str, tuple[str | int, ...]]:
    return {f"{block}_block": ("grasped",), **{name: (value,) for name, value in needs.items()}, "grasped": (1,)}


def _tasks() -> Iterator[tuple[str, Task]]:
    """In CALVIN's order, which its random draws of chains count on."""
    yield from _turns()
    yield from _pushes()
    yield from _doors()
    yield from _lifts()
    yield from _placements()
    yield from _stacks()
    yield from _lights()
    yield "push_into_drawer", _pushed_into_drawer()


def _turns() -> Iterator[tuple[str, Task]]:
    for colour in COLOURS:
        for side in _SIDES:
            sense, degrees = ("clockwise", -_TURN_DEG) if side == "right" else ("counterclockwise", _TURN_DEG)
            texts = (
                f"turn the {colour} block to the {side}",
                f"twist the {colour} block {sense}",
                f"on the table, spin the {colour} block to the {side}",
                f"seen from above, the {colour} block should turn {sense}",
            )
            change = Change(_free(**{f"{colour}_block": "table"}))
            rule = ("rotate_object", f"block_{colour}", degrees)
            yield f"rotate_{colour}_block_{side}", Task(rule, texts, f"{colour} block", "move", (change,))


def _pushes() -> Iterator[tuple[str, Task]]:
    for colour in COLOURS:
        for side in _SIDES:
            texts = (
                f"shove the {colour} block to the {side}",
                f"slide the {colour} block along the table to the {side}",
                f"move the {colour} block farther {side}",
                f"the {colour} block belongs farther to the {side}, push it there",
            )
            change = Change(_free(**{f"{colour}_block": "table"}))
            rule = ("push_object", f"block_{colour}", _PUSH_M if side == "right" else -_PUSH_M, 0)
            yield f"push_{colour}_block_{side}", Task(rule, texts, f"{colour} block", "move", (change,))


def _doors() -> Iterator[tuple[str, Task]]:
    for side, other in (("left", "right"), ("right", "left")):
        texts = (
            f"move the sliding door to the {side}",
            f"push the cabinet door over to the {side}",
            f"slide the cabinet's door {side}",
            f"the {other} of the cabinet should be open: take the door to the {side}",
        )
        change = Change(_free(slider=other), {"slider": side})
        rule = ("move_door_rel", "base__slide", _SLIDE_M if side == "left" else -_SLIDE_M)
        yield f"move_slider_{side}", Task(rule, texts, "sliding door", "slider", (change,))
    for verb, before, after, texts in (
        (
            "open",
            "closed",
            "open",
            ("pull the drawer out", "pull open the drawer", "get the drawer open", "draw the drawer towards you"),
        ),
        (
            "close",
            "open",
            "closed",
            ("push the drawer in", "push the drawer shut", "shut the drawer", "the drawer should not stay open"),
        ),
    ):
        change = Change(_free(drawer=before), {"drawer": after})
        rule = ("move_door_rel", "base__drawer", _DRAWER_M if verb == "open" else -_DRAWER_M)
        yield f"{verb}_drawer", Task(rule, texts, "drawer", "drawer", (change,))


def _lifts() -> Iterator[tuple[str, Task]]:
    said = {"table": "from the table", "slider": "out of the sliding cabinet", "drawer": "out of the drawer"}
    for colour in COLOURS:
        block = f"{colour}_block"
        taken = {block: "grasped", "grasped": 1}
        open_sides = (("slider_left", "right"), ("slider_right", "left"))  # the door covers the other side
        changes = {
            "table": (Change(_free(**{block: "table"}), taken),),
            "slider": tuple(Change(_free(**{block: place, "slider": door}), taken) for place, door in open_sides),
            "drawer": (Change(_free(**{block: "drawer", "drawer": "open"}), taken),),
        }
        for place, (link, height_m) in _SURFACES.items():
            texts = (
                f"lift the {colour} block {said[place]}",
                f"take the {colour} block {said[place]}",
                f"get hold of the {colour} block and raise it {said[place]}",
                f"fetch the {colour} block {said[place]} and hold it up",
            )
            rule = ("lift_object", f"block_{colour}", height_m, "table", link)
            yield f"lift_{block}_{place}", Task(rule, texts, f"{colour} block", f"lift {place}", changes[place])


def _placements() -> Iterator[tuple[str, Task]]:
    into_slider = tuple(
        Change(_holding(colour, slider=side), {f"{colour}_block": f"slider_{side}", "grasped": 0})
        for colour in COLOURS
        for side in _SIDES
    )
    into_drawer = tuple(
        Change(_holding(colour, drawer="open"), {f"{colour}_block": "drawer", "grasped": 0}) for colour in COLOURS
    )
    for place, name, link, changes in (
        ("slider", "sliding cabinet", "plank_link", into_slider),
        ("drawer", "drawer", "drawer_link", into_drawer),
    ):
        texts = (
            f"lay the block that you hold in the {name}",
            f"place what is in your hand in the {name}",
            f"let go of the block inside the {name}",
            f"the {name} is where the block in the gripper belongs",
        )
        yield f"place_in_{place}", Task(("place_object", "table", link), texts, "", "place", changes)


def _stacks() -> Iterator[tuple[str, Task]]:
    pairs = tuple(permutations((f"{colour}_block" for colour in COLOURS), 2))
    stacked = tuple(
        Change(
            {top: ("grasped",), bottom: ("table",), "grasped": (1,)},
            {top: "stacked_top", bottom: "stacked_bottom", "grasped": 0},
        )
        for top, bottom in pairs
    )
    texts = (
        "put the block that you hold on top of another block",
        "build a tower of two blocks",
        "set one block on another one",
        "a block should stand on a block",
    )
    yield "stack_block", Task(("stack_objects",), texts, "", "stack", stacked)
    unstacked = tuple(
        Change(_free(**{top: "stacked_top", bottom: "stacked_bottom"}), {top: "table", bottom: "table"})
        for top, bottom in pairs
    )
    texts = (
        "take the tower of blocks apart",
        "take the upper block down",
        "remove the block that stands on another one",
        "no block should stand on a block any more",
    )
    yield "unstack_block", Task(("unstack_objects",), texts, "", "unstack", unstacked)


def _lights() -> Iterator[tuple[str, Task]]:
    for light, name, colour in (("lightbulb", "light bulb", "yellow"), ("led", "LED", "green")):
        for verb, before in (("on", 0), ("off", 1)):
            texts = (
                f"switch the {colour} {name} {verb}",
                f"switch {verb} the {name}",
                f"make the {name} go {verb}",
                f"the {colour} light should be {verb}",
            )
            change = Change(_free(**{light: before}), {light: 1 - before})
            rule = ("toggle_light", light, before, 1 - before)
            yield f"turn_{verb}_{light}", Task(rule, texts, name, "light", (change,))


def _pushed_into_drawer() -> Task:
    texts = (
        "push the block on the table into the drawer",
        "shove the block over the edge so that it falls into the drawer",
        "sweep the block from the table into the drawer",
        "without lifting it, get the block into the drawer",
    )
    changes = []
    for colour in COLOURS:
        others = {f"{other}_block": ("slider_right", "slider_left") for other in COLOURS if other != colour}
        changes.append(
            Change({**_free(**{f"{colour}_block": "table", "drawer": "open"}), **others}, {f"{colour}_block": "drawer"})
        )
    rule = ("push_object_into", list(BLOCKS), "table", "base_link", "table", "drawer_link")
    return Task(rule, texts, "", "push into", tuple(changes))


TASKS: dict[str, Task] = dict(_tasks())
