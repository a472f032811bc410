"""The steps of a run: demonstrations, gate, training, evaluation, report. Each reads and writes one folder.

    RUN/demonstrations.zarr   collect      RUN/policy/           train       RUN/config.yaml    what made all this
    RUN/gate.json, .html      data check   RUN/episodes.parquet  eval        RUN/timings.json   seconds of each step
    RUN/training.jsonl ...    train        RUN/summary.json      eval        RUN/report.html    report

A step whose input is missing refuses with a `StepError` that names the command that makes it.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .datasets.atomic import write_text
from .eval.records import make_record
from .run_config import RunConfig, write_sections, written_sections

if TYPE_CHECKING:
    from .datasets.findings import GateReport
    from .envs.config import RecordedConfig
    from .eval.config import EvalConfig

PRODUCTS = (
    *(
        "demonstrations.zarr",
        "gate.json",
        "gate.html",
        "config.yaml",
        "training.jsonl",
        "monitors.jsonl",
        "events.jsonl",
        "evaluations.jsonl",
        "tensorboard",
        "checkpoints",
        "policy",
        "policies",
        "best_by_probe",
    ),
    *(
        "episodes.parquet",
        "episodes.partial.jsonl",
        "media",
        "summary.json",
        "report.html",
        "timings.json",
        "record.json",
    ),
    *(
        "collapse.parquet",
        "collapse.json",
        "alignment.json",
        "comparison.parquet",
        "comparison.json",
        "chains.parquet",
        "chains.json",
        "attribution.jsonl",
        "attribution.json",
        "diagnosis.json",
        "probe.json",
        "probe.html",
        "features",
    ),
)
"""Everything that the steps of a run leave in its folder."""

_SHOWN_FINDINGS = 20
_NESTED_METRICS = ("per_task", "per_tier", "conditions", "wall_seconds")


class StepError(Exception):
    """A step that cannot go on; the message says what to do."""


def demo(config: RunConfig, command: Sequence[str], record: str | None) -> None:
    """All steps, one after the other, in a folder that holds no run yet (or with `overwrite`, no longer)."""
    out = Path(config.out)
    present = [name for name in PRODUCTS if (out / name).exists()]
    if present and not config.overwrite:
        raise StepError(
            f"{out} holds a run already ({', '.join(present)})\n  start again with `--overwrite true`, "
            "choose another folder with `--out`, or go on with the run's next step, such as `deixis train`"
        )
    _check_names(config)
    for name in present:
        _remove(out / name)
    collect(config)
    train(config, None, check(config, None))
    evaluate(config, command, None, record)
    report(config)
    _write_results(config, command, record)  # once more: now the seconds of the report are known too
    _print_summary(out)


def collect(config: RunConfig) -> None:
    """Record the expert's demonstrations, or read those that were recorded elsewhere.

    A collection that was stopped is gone on with.
    """
    out = Path(config.out)
    store = out / "demonstrations.zarr"
    recorded = config.collect.recorded
    if store.exists() and config.overwrite:
        _remove(store)
    if store.exists() and (recorded.source or not _is_begun(store, config.collect.episodes)):
        raise StepError(
            f"{store} is there already\n  replace it with `--overwrite true` or choose another folder with `--out`"
        )
    _check_names(config)
    with _timed(out, "collect"):
        if recorded.source:
            write_sections(config, ("collect", "seed"), out / "config.yaml")
            _import_recorded(recorded, config.collect.episodes, store)
            return
        from .envs.collect import collect as collect_demonstrations

        write_sections(config, ("collect", "seed"), out / "config.yaml")
        with _progress("demonstrations") as advance:
            collect_demonstrations(config.collect, store, seed=config.seed, progress=advance)


def _is_begun(store: Path, episodes: int) -> bool:
    """Whether there is a store that lacks some of so many episodes."""
    from .datasets.store import StoreError, TrajectoryStore

    try:
        return len(TrajectoryStore.open(store)) < episodes
    except StoreError:
        return False


def _import_recorded(recorded: RecordedConfig, episodes: int, store: Path) -> None:
    from .datasets.formats import IMPORTERS, detect
    from .datasets.formats.options import ImportOptions

    source = Path(os.path.expandvars(recorded.source)).expanduser()
    if not source.exists():
        variables = re.findall(r"[$]{?(\w+)", str(source))
        unset = f", or set {', '.join(variables)}" if variables else ""
        raise StepError(
            f"collect.recorded.source: {source} is not there\n  give the data set with "
            f"`--collect.recorded.source FOLDER`{unset}"
        )
    options = ImportOptions(recorded.rate_hz, recorded.instruction, recorded.cameras, episodes, recorded.proprio)
    with _progress("demonstrations") as advance:
        IMPORTERS[detect(source)](source, store, options, lambda done, total: advance(done, total, 0))


def check(
    config: RunConfig,
    store: str | None,
    report_file: str | None = None,
    page: str | None = None,
    fix: str | None = None,
) -> GateReport:
    """Run the gate over a store, and return its report. That of the run's own store goes to gate.json and gate.html.

    report_file, page: where else to write them. fix: folder of a new store with what is sound of this one.
    """
    out = Path(config.out)
    path = _existing(store or out / "demonstrations.zarr", "deixis collect")
    from .datasets.store import TrajectoryStore

    opened = TrajectoryStore.open(path)
    if fix is not None and Path(fix).exists():
        raise StepError(f"{fix} is there already\n  remove it or choose another folder")
    with _timed(out if store is None else None, "check"):
        from .datasets.timestamps import check_store

        report = check_store(opened)
        files, pages = ([Path(name)] if name else [] for name in (report_file, page))
        if store is None:
            files, pages = [*files, out / "gate.json"], [*pages, out / "gate.html"]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(report.to_json() + "\n", "utf-8")
        _print_findings(path, report)
        if pages:
            from .eval.gate_page import write_gate_page

            for file in pages:
                write_gate_page(opened, report, file)
    if fix is not None:
        from .datasets.repair import repair

        for done in repair(opened, report, fix):
            print(f"  {done}")
        left = check_store(TrajectoryStore.open(fix)).errors
        if left:
            raise StepError(f"{fix} still has {len(left)} errors, the first: {left[0]}")
        print(f"{fix}: no errors left")
    elif not report.ok:
        raise StepError(f"{path} has errors, so nothing can be trained on it")
    return report


def _print_findings(path: Path, report: GateReport) -> None:
    print(f"{path}: {len(report.errors)} errors, {len(report.findings) - len(report.errors)} other findings")
    if report.synthetic:
        print(f"  synthetic clocks, made from the declared rate: {', '.join(report.synthetic)}")
    for finding in report.findings[:_SHOWN_FINDINGS]:
        print(f"  {finding}")
    if len(report.findings) > _SHOWN_FINDINGS:
        print(f"  ... and {len(report.findings) - _SHOWN_FINDINGS} more")


def train(config: RunConfig, store: str | None, checked: GateReport | None = None) -> None:
    """Train every stage that has steps. checked: what the gate has just said of the store."""
    out = Path(config.out)
    path = _existing(store or out / "demonstrations.zarr", "deixis collect")
    with _timed(out, "train"):
        from .policies.training.train import train as train_policy

        training, watch = config.training(), None
        write_sections(config, vars(training).keys() - {"overwrite"}, out / "config.yaml")
        for name in ("alignment_every", "probe_every"):
            if getattr(config.watch, name) and training.policy.backbone.kind == "state":
                raise StepError(f"watch.{name}: the backbone 'state' sees and reads nothing; set it to 0")
        if config.watch.alignment_every or config.watch.rollout_every or config.watch.probe_every:
            from .eval.watchers import make_watch

            watch = make_watch(config.watch, config.eval.exec_horizon, path, out)
        train_policy(training, path, out, checked=checked, watch=watch)


def evaluate(config: RunConfig, command: Sequence[str], checkpoint: str | None, record: str | None) -> None:
    """Run the policy in closed loop and write the summary and its record."""
    out = Path(config.out)
    folder = _existing(checkpoint or out / "policy", "deixis train")
    with _timed(out, "eval"):
        from .eval.success import evaluate as evaluate_policy

        write_sections(config, ("eval",), out / "config.yaml")
        evaluate_policy(folder, config.eval, out)
    _write_results(config, command, record)


def collapse(config: RunConfig, command: Sequence[str], checkpoint: str | None, record: str | None) -> None:
    """Replace image, words and proprioception, one at a time, and say which of them the policy ignores."""
    from .eval.collapse import judge_collapse, show_collapse

    out = Path(config.out)
    found = judge_collapse(_existing(checkpoint or out / "policy", "deixis train"), config.eval, out)
    show_collapse(found)
    _write_found(found, command, Path(record) if record else out / "collapse.json")


def alignment(config: RunConfig, command: Sequence[str], checkpoint: str | None, record: str | None) -> None:
    """Ask what words and pictures mean to the policy's backbone, on as many scenes as there would be episodes."""
    out = Path(config.out)
    folder = _existing(checkpoint or out / "policy", "deixis train")
    from .eval.alignment import alignment_of, show_alignment

    found = alignment_of(folder, config.eval)
    show_alignment(found)
    _write_found(found, command, Path(record) if record else out / "alignment.json")


