"""report.html: one page that holds everything about a run and needs nothing else, not even a network.

All numbers are computed here from the results table and the timings; the page is a pure function of the run's folder.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from ..envs.conditions import CHALLENGES, SEVERITIES, WORLDS, meaning
from .attribution import STAGES, Attribution, summarise_causes
from .charts import by_severity, curve
from .config import CONTROLS
from .instructions import NOTHING_TO_DO
from .media import CLIP_FOLDER, Clip, outcome, read_index
from .results import EpisodeRecord, read_table
from .statistics import proportion
from .summary import summarise

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
_GATE_FINDINGS = 20
_CONDITION_NAMES = {"correct": "its own instruction", "null": "no instruction", "swap": "another object's instruction"}


class ReportError(ValueError):
    """A file of the run cannot be read. The message names it and what is wrong with it."""


def write_report(run_dir: Path | str) -> Path:
    """Writes `run_dir`/report.html and returns its path.

    Needs episodes.parquet; whatever else is there joins in: timings.json, training.jsonl, media/, config.yaml,
    gate.json, record.json. Raises FileNotFoundError without a table and ReportError for a file that cannot be read.
    """
    run_dir = Path(run_dir)
    table = run_dir / "episodes.parquet"
    if not table.is_file():
        raise FileNotFoundError(f"{table}: not found; `deixis eval` writes it")
    records = read_table(table)
    summary = summarise(records, _json(run_dir / "timings.json") or {})
    config = run_dir / "config.yaml"
    page = _template().render(
        title=run_dir.resolve().name,
        summary=summary,
        verdict=verdict(summary),
        tasks=[_interval(task, **values) for task, values in summary["per_task"].items()],
        controls=controls(summary),
        conditions=conditions(summary),
        challenges=challenges(summary),
        causes=causes(run_dir / "attribution.jsonl"),
        acted_on=ACTED_ON,
        endings=ENDINGS,
        ended=[_endings_of(task, records) for task in summary["per_task"]],
        failures=[_failure(record) for record in records if record.condition == "correct" and not record.success],
        clips=[_clip(clip, run_dir / CLIP_FOLDER) for clip in read_index(run_dir / CLIP_FOLDER)],
        curves=learning_curves(run_dir / "training.jsonl"),
        stages=_stages(summary["wall_seconds"]),
        gate=_gate(_json(run_dir / "gate.json")),
        record=_json(run_dir / "record.json"),
        config=config.read_text("utf-8") if config.is_file() else None,
    )
    path = run_dir / "report.html"
    unfinished = run_dir / f".report.html.{os.getpid()}"
    unfinished.write_text(page, "utf-8")
    os.replace(unfinished, path)
    return path


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
        _interval(label, summary[f"{name}_rate"], summary[f"{name}_ci95"], summary[f"{name}_episodes"])
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
        _interval(name, values["success_rate"], values["success_ci95"], values["episodes"])
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


def causes(path: Path) -> dict[str, Any] | None:
    """What made episodes fail, from attribution.jsonl: a row for each stage; None where nothing was attributed."""
    if not path.is_file():
        return None
    try:
        found = [
            Attribution(line["cause"], line["evidence"])
            for line in map(json.loads, path.read_text("utf-8").splitlines())
        ]
    except (ValueError, KeyError) as error:
        raise ReportError(
            f"{path}: wanted lines with cause and evidence ({error}); `deixis eval --attribute` writes it"
        ) from error
    if not found:
        return None
    shares = summarise_causes(found)
    rows = [
        _interval(name, shares[f"{name}_share"], shares[f"{name}_ci95"], round(shares[f"{name}_share"] * len(found)))
        | {"not_testable": shares.get(f"{name}_not_testable", 0)}
        for name in (*STAGES, "unexplained")
    ]
    return {"failures": len(found), "rows": rows}


def ending(record: EpisodeRecord) -> str:
    """How an episode ended: a key of `ENDINGS`."""
    if record.success:
        return "success"
    if record.target and record.acted_on is None:
        return "idle"
    return "wrong" if record.wrong_object else "unfinished"


def learning_curves(path: Path) -> list[dict[str, Any]]:
    """Curves by stage from training.jsonl: [{"stage", "steps", "rate", "curves": [{"name", "last", "svg"}]}].

    Of a step that was logged twice, before a crash and after the resume, the last counts.
    """
    if not path.is_file():
        return []
    stages: dict[str, dict[int, dict[str, Any]]] = {}
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            stages.setdefault(entry["stage"], {})[int(entry["step"])] = entry
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                continue  # a run that was killed leaves half a line
            raise ReportError(
                f"{path}, line {number}: found {line[:80]!r}, wanted a JSON object with stage and step"
            ) from error
    found = []
    for stage, by_step in stages.items():
        entries = [by_step[step] for step in sorted(by_step)]
        losses = dict.fromkeys(name for entry in entries for name in entry.get("loss", {}))
        rates = [entry["samples_per_s"] for entry in entries if entry.get("samples_per_s")]
        drawn = []
        for name in losses:
            points = [(entry["step"], entry["loss"][name]) for entry in entries if name in entry.get("loss", {})]
            steps, values = zip(*points, strict=True)
            numbers = [math.nan if value is None else float(value) for value in values]
            drawn.append({"name": name, "last": f"{numbers[-1]:.3g}", "svg": curve(steps, numbers, f"{stage} {name}")})
        found.append(
            {
                "stage": stage,
                "steps": entries[-1]["step"],
                "rate": f"{sorted(rates)[len(rates) // 2]:,.0f}" if rates else None,
                "curves": drawn,
            }
        )
    return found


def percent(value: float, digits: int = 1) -> str:
    """0.905 -> "90.5%", 0.9 -> "90%"."""
    text = f"{100 * value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def duration(seconds: float) -> str:
    """73.4 -> "1 min 13 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * (rest > 0 and not hours)
    return " ".join(parts)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "duration": duration}
    return environment.from_string(Path(__file__).with_name("report.html.jinja").read_text("utf-8"))


