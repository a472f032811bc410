"""Faults planted in clean trajectories: what share the gate finds, and names correctly."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

TRIALS, WORKERS = "DEIXIS_BENCH_TRIALS", "DEIXIS_BENCH_WORKERS"  # environment variables; 100 and 2 without them
PUSHT = "pusht_cchi_v7_replay.zarr"
_EPISODES = {"tabletop.zarr": 120, "pusht.zarr": 40}  # in which a fault is planted: enough to tell it from


def run() -> dict[str, float]:
    """Plants every kind of `datasets.faults.KINDS` 100 times, taking turns with the clean stores there are.

    Clean stores: demonstrations of the tabletop, collected here; and human demonstrations of Push-T, if the folder that
    the environment variable DEIXIS_DATA names (else ../shared/data) has them.

    Metrics: `KIND_found`, an error at the planted place; `KIND_named`, the right check is among them, it says how large
    the fault is where it can, and no other episode or stream is called wrong; `false_alarms`, errors in clean stores;
    `clean_episodes` and `clean_stores`, in how many of them; `trials` of each kind.
    """
    from rich.progress import Progress

    from ...datasets.faults import KINDS
    from ...datasets.timestamps import check_store

    trials = int(os.environ.get(TRIALS, "100"))
    metrics: dict[str, float] = {"trials": trials, "false_alarms": 0, "clean_episodes": 0, "clean_stores": 0}
    totals = {f"{kind}_{what}": 0 for kind in KINDS for what in ("found", "named")}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, Progress() as bar:
        paths = []
        for store in _clean_stores(Path(folder)):
            alarms = check_store(store).errors
            for alarm in alarms:
                bar.print(f"clean {Path(store.path).name}: {alarm}")
            metrics["false_alarms"] += len(alarms)
            metrics["clean_episodes"] += len(store)
            metrics["clean_stores"] += 1
            paths.append(str(store.path))
        jobs = [(kind, trial) for kind in KINDS for trial in range(trials)]
        task = bar.add_task("faults", total=len(jobs))
        with ProcessPoolExecutor(int(os.environ.get(WORKERS, "2")), context, _start, (paths,)) as pool:
            for (kind, _), (found, named, miss) in zip(jobs, pool.map(_try, jobs, chunksize=4), strict=True):
                totals[f"{kind}_found"] += found
                totals[f"{kind}_named"] += named
                if miss:
                    bar.print(miss)
                bar.advance(task)
    return metrics | {name: count / trials for name, count in totals.items()}


_beds: list[Any] = []


def _start(paths: list[str]) -> None:
    """Load what faults are planted in, once for each process."""
    from ...datasets.motion import FrameCache
    from ...datasets.store import TrajectoryStore
    from ...datasets.trajectories import MemoryTrajectories

    for path in paths:
        store = TrajectoryStore.open(path)
        chosen = np.random.default_rng(0).permutation(len(store))[: _EPISODES[Path(path).name]]
        episodes = [store.episode(int(index)) for index in chosen]
        bed = MemoryTrajectories(episodes, store.env_spec, store.streams, store.tolerance, Path(path).name)
        _beds.append((bed, FrameCache()))


def _try(job: tuple[str, int]) -> tuple[bool, bool, str]:
    """Plant one fault and look for it: found, named, and what to print where it was not named."""
    from ...datasets.faults import KINDS, plant
    from ...datasets.timestamps import check_store

    kind, trial = job
    bed, cache = _beds[trial % len(_beds)]
    faulty, planted = plant(kind, bed, np.random.default_rng((trial, list(KINDS).index(kind))))
    errors = check_store(faulty, cache).errors
    there = [e for e in errors if _is_there(e.episode, planted.episodes) and e.stream in planted.streams]
    right = [e for e in there if e.check == planted.check and planted.says in e.found]
    elsewhere = [e for e in errors if e not in there]
    named = bool(right) and not elsewhere
    said = "; ".join(str(e)[:120] for e in (elsewhere or there)[:2]) or "nothing"
    return bool(there), named, "" if named else f"{bed.path}, {planted}: {said}"


def _is_there(episode: int | None, planted: tuple[int, ...]) -> bool:
    """Whether a finding about `episode` (None: the whole store) is where the fault is (empty: the whole store)."""
    return not planted or episode in planted


def _clean_stores(folder: Path) -> Iterator[Any]:
    from ...datasets.formats import IMPORTERS
    from ...datasets.formats.options import ImportOptions
    from ...envs.collect import collect
    from ...envs.config import CollectConfig

    yield collect(CollectConfig(episodes=240, workers=1), folder / "tabletop.zarr")
    data = Path(os.environ.get("DEIXIS_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if (data / PUSHT).exists():
        yield IMPORTERS["replay_buffer"](data / PUSHT, folder / "pusht.zarr", ImportOptions(rate_hz=10.0))
