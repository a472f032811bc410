"""`deixis data …`: bring data sets in and out, clean them, check them, repair them, and drive them again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUMMARIES = {
    "data import": "read a data set of another format into a trajectory store",
    "data export": "write a trajectory store in another format",
    "data replay": "drive recorded actions through an environment and compare what happens",
    "data curate": "clean a store: duplicates, idle stretches, repetitive texts, rare instructions, scores",
}
_SHOWN = 20


def run(name: str, arguments: Sequence[str]) -> int:
    """Run one of SUMMARIES and return its exit status: 0, 1 when it refused, 2 when it was called wrongly."""
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "data import": _import,
        "data export": _export,
        "data replay": _replay,
        "data curate": _curate,
    }
    try:
        return commands[name](arguments)
    except SystemExit as stop:  # argparse has printed help or the mistake
        return int(stop.code or 0)
    except (ValueError, OSError, ImportError) as error:
        print(f"deixis {name}: {error}", file=sys.stderr)
        return 1


def _parser(name: str, *positional: tuple[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"deixis {name}", description=SUMMARIES[name], allow_abbrev=False)
    for argument, text in positional:
        parser.add_argument(argument, help=text, type=Path)
    return parser


def _import(arguments: Sequence[str]) -> int:
    from .datasets.formats import IMPORTERS, detect
    from .datasets.formats.options import ImportOptions

    parser = _parser(
        "data import",
        ("source", "file or folder of the data set"),
        ("destination", "folder of the new store; must not exist"),
    )
    parser.add_argument("--format", choices=sorted(IMPORTERS), help="left out, it is recognised from the files")
    parser.add_argument("--rate-hz", type=float, help="control rate, for formats that keep none")
    parser.add_argument("--instruction", help="the words for every episode, instead of those of the data set")
    parser.add_argument("--cameras", nargs="+", default=[], help="cameras to keep; left out, all")
    parser.add_argument("--proprio", nargs="+", default=[], help="observation keys joined into the proprioception")
    parser.add_argument("--limit", type=int, help="read only so many episodes")
    given = parser.parse_args(arguments)
    options = ImportOptions(given.rate_hz, given.instruction, tuple(given.cameras), given.limit, tuple(given.proprio))
    kind = given.format or detect(given.source)
    with _progress("episodes") as advance:
        store = IMPORTERS[kind](given.source, given.destination, options, advance)
    synthetic = [name for name, spec in store.streams.items() if spec.clock == "synthetic"]
    print(f"{given.destination}: {len(store)} episodes of format {kind}")
    if synthetic:
        print(f"  synthetic clocks, made from the declared rate: {', '.join(synthetic)}")
    print(f"  next: deixis data check {given.destination}")
    return 0


def _export(arguments: Sequence[str]) -> int:
    from .datasets.formats import EXPORTERS
    from .datasets.store import TrajectoryStore

    parser = _parser("data export", ("store", "folder of the store"), ("destination", "what to write; must not exist"))
    parser.add_argument("--format", choices=sorted(EXPORTERS), required=True)
    given = parser.parse_args(arguments)
    with _progress("episodes") as advance:
        written = EXPORTERS[given.format](TrajectoryStore.open(given.store), given.destination, progress=advance)
    print(f"{written}: written as {given.format}")
    return 0


def _replay(arguments: Sequence[str]) -> int:
    from .datasets.store import TrajectoryStore
    from .envs.replaying import WORLDS
    from .eval.replay import PATHS, replay

    parser = _parser("data replay", ("store", "folder of the store"))
    parser.add_argument("--env", choices=sorted(WORLDS), required=True, help="the world it was recorded in")
    parser.add_argument(
        "--path", choices=PATHS, nargs="+", default=list(PATHS), help="as recorded, or encoded and decoded first"
    )
    parser.add_argument("--episodes", type=int, help="drive only so many, evenly spread; left out, all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every episode's result")
    given = parser.parse_args(arguments)
    store = TrajectoryStore.open(given.store)
    count = len(store) if given.episodes is None else min(given.episodes, len(store))
    if count < 1:
        raise ValueError(f"{given.store}: found {count} episodes to drive, wanted at least one")
    chosen = [number * len(store) // count for number in range(count)]
    reports = []
    for path in given.path:
        with _progress(f"{path:>10}") as advance:
            reports.append(replay(store, given.env, path, chosen, advance))
    for report in reports:
        worst = max(report.episodes, key=lambda episode: episode.deviation)
        reached = f"{report.repeated} of {report.successes} successes again"
        if all(episode.recorded_success is None for episode in report.episodes):
            reached = f"{sum(e.success for e in report.episodes)} reach the goal (the store does not say which did)"
        print(
            f"{report.path}: {report.exact} of {len(report.episodes)} exact, {reached}; "
            f"largest deviation {worst.deviation:.3g} s.d. ({worst.worst}, episode {worst.episode})"
        )
        for episode in [e for e in report.episodes if e.recorded_success and not e.success][:_SHOWN]:
            print(f"  episode {episode.episode}: recorded as a success, failed; diverged at step {episode.diverged}")
    if given.json:
        text = json.dumps([report.to_dict() for report in reports], indent=2)
        given.json.write_text(text + "\n", "utf-8")
    return 0 if all(report.ok for report in reports) else 1


def _curate(arguments: Sequence[str]) -> int:
    import jsonargparse

    from .datasets.curation.config import CurationConfig
    from .datasets.curation.curate import curate
    from .datasets.store import TrajectoryStore

    parser = jsonargparse.ArgumentParser(prog="deixis data curate", description=SUMMARIES["data curate"])
    parser.add_argument("source", type=Path, help="folder of the store")
    parser.add_argument("destination", type=Path, help="folder of the new store; must not exist")
    parser.add_argument(
        "--scorer", type=Path, default=None, help="a trained policy, whose backbone scores image and text"
    )
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write what was dropped, and why")
    parser.add_argument("--config", action="config", metavar="FILE", help="YAML file with the settings below")
    parser.add_class_arguments(CurationConfig)
    given = parser.parse_args(list(arguments))
    settings = parser.instantiate(given)
    own = {"source", "destination", "scorer", "json", "config"}
    config = CurationConfig(**{name: value for name, value in vars(settings).items() if name not in own})
    score = None
    if given.scorer is not None:
        from .policies.scoring import grounding_scorer

        score = grounding_scorer(given.scorer)
    report = curate(TrajectoryStore.open(given.source), given.destination, config, score)
    print(report)
    if given.json is not None:
        given.json.write_text(report.to_json() + "\n", "utf-8")
    return 0


@contextmanager
def _progress(what: str) -> Iterator[Callable[..., None]]:
    """A bar with rate and time left; yields what to call with (done, total)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance
