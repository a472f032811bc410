"""Problems in BDDL: what stands where, what is wanted, and the words for it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

_WORDS = {
    "akita black bowl": "black bowl",
    "flat stove": "stove",
    "glazed rim porcelain ramekin": "ramekin",
    "porcelain mug": "white mug",
    "white yellow mug": "yellow and white mug",
    "chefmate 8 frypan": "frying pan",
    "new salad dressing": "salad dressing",
    "desk caddy": "caddy",
    "basin faucet": "faucet",
}
_PLACES = ("main_table", "floor", "kitchen_table", "living_room_table", "study_table", "coffee_table")


@dataclass(frozen=True)
class Predicate:
    """One wish of a goal: `name` (on, in, open, close, turnon, turnoff, up) of the things or regions `of`."""

    name: str
    of: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.of)})"


@dataclass(frozen=True)
class Problem:
    """A task as its file says it.

    Attributes:
        name: of the package's class for the scene. instruction: what is said.
        kinds: things by name, and their category; without tables and floors.
        fixtures: those of them that stand still.
        regions: by name, the thing each belongs to.
        start, goal: what holds at first, and what is wanted: all of it.
        interest: things and regions that the task is about.
    """

    name: str
    instruction: str
    kinds: Mapping[str, str]
    fixtures: frozenset[str]
    regions: Mapping[str, str]
    start: tuple[Predicate, ...]
    goal: tuple[Predicate, ...]
    interest: tuple[str, ...]

    def thing(self, name: str) -> str:
        """The thing of that name, or the one that the region of that name belongs to; "" for a place on a table."""
        owner = name if name in self.kinds else self.regions.get(name, "")
        return owner if owner in self.kinds else ""

    def words(self, thing: str) -> str:
        """A readable name: "alphabet soup", "plate 2" where there are several plates."""
        kind = self.kinds[thing]
        words = kind.replace("_", " ")
        words = _WORDS.get(words, words)
        several = sum(other == kind for other in self.kinds.values()) > 1
        return f"{words} {thing.rpartition('_')[2]}" if several else words

    @property
    def target(self) -> str:
        """The thing that the goal is about first: the one to move, else the one to open, close or turn."""
        moved = [wish for wish in self.goal if len(wish.of) == 2] or list(self.goal)
        return self.thing(moved[0].of[0]) if moved else ""


@lru_cache(maxsize=512)
def read_problem(path: Path) -> Problem:
    """The problem in a file; ValueError where it is none."""
    try:
        define, *sections = _tokens(path.read_text(encoding="utf-8"))
        parts = {section[0]: section[1:] for section in sections}
        if define != "define":
            raise ValueError(f"it begins with {define!r}, wanted 'define'")
        kinds, fixtures = _typed(parts.get(":objects", [])), _typed(parts.get(":fixtures", []))
        regions = dict(_region(region) for region in parts.get(":regions", []))
        goal = parts[":goal"][0]
        return Problem(
            name=parts["problem"][0],
            instruction=" ".join(parts[":language"]).replace("\u2019", "'"),
            kinds={name: kind for name, kind in {**fixtures, **kinds}.items() if name not in _PLACES},
            fixtures=frozenset(name for name in fixtures if name not in _PLACES),
            regions=regions,
            start=tuple(_predicate(line) for line in parts.get(":init", [])),
            goal=tuple(_predicate(line) for line in (goal[1:] if goal[0] == "and" else [goal])),
            interest=tuple(parts.get(":obj_of_interest", [])),
        )
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: found no BDDL problem ({error!r})") from error


def _tokens(text: str) -> list[Any]:
    """Nested lists of words in lower case, as the package reads them."""
    stack: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", re.sub(r";.*$", "", text, flags=re.MULTILINE).lower()):
        if token == "(":
            stack.append([])
        elif token == ")":
            closed = stack.pop()
            stack[-1].append(closed)
        else:
            stack[-1].append(token)
    (whole,) = stack
    return whole[0]


def _typed(words: list[str]) -> dict[str, str]:
    """`a b - kind` as {a: kind, b: kind}."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    names = iter(words)
    for word in names:
        if word == "-":
            kind = next(names)
            found |= dict.fromkeys(waiting, kind)
            waiting = []
        else:
            waiting.append(word)
    return found


def _region(region: list[Any]) -> tuple[str, str]:
    target = next(line[1] for line in region[1:] if line[0] == ":target")
    return f"{target}_{region[0]}", target


def _predicate(line: list[str]) -> Predicate:
    return Predicate(line[0], tuple(line[1:]))
