"""What the report shows of one run: sentences, and the rows of its charts, from the summary and the episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...envs.conditions import CHALLENGES, SEVERITIES, WORLDS, meaning
from ..attribution import STAGES, Attribution, summarise_causes
from ..chains import LENGTH, summarise_chains
from ..charts import by_severity
from ..config import CONTROLS
from ..instructions import NOTHING_TO_DO
from ..media import Clip
from ..results import EpisodeRecord
from ..statistics import proportion
from .wording import percent, spaced

ENDINGS = {
    "success": "goal reached",
    "unfinished": "right object, goal not reached",
    "wrong": "acted on another object",
    "idle": "acted on none",
}
ACTED_ON = {
    "named": "acted on the object it was told of",
    "lure": "on the one that half listening would choose",
    "other": "on another",
    "none": "on none",
}
MOST_EPISODES = 2000


def interval(label: str, rate: float, ci95: Sequence[float], episodes: int) -> dict[str, Any]:
    """A row of a chart of rates: what is judged, its rate with the 95% interval, and what it stands on."""
    return {"label": label, "rate": rate, "low": ci95[0], "high": ci95[1], "episodes": episodes}


def verdict(summary: dict[str, Any]) -> list[str]:
    """What the run showed, in sentences."""
    low, high = summary["ci95"]
    successes = round(summary["success_rate"] * summary["episodes"])
    sentences = [
        f"Reached the goal in {successes} of {summary['episodes']} unseen episodes "
        f"(95% interval {percent(low, 0)} to {percent(high, 0)}).",
    ]
    if "score" in summary:
        low, high = summary["score_ci95"]
        sentences.append(f"Mean score {summary['score']:.3f} (95% interval {low:.3f} to {high:.3f}), at most 1.")
    if "subgoal_accuracy" in summary:
        sentences.append(
            f"Of {summary['subgoals']} sub-goals that it said before it acted, {percent(summary['subgoal_accuracy'])} "
            "are what the expert would have been about."
        )
    parts = []
    if summary["wrong_object_rate"] is not None:
        parts.append(f"it acted on a wrong object in {percent(summary['wrong_object_rate'])}")
    if summary["swap_follow_rate"] is not None:
        parts.append(
            f"told of another object in the same scene, it turned to that one in {percent(summary['swap_follow_rate'])}"
        )
    if summary["null_success_rate"] is not None:
        parts.append(f"told nothing, it still reached the goal in {percent(summary['null_success_rate'])}")
    text = "; ".join(parts)
    return [*sentences, f"{text[0].upper()}{text[1:]}."] if text else sentences


def controls(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the controls' chart, each with what it means and which way is good. Controls not run are left out."""
    rows = (
        (
            "wrong_object",
            "Wrong object",
            "own instruction; the object it chose is not the instructed one",
            "low is good",
        ),
        ("null_success", "No instruction", "goal reached all the same", "low is good"),
        ("swap_follow", "Another instruction: followed", "it chose the newly instructed object", "high is good"),
        ("swap_original", "Another instruction: ignored", "it chose the object of the old instruction", "low is good"),
        ("swap_success", "Another instruction: goal reached", "the new goal, not only the new object", "high is good"),
    )
    return [
        interval(label, summary[f"{name}_rate"], summary[f"{name}_ci95"], summary[f"{name}_episodes"])
        | {"meaning": meaning, "good": good}
        for name, label, meaning, good in rows
        if summary[f"{name}_rate"] is not None
    ]


