"""Planted policies do what their fault says, and the right number gives them away."""

from __future__ import annotations

from typing import Any

import pytest

from deixis.envs.tabletop.env import TabletopEnv
from deixis.eval.attribution import STAGES
from deixis.eval.instructions import by_condition
from deixis.eval.planted import FAULTS, PlantedPolicy
from deixis.eval.results import EpisodeRecord

from .planted_episodes import play_planted

EPISODES = 6


def judged(env: TabletopEnv, fault: str | None, *conditions: str, given: tuple[str, ...] = ()) -> dict[str, Any]:
    records = play_planted(env, fault, EPISODES, conditions, given)
    assert all(isinstance(record, EpisodeRecord) for record in records)
    return by_condition(records)


def test_without_a_fault_it_does_all_it_is_asked(env: TabletopEnv) -> None:
    words = ("correct", "swap", "verb", "paraphrase-zh", "negation", "correction", "ordinal", "change")
    found = judged(env, None, *words, "null", "false-premise")
    assert all(found[condition]["acted_on_named"] == 1 for condition in words), found
    assert sum(found[condition]["success_rate"] for condition in words) >= 0.9 * len(words)
    assert found["null"]["acted_on_none"] == found["false-premise"]["success_rate"] == 1


def test_deaf(env: TabletopEnv) -> None:
    found = judged(env, "deaf", "correct", "null", "swap")
    assert found["correct"]["success_rate"] >= 0.8, "nothing seems wrong"
    assert found["null"]["success_rate"] >= 0.8 and found["swap"]["acted_on_lure"] == 1


def test_verb_deaf(env: TabletopEnv) -> None:
    found = judged(env, "verb-deaf", "correct", "verb")
    assert found["verb"]["acted_on_named"] == 1 and found["verb"]["success_rate"] <= 0.5
    assert found["correct"]["success_rate"] == pytest.approx(1 / 3, abs=0.17), "lifting is one of three verbs"


def test_mishearing(env: TabletopEnv) -> None:
    found = judged(env, "mishearing", "correct", "paraphrase-en", "paraphrase-zh")
    assert found["correct"]["grounding_score"] == 1
    assert found["paraphrase-en"]["acted_on_named"] == found["paraphrase-zh"]["acted_on_named"] == 0


def test_stubborn(env: TabletopEnv) -> None:
    found = judged(env, "stubborn", "correct", "swap", "correction", "negation", "change")
    assert found["correct"]["acted_on_named"] == found["swap"]["acted_on_named"] == 1
    assert all(found[condition]["acted_on_lure"] >= 0.8 for condition in ("correction", "negation", "change"))


def test_colour_blind(env: TabletopEnv) -> None:
    found = judged(env, "colour-blind", "correct", "distractors-0")
    assert 0 < found["correct"]["acted_on_named"] < 1 and found["correct"]["acted_on_other"] > 0
    assert found["distractors-0"]["acted_on_named"] == 1


def test_blind(env: TabletopEnv) -> None:
    found = judged(env, "blind", "correct")
    assert found["correct"]["success_rate"] <= 0.2 and found["correct"]["acted_on_named"] <= 0.4


@pytest.mark.parametrize("fault", ["disordered", "shaky"])
def test_what_is_done_badly_is_begun_with_the_right_object(env: TabletopEnv, fault: str) -> None:
    found = judged(env, fault, "correct", "swap")
    for condition in ("correct", "swap"):
        assert found[condition]["success_rate"] <= 0.4
        assert found[condition]["acted_on_lure"] <= 0.4


@pytest.mark.parametrize("fault", FAULTS)
def test_the_truth_about_its_stage_heals_it(env: TabletopEnv, fault: str) -> None:
    stage, _ = FAULTS[fault]
    condition = {"mishearing": "paraphrase-en", "stubborn": "correction", "deaf": "swap", "verb-deaf": "verb"}
    asked = condition.get(fault, "correct")
    assert judged(env, fault, asked, given=(stage,))[asked]["success_rate"] >= 0.8
    others = tuple(name for name in STAGES if name != stage)
    assert judged(env, fault, asked, given=others)[asked]["success_rate"] <= 0.5


def test_an_unknown_fault_is_refused(env: TabletopEnv) -> None:
    with pytest.raises(ValueError, match="fault: found 'lazy'"):
        PlantedPolicy(env, "lazy")
