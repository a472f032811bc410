"""summary.json: every rate against a count by hand, from the table alone."""

import json
from pathlib import Path

import pytest

from deixis.eval.instructions import DEFINITIONS as INSTRUCTIONS
from deixis.eval.results import write_table
from deixis.eval.statistics import wilson_interval
from deixis.eval.summary import DEFINITIONS, summarise, training_seconds, write_summary


def test_rates(make_record):
    records = [
        make_record("lift", 0),
        make_record("lift", 1, success=False, first_grasped="blue cube"),
        make_record("push", 0, success=False, first_grasped=None, first_moved=None),
        make_record("push", 1, first_grasped=None, first_moved="red cube"),
        make_record("lift", 0, "null", success=False),
        make_record("lift", 1, "null"),
        make_record("lift", 0, "swap", target="blue cube", first_grasped="blue cube", success=False),
        make_record("lift", 1, "swap", target="blue cube", first_grasped="red cube", success=False),
        make_record("push", 0, "swap", target="blue cube", first_grasped=None, first_moved="blue cube"),
    ]
    summary = summarise(records, {"collect": 10.004, "train": 20.0})
    assert (summary["success_rate"], summary["episodes"]) == (0.5, 4)
    assert summary["ci95"] == list(wilson_interval(2, 4))
    assert summary["per_task"] == {
        "lift": {"rate": 0.5, "ci95": list(wilson_interval(1, 2)), "episodes": 2},
        "push": {"rate": 0.5, "ci95": list(wilson_interval(1, 2)), "episodes": 2},
    }
    assert summary["wrong_object_rate"] == 0.25
    assert summary["null_success_rate"] == 0.5
    assert summary["swap_follow_rate"] == pytest.approx(2 / 3)
    assert summary["swap_original_rate"] == pytest.approx(1 / 3)
    assert summary["swap_success_rate"] == pytest.approx(1 / 3)
    assert summary["swap_follow_ci95"] == list(wilson_interval(2, 3))
    assert summary["wall_seconds"] == {"total": 30.0, "stages": {"collect": 10.0, "train": 20.0}}
    assert summary["versions"] == records[0].versions
    assert set(summary["definitions"]) == set(DEFINITIONS) | set(INSTRUCTIONS)


def test_groups_of_tasks_count_alike_in_their_mean(make_record):
    def of(task, index, success):
        return make_record(task, index, success=success, suite="metaworld-mt50")

    easy = [of("reach", index, True) for index in range(6)] + [of("door-open", 0, False), of("door-open", 1, True)]
    hard = [of("push", 0, False), of("assembly", 0, True)]
    summary = summarise([*easy, *hard], {})
    assert {tier: found["rate"] for tier, found in summary["per_tier"].items()} == {"easy": 7 / 8, "hard": 0.5}
    assert summary["per_tier"]["hard"] == {"rate": 0.5, "ci95": list(wilson_interval(1, 2)), "episodes": 2}
    assert summary["tier_mean"] == pytest.approx((7 / 8 + 0.5) / 2) and summary["success_rate"] == 0.8
    assert "tier_mean" not in summarise([make_record()], {})


def test_conditions_not_run_are_none(make_record):
    summary = summarise([make_record()], {})
    assert summary["null_success_rate"] is None
    assert summary["swap_follow_ci95"] is None
    assert summary["wall_seconds"] == {"total": 0, "stages": {}}


def test_a_total_that_was_measured_counts(make_record):
    assert summarise([make_record()], {"collect": 1.0, "total": 5.0})["wall_seconds"] == {
        "total": 5.0,
        "stages": {"collect": 1.0},
    }


def test_written_and_recomputed(tmp_path, records):
    write_table(records, tmp_path / "episodes.parquet")
    (tmp_path / "timings.json").write_text('{"collect": 31.5, "eval": 120}')
    summary = write_summary(tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert write_summary(tmp_path) == summary
    needed = (
        "success_rate ci95 episodes per_task wrong_object_rate null_success_rate swap_follow_rate wall_seconds versions"
    )
    assert set(needed.split()) <= set(summary)


def test_mixed_or_missing_records_are_errors(make_record):
    with pytest.raises(ValueError, match="no episode with condition 'correct'"):
        summarise([make_record(condition="null")], {})
    with pytest.raises(ValueError, match="policy_hash: found"):
        summarise([make_record(), make_record(index=1, policy_hash="other")], {})


def test_training_stages_are_timed_from_the_log(tmp_path: Path) -> None:
    rows = [("align", 10.0), ("align", 30.0), ("imitate", 42.5)]
    lines = [json.dumps({"stage": stage, "step": 1, "time_s": seconds}) for stage, seconds in rows]
    (tmp_path / "training.jsonl").write_text("\n".join(lines) + "\n")
    assert training_seconds(tmp_path / "training.jsonl") == {"align": 30.0, "imitate": 12.5}
