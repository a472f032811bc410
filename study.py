"""`deixis study NAME`: variants of one preset, trained on the same demonstrations and judged alike; one record of all.

A study is a YAML file in configs/studies/: `preset`, `settings` (what all change of it), `variants` (name -> dotted
settings), `seeds`, `judged`: how many of each training's last policies are evaluated (see `policy_every`), of which the
mean counts; `share_backbone`, to do alignment and perception once for all variants of a seed; `also`, what else is
asked of each last policy, "alignment" or "collapse" (as `deixis eval` does); and `suites`, where all of it is done in
each of several. A variant that is `like` another has its weights, and other settings of `policy.head` for drawing
actions from them.

    OUT/demonstrations.zarr, gate.json, ...   what all learn from
    OUT/backbone-SEED/                        the backbone that all variants start with, where they share it
    OUT/VARIANT-SEED/                         training of each, and judged/STEP.parquet, the episodes of each policy,
                                              alignment.json, collapse.json
    OUT/SUITE/...                             the same, where the study names suites

What is there already is not done again, so a study that was stopped goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .run_config import PRESETS, ConfigError, RunConfig, expand, read_run_config
from .study_results import BACKBONE, DECISION, write_results

if TYPE_CHECKING:
    from .policies.config import TrainConfig

STUDIES = PRESETS / "studies"
ALSO = ("alignment", "collapse")


@dataclass(frozen=True)
class Study:
    """A study as its file says it; see the module.

    Attributes:
        name: of the study and of its record.
        preset: configuration that all variants share.
        settings: dotted setting -> value, what all variants change of the preset.
        variants: name -> dotted setting -> value, what a variant changes; "like" -> the variant whose weights it takes.
        seeds: of training, each with all variants.
        judged: how many of a training's last policies are evaluated; 1 takes the final one alone.
        share_backbone: codebook, align and perceive once for a seed; all its variants imitate on that backbone.
        also: of `ALSO`, what else is asked of a training's last policy.
        suites: in which to collect, train and judge; none means the preset's.
    """

    name: str
    preset: str
    variants: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0,)
    judged: int = 1
    share_backbone: bool = False
    also: tuple[str, ...] = ()
    suites: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


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
    share, suites, shared = values.get("share_backbone", False), values.get("suites", []), values.get("settings", {})
    if not isinstance(variants, dict) or not variants or not all(isinstance(v, dict | None) for v in variants.values()):
        raise ConfigError(f"{path}: variants: found {variants!r}, wanted names, each with its settings")
    if BACKBONE in variants:
        raise ConfigError(f"{path}: variants: found {BACKBONE!r}, wanted another name: what they share has it")
    for name, changes in variants.items():
        _check_like(path, name, changes or {}, variants)
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise ConfigError(f"{path}: seeds: found {seeds!r}, wanted a list of whole numbers")
    if type(judged) is not int or judged < 1:
        raise ConfigError(f"{path}: judged: found {judged!r}, wanted a whole number of at least 1")
    if type(share) is not bool:
        raise ConfigError(f"{path}: share_backbone: found {share!r}, wanted true or false")
    if not isinstance(suites, list) or not all(isinstance(suite, str) for suite in suites):
        raise ConfigError(f"{path}: suites: found {suites!r}, wanted a list of names")
    also = values.get("also", [])
    if not isinstance(also, list) or not all(what in ALSO for what in also):
        raise ConfigError(f"{path}: also: found {also!r}, wanted a list of {' and '.join(ALSO)}")
    if not isinstance(shared, dict):
        raise ConfigError(f"{path}: settings: found {shared!r}, wanted dotted settings with their values")
    changed = {str(name): changes or {} for name, changes in variants.items()}
    return Study(
        name=path.stem,
        preset=str(values["preset"]),
        variants=changed,
        seeds=tuple(seeds),
        judged=judged,
        share_backbone=share,
        also=tuple(also),
        suites=tuple(suites),
        settings=shared,
    )


def _check_like(path: Path, name: str, changes: Mapping[str, Any], variants: Mapping[str, Any]) -> None:
    base = changes.get("like")
    if base is None:
        return
    if base not in variants or "like" in (variants[base] or {}):
        raise ConfigError(f"{path}: variants.{name}.like: found {base!r}, wanted another variant that is trained")
    other = [key for key in changes if key != "like" and not key.startswith("policy.head.")]
    if other:
        raise ConfigError(f"{path}: variants.{name}: found {other}, wanted only policy.head.* beside like")


def variant_config(
    study: Study, variant: str, seed: int, suite: str | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """The configuration of one training: the preset, the suite, the variant's settings, then what the user typed."""
    arguments = ["--config", study.preset, "--seed", str(seed), "--out", f"runs/{study.name}"]
    arguments += ["--collect.suite", suite, "--eval.suite", suite] if suite else []
    changes = dict(study.variants[variant])
    base = study.variants.get(changes.pop("like", ""), {})
    for key, value in {**study.settings, **base, **changes}.items():
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
    if study.share_backbone and not all(c.align.steps or c.perceive.steps for c in configs.values()):
        raise ConfigError(f"study {study.name!r}: share_backbone: found align.steps and perceive.steps 0, wanted one")
    out = Path(next(iter(configs.values())).out)

    reports: dict[str | None, Any] = {}
    for (suite, name, seed), config in configs.items():
        place = out / (suite or "")
        if suite not in reports:
            reports[suite] = _demonstrations(replace(config, out=str(place)))
        folder = place / f"{name}-{seed}"
        print(f"\n{study.name}: {name}, seed {seed}, into {folder}")
        base = study.variants[name].get("like")
        if base:
            source = place / f"{base}-{seed}"
            _train(study, variant_config(study, base, seed, suite, overrides).training(), place, source, reports[suite])
            _take_over(source, config, folder)
        else:
            _train(study, config.training(), place, folder, reports[suite])
        _judge(config, folder, study.judged)
        for what in study.also:
            _ask(what, config, folder)
    write_results(study, out, command, record, curves)


