"""Where CALVIN's evaluation begins, and its 1,000 chains of five tasks, drawn anew here as CALVIN draws them.

Procedure and numbers are those of `multistep_sequences.py` and `evaluation/utils.py` in github.com/mees/calvin: chains,
and where their blocks lie, are the published ones.
"""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np

from .tasks import COLOURS, TASKS, Table

CHAINS = 1000
LENGTH = 5

ROBOT = np.array(  # the arm before every chain, as CALVIN's 15 numbers
    (0.02586889, -0.2313129, 0.5712808, 3.09045411, -0.02908596, 1.50013585, 0.07999963)
    + (-1.21779124, 1.03987629, 2.11978254, -2.34205014, -0.87015899, 1.64119093, 0.55344928, 1.0)
)
_SLIDER_PLACES = {
    "slider_left": (-2.40851662e-01, 9.24044687e-02, 4.60990009e-01),
    "slider_right": (7.03416330e-02, 9.24044687e-02, 4.60990009e-01),
}
_TABLE_PLACES = (
    (5.00000896e-02, -1.20000177e-01, 4.59990009e-01),
    (2.29995412e-01, -1.19995140e-01, 4.59990010e-01),
)
_YAW_RAD = (np.pi / 2 - np.pi / 8, np.pi / 2 + np.pi / 8)
_DOOR_LEFT_M, _DRAWER_OPEN_M, _SWITCH_ON = 0.28, 0.22, 0.088


@cache
def tables() -> tuple[Table, ...]:
    """The 192 tables that chains begin with: one or two blocks on the table, at most one on either side of the
    cabinet."""
    choices: dict[str, tuple[str | int, ...]] = {
        "led": (0, 1),
        "lightbulb": (0, 1),
        "slider": ("right", "left"),
        "drawer": ("closed", "open"),
        **{f"{colour}_block": ("table", "slider_right", "slider_left") for colour in COLOURS},
        "grasped": (0,),
    }
    found = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    return tuple(table for table in found if _fits([table[f"{colour}_block"] for colour in COLOURS]))


def _fits(places: list[str | int]) -> bool:
    return places.count("table") in (1, 2) and all(places.count(side) < 2 for side in _SLIDER_PLACES)


def tables_for(task: str) -> tuple[Table, ...]:
    """Those of `tables` on which a task can be done at once; none where others have to come first."""
    return tuple(table for table in tables() if TASKS[task].after(table))


STARTING = tuple(task for task in TASKS if tables_for(task))
"""The tasks that an episode of their own can begin with."""


def chain(number: int) -> tuple[Table, tuple[str, ...]]:
    """The table and the five tasks of CALVIN's chain of this number, from 0; ValueError past the last."""
    if not 0 <= number < CHAINS:
        raise ValueError(f"chain: found number {number}, wanted 0 to {CHAINS - 1}: CALVIN has {CHAINS} chains")
    of_table, place = _order()[number]
    return tables()[of_table], _drawn(of_table)[place]


@cache
def _order() -> list[tuple[int, int]]:
    """For each chain the number of its table, and its own number among those that begin with that table."""
    counts = [len(part) for part in np.array_split(np.arange(CHAINS), len(tables()))]
    order = [(table, place) for table, count in enumerate(counts) for place in range(count)]
    np.random.RandomState(0).shuffle(order)  # pyright: ignore[reportArgumentType]  (a list is shuffled as it stands)
    return order


@cache
def _drawn(of_table: int) -> tuple[tuple[str, ...], ...]:
    """The chains that begin with this table: draws of five tasks, of which those are kept that can be done in turn."""
    table, names, rng = tables()[of_table], tuple(TASKS), np.random.RandomState(of_table)
    possible = {number for number, name in enumerate(names) if TASKS[name].after(table)}
    wanted = len(np.array_split(np.arange(CHAINS), len(tables()))[of_table])
    kept: list[tuple[str, ...]] = []
    while len(kept) < wanted:
        numbers = rng.permutation(len(names))[:LENGTH]
        if int(numbers[0]) in possible and _can_be_done(table, tasks := tuple(names[number] for number in numbers)):
            kept.append(tasks)
    return tuple(kept)


def _can_be_done(table: Table, tasks: tuple[str, ...]) -> bool:
    """Whether no two are of one kind, and each has exactly one way where the one before has led."""
    if len({TASKS[task].kind for task in tasks}) < len(tasks):
        return False
    for task in tasks:
        ways = TASKS[task].after(table)
        if len(ways) != 1:
            return False
        table = ways[0]
    return True


def published_noise(table: Table) -> np.random.RandomState:
    """The generator that CALVIN places the blocks of a table with in its chains, always the same."""
    return np.random.RandomState(_fnv1_32(str(dict(table).values())))


def scene(table: Table, rng: np.random.RandomState) -> dict[str, float | np.ndarray]:
    """The table as numbers, by the names of CALVIN's parts: joints in metres and radians, lights 0 or 1, blocks as
    float64 [6], place (metres) and Euler angles (radians)."""
    spots = list(_TABLE_PLACES)
    rng.shuffle(spots)  # pyright: ignore[reportArgumentType]
    parts: dict[str, float | np.ndarray] = {
        "base__slide": _DOOR_LEFT_M if table["slider"] == "left" else 0.0,
        "base__drawer": _DRAWER_OPEN_M if table["drawer"] == "open" else 0.0,
        "base__button": 0.0,
        "base__switch": _SWITCH_ON if table["lightbulb"] else 0.0,
        "lightbulb": float(table["lightbulb"]),
        "led": float(table["led"]),
    }
    # Two blocks on the table have a spot each, whichever two they are: the first in this order has the first.
    on_table = {"red": 0, "blue": int(table["red_block"] == "table"), "pink": 1}
    for colour in COLOURS:
        place = _SLIDER_PLACES.get(str(table[f"{colour}_block"]), spots[on_table[colour]])
        parts[f"block_{colour}"] = np.array((*place, 0.0, 0.0, rng.uniform(*_YAW_RAD)))
    return parts


def _fnv1_32(text: str) -> int:
    """The hash FNV-1 from 0 over UTF-16, which is what the package pyhash makes of a text by default."""
    value = 0
    for byte in text.encode("utf-16-le"):
        value = (value * 16777619) & 0xFFFFFFFF ^ byte
    return value
