"""What a study has found so far: its record, the curves of its trainings, and its chart."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .eval.results import EpisodeRecord
    from .study import Study

BACKBONE = "backbone"  # the part of a folder's and a metric's name that stands for what variants share
DECISION = "decision.json"  # in a training's folder: what a chunk takes
_CURVE_POINTS = 40


def write_results(study: Study, out: Path, command: str, record: str | None, curves: str | None) -> None:
    """The record of every variant that has been trained and judged with at least one seed, and its curves."""
    from .eval.records import make_record
    from .eval.study_chart import chart_of_speed, chart_of_suites

    metrics: dict[str, Any] = {}
    lines: list[str] = []
    scores: list[tuple[Any, ...]] = []
    training: list[tuple[Any, ...]] = []
    seeds: set[int] = set()
    for suite in study.suites or [""]:
        of_suite: dict[str, Any] = metrics.setdefault(suite, {}) if suite else metrics
        shared = [_log(folder)[-1]["time_s"] for folder in sorted((out / suite).glob(f"{BACKBONE}-*"))]
        if study.share_backbone and shared:
            of_suite[BACKBONE] = {"train_seconds": fmean(shared)}
        for name in study.variants:
            done = {seed: out / suite / f"{name}-{seed}" for seed in study.seeds}
            done = {seed: folder for seed, folder in done.items() if _is_done(folder, study)}
            if not done:
                continue
            seeds |= set(done)
            runs = {seed: _read_run(folder, study) for seed, folder in done.items()}
            of_suite[name] = _metrics(list(runs.values()))
            lines.append(_line(f"{suite} {name}".strip(), of_suite[name]))
            label = (*([suite] if suite else []), name)
            for seed, run in runs.items():
                training += [(*label, seed, *row) for row in run.curve]
                scores += [(*label, seed, p, *_means(t)) for p, t in zip(run.policies, run.tables, strict=True)]
    target = make_record(study.name, command, metrics, sorted(seeds)).write(record or out / "record.json")
    folder, label = Path(curves) if curves else out, (*(["suite"] if study.suites else []), "variant", "seed")
    _write_csv(folder / f"{study.name}_scores.csv", (*label, "policy", "score", "success_rate"), scores)
    _write_csv(folder / f"{study.name}_training.csv", (*label, "stage", "step", "seconds", "loss"), training)
    chart = folder / f"{study.name}.svg"
    if study.suites:
        chart_of_suites({suite: of_suite for suite, of_suite in metrics.items() if of_suite}, chart)
    else:
        chart_of_speed({name: values for name, values in metrics.items() if name != BACKBONE}, chart)
    print("\n".join([f"\n{target}", str(chart), *lines]))


@dataclass(frozen=True)
class _Run:
    """What one training has left.

    Attributes:
        policies, tables: names of the judged policies, and the episodes of each.
        seconds: of training.
        ms_per_chunk: what a decision takes.
        curve: stage, step, seconds and loss now and then.
    """

    policies: list[str]
    tables: list[list[EpisodeRecord]]
    seconds: float
    ms_per_chunk: float
    curve: list[tuple[str, int, float, float]]


def _is_done(folder: Path, study: Study) -> bool:
    return len(_judged(folder, study)) == study.judged and (folder / DECISION).exists()


def _judged(folder: Path, study: Study) -> list[Path]:
    return sorted((folder / "judged").glob("*.parquet"))[-study.judged :]


def _log(folder: Path) -> list[dict[str, Any]]:
    """What the training in `folder` wrote down."""
    return [json.loads(line) for line in (folder / "training.jsonl").read_text("utf-8").splitlines()]


def _read_run(folder: Path, study: Study) -> _Run:
    from .eval.results import read_table

    paths = _judged(folder, study)
    log = _log(folder)
    step = max(1, len(log) // _CURVE_POINTS)
    curve = [(row["stage"], row["step"], row["time_s"], row["loss"]["total"]) for row in log[step - 1 :: step]]
    took = json.loads((folder / DECISION).read_text("utf-8"))["ms_per_chunk"]
    return _Run([path.stem for path in paths], [read_table(path) for path in paths], log[-1]["time_s"], took, curve)


def _line(name: str, values: Mapping[str, Any]) -> str:
    low, high = values["score_ci95"]
    return (
        f"  {name:24} score {values['score']:.3f} ({low:.3f} to {high:.3f}), success {values['success_rate']:.1%}, "
        f"trained {values['train_seconds']:.0f} s, {values['ms_per_chunk']:.1f} ms a chunk"
    )


def _means(records: Sequence[EpisodeRecord]) -> tuple[float, float]:
    return fmean(r.score for r in records), fmean(float(r.success) for r in records)


def _metrics(runs: Sequence[_Run]) -> dict[str, Any]:
    """Numbers of one variant from the episodes of each run's policies: means over runs, policies and episodes.

    The interval of the score is over starts: of each start's mean over policies and runs, so that policies of one
    training, which are much alike, do not pass for independent.
    """
    from .eval.statistics import mean_score

    every = [records for run in runs for records in run.tables]
    per_start = [fmean(records[i].score for records in every) for i in range(len(every[0]))]
    per_seed = [fmean(_means(records)[0] for records in run.tables) for run in runs]
    return {
        **mean_score(per_start),
        "score_best_policy": max(_means(records)[0] for records in every),
        **({"score_sd_of_seeds": stdev(per_seed)} if len(per_seed) > 1 else {}),
        "success_rate": fmean(_means(records)[1] for records in every),
        "policies": len(every),
        "starts": len(per_start),
        "train_seconds": fmean(run.seconds for run in runs),
        "ms_per_chunk": fmean(run.ms_per_chunk for run in runs),
        "episode_seconds": fmean(record.wall_s for records in every for record in records),
    }


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)
