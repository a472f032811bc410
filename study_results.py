"""What a study has found so far: its record, the curves of its trainings, and its chart."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        if shared := _of_backbones(study, out / suite):
            of_suite[BACKBONE] = shared
        for name in study.variants:
            done = {seed: out / suite / f"{name}-{seed}" for seed in study.seeds}
            done = {seed: folder for seed, folder in done.items() if _is_done(folder, study)}
            if not done:
                continue
            seeds |= set(done)
            runs = {seed: _read_run(folder, study) for seed, folder in done.items()}
            of_suite[name] = metrics_of(list(runs.values()))
            lines.append(_line(f"{suite} {name}".strip(), of_suite[name]))
            label = (*([suite] if suite else []), name)
            for seed, run in runs.items():
                training += [(*label, seed, *row) for row in run.curve]
                scores += [(*label, seed, p, *_means(t)) for p, t in zip(run.policies, run.tables, strict=True)]
    target = Path(record or out / "record.json")
    for name, values in _records(study, metrics).items():
        make_record(name, command, values, sorted(seeds)).write(
            target if name == study.name else target.with_name(f"{name}.json")
        )
    folder, label = Path(curves) if curves else out, (*(["suite"] if study.suites else []), "variant", "seed")
    _write_csv(folder / f"{study.name}_scores.csv", (*label, "policy", "score", "success_rate"), scores)
    _write_csv(folder / f"{study.name}_training.csv", (*label, "stage", "step", "seconds", "loss"), training)
    chart = folder / f"{study.name}.svg"
    if study.suites:
        chart_of_suites({suite: of_suite for suite, of_suite in metrics.items() if of_suite}, chart)
    else:
        chart_of_speed({name: values for name, values in metrics.items() if name != BACKBONE}, chart)
    print("\n".join([f"\n{target}", str(chart), *lines]))


def backbone_folder(study: Study, variant: str, place: Path, seed: int) -> Path:
    """Of the backbone that a variant shares."""
    name = study.backbones[variant]
    return place / "-".join([BACKBONE, *([name] if name else []), str(seed)])


def _of_backbones(study: Study, place: Path) -> dict[str, Any]:
    """Numbers of the backbones that variants share: means over seeds, by name where there are several."""
    found: dict[str, Any] = {}
    for variant, name in study.backbones.items():
        folders = [backbone_folder(study, variant, place, seed) for seed in study.seeds]
        files = ("policy", *(f"{what}.json" for what in study.also_of_backbones()))
        trained = [folder for folder in folders if all((folder / file).exists() for file in files)]
        if trained:
            asked = [_asked(folder, study.also_of_backbones()) for folder in trained]
            values = {"train_seconds": fmean(_log(folder)[-1]["time_s"] for folder in trained), **_means_of(asked)}
            found |= {name: values} if name else values
    return found


def _records(study: Study, metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The study's record, and those of what else was asked that have their own: name -> metrics."""
    records = {study.name: metrics}
    for what, name in study.also.items():
        if name:
            records[study.name], own = _split(records[study.name], f"{what}.")
            records[name] = {**own.pop(BACKBONE, {}), **own}
    return records


