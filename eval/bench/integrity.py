"""Faults planted in clean trajectories: what share the gate finds, and names correctly."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TRIALS = 100
_EPISODES = {"tabletop.zarr": 120, "pusht.zarr": 40}  # in which a fault is planted: enough to tell it from
PUSHT = "pusht_cchi_v7_replay.zarr"


def run() -> dict[str, float]:
    """Plants every kind of `datasets.faults.KINDS` TRIALS times, taking turns with the clean stores there are.

    Clean stores: demonstrations of the tabletop, collected here; and human demonstrations of Push-T, if the folder that
    the environment variable DEIXIS_DATA names (else ../shared/data) has them.

    Metrics: `KIND_found`, an error at the planted place; `KIND_named`, the right check is among them, it says how large
    the fault is where it can, and nothing else in the store is called an error; `false_alarms`, errors in clean stores;
    `clean_episodes` and `clean_stores`, in how many of them.
    """
    from rich.progress import Progress

    from ...datasets.faults import KINDS, plant
    from ...datasets.motion import FrameCache
    from ...datasets.timestamps import check_store
    from ...datasets.trajectories import MemoryTrajectories

    metrics: dict[str, float] = {"false_alarms": 0, "clean_episodes": 0, "clean_stores": 0}
    with tempfile.TemporaryDirectory() as folder, Progress() as bar:
        beds: list[tuple[MemoryTrajectories, FrameCache]] = []
        for store in _clean_stores(Path(folder)):
            alarms = check_store(store).errors
            if os.environ.get("DEIXIS_BENCH_VERBOSE"):
                bar.print("clean", Path(store.path).name, [str(e) for e in alarms])
            metrics["false_alarms"] += len(alarms)
            metrics["clean_episodes"] += len(store)
            metrics["clean_stores"] += 1
            chosen = np.random.default_rng(0).permutation(len(store))[: _EPISODES[Path(store.path).name]]
            episodes = [store.episode(int(index)) for index in chosen]
            bed = MemoryTrajectories(episodes, store.env_spec, store.streams, store.tolerance, store.path)
            beds.append((bed, FrameCache()))
        task = bar.add_task("faults", total=len(KINDS) * TRIALS)
        for kind in KINDS:
            found = named = 0
            for trial in range(TRIALS):
                bed, cache = beds[trial % len(beds)]
                faulty, planted = plant(kind, bed, np.random.default_rng((trial, list(KINDS).index(kind))))
                errors = check_store(faulty, cache).errors
                there = [e for e in errors if _is_there(e.episode, planted.episodes) and e.stream in planted.streams]
                right = [e for e in there if e.check == planted.check and planted.says in e.found]
                elsewhere = [e for e in errors if not _is_there(e.episode, planted.episodes)]
                found += bool(there)
                named += bool(right) and not elsewhere
                if os.environ.get("DEIXIS_BENCH_VERBOSE") and not (right and not elsewhere):
                    bar.print(Path(faulty.path).name, planted, [str(e)[:110] for e in errors][:3])
                bar.advance(task)
            metrics[f"{kind}_found"], metrics[f"{kind}_named"] = found / TRIALS, named / TRIALS
    return metrics


def _is_there(episode: int | None, planted: tuple[int, ...]) -> bool:
    """Whether a finding about `episode` (None: the whole store) is where the fault is (empty: the whole store)."""
    return not planted or episode in planted


def _clean_stores(folder: Path) -> Iterator:
    from ...datasets.formats import IMPORTERS
    from ...datasets.formats.options import ImportOptions
    from ...envs.collect import collect
    from ...envs.config import CollectConfig

    yield collect(CollectConfig(episodes=2 * _EPISODES["tabletop.zarr"], workers=1), folder / "tabletop.zarr")
    data = Path(os.environ.get("DEIXIS_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if (data / PUSHT).exists():
        yield IMPORTERS["replay_buffer"](data / PUSHT, folder / "pusht.zarr", ImportOptions(rate_hz=10.0))
