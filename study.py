"""`deixis study NAME`: variants of one preset, trained on the same demonstrations and judged alike; one record of all.

A study is a YAML file in configs/studies/: `preset`, `variants` (name -> dotted settings), `seeds`, `judged`: how many
of each training's last policies are evaluated (see `policy_every`), of which the mean counts; `share_backbone`, to do
alignment and perception once for all variants of a seed; and `suites`, where all of it is done in each of several.

    OUT/demonstrations.zarr, gate.json, ...   what all learn from
    OUT/backbone-SEED/                        the backbone that all variants start with, where they share it
    OUT/VARIANT-SEED/                         training of each, and judged/STEP.parquet, the episodes of each policy
    OUT/SUITE/...                             the same, where the study names suites

What is there already is not done again, so a study that was stopped goes on.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import yaml

from .run_config import PRESETS, ConfigError, RunConfig, expand, read_run_config

if TYPE_CHECKING:
    from .eval.results import EpisodeRecord
    from .policies.config import TrainConfig

STUDIES = PRESETS / "studies"
_CURVE_POINTS = 40
_BACKBONE = "backbone"


@dataclass(frozen=True)
class Study:
    """A study as its file says it; see the module.

    Attributes:
        name: of the study and of its record.
        preset: configuration that all variants share.
        variants: name -> dotted setting -> value, what a variant changes.
        seeds: of training, each with all variants.
        judged: how many of a training's last policies are evaluated; 1 takes the final one alone.
        share_backbone: align and perceive once for a seed; all its variants imitate on that backbone.
        suites: in which to collect, train and judge; none means the preset's.
    """

    name: str
    preset: str
    variants: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0,)
    judged: int = 1
    share_backbone: bool = False
    suites: tuple[str, ...] = ()


def study_names() -> list[str]:
    """The studies that come with deixis."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def read_study(name: str) -> Study:
    """A study by the name of its file in configs/studies/, or by the path of one.

    Raises:
        ConfigError: no such study, or its file is not as it should be.
    """
    path = next((path for path in (Path(name), STUDIES / f"{name}.yaml") if path.is_file()), None)
    if path is None:
        names = ", ".join(study_names())
        raise ConfigError(f"no study {name!r}\n  there are: {names}; or give the path of a YAML file")
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    allowed = {item.name for item in fields(Study)} - {"name"}
    if not isinstance(values, dict) or not {"preset", "variants"} <= set(values) <= allowed:
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        optional = ", ".join(sorted(allowed - {"preset", "variants"}))
        raise ConfigError(f"{path}: found {found}, wanted preset, variants and, where needed, {optional}")
    variants, seeds, judged = values["variants"], values.get("seeds", [0]), values.get("judged", 1)
    share, suites = values.get("share_backbone", False), values.get("suites", [])
    if not isinstance(variants, dict) or not variants or not all(isinstance(v, dict | None) for v in variants.values()):
        raise ConfigError(f"{path}: variants: found {variants!r}, wanted names, each with its settings")
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ConfigError(f"{path}: seeds: found {seeds!r}, wanted a list of whole numbers")
    if type(judged) is not int or judged < 1:
        raise ConfigError(f"{path}: judged: found {judged!r}, wanted a whole number of at least 1")
    if type(share) is not bool:
        raise ConfigError(f"{path}: share_backbone: found {share!r}, wanted true or false")
    if not isinstance(suites, list) or not all(isinstance(suite, str) for suite in suites):
        raise ConfigError(f"{path}: suites: found {suites!r}, wanted a list of names")
    settings = {str(name): changes or {} for name, changes in variants.items()}
    return Study(path.stem, str(values["preset"]), settings, tuple(seeds), judged, share, tuple(suites))