def against(config: RunConfig, command: Sequence[str], checkpoint: str | None, other: str, record: str | None) -> None:
    """Run two policies over the same episodes, and say which is better as soon as that is sure."""
    from .eval.versus import judge_against, show_comparison

    out = Path(config.out)
    folders = _existing(checkpoint or out / "policy", "deixis train"), _existing(other, "deixis train")
    found = judge_against(*folders, config.eval, out)
    show_comparison(found, (str(folders[0]), str(folders[1])))
    _write_found(found, command, Path(record) if record else out / "comparison.json")


def chains(config: RunConfig, command: Sequence[str], checkpoint: str | None, count: str, record: str | None) -> None:
    """Give five instructions in a row without a reset, and count how many are carried out."""
    from .eval.chains import judge_chains, show_chains

    out = Path(config.out)
    folder = _existing(checkpoint or out / "policy", "deixis train")
    found = judge_chains(folder, _count("--chains", count), config.eval, out)
    show_chains(found)
    _write_found(found, command, Path(record) if record else out / "chains.json")


def attribute(
    config: RunConfig, command: Sequence[str], checkpoint: str | None, count: str, record: str | None
) -> None:
    """Run failed episodes again with one stage replaced by the truth, and say which stage made them fail."""
    from .eval.attribution import attribute_failures, show_causes

    out = Path(config.out)
    folder = _existing(checkpoint or out / "policy", "deixis train")
    _existing(out / "episodes.parquet", "deixis eval")
    found = attribute_failures(folder, _as_evaluated(config.eval, out), out, _count("--attribute", count))
    show_causes(found)
    _write_found(found, command, Path(record) if record else out / "attribution.json")


