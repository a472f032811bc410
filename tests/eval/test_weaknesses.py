"""Weak spots: each planted one is named by its number, a sound policy has none, and few episodes accuse nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deixis.envs.tabletop.env import TabletopEnv
from deixis.eval.planted import FAULTS
from deixis.eval.results import EpisodeRecord
from deixis.eval.weaknesses import weaknesses

from .planted_episodes import play_planted

SHOWN = {
    "deaf": (("swap",), "deaf"),
    "verb-deaf": (("correct",), "tasks"),
    "mishearing": (("correct", "paraphrase-zh"), "new words"),
    "stubborn": (("correction",), "half listens"),
    "blind": (("correct",), "lost"),
    "colour-blind": (("correct", "swap"), "confuses colours"),
    "disordered": (("correct",), "clumsy"),
    "shaky": (("correct",), "lost"),  # it hits others, or none; what tells it from blindness is attribution
}
"""Fault -> the conditions that show it, and the weakness that it is."""


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_weaknesses_are_named(env: TabletopEnv, fault: str) -> None:
    conditions, name = SHOWN[fault]
    records = play_planted(env, fault, 12 if fault == "verb-deaf" else 9, conditions)
    assert name in [weakness.name for weakness in weaknesses(records)]


def test_a_sound_policy_has_none(env: TabletopEnv) -> None:
    shown = dict.fromkeys(condition for conditions, _ in SHOWN.values() for condition in conditions)
    assert weaknesses(play_planted(env, None, 6, [*shown, "null", "ordinal", "false-premise", "light-5"])) == []


Make = Callable[..., EpisodeRecord]


def _of(make_record: Make, condition: str, good: int, bad: int, **when_bad: object) -> list[EpisodeRecord]:
    sound = [make_record("lift", index, condition) for index in range(good)]
    return sound + [make_record("lift", good + index, condition, **when_bad) for index in range(bad)]


def test_sentences_have_the_numbers(make_record: Make) -> None:
    other = {"success": False, "first_grasped": "red ball", "first_moved": "red ball", "first_touched": "red ball"}
    found = weaknesses(_of(make_record, "correct", 60, 40, **other))
    assert [(weakness.name, weakness.sentence) for weakness in found] == [
        ("confuses shapes", "It takes another object of the same colour in 40%."),
        ("lost", "Told in its own words, it goes for the named object in only 60%."),
    ]
    half = [*_of(make_record, "correct", 50, 0), *_of(make_record, "light-4", 8, 42, success=False)]
    half += [*_of(make_record, "light-5", 0, 20, success=False), *_of(make_record, "light-3", 50, 0)]
    half += [*_of(make_record, "noise-1", 0, 50, success=False), *_of(make_record, "noise-2", 50, 0)]
    assert [weakness.sentence for weakness in weaknesses(half)] == [
        "From severity 4 of light on, success is surely halved: 16%."
    ]
    pairs = [*_of(make_record, "correct", 50, 0), *_of(make_record, "pair", 25, 25, success=False)]
    assert [weakness.name for weakness in weaknesses(pairs)] == ["world: pair"]


ACTS = {"first_grasped": "red cube", "first_moved": "red cube", "first_touched": "red cube"}
IDLE = {"success": False, "first_grasped": None, "first_moved": None, "first_touched": None}


@pytest.mark.parametrize(("condition", "name"), [("null", "acts untold"), ("false-premise", "sees ghosts")])
def test_who_acts_where_nothing_is_to_be_done(make_record: Make, condition: str, name: str) -> None:
    acting = [make_record("lift", index, condition, **ACTS) for index in range(20)]
    assert [weakness.name for weakness in weaknesses(acting)] == [name]
    assert weaknesses([make_record("lift", index, condition, **IDLE) for index in range(20)]) == []


def test_who_does_not_know_places(make_record: Make) -> None:
    known = _of(make_record, "correct", 40, 0)
    lost = _of(make_record, "ordinal", 10, 30, **IDLE)
    assert [weakness.name for weakness in weaknesses([*known, *lost])] == ["places"]


def test_who_takes_anything_confuses_nothing_in_particular(make_record: Make) -> None:
    others = ("blue cube", "red ball", "green ball", "yellow cylinder")
    wrong = [
        make_record("lift", 60 + i, success=False, first_grasped=o, first_moved=o, first_touched=o)
        for i, o in enumerate(others * 10)
    ]
    assert [w.name for w in weaknesses([*_of(make_record, "correct", 60, 0), *wrong])] == ["lost"]


def test_to_touch_is_to_act(make_record: Make) -> None:
    touched = {"first_grasped": None, "first_moved": None, "first_touched": "red cube"}
    assert weaknesses([make_record("touch", index, **touched) for index in range(40)]) == []


def test_few_episodes_accuse_nobody(make_record: Make) -> None:
    other = {"success": False, "first_grasped": "blue ball", "first_moved": "blue ball", "first_touched": "blue ball"}
    few = [*_of(make_record, "correct", 2, 1, **other), *_of(make_record, "paraphrase-zh", 2, 1, **other)]
    few += _of(make_record, "light-5", 1, 1, success=False)
    assert weaknesses(few) == []
