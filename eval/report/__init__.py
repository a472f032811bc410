"""report.html: one page that holds everything about a run, or several, and needs nothing else, not even a network.

All numbers are computed from the results tables and what else the runs left: the page is a pure function of their
folders. Text from there is escaped, and the page's own policy lets no script but its own run, and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ...datasets.atomic import write_text
from ...envs.conditions import WORLDS, meaning
from ..media import CLIP_FOLDER, Clip, outcome, read_index
from ..summary import summarise
from ..weaknesses import weaknesses
from .confusion import confusions
from .files import names_of, read_causes, read_chains, read_diagnosis, read_episodes, read_json
from .learning_curves import learning_curves
from .rows import (
    ACTED_ON,
    ENDINGS,
    causes,
    chain_lengths,
    challenges,
    conditions,
    controls,
    ending,
    endings,
    episodes,
    interval,
    verdict,
)
from .side_by_side import JudgedRun, differences, rates
from .wording import duration, percent, spaced

PAGE = "report.html"
_HERE = Path(__file__).parent
_GATE_FINDINGS = 20
_CONDITION_NAMES = {"correct": "its own instruction", "null": "no instruction", "swap": "another object's instruction"}


def write_report(*runs: Path | str, page: Path | str | None = None) -> Path:
    """Writes the page of one run or of several and returns its path.

    Of one run it goes to RUN/report.html, of several to report.html beside the first, or to `page`. Each needs its
    episodes.parquet; whatever else is there joins in: timings.json, training.jsonl, media/, chains.parquet,
    attribution.jsonl, diagnosis.json, config.yaml, gate.json, record.json. Several runs are also shown beside each
    other, the first being what the others are compared with.

    Raises FileNotFoundError without a table, ReportError for a file that cannot be read, ValueError for a run that is
    given twice or for none.
    """
    if not runs:
        raise ValueError("found no run, wanted the folder of one or more")
    folders = [Path(run) for run in runs]
    judged = [_judged(folder, name) for folder, name in zip(folders, names_of(folders), strict=True)]
    several = len(judged) > 1
    script = (_HERE / "page.js").read_text("utf-8")
    text = _template().render(
        runs=[_run(folder, run) for folder, run in zip(folders, judged, strict=True)],
        rates=rates(judged) if several else None,
        differences=differences(judged) if several else [],
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        acted_on=ACTED_ON,
        endings=ENDINGS,
        worlds=WORLDS,
    )
    path = Path(page) if page else (folders[0].resolve().parent if several else folders[0]) / PAGE
    return write_text(path, text)


def _judged(folder: Path, name: str) -> JudgedRun:
    records = read_episodes(folder)
    return JudgedRun(name, records, summarise(records, read_json(folder / "timings.json") or {}))


def _run(folder: Path, run: JudgedRun) -> dict[str, Any]:
    """Everything that the page shows of one run."""
    summary, records, config = run.summary, run.records, folder / "config.yaml"
    return {
        "name": run.name,
        "summary": summary,
        "verdict": verdict(summary),
        "weaknesses": [weakness.sentence for weakness in weaknesses(records)],
        "tasks": [
            *(interval(f"{tier} tasks", **values) for tier, values in summary.get("per_tier", {}).items()),
            *(interval(spaced(task), **values) for task, values in summary["per_task"].items()),
        ],
        "controls": controls(summary),
        "conditions": conditions(summary),
        "challenges": challenges(summary),
        "chains": chain_lengths(read_chains(folder), summary["policy_hash"]),
        "confusions": confusions(records),
        "causes": causes(read_causes(folder / "attribution.jsonl")),
        "diagnosis": read_diagnosis(folder / "diagnosis.json"),
        "ended": endings(summary, records),
        "episodes": episodes(records),
        "clips": [_clip(clip, folder / CLIP_FOLDER) for clip in read_index(folder / CLIP_FOLDER)],
        "curves": learning_curves(folder / "training.jsonl"),
        "stages": _stages(summary["wall_seconds"]),
        "gate": _gate(read_json(folder / "gate.json")),
        "record": read_json(folder / "record.json"),
        "config": config.read_text("utf-8") if config.is_file() else None,
    }


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "duration": duration}
    return environment.get_template("page.html.jinja")


def _clip(clip: Clip, folder: Path) -> dict[str, Any]:
    def data_uri(name: str, kind: str) -> str:
        return f"data:{kind};base64,{base64.b64encode((folder / name).read_bytes()).decode()}"

    return {
        "clip": clip,
        "condition": _CONDITION_NAMES.get(clip.condition, meaning(clip.condition)),
        "ending": ending(clip),
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
