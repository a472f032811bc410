"""A check as one self-contained page, as a table on the screen, and as numbers for a record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...datasets.atomic import write_text
from ..charts import HEIGHT, WIDTH
from .answers import Answer, Curve
from .asking import BACKBONE
from .check import Check
from .predicts import Prediction
from .scores import Score
from .verdict import BAD, GOOD, RULE, UNSURE, Verdict

METRICS = {"regression": "R²", "classes": "macro F1", "flags": "AP"}
_MARKS = {GOOD: "ok", BAD: "bad", UNSURE: "unsure"}
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 10, 26


def write_page(checks: Sequence[tuple[Check, Verdict]], path: Path, together: Prediction | None = None) -> Path:
    """Write the page of one check or of several to `path`, whole or not at all, and return it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("probe.html.jinja").render(
        checks=[_shown(check, verdict) for check, verdict in checks],
        mark=_MARKS,
        rule=RULE,
        together=None if together is None else together.shown(),
    )
    return write_text(path, page)


def _shown(check: Check, verdict: Verdict) -> dict[str, Any]:
    kinds = list(next(iter(check.answers.values())).curves)
    return {
        "name": check.name,
        "frames": check.frames,
        "episodes": check.episodes,
        "layer": check.layer,
        "left_out": check.left_out,
        "verdict": verdict.verdict,
        "advice": verdict.advice,
        "kinds": kinds,
        "tasks": any("tasks" in answer.strict for answer in check.answers.values()),
        "readings": list(dict.fromkeys(r for answer in check.answers.values() for r in answer.by_reading)),
        "targets": list(check.answers),
        "skills": {name: f"{answer.skill.value:.2f}" for name, answer in check.answers.items()},
        "rows": [_row(answer, verdict.by_target[name]) for name, answer in check.answers.items()],
    }


def _row(answer: Answer, verdict: str) -> dict[str, Any]:
    best = max(answer.baselines, key=lambda name: answer.baselines[name].value)
    return {
        "target": answer.target,
        "verdict": verdict,
        "metric": METRICS[answer.kind],
        "score": _said(answer.score),
        "skill": _said(answer.skill),
        "baseline": f"{answer.baselines[best].value:.2f} ({best})",
        "gain": _said(answer.gain),
        "scenes": _said(answer.strict_gain),
        "tasks": _said(answer.strict["tasks"]) if "tasks" in answer.strict else "-",
        "shuffled": _said(answer.shuffled),
        "two_layer": _plain(answer.two_layer.value),
        "line": _plain(answer.linear_same.value),
        **{name: _plain(answer.cheap.get(name)) for name in ("logme", "cka", "h_score")},
        "bits": _plain(answer.curves[BACKBONE].bits),
        "reading": answer.reading,
        "curve": learning_curve(answer.curves, answer.target),
        "by_reading": answer.by_reading,
    }


def _said(score: Score) -> str:
    return f"{score.value:.2f} ± {score.half:.2f}" if math.isfinite(score.half) else f"{score.value:.2f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def learning_curve(curves: Mapping[str, Curve], label: str) -> Markup:
    """Skill in [0, 1] against the logarithm of the frames learned from, a line for each kind of features."""
    known = [sample for curve in curves.values() for sample in curve.samples if sample > 0]
    if not known:
        return Markup("<p class='note'>too few frames for a curve</p>")
    low, high = math.log(min(known)), math.log(max(*known, min(known) + 1))

    def column(samples: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (math.log(max(samples, min(known))) - low) / (high - low)

    def row(skill: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * min(1.0, max(0.0, skill))

    shapes = []
    for tick in (0.0, 0.5, 1.0):
        height = f"{row(tick):.1f}"
        shapes.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>')
        shapes.append(f'<text class="tick" x="{_LEFT - 6}" y="{height}" dy="0.32em" text-anchor="end">{tick:g}</text>')
    for sample, anchor in ((min(known), "start"), (max(known), "end")):
        place = f'x="{column(sample):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}"'
        shapes.append(f'<text class="tick" {place}>{sample:,.0f}</text>')
    for number, (name, curve) in reversed(list(enumerate(curves.items()))):
        pairs = zip(curve.samples, curve.skills, strict=True)
        points = " ".join(f"{column(sample):.1f},{row(skill):.1f}" for sample, skill in pairs if sample > 0)
        title = f"<title>{Markup.escape(name)}: {curve.skills[-1]:.2f}</title>"
        shapes.append(f'<polyline class="line c{number}" points="{points}">{title}</polyline>')
    said = ", ".join(f"{name} {curve.skills[-1]:.2f}" for name, curve in curves.items())
    frame = f'class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{Markup.escape(f"{label}: {said}")}"'
    return Markup(f"<svg {frame}>{''.join(shapes)}</svg>")


def show_check(check: Check, verdict: Verdict, console: Console) -> None:
    """The check on the screen: the verdict, a row for each target, and what to look at next."""
    colour = {GOOD: "green", BAD: "red", UNSURE: "yellow"}
    table = Table(title=f"{escape(check.name)}: [{colour[verdict.verdict]}]{verdict.verdict}[/]", title_style="bold")
    for name in ("target", "metric", "score", "skill", "best baseline", "gain", "shuffled", "read at", ""):
        table.add_column(name, justify="left" if name in ("target", "metric", "read at", "") else "right")
    for name, answer in check.answers.items():
        row, of = _row(answer, verdict.by_target[name]), verdict.by_target[name]
        cells = (row[key] for key in ("target", "metric", "score", "skill", "baseline", "gain", "shuffled", "reading"))
        table.add_row(*cells, f"[{colour[of]}]{of}[/]")
    console.print(table)
    console.print(f"take the layer [bold]{check.layer}[/]")
    for where, why in verdict.advice:
        console.print(f"[bold]{where}[/]: {why}", soft_wrap=True)


def numbers(check: Check, verdict: Verdict) -> dict[str, Any]:
    """A check as nested numbers for a record."""
    found: dict[str, Any] = {
        "good_signal": int(verdict.verdict == GOOD),
        "bad_signal": int(verdict.verdict == BAD),
        "frames": check.frames,
        "episodes": check.episodes,
        "extract_seconds": check.seconds["extract"],
        "probe_seconds": check.seconds["probe"],
    }
    for name, answer in check.answers.items():
        found[name] = {
            "score": answer.score.value,
            "score_ci95": list(answer.score.ci95),
            "skill": answer.skill.value,
            "skill_ci95": list(answer.skill.ci95),
            "gain": answer.gain.value,
            "gain_ci95": list(answer.gain.ci95),
            "shuffled": answer.shuffled.value,
            "selectivity": answer.skill.value - answer.shuffled.value,
            "two_layer": answer.two_layer.value,
            "new_scenes": answer.strict["scenes"].value,
            "new_tasks": answer.strict["tasks"].value if "tasks" in answer.strict else None,
            "curve_area": answer.curves[BACKBONE].area,
            "bits": answer.curves[BACKBONE].bits,
            **{kind.replace(" ", "_"): score.value for kind, score in answer.baselines.items()},
            **answer.cheap,
        }
    return found
