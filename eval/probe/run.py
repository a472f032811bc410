"""`deixis probe`: backbones opened, checked and, where asked for, built upon; shown on the screen and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ...datasets.store import TrajectoryStore
from ...envs.suites import suite_named
from ..progress import progress
from ..statistics import Proportion
from .check import Check, Probing, cameras_for
from .config import ProbeConfig
from .frames import Frames
from .frozen import judge_frozen
from .page import numbers, show_check, write_page
from .predicts import predict
from .sources import open_source
from .verdict import Verdict, judge


def run_probe(config: ProbeConfig, places: Sequence[str], path: Path, out: Path, page: Path) -> dict[str, Any]:
    """Check the backbones at `places` on the store at `path`; returns the numbers of a record.

    Features are kept in `config.features`, or in `out`/features.

    Raises:
        FileNotFoundError: there is no backbone of that name.
        ValueError: what is there does not see, has the wrong cameras, or is named twice.
        StoreError: the store has too few episodes, or not the labels that were declared.
    """
    twice = [place for number, place in enumerate(places) if place in places[:number]]
    if twice:
        raise ValueError(f"checkpoints: found {twice[0]!r} twice, wanted each once")
    if config.rollouts:
        suite_named(config.suite)  # a ValueError now, not when all is checked
    torch.set_num_threads(config.threads)
    console, store = Console(), TrajectoryStore.open(path)
    folder = Path(config.features) if config.features else out / "features"
    cameras = cameras_for([open_source(place) for place in places], store)
    frames = Frames(store, cameras, config)
    console.print(f"{len(frames):,} frames of {len(frames.episodes):,} episodes of {path}")
    checks: list[tuple[Check, Verdict]] = []
    successes: dict[str, Proportion] = {}
    with progress(console) as advance:
        probing = Probing(frames, folder)
        for place in places:
            source = open_source(place)
            check = probing.check(source, lambda what, done, wanted, p=place: advance(f"{p}: {what}", done, wanted))
            checks.append((check, judge(check)))
            show_check(*checks[-1], console)
            if config.rollouts:
                successes[check.name] = judge_frozen(
                    source,
                    store,
                    cameras,
                    config,
                    folder,
                    lambda done, wanted, p=place: advance(f"{p}: rollouts", done, wanted),
                )
                console.print(f"policy on it: {successes[check.name].rate:.0%} of {config.rollouts} episodes")
    together = predict([check for check, _ in checks], successes) if config.rollouts else None
    print(f"page: {write_page(checks, page, together)}")
    return record_of(checks, successes) | ({} if together is None else together.numbers())


def record_of(checks: Sequence[tuple[Check, Verdict]], successes: dict[str, Proportion]) -> dict[str, Any]:
    """The numbers of one check, or of each under its name's last parts."""
    if len(checks) == 1:
        return {**numbers(*checks[0]), **_reached(successes, checks[0][0])}
    found, names = {}, [short(check.name) for check, _ in checks]
    for (check, verdict), name in zip(checks, names, strict=True):
        key = name if names.count(name) == 1 else check.name.replace(".", "")
        skills = {name: answer.skill.value for name, answer in check.answers.items()}
        found[key] = {
            **skills,
            "good_signal": int(verdict.verdict == "good signal"),
            **_reached(successes, check),
        }
    return found


def short(name: str) -> str:
    """A name without the folders that all runs have, and without dots, which separate the parts of a metric."""
    parts = [part for part in Path(name).parts if part not in ("/", "..", ".", "runs")]
    changed = parts[-1].partition("+")
    if changed[0] == "policy" and len(parts) > 1:
        parts = [*parts[:-2], parts[-2] + changed[1] + changed[2]]
    return "/".join(parts[-2:]).replace(".", "")


def _reached(successes: dict[str, Proportion], check: Check) -> dict[str, Any]:
    found = successes.get(check.name)
    return {} if found is None else {"success_rate": found.rate, "success_rate_ci95": [found.low, found.high]}
