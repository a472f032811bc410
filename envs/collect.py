"""Collecting demonstrations: an expert acts, what it sees and does is recorded, and only successes are kept.

Who demonstrates, and what is recorded, is a `Demonstrator`'s to say: one for each environment that has an expert. What
comes out depends on the configuration and the seed alone: attempts are numbered, run in any order, and kept in the
order of their numbers.
"""

from __future__ import annotations

import multiprocessing
import os
import reprlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..datasets.spec import EnvSpec
from ..datasets.store import Episode, Stream, StreamSpec, TrajectoryStore
from ..datasets.tolerance import Tolerance
from .config import CollectConfig
from .suites import Suite, suite_named

ATTEMPT = "attempt"  # in an episode's meta: the number of the attempt that it is
_RUN = "run"  # in a store's meta: how many attempts at a task are made before the next one's turn
Progress = Callable[[int, int, int], None]  # kept, wanted, failed


class CollectionError(RuntimeError):
    """A suite has no expert, or its expert fails too often to collect what was asked for."""


class Demonstrator(Protocol):
    """An expert in one environment, and what is recorded of it.

    streams, tolerance, meta: of the store, beside what every store says. versions: packages that decide what comes out.
    remedy: what to do when it fails too often.
    """

    env_spec: EnvSpec
    streams: list[StreamSpec]
    tolerance: Tolerance
    meta: dict[str, Any]
    versions: tuple[str, ...]
    remedy: str

    def attempt(self, task: str, seed: int) -> Episode | None:
        """One demonstration of `task` in the scene of `seed`; None where the expert failed in the suite's steps."""
        ...


def _tabletop(config: CollectConfig, suite: Suite) -> Demonstrator:
    from .tabletop.demonstrations import TabletopDemonstrator

    return TabletopDemonstrator(config, suite)


def _particle(config: CollectConfig, suite: Suite) -> Demonstrator:
    from .particle_demonstrations import ParticleDemonstrator

    return ParticleDemonstrator(suite)


def _foreign(config: CollectConfig, suite: Suite) -> Demonstrator:
    from .foreign_demonstrations import ForeignDemonstrator

    return ForeignDemonstrator(config, suite)


_FOREIGN = ("deixis/MetaWorld-v0", "deixis/Robosuite-v0", "deixis/RobosuiteTwoArm-v0", "deixis/Libero-v0")
DEMONSTRATORS: dict[str, Callable[[CollectConfig, Suite], Demonstrator]] = {
    "deixis/Tabletop-v0": _tabletop,
    "deixis/Particle-v0": _particle,
    **dict.fromkeys(_FOREIGN, _foreign),
}
"""Demonstrators by the Gymnasium id of their environment."""


def collect(
    config: CollectConfig, store_path: Path, seed: int = 0, progress: Progress | None = None
) -> TrajectoryStore:
    """Record demonstrations into the store at `store_path` until it holds `config.episodes`.

    A store that an earlier call began with the same settings is gone on with: what comes out is what one call would
    have made.

    Raises:
        CollectionError: nobody demonstrates in this suite, more than half of the attempts fail, or the store that is
            there was begun otherwise.
    """
    begun = TrajectoryStore.open(store_path) if store_path.exists() else None
    run = None if begun is None else begun.meta.get(_RUN)
    attempts = Attempts(config, seed, run if isinstance(run, int) and run > 0 else None)
    demonstrator = attempts.demonstrator
    meta = {
        "suite": config.suite,
        "seed": seed,
        "noise": config.noise,
        **demonstrator.meta,
        **({_RUN: attempts.run} if attempts.run > 1 else {}),
        "versions": {name: version(name) for name in demonstrator.versions},
    }
    if begun is None:
        store = TrajectoryStore.create(
            store_path, demonstrator.env_spec, demonstrator.streams, meta, demonstrator.tolerance
        )
    else:
        _check_begun(begun, demonstrator.env_spec, meta)
        store = begun
    kept = len(store)
    begin = 1 + store.episode_info(kept - 1)["meta"][ATTEMPT] if kept else 0
    failed = begin - kept
    if progress is not None:
        progress(kept, config.episodes, failed)
    if kept >= config.episodes:
        return store
    with store.writer(sync=False) as writer:  # demonstrations can be made again: no need to wait for the disk
        for number, episode in enumerate(_in_order(attempts, begin), begin):
            if episode is None:
                failed += 1
                if failed > max(20, config.episodes):
                    raise CollectionError(
                        f"collection of {config.suite!r}: {failed} of {failed + kept} attempts failed, wanted at most "
                        f"half; {demonstrator.remedy}"
                    )
            else:
                writer.append(replace(episode, meta={**episode.meta, ATTEMPT: number}))
                kept += 1
            if progress is not None:
                progress(kept, config.episodes, failed)
            if kept == config.episodes:
                break
    return store


