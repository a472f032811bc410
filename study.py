"""`deixis study NAME`: variants of one preset, trained on the same demonstrations and judged alike; one record of all.

A study is a YAML file in configs/studies/: `preset`, `settings` (what all change of it), `variants` (name -> dotted
settings), `seeds`, `judged`: how many of each training's last policies are evaluated (see `policy_every`), of which the
mean counts; `share_backbone`, to do alignment and perception once for all variants of a seed; `backbones`, names with
their settings, where every variant is trained on each of several, as BACKBONE-VARIANT; `also`, what else is asked of
each last policy, "alignment" or "collapse" (as `deixis eval` does), where wanted each with the name of a record of its
own; and `suites`, where all of it is done in each of several. A variant that is `like` another has its weights, and
other settings of `policy.head` for drawing actions from them.

    OUT/demonstrations.zarr, gate.json, ...   what all learn from
    OUT/backbone-SEED/                        the backbone that all variants start with, where they share it; of several
                                              OUT/backbone-NAME-SEED/
    OUT/VARIANT-SEED/                         training of each, and judged/STEP.parquet, the episodes of each policy,
                                              alignment.json, collapse.json
    OUT/SUITE/...                             the same, where the study names suites

What is there already is not done again, so a study that was stopped goes on.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .datasets.atomic import write_text
from .run_config import PRESETS, ConfigError, RunConfig, expand, read_run_config
from .study_results import BACKBONE, DECISION, backbone_folder, write_results

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
        variants: name -> dotted setting -> value, what a variant changes; "preset" -> one that it has instead; "like"
            -> the variant whose weights it takes.
        seeds: of training, each with all variants.
        judged: how many of a training's last policies are evaluated; 1 takes the final one alone.
        backbones: variant -> name of the backbone that it shares, "" where all share one; empty where none is shared.
        also: of `ALSO`, what else is asked of a training's last policy -> the record it goes to, "" for the study's;
            how well a shared backbone is aligned is asked of it, not of each policy.
        suites: in which to collect, train and judge; none means the preset's.
    """

    name: str
    preset: str
    variants: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0,)
    judged: int = 1
    backbones: Mapping[str, str] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict)
    suites: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def also_of_backbones(self) -> list[str]:
        """What else is asked of each shared backbone, on which no training of a variant has a say."""
        return [what for what in self.also if what == "alignment" and self.backbones]

    def also_of_policies(self) -> list[str]:
        """What else is asked of each training's last policy."""
        return [what for what in self.also if what not in self.also_of_backbones()]


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
    allowed = {item.name for item in fields(Study)} - {"name"} | {"share_backbone"}
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
    asked = values.get("also", [])
    also = {str(what): "" for what in asked} if isinstance(asked, list) else asked
    if not isinstance(also, dict) or not all(w in ALSO and re.fullmatch(r"\w*", str(r)) for w, r in also.items()):
        raise ConfigError(f"{path}: also: found {asked!r}, wanted a list of {' and '.join(ALSO)}, or names of records")
    if not isinstance(shared, dict):
        raise ConfigError(f"{path}: settings: found {shared!r}, wanted dotted settings with their values")
    changed = {str(name): changes or {} for name, changes in variants.items()}
    shares = dict.fromkeys(changed, "") if share else {}
    if "backbones" in values:
        changed, shares = _on_each(path, values["backbones"], changed)
    return Study(
        name=path.stem,
        preset=str(values["preset"]),
        variants=changed,
        seeds=tuple(seeds),
        judged=judged,
        backbones=shares,
        also=also,
        suites=tuple(suites),
        settings=shared,
    )


def _on_each(
    path: Path, backbones: Any, variants: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Every variant on every backbone, and which backbone that is."""
    named = isinstance(backbones, dict) and all(isinstance(x, dict | None) for x in backbones.values())
    if not named or not backbones:
        raise ConfigError(f"{path}: backbones: found {backbones!r}, wanted names, each with its settings")
    if derived := [name for name, changes in variants.items() if "like" in changes]:
        raise ConfigError(f"{path}: variants.{derived[0]}.like: found beside backbones, wanted one or the other")
    changed, shares = {}, {}
    for backbone, settings in backbones.items():
        for name, changes in variants.items():
            changed[f"{backbone}-{name}"] = {**(settings or {}), **changes}
            shares[f"{backbone}-{name}"] = str(backbone)
    return changed, shares


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
    changes = dict(study.variants[variant])
    base = study.variants.get(changes.pop("like", ""), {})
    settings = {"preset": study.preset, **study.settings, **base, **changes}
    arguments = ["--config", settings.pop("preset"), "--seed", str(seed), "--out", f"runs/{study.name}"]
    arguments += ["--collect.suite", suite, "--eval.suite", suite] if suite else []
    for key, value in settings.items():
        arguments += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    sections = expand(("collect", "train", "eval", "out"))
    return read_run_config("study", [*arguments, *overrides], sections, {})[0]


def choose(study: Study, variants: Sequence[str], seeds: Sequence[str]) -> list[tuple[str, int]]:
    """The trainings, variant and seed, of these variants and seeds; of all where none is named.

    Raises:
        ConfigError: the study has no such variant or seed.
    """
    known = [str(seed) for seed in study.seeds]
    for what, named, there in (("variants", variants, list(study.variants)), ("seeds", seeds, known)):
        if unknown := [name for name in named if name not in there]:
            raise ConfigError(f"study {study.name!r}: no {what} {unknown}\n  there are: {', '.join(there)}")
    chosen = [name for name in study.variants if not variants or name in variants]
    return [(name, seed) for name in chosen for seed in study.seeds if not seeds or str(seed) in seeds]


def run_study(
    study: Study,
    chosen: Sequence[tuple[str, int]],
    overrides: Sequence[str],
    command: str,
    record: str | None,
    curves: str | None,
) -> None:
    """Train and judge the chosen variants and seeds, and write the record of what is done so far."""
    places: Sequence[str | None] = study.suites or [None]
    configs = {
        (suite, name, seed): variant_config(study, name, seed, suite, overrides)
        for suite in places
        for name, seed in chosen
    }
    if study.backbones and not all(c.align.steps or c.perceive.steps for c in configs.values()):
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
            trained = variant_config(study, base, seed, suite, overrides).training()
            _train(study, base, trained, place, source, reports[suite])
            _take_over(source, config, folder)
        else:
            _train(study, name, config.training(), place, folder, reports[suite])
        for what in study.also_of_backbones():
            _ask(what, config, backbone_folder(study, name, place, seed))
        _judge(config, folder, study.judged)
        for what in study.also_of_policies():
            _ask(what, config, folder)
    write_results(study, out, command, record, curves)


def _train(study: Study, name: str, config: TrainConfig, place: Path, folder: Path, checked: Any) -> None:
    """One training into `folder`, and before it the backbone that it shares, unless they are there already."""
    from .policies.training.train import train

    store = place / "demonstrations.zarr"
    if (folder / "policy").exists():
        return
    if study.backbones:
        backbone = backbone_folder(study, name, place, config.seed)
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
        write_text(folder / DECISION, json.dumps(taken) + "\n")


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
    write_text(path, json.dumps(found) + "\n")
    print(f"{what}: {time.perf_counter() - started:.0f} s")
