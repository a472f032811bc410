"""What a policy acts on, by condition, against counts made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from deixis.envs.conditions import CONDITIONS, WORLDS
from deixis.envs.suites import suite_named
from deixis.eval.config import EvalConfig
from deixis.eval.instructions import DEFINITIONS, INDEXED, NOTHING_TO_DO, by_condition, instruction_following_index
from deixis.eval.results import EpisodeRecord, read_table, write_table
from deixis.eval.success import plan
from deixis.eval.summary import summarise

Make = Callable[..., EpisodeRecord]


def acting(make: Make, condition: str, *acted_on: str | None, lure: str | None = "blue cube", choices: int = 4):
    """Episodes that ask for the red cube, in which these objects are acted on."""
    return [
        make(
            *("lift", i, condition),
            first_grasped=name,
            first_moved=name,
            success=name == "red cube",
            lure=lure,
            choices=choices,
            original_success=name == "blue cube",
        )
        for i, name in enumerate(acted_on)
    ]


def test_shares_add_up_to_one_and_are_counted(make_record: Make) -> None:
    records = acting(make_record, "swap", "red cube", "red cube", "blue cube", "green ball", None)
    found = by_condition(records)["swap"]
    assert found["episodes"] == 5 and found["success_rate"] == 0.4
    shares = {name: found[f"acted_on_{name}"] for name in ("named", "lure", "other", "none")}
    assert shares == pytest.approx({"named": 0.4, "lure": 0.2, "other": 0.2, "none": 0.2})
    assert found["original_success_rate"] == 0.2
    assert found["grounding_score"] == pytest.approx((0.4 - 0.25) / 0.75)
    assert found["grounding_score_ci95"][0] < found["grounding_score"] < found["grounding_score_ci95"][1]


def test_chance_depends_on_how_many_there_are(make_record: Make) -> None:
    two = acting(make_record, "swap", "red cube", "blue cube", choices=2)
    assert by_condition(two)["swap"]["grounding_score"] == pytest.approx(0)
    always = acting(make_record, "swap", "red cube", "red cube", choices=5)
    assert by_condition(always)["swap"]["grounding_score"] == pytest.approx(1)
    alone = acting(make_record, "distractors-0", "red cube", choices=1)
    assert "grounding_score" not in by_condition(alone)["distractors-0"], "nothing to choose from"


def test_the_index_is_the_mean_of_all_its_conditions(make_record: Make) -> None:
    records = [r for c in INDEXED if c not in NOTHING_TO_DO for r in acting(make_record, c, "red cube", choices=4)]
    records += acting(make_record, "null", None, None, "red cube", "red cube")
    assert instruction_following_index(by_condition(records)) is None, "not without all of them"
    records += acting(make_record, "false-premise", None, "blue cube", "blue cube", "blue cube")
    whole = by_condition(records)
    assert instruction_following_index(whole) == pytest.approx((9 + 0.5 + 0.25) / 11)
    # One that never does what it is told scores 0, not below.
    deaf = [replace(r, first_grasped="blue cube", first_moved="blue cube") for r in records]
    assert instruction_following_index(by_condition(deaf)) == 0


def test_the_summary_has_every_condition_and_says_what_its_numbers_are(make_record: Make, tmp_path) -> None:
    records = acting(make_record, "correct", "red cube", lure=None) + acting(make_record, "negation", "blue cube")
    table = write_table(records, tmp_path / "episodes.parquet")
    assert read_table(table) == records
    summary = summarise(read_table(table), {})
    assert set(summary["conditions"]) == {"correct", "negation"}
    assert summary["conditions"]["negation"]["acted_on_lure"] == 1
    assert set(DEFINITIONS) <= set(summary["definitions"]) and "instruction_following_index" not in summary


def test_all_conditions_can_be_asked_for_at_once() -> None:
    config = EvalConfig(conditions=("all",), episodes=6, control_episodes=3)
    assert config.conditions == tuple(CONDITIONS)
    jobs = plan(suite_named("tabletop-demo"), config)
    assert len(jobs) == 6 + 3 * (len(CONDITIONS) - 1)
    assert {job.task for job in jobs if job.condition == "relation"} == {"push"}
    both = EvalConfig(conditions=("all", "challenges", "null")).conditions
    assert both == (*CONDITIONS, *WORLDS), "each once"
    with pytest.raises(ValueError, match="none of the tasks of suite 'pusht-state'"):
        plan(suite_named("pusht-state"), replace(config, conditions=("correct", "relation")))
    with pytest.raises(ValueError, match=r"eval\.conditions: found"):
        EvalConfig(conditions=("correct", "whisper"))