def _check_begun(store: TrajectoryStore, env_spec: EnvSpec, meta: dict[str, Any]) -> None:
    """CollectionError where the earlier call that began the store asked for something else."""
    found, wanted = store.meta | store.env_spec.to_dict(), meta | env_spec.to_dict()
    differing = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    numbered = all(ATTEMPT in store.episode_info(index)["meta"] for index in range(len(store)))
    if differing or not numbered:
        what = "; ".join(
            f"{name}: it has {reprlib.repr(found.get(name))}, wanted {reprlib.repr(wanted.get(name))}"
            for name in differing[:3]
        )
        raise CollectionError(
            f"{store.path}: found a store that cannot be gone on with "
            f"({what or 'its episodes have no attempt numbers'}); collect with the settings that began it, "
            "replace it with `--overwrite true`, or choose another folder"
        )


class Attempts:
    """Attempts at demonstrations by their number: tasks take turns, and each attempt has a scene of its own.

    run: how many attempts at a task are made before the next one's turn; None leaves it to the suite.

    Raises CollectionError where nobody demonstrates in the suite's environment.
    """

    def __init__(self, config: CollectConfig, seed: int, run: int | None = None) -> None:
        self.config, self.seed, self._suite = config, seed, suite_named(config.suite)
        self.run = run or self._suite.run_length(config.episodes)
        if self._suite.env_id not in DEMONSTRATORS:
            raise CollectionError(
                f"suite {config.suite!r}: no expert drives {self._suite.env_id} (one does in "
                f"{', '.join(DEMONSTRATORS)}); record your own demonstrations and name them in collect.recorded.source"
            )
        self.demonstrator = DEMONSTRATORS[self._suite.env_id](config, self._suite)

    def __call__(self, number: int) -> Episode | None:
        """Demonstration `number`, or None where the expert failed."""
        task, index = self._suite.demonstration(number, self.run)
        return self.demonstrator.attempt(task, self._suite.demonstration_seed(task, index, self.seed))


class Rows:
    """Rows of one episode while it runs, each stream with its own stamps.

    rate_hz: control steps a second; the first is at 0 ns.
    """

    def __init__(self, rate_hz: float) -> None:
        self._period = round(1e9 / rate_hz)
        self._values: dict[str, list[np.ndarray]] = {}
        self._stamps: dict[str, list[int]] = {}

    def add(self, stream: str, step: int, value: np.ndarray) -> None:
        """What `stream` says at control step `step`."""
        self._values.setdefault(stream, []).append(value)
        self._stamps.setdefault(stream, []).append(step * self._period)

    def streams(self) -> dict[str, Stream]:
        return {
            name: Stream(np.stack(rows), np.asarray(self._stamps[name], np.int64))
            for name, rows in self._values.items()
        }


def _in_order(attempts: Attempts, begin: int) -> Iterator[Episode | None]:
    """Attempts from number `begin` on, in order, by `config.workers` processes; None where the expert failed."""
    workers = attempts.config.workers
    if workers == 1:
        yield from map(attempts, count(begin))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (attempts.config, attempts.seed, attempts.run)) as pool:
        pending: deque[Future[Episode | None]] = deque()
        try:
            for number in count(begin):
                pending.append(pool.submit(_attempt, number))
                if len(pending) > 4 * workers:  # few enough that a slow writer bounds the memory
                    yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_attempts: Attempts | None = None


def _start_worker(config: CollectConfig, seed: int, run: int) -> None:
    global _attempts
    os.environ["OMP_NUM_THREADS"] = "1"
    _attempts = Attempts(config, seed, run)


def _attempt(number: int) -> Episode | None:
    if _attempts is None:
        raise RuntimeError("the worker was not started with _start_worker")
    return _attempts(number)