def _train(study: Study, config: TrainConfig, place: Path, folder: Path, checked: Any) -> None:
    """One training into `folder`, and before it the backbone that its seed shares, unless they are there already."""
    from .policies.training.train import train

    store, backbone = place / "demonstrations.zarr", place / f"{BACKBONE}-{config.seed}"
    if (folder / "policy").exists():
        return
    if study.share_backbone:
        if not (backbone / "policy").exists():
            print(f"the backbone of seed {config.seed}, into {backbone}")
            train(replace(_without(config, "imitate", "finetune"), policy_every=0), store, backbone, checked=checked)
        config = replace(
            _without(config, "codebook", "align", "perceive"),
            backbone_from=str(backbone / "policy"),
            encoded_frames=str(backbone / "encoded"),
        )
    train(config, store, folder, checked=checked)


def _take_over(source: Path, config: RunConfig, folder: Path) -> None:
    """The policies of the training in `source`, configured otherwise, into `folder`."""
    from .policies.serialisation import reconfigure

    if (folder / "policy").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / "training.jsonl", folder / "training.jsonl")
    for policy in [*sorted(source.glob("policies/*")), source / "policy"]:  # the last tells that all are there
        reconfigure(policy, config.policy, folder / policy.relative_to(source))


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
    from .eval.decision_time import decision_ms
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
    if not (folder / DECISION).exists():
        taken = {"ms_per_chunk": decision_ms(policies[-1], config.eval.suite)}
        (folder / DECISION).write_text(json.dumps(taken) + "\n", "utf-8")


def _ask(what: str, config: RunConfig, folder: Path) -> None:
    """What one of `ALSO` finds of the policy in `folder`, as JSON beside it."""
    path = folder / f"{what}.json"
    if path.exists():
        return
    started = time.perf_counter()
    if what == "alignment":
        from .eval.alignment import alignment_of

        found = alignment_of(folder / "policy", config.eval)
    else:
        from .eval.collapse import judge_collapse

        found = judge_collapse(folder / "policy", config.eval, folder)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(found) + "\n", "utf-8")
    unfinished.replace(path)
    print(f"{what}: {time.perf_counter() - started:.0f} s")