def conditions(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the conditions' chart, where others than the controls were run: what was acted on, and success."""
    found = {
        name: values
        for name, values in summary["conditions"].items()
        if "acted_on_named" in values and name not in WORLDS
    }
    if not set(found) - set(CONTROLS):
        return []
    return [
        interval(name, values["success_rate"], values["success_ci95"], values["episodes"])
        | {
            "meaning": meaning(name),
            "nothing_to_do": name in NOTHING_TO_DO,
            "score": values.get("grounding_score"),
            "shares": {what: values[f"acted_on_{what}"] for what in ACTED_ON},
        }
        for name, values in found.items()
    ]


def challenges(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Charts of success over severity, of each challenge whose severities were all run."""
    found, drawn = summary["conditions"], []
    for kind, text in CHALLENGES.items():
        names = ["correct", *(f"{kind}-{severity}" for severity in SEVERITIES)]
        if all(name in found for name in names):
            rates = [found[name]["success_rate"] for name in names]
            svg = by_severity(rates, [found[name]["success_ci95"] for name in names], kind)
            worst = f"{percent(rates[-1], 0)} at worst"
            drawn.append(
                {"name": kind, "text": text, "last": worst, "svg": svg, "episodes": found[names[-1]]["episodes"]}
            )
    return drawn


def causes(found: Sequence[Attribution]) -> dict[str, Any] | None:
    """What made episodes fail, a row for each stage; None where nothing was attributed."""
    if not found:
        return None
    shares = summarise_causes(found)
    rows = [
        interval(name, shares[f"{name}_share"], shares[f"{name}_ci95"], round(shares[f"{name}_share"] * len(found)))
        | {"not_testable": shares.get(f"{name}_not_testable", 0)}
        for name in (*STAGES, "unexplained")
    ]
    return {"failures": len(found), "rows": rows}


def chain_lengths(chains: Sequence[Sequence[EpisodeRecord]], policy_hash: str) -> dict[str, Any] | None:
    """How many instructions in a row were carried out: a row for each length; None where no chains were run.

    policy_hash: of the run's episodes. Chains of another policy are shown, and said to be another's.
    """
    if not chains:
        return None
    found = summarise_chains(chains)
    rows = [
        interval(f"{length} or more", found[f"success_at_{length}"], found[f"success_at_{length}_ci95"], len(chains))
        for length in range(1, LENGTH + 1)
    ]
    other = next((r.policy_hash for chain in chains for r in chain if r.policy_hash != policy_hash), None)
    return found | {"rows": rows, "longest": LENGTH, "other_policy": other}


def ending(episode: EpisodeRecord | Clip) -> str:
    """How an episode ended: a key of `ENDINGS`."""
    if episode.success:
        return "success"
    if not episode.target:  # nothing is named that could be acted on
        return "unfinished"
    if episode.acted_on is None:
        return "idle"
    return "unfinished" if episode.acted_on == episode.target else "wrong"


def endings(summary: dict[str, Any], records: Sequence[EpisodeRecord]) -> list[dict[str, Any]]:
    """How the episodes of each task ended, with the scene's own instruction; nothing where no object is named."""
    if summary["wrong_object_rate"] is None:
        return []
    rows = []
    for task in summary["per_task"]:
        ended = [ending(record) for record in records if record.condition == "correct" and record.task == task]
        counts = {name: ended.count(name) for name in ENDINGS}
        shares = {name: proportion(count, len(ended)).rate for name, count in counts.items()}
        rows.append({"label": spaced(task), "counts": counts, "shares": shares})
    return rows


def episodes(records: Sequence[EpisodeRecord], most: int = MOST_EPISODES) -> dict[str, Any]:
    """Rows of the list of episodes, in their order, and what they can be filtered by.

    Of more than `most`, those with the lowest numbers, so that tasks and conditions stay as even as they were.
    """
    places = sorted(range(len(records)), key=lambda place: records[place].index)[:most]
    shown = [records[place] for place in sorted(places)]
    rows = [
        {
            "record": record,
            "ending": ending(record),
            "unmet": ", ".join(name.replace("_", " ") for name, met in record.predicates.items() if met is False),
        }
        for record in shown
    ]
    objects = any(record.target for record in shown)
    ended = ENDINGS if objects else {"success": ENDINGS["success"], "unfinished": "goal not reached"}
    there = {row["ending"] for row in rows}
    return {
        "rows": rows,
        "total": len(records),
        "objects": objects,
        "scored": any(record.score != record.success for record in shown),
        "tasks": list(dict.fromkeys(record.task for record in shown)),
        "conditions": list(dict.fromkeys(record.condition for record in shown)),
        "endings": {name: text for name, text in ended.items() if name in there},
    }
