"""Does the policy do what it is told? What it acts on, condition by condition, and one index of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from .results import EpisodeRecord
from .statistics import bootstrap_interval, proportion

NOTHING_TO_DO = ("null", "false-premise")
INDEXED = (
    *("swap", "paraphrase-en", "paraphrase-zh", "paraphrase-mixed", "negation", "correction"),
    *("reference", "ordinal", "change", *NOTHING_TO_DO),
)
"""Conditions that the index is made of: other words for the same scenes, in which an object is to be found, or none."""

DEFINITIONS = {
    "acted_on_named": "Share of episodes in which the first object that the robot grasped (or, if it grasped none, "
    "moved) is the one that the instruction is about.",
    "acted_on_lure": "Share in which it is the object that a policy acts on which does not hear all of the "
    "instruction: the original one of a swap, the one that is not meant, the one that was asked for before.",
    "acted_on_other": "Share in which it is another object than these.",
    "acted_on_none": "Share in which no object was grasped or moved.",
    "grounding_score": "(p - 1/k) / (1 - 1/k), averaged over episodes, of p 1 where the named object was acted on, "
    "else 0, and k objects that could have been: 1 is always, 0 is by chance.",
    "original_success_rate": "Share of episodes in which the goal of the scene's own instruction was reached.",
    "instruction_following_index": "Mean over the conditions " + ", ".join(INDEXED) + " of the grounding score, below "
    "0 taken as 0, and, of " + " and ".join(NOTHING_TO_DO) + ", of the share of episodes in which no object was acted "
    "on. Given where all of them were run.",
}


def by_condition(records: Sequence[EpisodeRecord]) -> dict[str, dict[str, Any]]:
    """Condition -> what `DEFINITIONS` names, success with Wilson's interval, and episodes, as far as it is known."""
    found: dict[str, dict[str, Any]] = {}
    for condition in dict.fromkeys(record.condition for record in records):
        chosen = [record for record in records if record.condition == condition]
        success = proportion(sum(record.success for record in chosen), len(chosen))
        values: dict[str, Any] = {
            "episodes": len(chosen),
            "success_rate": success.rate,
            "success_ci95": [success.low, success.high],
        }
        if all(record.target for record in chosen):
            values |= _acted_on(chosen)
        found[condition] = values | _original(chosen) | _grounding(chosen)
    return found


def _acted_on(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    named = [record.acted_on == record.target for record in records]
    lure = [record.acted_on is not None and record.acted_on == record.lure for record in records]
    none = [record.acted_on is None for record in records]
    shares = {"named": fmean(named), "lure": fmean(a and not b for a, b in zip(lure, named, strict=True))}
    shares["none"] = fmean(none)
    return {f"acted_on_{what}": share for what, share in {**shares, "other": 1 - sum(shares.values())}.items()}


def _original(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    known = [record.original_success for record in records if record.original_success is not None]
    return {"original_success_rate": fmean(known)} if known else {}


def _grounding(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """Nothing where no object is there to be found, or nothing to choose from."""
    scores = [
        ((record.acted_on == record.target) - 1 / record.choices) / (1 - 1 / record.choices)
        for record in records
        if record.choices is not None and record.choices > 1 and record.condition not in NOTHING_TO_DO
    ]
    if not scores:
        return {}
    return {"grounding_score": fmean(scores), "grounding_score_ci95": list(bootstrap_interval(scores))}


def instruction_following_index(conditions: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The index of `DEFINITIONS` from `by_condition`; None where one of its conditions was not run."""
    key = {condition: "acted_on_none" if condition in NOTHING_TO_DO else "grounding_score" for condition in INDEXED}
    if any(key[condition] not in conditions.get(condition, {}) for condition in INDEXED):
        return None
    return fmean(max(0.0, conditions[condition][key[condition]]) for condition in INDEXED)