def _as_evaluated(config: EvalConfig, out: Path) -> EvalConfig:
    """The configuration with the exec_horizon that the run's episodes had. Raises StepError where it has another."""
    written = written_sections(out / "config.yaml").get("eval")
    if written is None:
        return config
    had = written.get("exec_horizon")
    if config.exec_horizon not in (None, had):
        raise StepError(
            f"eval.exec_horizon: found {config.exec_horizon}, wanted {had or 'none'}, with which the episodes in {out} "
            "were run: leave it out, or evaluate with this one first"
        )
    return replace(config, exec_horizon=had)


def probe(
    config: RunConfig,
    command: Sequence[str],
    checkpoints: Sequence[str] | None,
    store: str | None,
    page: str | None,
    record: str | None,
) -> None:
    """Check frozen backbones on the frames of a store, and say whether they are worth building on."""
    out = Path(config.out)
    path = _existing(store or out / "demonstrations.zarr", "deixis collect")
    places = list(checkpoints or [str(_existing(out / "policy", "deixis train"))])
    from .eval.probe.run import run_probe

    found = run_probe(config.probe, places, path, out, Path(page) if page else out / "probe.html")
    _write_found(found, command, Path(record) if record else out / "probe.json", [config.probe.seed])


def diagnose(run: str | None, store: str | None, episodes: str | None, report_file: str | None) -> None:
    """Climb from the recordings to unseen scenes, and say which rung breaks first and why."""
    out = Path(run or RunConfig().out)
    folder = _existing(out / "policy", "deixis train")
    path = _existing(store or out / "demonstrations.zarr", "deixis collect")
    count = _count("--episodes", episodes or "20")
    from rich.console import Console

    from .datasets.store import TrajectoryStore
    from .envs.suites import suite_named
    from .eval.diagnosis import diagnose_saved
    from .eval.diagnosis.show import show_diagnosis
    from .eval.progress import progress
    from .eval.provenance import policy_hash

    opened, written = TrajectoryStore.open(path), written_sections(out / "config.yaml")
    evaluated = written.get("eval", {})
    home = opened.meta.get("suite") or written.get("collect", {}).get("suite") or evaluated.get("suite")
    names = home, evaluated.get("suite", home)
    first, second = (suite_named(str(name)) if name else None for name in names)
    with progress(Console()) as advance:
        found = diagnose_saved(folder, opened, (first, second), count, evaluated.get("exec_horizon"), advance)
    show_diagnosis(found)
    for file in (out / "diagnosis.json", *([Path(report_file)] if report_file else [])):
        write_text(file, json.dumps({"policy_hash": policy_hash(folder), **found.to_dict()}, indent=2) + "\n")
        print(f"written: {file}")


def _count(option: str, text: str) -> int:
    if not text.isdigit() or not int(text):
        raise StepError(f"{option}: found {text!r}, wanted a whole number of at least 1")
    return int(text)


