"""Faults planted in clean trajectories: what share the gate finds, and names correctly."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

TRIALS, WORKERS = "DEIXIS_BENCH_TRIALS", "DEIXIS_BENCH_WORKERS"  # environment variables; 100 and 2 without them
PUSHT = "pusht_cchi_v7_replay.zarr"
_EPISODES = 400  # of the tabletop: enough to learn from what a sound one looks like
_SMALL = 50  # episodes of the stores into which that one is cut: a model of so few is weak, and must not accuse
_LEAST = 4  # episodes of a store in which faults are planted
_DELAYS = ("action_shift", "camera_shift")  # kinds of which the gate says the size, too


def run() -> dict[str, float]:
    """Plants every kind of `datasets.faults.KINDS` 100 times, taking turns with the clean stores there are.

    Clean stores: demonstrations of the tabletop, collected here; human demonstrations of Push-T, if the folder that the
    environment variable DEIXIS_DATA names (else ../shared/data) has them; and those of robosuite 1.4.1, if it is
    installed: lift, wipe, and hand-over without the operators' devices, whose clocks are not clean. Nothing is planted
    in lift and wipe: an episode among three at most has nothing to be compared with.

    Metrics: `KIND_found`, an error at the planted place; `KIND_named`, the right check is among them, it says how large
    the fault is where it can, and no other episode or stream is called wrong; `KIND_exact`, it says a delay to the row;
    `false_alarms`, errors in clean stores; `clean_episodes` and `clean_stores`, in how many; `small_stores`, parts of
    50 episodes of the tabletop's, each a store of its own, and `small_false_alarms`, errors in them; `trials` of each
    kind.
    """
    from rich.progress import Progress

    from ...datasets.faults import KINDS
    from ...datasets.timestamps import check_store

    trials = int(os.environ.get(TRIALS, "100"))
    metrics: dict[str, float] = {"trials": trials, "false_alarms": 0, "clean_episodes": 0, "clean_stores": 0}
    totals = {f"{kind}_{what}": 0 for kind in KINDS for what in ("found", "named")}
    totals |= {f"{kind}_exact": 0 for kind in _DELAYS}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, Progress() as bar:
        paths = []
        for store in _clean_stores(Path(folder)):
            alarms = check_store(_sound(store)).errors
            for alarm in alarms:
                bar.print(f"clean {Path(store.path).name}: {alarm}")
            metrics["false_alarms"] += len(alarms)
            metrics["clean_episodes"] += len(store)
            metrics["clean_stores"] += 1
            if len(store) >= _LEAST:
                paths.append(str(store.path))
            if len(store) == _EPISODES:
                parts = [_sound(store, range(first, first + _SMALL)) for first in range(0, _EPISODES, _SMALL)]
                metrics["small_stores"] = len(parts)
                metrics["small_false_alarms"] = sum(len(check_store(part).errors) for part in parts)
        jobs = [(kind, trial) for kind in KINDS for trial in range(trials)]
        task = bar.add_task("faults", total=len(jobs))
        with ProcessPoolExecutor(int(os.environ.get(WORKERS, "2")), context, _start, (paths,)) as pool:
            for (kind, _), (verdict, miss) in zip(jobs, pool.map(_try, jobs, chunksize=4), strict=True):
                totals[f"{kind}_found"] += verdict.found
                totals[f"{kind}_named"] += verdict.named
                if kind in _DELAYS:
                    totals[f"{kind}_exact"] += verdict.exact
                if not verdict.named:
                    bar.print(miss)
                bar.advance(task)
    return metrics | {name: count / trials for name, count in totals.items()}


_beds: list[Any] = []


def _start(paths: list[str]) -> None:
    """Load what faults are planted in, once for each process."""
    from ...datasets.motion import FrameCache
    from ...datasets.store import TrajectoryStore

    _beds.extend((_sound(TrajectoryStore.open(path)), FrameCache()) for path in paths)


def _sound(store: Any, episodes: range | None = None) -> Any:
    """A store, or some of its episodes, in memory, without the streams that an operator's own device has stamped."""
    from ...datasets.trajectories import MemoryTrajectories

    streams = {name: spec for name, spec in store.streams.items() if not name.startswith("privileged.user_")}
    chosen = (store.episode(index) for index in episodes or range(len(store)))
    kept = [replace(episode, streams={name: episode.streams[name] for name in streams}) for episode in chosen]
    return MemoryTrajectories(kept, store.env_spec, streams, store.tolerance, Path(store.path).name)


def _try(job: tuple[str, int]) -> tuple[Any, str]:
    """Plant one fault in a store that can take it and look for it: the verdict, and what to print of a miss."""
    from ...datasets.faults import KINDS, plant
    from ...datasets.timestamps import check_store

    kind, trial = job
    able = [bed for bed in _beds if not kind.endswith(("camera", "camera_shift")) or bed[0].env_spec.camera_names]
    bed, cache = able[trial % len(able)]
    faulty, planted = plant(kind, bed, np.random.default_rng((trial, list(KINDS).index(kind))))
    errors = check_store(faulty, cache).errors
    verdict = planted.judge(errors)
    said = "; ".join(str(error)[:120] for error in (verdict.elsewhere or errors)[:2]) or "nothing"
    return verdict, f"{bed.path}, {planted}: {said}"


def _clean_stores(folder: Path) -> Iterator[Any]:
    from ...datasets.formats import IMPORTERS
    from ...datasets.formats.options import ImportOptions
    from ...envs.collect import collect
    from ...envs.config import CollectConfig

    yield collect(CollectConfig(episodes=_EPISODES, workers=2), folder / "tabletop.zarr")
    data = Path(os.environ.get("DEIXIS_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if (data / PUSHT).exists():
        yield IMPORTERS["replay_buffer"](data / PUSHT, folder / "pusht.zarr", ImportOptions(rate_hz=10.0))
    if (robosuite := importlib.util.find_spec("robosuite")) and robosuite.origin:
        demonstrations = Path(robosuite.origin).parent / "models" / "assets" / "demonstrations"
        for name in ("lift", "wipe/panda", "handover/panda_panda"):
            destination = folder / f"robosuite_{name.partition('/')[0]}.zarr"
            yield IMPORTERS["robosuite_raw"](demonstrations / name, destination, ImportOptions())
