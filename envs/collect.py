"""Collecting demonstrations: the expert acts, what it sees and does is recorded, and only successes are kept.

An action may be disturbed before it is executed, so that the demonstrations show how to come back. The store keeps the
clean action, which is what the expert wanted in the state it was in, as "action", and what was executed as "executed",
from which an episode can be replayed. What comes out depends on the configuration and the seed alone: attempts are
numbered, run in any order, and kept in the order of their numbers.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.spec import EnvSpec, camera_stream, segmentation_stream
from ..datasets.store import Episode, Stream, StreamSpec, TrajectoryStore
from ..datasets.tolerance import Tolerance
from .config import CollectConfig
from .rendering_backend import select_backend
from .suites import suite_named

SEGMENTATION_EVERY = 4  # control steps between two segmentations, which cost as much as images and are needed rarely
_SEES_NOTHING_NEW = 8  # rows: over a bare table the wrist camera shows the same for up to 6
_VERSIONS = ("deixis", "mujoco", "gymnasium", "numpy", "zarr")
_MAX_OBJECTS = 6
_OTHER_INSTRUCTIONS = 8
_SHOVE_CHANCE, _SHOVE_STEPS = 0.3, 3
_FUMBLE_CHANCE, _FUMBLE_STEPS = 0.5, (3, 7)  # how long the fingers do something else than what they were told

Progress = Callable[[int, int, int], None]  # kept, wanted, failed


class CollectionError(RuntimeError):
    """The expert fails too often to collect what was asked for."""


def collect(
    config: CollectConfig, store_path: Path, seed: int = 0, progress: Progress | None = None
) -> TrajectoryStore:
    """Record `config.episodes` demonstrations into a new store at `store_path`.

    Raises:
        CollectionError: more than half of the attempts fail.
    """
    select_backend()
    suite = suite_named(config.suite)
    env = suite.make(image_size=config.image_size, disable_env_checker=True)
    env_spec: EnvSpec = env.unwrapped.env_spec  # pyright: ignore[reportAttributeAccessIssue]
    env.close()
    meta = {
        "suite": suite.name,
        "seed": seed,
        "split": config.split,
        "versions": {name: version(name) for name in _VERSIONS},
    }
    store = TrajectoryStore.create(store_path, env_spec, _streams(env_spec), meta, Tolerance(frozen=_SEES_NOTHING_NEW))
    kept = failed = 0
    with store.writer(sync=False) as writer:  # demonstrations can be made again: no need to wait for the disk
        for episode in _ordered_attempts(config, seed):
            if episode is None:
                failed += 1
                if failed > max(20, config.episodes):
                    raise CollectionError(
                        f"collection of {config.suite!r}: {failed} of {failed + kept} attempts failed, wanted at most "
                        f"half; lower collect.noise (now {config.noise})"
                    )
            else:
                writer.append(episode)
                kept += 1
            if progress is not None:
                progress(kept, config.episodes, failed)
            if kept == config.episodes:
                break
    return store


def _streams(spec: EnvSpec) -> list[StreamSpec]:
    rate = spec.action.rate_hz
    images = [
        StreamSpec(camera_stream(c.name), "uint8", (c.height, c.width, 3), rate, "image", "1") for c in spec.cameras
    ]
    segments = [
        StreamSpec(
            segmentation_stream(c.name), "uint8", (c.height, c.width), rate / SEGMENTATION_EVERY, "segmentation", "1"
        )
        for c in spec.cameras
    ]
    return [
        *images,
        *segments,
        StreamSpec("proprio", "float32", (len(spec.proprio.names),), rate, "proprio", "mixed"),
        StreamSpec("action", "float32", (len(spec.action.names),), rate, "action", "mixed"),
        StreamSpec("executed", "float32", (len(spec.action.names),), rate, "privileged", "mixed"),
        StreamSpec("privileged.objects", "float32", (_MAX_OBJECTS, 3), rate / SEGMENTATION_EVERY, "privileged", "m"),
    ]


def _ordered_attempts(config: CollectConfig, seed: int) -> Iterator[Episode | None]:
    """Attempts 0, 1, 2, ... in order, computed by `config.workers` processes; None where the expert failed."""
    if config.workers == 1:
        demonstrator = Demonstrator(config, seed)
        yield from map(demonstrator.attempt, count())
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, _start_worker, (config, seed)) as pool:
        pending: deque[Future[Episode | None]] = deque()
        try:
            for number in count():
                pending.append(pool.submit(_attempt, number))
                if len(pending) > 4 * config.workers:  # few enough that a slow writer bounds the memory
                    yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_demonstrator: Demonstrator | None = None


def _start_worker(config: CollectConfig, seed: int) -> None:
    global _demonstrator
    os.environ["OMP_NUM_THREADS"] = "1"
    _demonstrator = Demonstrator(config, seed)


def _attempt(number: int) -> Episode | None:
    if _demonstrator is None:
        raise RuntimeError("the worker was not started with _start_worker")
    return _demonstrator.attempt(number)


class Demonstrator:
    """Runs the expert in one environment, attempt by attempt."""

    def __init__(self, config: CollectConfig, seed: int) -> None:
        from .tabletop.env import TabletopEnv
        from .tabletop.expert import expert_action

        self._config, self._seed, self._suite, self._expert = config, seed, suite_named(config.suite), expert_action
        env = self._suite.make(
            image_size=config.image_size, split=config.split, languages=config.languages, disable_env_checker=True
        ).unwrapped
        if not isinstance(env, TabletopEnv):
            raise CollectionError(
                f"suite {config.suite!r}: no expert drives {type(env).__name__}; record your own demonstrations"
            )
        self._env = env

    def attempt(self, number: int) -> Episode | None:
        """Demonstration `number`, or None if the expert failed within the suite's step limit."""
        tasks = self._suite.tasks
        task, index = tasks[number % len(tasks)], number // len(tasks)
        seed = self._suite.demonstration_seed(task, index, self._seed)
        env, rows = self._env, _Rows(round(1e9 / self._env.env_spec.action.rate_hz))
        observation, info = env.reset(seed=seed, options={"task": task})
        limits = np.asarray(env.env_spec.action.low), np.asarray(env.env_spec.action.high)
        disturb = _disturbance(np.random.default_rng((seed, 77)), self._config.noise, self._suite.max_steps, env)
        for step in range(self._suite.max_steps):
            action = self._expert(env)
            executed = (action + disturb[step]).clip(*limits).astype(np.float32)
            rows.add(step, observation, action.clip(*limits).astype(np.float32), executed, env)
            observation, _, terminated, _, info = env.step(executed)
            if terminated:
                meta = {
                    "task": task,
                    "seed": seed,
                    "scene": info["scene"],
                    "goal": info["goal"],
                    "other_instructions": self._other_instructions(np.random.default_rng((seed, 78))),
                    "success": True,
                }
                return Episode(rows.streams(), info["instruction"], meta)
        return None

    def _other_instructions(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """What else could have been asked in this scene: text and goal. It teaches words, not actions."""
        from .tabletop.scene import other_goals

        goals = other_goals(self._env.objects, self._suite.tasks, self._env.split, rng)
        chosen = [goals[index] for index in rng.permutation(len(goals))[:_OTHER_INSTRUCTIONS]]
        texts = [self._env.split.sample_instruction(goal, rng, self._config.languages) for goal in chosen]
        return [{"text": text, "goal": goal.to_dict()} for text, goal in zip(texts, chosen, strict=True)]


def _disturbance(rng: np.random.Generator, scale: float, steps: int, env: Any) -> np.ndarray:
    """Added to each executed action [steps, A]: small noise, now and then a shove, now and then a fumble.

    A fumble closes the fingers too early or opens them while they carry. Without it a policy never sees an empty closed
    hand or a dropped object, and does not know what to do after its own missed grasp.
    """
    limits = np.asarray(env.env_spec.action.high)
    noise = rng.normal(0.0, scale, (steps, len(limits))) * limits
    if scale > 0 and rng.random() < _SHOVE_CHANCE:
        start = int(rng.integers(2, 25))
        noise[start : start + _SHOVE_STEPS, :3] += rng.uniform(-0.6, 0.6, 3) * limits[:3]
    noise[:, -1] = 0.0
    if scale > 0 and rng.random() < _FUMBLE_CHANCE:
        closes = rng.random() < 0.7
        start = int(rng.integers(4, 16) if closes else rng.integers(12, 32))
        stop = start + int(rng.integers(*_FUMBLE_STEPS, endpoint=True))
        noise[start:stop, -1] = -2.0 if closes else 2.0  # more than its range: it overrules the expert's word
    return noise


class _Rows:
    """Rows of one episode while it runs, each with its stamp."""

    def __init__(self, period_ns: int) -> None:
        self._period = period_ns
        self._values: dict[str, list[np.ndarray]] = {}
        self._stamps: dict[str, list[int]] = {}

    def add(self, step: int, observation: dict[str, Any], action: np.ndarray, executed: np.ndarray, env: Any) -> None:
        self._row("action", step, action)
        self._row("executed", step, executed)
        self._row("proprio", step, observation["proprio"])
        for camera in env.env_spec.cameras:
            self._row(camera_stream(camera.name), step, observation[camera_stream(camera.name)])
            if step % SEGMENTATION_EVERY == 0:
                self._row(segmentation_stream(camera.name), step, env.segmentation(camera.name))
        if step % SEGMENTATION_EVERY == 0:
            positions = np.zeros((_MAX_OBJECTS, 3), np.float32)
            positions[: len(env.states)] = [state.position for state in env.states]
            self._row("privileged.objects", step, positions)

    def _row(self, stream: str, step: int, value: np.ndarray) -> None:
        self._values.setdefault(stream, []).append(value)
        self._stamps.setdefault(stream, []).append(step * self._period)

    def streams(self) -> dict[str, Stream]:
        return {
            name: Stream(np.stack(rows), np.asarray(self._stamps[name], np.int64))
            for name, rows in self._values.items()
        }