def plan(config: RunConfig, difference: str) -> None:
    """Print how many episodes show a difference of two success rates."""
    from .eval.power import known_rate, show_plan

    try:
        asked = float(difference)
    except ValueError as error:
        raise StepError(f"--plan: found {difference!r}, wanted a number such as 0.1") from error
    show_plan(asked, known_rate(Path(config.out)), config.eval.error_rate)


def _write_found(found: dict[str, Any], command: Sequence[str], path: Path, seeds: Sequence[int] = ()) -> None:
    make_record(path.stem, shlex.join(["deixis", *command]), found, seeds).write(path)
    print(f"record: {path}")


def report(config: RunConfig, runs: Sequence[str] | None = None, page: str | None = None) -> None:
    """Write report.html from what the other steps left, of the run in `out` or of one or several others."""
    folders = [Path(run) for run in runs or [config.out]]
    for folder in folders:
        _existing(folder / "episodes.parquet", "deixis eval")
    with _timed(folders[0] if len(folders) == 1 else None, "report"):
        from .eval.report import write_report

        written = write_report(*folders, page=page)
    print(f"report: {written}")


def _write_results(config: RunConfig, command: Sequence[str], record: str | None) -> None:
    """Write summary.json and the record of its numbers, to the file `record` or else to record.json."""
    from .eval.summary import write_summary

    out = Path(config.out)
    summary = write_summary(out)
    numbers = (int, float, list)
    metrics = {name: value for name, value in summary.items() if isinstance(value, numbers) or name in _NESTED_METRICS}
    seed = written_sections(out / "config.yaml").get("seed")
    name, path = (Path(record).stem, Path(record)) if record else (out.name, out / "record.json")
    make_record(name, shlex.join(["deixis", *command]), metrics, [] if seed is None else [seed]).write(path)


@contextmanager
def _timed(out: Path | None, step: str) -> Iterator[None]:
    """Note the seconds of a step that ends well in `out`/timings.json."""
    started = time.perf_counter()
    yield
    if out is None:
        return
    path = out / "timings.json"
    timings: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    timings[step] = round(time.perf_counter() - started, 2)
    write_text(path, json.dumps(timings, indent=2) + "\n")  # another process may read it: it appears whole


def _check_names(config: RunConfig) -> None:
    """Refuse unknown suites and splits before anything is made."""
    from .envs.suites import suite_named
    from .envs.tabletop.splits import SPLITS

    sections = {"collect": config.collect, "eval": config.eval, "watch": config.watch}
    for section, name in ((section, part.suite) for section, part in sections.items()):
        try:
            suite_named(name)
        except ValueError as error:
            raise StepError(f"{section}.{error}") from error
    if config.collect.split not in SPLITS:
        raise StepError(f"collect.split: found {config.collect.split!r}, wanted one of {', '.join(SPLITS)}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int, int], None]]:
    """A progress bar; yields what to call with (done, wanted, failed)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[failed]} failed")) as bar:
        task = bar.add_task(what, total=None, failed=0)

        def advance(done: int, wanted: int, failed: int) -> None:
            if bar.tasks[0].total is None:  # what was there before counts as done, but not as done quickly
                bar.reset(task, total=wanted, completed=done)
            bar.update(task, completed=done, total=wanted, failed=failed)

        yield advance


def _existing(path: str | Path, maker: str) -> Path:
    path = Path(path)
    if not path.exists():
        raise StepError(f"{path} is not there\n  `{maker}` makes it; `--out` names the folder of the run")
    return path


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _print_summary(out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    summary = json.loads((out / "summary.json").read_text("utf-8"))
    table = Table(title=f"{out}: {summary['episodes']} unseen episodes")
    table.add_column("measure")
    table.add_column("value", justify="right")
    table.add_column("95% interval", justify="right")
    rows = {"success": ("success_rate", "ci95")}
    if "score" in summary:
        table.add_row("score", f"{summary['score']:.3f}", "{:.3f} to {:.3f}".format(*summary["score_ci95"]))
    rows |= {
        name.replace("_", " "): (f"{name}_rate", f"{name}_ci95")
        for name in ("wrong_object", "null_success", "swap_follow")
    }
    for label, (rate, interval) in rows.items():
        if summary.get(rate) is not None:
            table.add_row(label, f"{summary[rate]:.1%}", "{:.1%} to {:.1%}".format(*summary[interval]))
    for task, result in summary["per_task"].items():
        table.add_row(f"  {task}", f"{result['rate']:.1%}", "{:.1%} to {:.1%}".format(*result["ci95"]))
    timings = json.loads((out / "timings.json").read_text("utf-8"))
    console = Console()
    console.print(table)
    console.print(
        f"{sum(timings.values()):.0f} s in all: " + ", ".join(f"{step} {s:.0f} s" for step, s in timings.items())
    )
    console.print(f"report: {out / 'report.html'}")