def variant_config(
    study: Study, variant: str, seed: int, suite: str | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """The configuration of one training: the preset, the suite, the variant's settings, then what the user typed."""
    arguments = ["--config", study.preset, "--seed", str(seed)]
    arguments += ["--collect.suite", suite, "--eval.suite", suite] if suite else []
    for key, value in study.variants[variant].items():
        arguments += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    sections = expand(("collect", "train", "eval", "out"))
    return read_run_config("study", [*arguments, *overrides], sections, {})[0]


def run_study(
    study: Study, overrides: Sequence[str], only: Sequence[str], command: str, record: str | None, curves: str | None
) -> None:
    """Train and judge every variant (or `only` some) with every seed, and write the record of what is done so far."""
    unknown = [name for name in only if name not in study.variants]
    if unknown:
        raise ConfigError(f"study {study.name!r}: no variants {unknown}\n  there are: {', '.join(study.variants)}")
    chosen = [name for name in study.variants if not only or name in only]
    places: Sequence[str | None] = study.suites or [None]
    trainings = [(suite, name, seed) for suite in places for name in chosen for seed in study.seeds]
    configs = {
        training: variant_config(study, training[1], training[2], training[0], overrides) for training in trainings
    }
    out = Path(next(iter(configs.values())).out)

    reports: dict[str | None, Any] = {}
    for (suite, name, seed), config in configs.items():
        place = out / (suite or "")
        if suite not in reports:
            reports[suite] = _demonstrations(replace(config, out=str(place)))
        folder = place / f"{name}-{seed}"
        print(f"\n{study.name}: {name}, seed {seed}, into {folder}")
        _train(study, config.training(), place, folder, reports[suite])
        _judge(config, folder, study.judged)
    _write(study, out, command, record, curves)


def _train(study: Study, config: TrainConfig, place: Path, folder: Path, checked: Any) -> None:
    """One training into `folder`, and before it the backbone that its seed shares, unless they are there already."""
    from .policies.training.train import train

    store, backbone = place / "demonstrations.zarr", place / f"{_BACKBONE}-{config.seed}"
    if (folder / "policy").exists():
        return
    if study.share_backbone:
        if not (backbone / "policy").exists():
            print(f"the backbone of seed {config.seed}, into {backbone}")
            train(replace(_without(config, "imitate"), policy_every=0), store, backbone, checked=checked)
        config = replace(_without(config, "align", "perceive"), backbone_from=str(backbone / "policy"))
    train(config, store, folder, checked=checked)


def _without(config: TrainConfig, *stages: str) -> TrainConfig:
    """The training without these stages."""
    return replace(config, **{stage: replace(getattr(config, stage), steps=0) for stage in stages})


def _demonstrations(config: RunConfig) -> Any:
    """What all variants learn from, made if it is not there; returns what the gate says of it."""
    from . import run_steps

    if not (Path(config.out) / "demonstrations.zarr").exists():
        run_steps.collect(replace(config, overwrite=False))
    return run_steps.check(config, None)


def _judge(config: RunConfig, folder: Path, judged: int) -> None:
    from .eval.series import evaluate_series

    kept = sorted((folder / "policies").glob("*")) if (folder / "policies").is_dir() else []
    policies = kept[-judged:] if judged > 1 else [folder / "policy"]
    if len(policies) < judged:
        raise ConfigError(
            f"{folder}: found {len(policies)} policies, wanted {judged}\n  lower policy_every or judged in the study"
        )
    started = time.perf_counter()
    evaluate_series(policies, config.eval, folder / "judged")
    print(f"judged in {time.perf_counter() - started:.0f} s")


def _write(study: Study, out: Path, command: str, record: str | None, curves: str | None) -> None:
    """The record of every variant that has been trained and judged with at least one seed, and its curves."""
    from .eval.records import make_record

    metrics: dict[str, Any] = {}
    lines: list[str] = []
    scores: list[tuple[Any, ...]] = []
    training: list[tuple[Any, ...]] = []
    seeds: set[int] = set()
    for suite in study.suites or [""]:
        of_suite: dict[str, Any] = metrics.setdefault(suite, {}) if suite else metrics
        shared = [_log(folder)[-1]["time_s"] for folder in sorted((out / suite).glob(f"{_BACKBONE}-*"))]
        if study.share_backbone and shared:
            of_suite[_BACKBONE] = {"train_seconds": fmean(shared)}
        for name in study.variants:
            done = {seed: out / suite / f"{name}-{seed}" for seed in study.seeds}
            done = {seed: folder for seed, folder in done.items() if len(_judged(folder, study)) == study.judged}
            if not done:
                continue
            seeds |= set(done)
            runs = {seed: _read_run(folder, study) for seed, folder in done.items()}
            of_suite[name] = _metrics([run.tables for run in runs.values()], [run.seconds for run in runs.values()])
            lines.append(_line(f"{suite} {name}".strip(), of_suite[name]))
            label = (*([suite] if suite else []), name)
            for seed, run in runs.items():
                training += [(*label, seed, *row) for row in run.curve]
                scores += [(*label, seed, p, *_means(t)) for p, t in zip(run.policies, run.tables, strict=True)]
    target = make_record(study.name, command, metrics, sorted(seeds)).write(record or out / "record.json")
    folder, label = Path(curves) if curves else out, (*(["suite"] if study.suites else []), "variant", "seed")
    _write_csv(folder / f"{study.name}_scores.csv", (*label, "policy", "score", "success_rate"), scores)
    _write_csv(folder / f"{study.name}_training.csv", (*label, "stage", "step", "seconds", "loss"), training)
    print("\n".join([f"\n{target}", *lines]))


@dataclass(frozen=True)
class _Run:
    """What one training has left.

    Attributes:
        policies, tables: names of the judged policies, and the episodes of each.
        seconds: of training.
        curve: stage, step, seconds and loss now and then.
    """

    policies: list[str]
    tables: list[list[EpisodeRecord]]
    seconds: float
    curve: list[tuple[str, int, float, float]]


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
    return _Run([path.stem for path in paths], [read_table(path) for path in paths], log[-1]["time_s"], curve)


def _line(name: str, values: Mapping[str, Any]) -> str:
    low, high = values["score_ci95"]
    return (
        f"  {name:24} score {values['score']:.3f} ({low:.3f} to {high:.3f}), success {values['success_rate']:.1%}, "
        f"trained {values['train_seconds']:.0f} s"
    )


def _means(records: Sequence[EpisodeRecord]) -> tuple[float, float]:
    return fmean(r.score for r in records), fmean(float(r.success) for r in records)


def _metrics(runs: Sequence[Sequence[Sequence[EpisodeRecord]]], seconds: Sequence[float]) -> dict[str, Any]:
    """Numbers of one variant from the episodes of each run's policies: means over runs, policies and episodes.

    The interval of the score is over starts: of each start's mean over policies and runs, so that policies of one
    training, which are much alike, do not pass for independent.
    """
    from .eval.statistics import mean_score

    every = [records for tables in runs for records in tables]
    per_start = [fmean(records[i].score for records in every) for i in range(len(every[0]))]
    per_seed = [fmean(_means(records)[0] for records in tables) for tables in runs]
    return {
        **mean_score(per_start),
        "score_best_policy": max(_means(records)[0] for records in every),
        **({"score_sd_of_seeds": stdev(per_seed)} if len(per_seed) > 1 else {}),
        "success_rate": fmean(_means(records)[1] for records in every),
        "policies": len(every),
        "starts": len(per_start),
        "train_seconds": fmean(seconds),
        "episode_seconds": fmean(record.wall_s for records in every for record in records),
    }


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{value:.6g}" if isinstance(value, float) else value for value in row] for row in rows)
