"""Success of the experts that demonstrate in other packages' worlds, undisturbed, task by task.

Starts are those of evaluations, which no demonstration has; in LIBERO they are the shipped ones. Metrics:
`SUITE_TASK_success` in 0..1, `SUITE_TASK_steps`, the mean length of the successful episodes (control steps), and
`SUITE_success`, the mean over tasks. Meta-World's experts are the package's own, the others deixis'.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from ..jobs import run_jobs

STARTS = {
    "robosuite": 50,
    "robosuite-two-arm": 20,
    "metaworld-mt50": 10,
    "libero-object": 20,
    "libero-spatial": 20,
    "libero-goal": 10,
    "libero-long": 10,
}
"""Episodes of each task, by suite."""


@dataclass(frozen=True)
class Episodes:
    """So many of one task."""

    suite: str
    task: str
    number: int

    def __str__(self) -> str:
        return f"{self.suite} {self.task}"


def run() -> dict[str, float]:
    from ...envs.suites import suite_named

    asked = [Episodes(name, task, STARTS[name]) for name in STARTS for task in suite_named(name).tasks]
    workers = len(os.sched_getaffinity(0))
    judged: list[list[int | None]] = run_jobs(
        asked, make_judge, (), workers, "tasks", Console(stderr=True), lambda steps: [s is not None for s in steps]
    )
    metrics: dict[str, float] = {}
    by_suite: dict[str, list[float]] = {name: [] for name in STARTS}
    for one, episodes in zip(asked, judged, strict=True):
        lengths = [steps for steps in episodes if steps is not None]
        success = len(lengths) / len(episodes)
        words = f"{one.suite}_{one.task}".replace("-", "_")
        metrics[f"{words}_success"] = success
        metrics[f"{words}_steps"] = sum(lengths) / max(1, len(lengths))
        by_suite[one.suite].append(success)
    means = {f"{name.replace('-', '_')}_success": sum(found) / len(found) for name, found in by_suite.items()}
    return {**means, **metrics}


def make_judge() -> Callable[[Episodes], list[int | None]]:
    """What judges an expert at a task in a worker, with the environment of the suite it was last asked for."""
    made: dict[str, Any] = {}

    def judge(asked: Episodes) -> list[int | None]:
        if asked.suite not in made:
            for env in made.values():
                env.close()
            made.clear()
            made[asked.suite] = _unseen_world(asked.suite)
        return episode_lengths(made[asked.suite], asked)

    return judge


def _unseen_world(name: str) -> Any:
    from ...envs.foreign import ForeignEnv
    from ...envs.suites import suite_named

    env: Any = suite_named(name).make(disable_env_checker=True).unwrapped
    if not isinstance(env, ForeignEnv):
        raise TypeError(f"suite {name!r} made {type(env).__name__}, wanted a ForeignEnv")
    env.cameras = ()  # nobody looks
    return env


def episode_lengths(env: Any, asked: Episodes) -> list[int | None]:
    """Control steps after which the expert has done the task, by episode; None where it has not within the limit."""
    import numpy as np

    from ...envs.suites import suite_named

    suite = suite_named(asked.suite)

    def steps_taken(index: int) -> int | None:
        env.reset(seed=suite.episode_seed(asked.task, index), options={"task": asked.task})
        expert = env.expert(np.random.default_rng(0))
        for step in range(1, suite.max_steps + 1):
            _, _, terminated, _, info = env.step(expert())
            if terminated:
                return step if info["success"] else None
        return None

    return [steps_taken(index) for index in range(asked.number)]