def _interval(label: str, rate: float, ci95: Sequence[float], episodes: int) -> dict[str, Any]:
    return {"label": label, "rate": rate, "low": ci95[0], "high": ci95[1], "episodes": episodes}


def _endings_of(task: str, records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    ended = [ending(record) for record in records if record.condition == "correct" and record.task == task]
    counts = {name: ended.count(name) for name in ENDINGS}
    shares = {name: proportion(count, len(ended)).rate for name, count in counts.items()}
    return {"label": task, "counts": counts, "shares": shares}


def _failure(record: EpisodeRecord) -> dict[str, Any]:
    unmet = [name.replace("_", " ") for name, value in record.predicates.items() if value is False]
    return {"record": record, "ending": ending(record), "unmet": ", ".join(unmet)}


def _clip(clip: Clip, folder: Path) -> dict[str, Any]:
    def data_uri(name: str, kind: str) -> str:
        return f"data:{kind};base64,{base64.b64encode((folder / name).read_bytes()).decode()}"

    return {
        "clip": clip,
        "condition": _CONDITION_NAMES.get(clip.condition, meaning(clip.condition)),
        "outcome": outcome(clip.success, clip.steps),
        "film": data_uri(clip.film, "image/webp"),
        "strip": data_uri(clip.strip, "image/png"),
    }


def _stages(wall_seconds: dict[str, Any]) -> list[dict[str, Any]]:
    longest = max(wall_seconds["stages"].values(), default=0) or 1
    return [{"name": name, "seconds": s, "share": s / longest} for name, s in wall_seconds["stages"].items()]


def _gate(report: Any) -> dict[str, Any] | None:
    """The gate's findings: how many of each severity and check, and the first of them."""
    if not isinstance(report, dict):
        return None
    findings = report.get("findings", [])
    counts: dict[tuple[str, str], int] = {}
    for finding in findings:
        key = (str(finding.get("severity")), str(finding.get("check")))
        counts[key] = counts.get(key, 0) + 1
    facts = {name: value for name, value in report.items() if isinstance(value, str | int | float) and name != "ok"}
    errors = sum(count for (severity, _), count in counts.items() if severity == "error")
    return {
        "ok": bool(report.get("ok", errors == 0)),
        "facts": facts,
        "counts": [{"severity": s, "check": c, "count": n} for (s, c), n in counts.items()],
        "findings": findings[:_GATE_FINDINGS],
        "total": len(findings),
    }


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: is not valid JSON ({error}); run the step that writes it again") from error
