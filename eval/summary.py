"""summary.json: the numbers of a run, computed from the results table and the stage timings alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..datasets.atomic import write_text
from ..envs.suites import tiers_of
from .instructions import DEFINITIONS as INSTRUCTIONS
from .instructions import by_condition, instruction_following_index
from .results import EpisodeRecord, read_table, table_digest
from .statistics import Proportion, mean_score, proportion

DEFINITIONS = {
    "success_rate": "Share of episodes with the scene's own instruction in which the environment's success predicate "
    "for that goal became true within the step limit.",
    "score": "Mean of the environment's own mark of those episodes, 0 to 1; the success rate where it gives none.",
    "score_ci95": "95% interval of that mean, from its standard error.",
    "ci95": "95% Wilson score interval of the rate beside it.",
    "wrong_object_rate": "Share of episodes with the scene's own instruction in which the first object that the robot "
    "grasped (or, if it grasped none, moved) is not the instructed one.",
    "tier_mean": "Mean of the success rates of the suite's groups of tasks (such as easy and hard ones), each counted "
    "alike; the success rate counts each episode alike.",
    "null_success_rate": "Share of the same scenes in which the goal was reached although the instruction asked for "
    "nothing. High means that the policy does not need the words.",
    "swap_follow_rate": "Share of the same scenes, given the instruction of another object in the scene, in which the "
    "first object that the robot grasped (or, if it grasped none, moved) is that other object.",
    "swap_original_rate": "Share of those episodes in which it is the object of the original instruction instead.",
    "swap_success_rate": "Share of those episodes in which the goal of the other instruction was reached.",
    "subgoal_accuracy": "Share of the sub-goals said in episodes with the scene's own instruction that are word for "
    "word what the expert would have been about in that state.",
    "wall_seconds": "Wall-clock seconds of each step of the run, of all together, and of each stage of training.",
}


def summarise(records: Sequence[EpisodeRecord], timings: dict[str, float]) -> dict[str, Any]:
    """Summary of a results table.

    timings: stage name to seconds; an entry "total" is taken as the total, otherwise the stages are added up.
    A rate whose condition was not run is None. Raises ValueError when no record has the condition "correct",
    or when records come from several policies or suites.
    """
    correct = [record for record in records if record.condition == "correct"]
    if not correct:
        raise ValueError("the results table holds no episode with condition 'correct': nothing to summarise")
    for name in ("policy_hash", "suite", "versions"):
        found = {json.dumps(getattr(record, name), sort_keys=True) for record in records}
        if len(found) > 1:
            raise ValueError(
                f"{name}: found {sorted(found)} in one results table, wanted one: summarise them separately"
            )

    outcomes = outcomes_of(records)
    success = _share(outcomes.pop("success"))
    summary: dict[str, Any] = {
        "suite": correct[0].suite,
        "policy_hash": correct[0].policy_hash,
        "success_rate": success.rate,
        "ci95": [success.low, success.high],
        "episodes": success.episodes,
        **_marks(correct),
        **subgoal_accuracy(correct),
        "per_task": {},
    }
    for task in dict.fromkeys(record.task for record in correct):
        chosen = [record for record in correct if record.task == task]
        rate = _share([record.success for record in chosen])
        summary["per_task"][task] = {"rate": rate.rate, "ci95": [rate.low, rate.high], "episodes": rate.episodes}
    summary |= _by_tier(correct)
    for name, found in outcomes.items():
        rate = _share(found) if found else None
        summary[f"{name}_rate"] = rate.rate if rate else None
        summary[f"{name}_ci95"] = [rate.low, rate.high] if rate else None
        summary[f"{name}_episodes"] = len(found)

    summary["conditions"] = by_condition(records)
    if (index := instruction_following_index(summary["conditions"])) is not None:
        summary["instruction_following_index"] = index

    stages = {stage: round(seconds, 2) for stage, seconds in timings.items() if stage != "total"}
    total = timings.get("total", sum(stages.values()))
    summary["wall_seconds"] = {"total": round(total, 2), "stages": stages}
    summary["versions"] = correct[0].versions
    summary["table_digest"] = table_digest(records)
    named = any("acted_on_named" in values for values in summary["conditions"].values())
    summary["definitions"] = DEFINITIONS | (INSTRUCTIONS if named else {})
    return summary


def outcomes_of(records: Sequence[EpisodeRecord]) -> dict[str, list[bool]]:
    """What each rate of `DEFINITIONS` counts, episode by episode; nothing where its condition was not run."""
    correct, null, swap = ([r for r in records if r.condition == name] for name in ("correct", "null", "swap"))
    return {
        "success": [r.success for r in correct],
        "wrong_object": [r.wrong_object for r in correct if r.target],  # some environments have nothing to choose from
        "null_success": [r.success for r in null],
        "swap_follow": [r.acted_on == r.target for r in swap],
        "swap_original": [r.acted_on == r.original_target for r in swap],
        "swap_success": [r.success for r in swap],
    }


def _by_tier(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """Success by groups of tasks and the mean of these rates, which counts each group alike; nothing without groups."""
    rates = {
        tier: _share([record.success for record in records if record.task in tasks])
        for tier, tasks in tiers_of(records[0].suite).items()
        if any(record.task in tasks for record in records)
    }
    if not rates:
        return {}
    shown = {tier: {"rate": r.rate, "ci95": [r.low, r.high], "episodes": r.episodes} for tier, r in rates.items()}
    return {"per_tier": shown, "tier_mean": sum(rate.rate for rate in rates.values()) / len(rates)}


def _marks(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """The mean mark and its 95% interval; nothing where every mark only says whether the episode was a success."""
    if all(record.score == record.success for record in records):
        return {}
    return mean_score([record.score for record in records])


def subgoal_accuracy(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """How often what the policy said it would do was right, and how often it said it; nothing where it says nothing."""
    said, right = (sum(getattr(r, name) or 0 for r in records) for name in ("subgoals", "subgoals_right"))
    return {"subgoal_accuracy": right / said, "subgoals": said} if said else {}


def write_summary(run_dir: Path | str) -> dict[str, Any]:
    """Computes `run_dir`/summary.json from episodes.parquet and, if there, timings.json and training.jsonl."""
    run_dir = Path(run_dir)
    timings_path = run_dir / "timings.json"
    timings = json.loads(timings_path.read_text()) if timings_path.exists() else {}
    summary = summarise(read_table(run_dir / "episodes.parquet"), timings)
    log = run_dir / "training.jsonl"
    if log.exists():
        summary["wall_seconds"]["training"] = training_seconds(log)
    write_text(run_dir / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return summary


def training_seconds(log: Path) -> dict[str, float]:
    """Seconds that each training stage took, from the clock in training.jsonl."""
    ends: dict[str, float] = {}
    for line in log.read_text("utf-8").splitlines():
        record = json.loads(line)
        ends[record["stage"]] = record["time_s"]
    starts = [0.0, *ends.values()]
    return {stage: round(end - start, 2) for start, (stage, end) in zip(starts, ends.items(), strict=False)}


def _share(outcomes: Sequence[bool]) -> Proportion:
    return proportion(sum(outcomes), len(outcomes))