def _split(metrics: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Nested numbers without those whose names begin with `prefix`, and these, without it."""
    rest: dict[str, Any] = {}
    taken: dict[str, Any] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            rest[name], inner = _split(value, prefix)
            taken |= {name: inner} if inner else {}
        elif name.startswith(prefix):
            taken[name.removeprefix(prefix)] = value
        else:
            rest[name] = value
    return rest, taken


def _asked(folder: Path, also: Sequence[str]) -> dict[str, float]:
    """What else was asked of the policy in `folder`, as flat numbers."""
    from .eval.records import flat_metrics

    asked = {name: json.loads((folder / f"{name}.json").read_text("utf-8")) for name in also}
    return {name: value for name, value in flat_metrics(asked).items() if "ci95" not in name}


def _means_of(asked: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: fmean(one[name] for one in asked) for name in asked[0]}


@dataclass(frozen=True)
class Run:
    """What one training has left.

    Attributes:
        policies, tables: names of the judged policies, and the episodes of each.
        parameters: of a policy, in millions.
        seconds: of training.
        ms_per_chunk: what a decision takes.
        curve: stage, step, seconds and loss now and then.
        also: flat metric -> number, of what else was asked.
    """

    policies: list[str]
    tables: list[list[EpisodeRecord]]
    parameters: float
    seconds: float
    ms_per_chunk: float
    curve: list[tuple[str, int, float, float]]
    also: dict[str, float] = field(default_factory=dict)


def _is_done(folder: Path, study: Study) -> bool:
    files = (DECISION, *(f"{name}.json" for name in study.also_of_policies()))
    return len(_judged(folder, study)) == study.judged and all((folder / name).exists() for name in files)


def _judged(folder: Path, study: Study) -> list[Path]:
    return sorted((folder / "judged").glob("*.parquet"))[-study.judged :]


def _log(folder: Path) -> list[dict[str, Any]]:
    """What the training in `folder` wrote down."""
    return [json.loads(line) for line in (folder / "training.jsonl").read_text("utf-8").splitlines()]


def _read_run(folder: Path, study: Study) -> Run:
    from .eval.results import read_table
    from .policies.policy import Policy

    paths = _judged(folder, study)
    log = _log(folder)
    step = max(1, len(log) // _CURVE_POINTS)
    curve = [(row["stage"], row["step"], row["time_s"], row["loss"]["total"]) for row in log[step - 1 :: step]]
    took = json.loads((folder / DECISION).read_text("utf-8"))["ms_per_chunk"]
    size = sum(weights.numel() for weights in Policy.load(folder / "policy").parameters()) / 1e6
    tables, also = [read_table(path) for path in paths], _asked(folder, study.also_of_policies())
    return Run([path.stem for path in paths], tables, size, log[-1]["time_s"], took, curve, also)


def _line(name: str, values: Mapping[str, Any]) -> str:
    low, high = values["score_ci95"]
    return (
        f"  {name:24} score {values['score']:.3f} ({low:.3f} to {high:.3f}), success {values['success_rate']:.1%}, "
        f"trained {values['train_seconds']:.0f} s, {values['ms_per_chunk']:.1f} ms a chunk"
    )


def _means(records: Sequence[EpisodeRecord]) -> tuple[float, float]:
    """Score and success rate with the scenes' own instructions."""
    correct = [record for record in records if record.condition == "correct"]
    return fmean(r.score for r in correct), fmean(float(r.success) for r in correct)


def metrics_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Numbers of one variant from the episodes of each run's policies: means over runs, policies and episodes.

    Intervals are over starts: of each start's mean over policies and runs, so that policies of one training, which are
    much alike, do not pass for independent.
    """
    from .eval.statistics import mean_score
    from .eval.summary import subgoal_accuracy

    every = [records for run in runs for records in run.tables]
    correct = [[record for record in records if record.condition == "correct"] for records in every]
    per_seed = [fmean(_means(records)[0] for records in run.tables) for run in runs]
    return {
        **mean_score([fmean(record.score for record in start) for start in zip(*correct, strict=True)]),
        "score_best_policy": max(_means(records)[0] for records in every),
        **({"score_sd_of_seeds": stdev(per_seed)} if len(per_seed) > 1 else {}),
        "success_rate": fmean(_means(records)[1] for records in every),
        **_by_language([record for records in correct for record in records]),
        **_controls(every),
        **subgoal_accuracy([record for records in correct for record in records]),
        "policies": len(every),
        "starts": len(correct[0]),
        "parameters_millions": fmean(run.parameters for run in runs),
        "train_seconds": fmean(run.seconds for run in runs),
        "ms_per_chunk": fmean(run.ms_per_chunk for run in runs),
        "episode_seconds": fmean(record.wall_s for records in every for record in records),
        **_means_of([run.also for run in runs]),
    }


def _by_language(records: Sequence[EpisodeRecord]) -> dict[str, float]:
    """Success with instructions in each language, where there are several."""
    from .datasets.language import language_of

    found: dict[str, list[bool]] = {}
    for record in records:
        found.setdefault(language_of(record.instruction), []).append(record.success)
    return {f"success_rate_{language}": fmean(found[language]) for language in sorted(found)} if len(found) > 1 else {}


def _controls(every: Sequence[Sequence[EpisodeRecord]]) -> dict[str, Any]:
    """The rates of `eval.summary` other than success, each with its interval over starts, where they were measured."""
    from .eval.statistics import mean_score
    from .eval.summary import outcomes_of

    outcomes = [outcomes_of(records) for records in every]
    rates: dict[str, Any] = {}
    for name in outcomes[0]:
        per_start = [fmean(start) for start in zip(*(found[name] for found in outcomes), strict=True)]
        if name != "success" and per_start:
            mean = mean_score(per_start)
            rates |= {f"{name}_rate": mean["score"], f"{name}_rate_ci95": mean["score_ci95"]}
    return rates


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)
