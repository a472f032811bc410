"""Success of the experts that demonstrate in other packages' worlds, undisturbed, task by task.

Starts are those of evaluations, which no demonstration has; in LIBERO they are the shipped ones. Metrics:
`SUITE_TASK_success` in 0..1, `SUITE_TASK_steps`, the mean length of the successful episodes (control steps), and
`SUITE_success`, the mean over tasks. Meta-World's experts are the package's own, the others deixis'.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

STARTS = {
    "robosuite": 50,
    "robosuite-two-arm": 20,
    "metaworld-mt50": 20,
    "libero-object": 50,
    "libero-spatial": 50,
    "libero-goal": 20,
    "libero-long": 20,
}
"""Episodes of each task, by suite."""


def run() -> dict[str, float]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ...envs.suites import suite_named

    asked = [(name, task) for name in STARTS for task in suite_named(name).tasks]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    metrics: dict[str, float] = {}
    by_suite: dict[str, list[float]] = {name: [] for name in STARTS}
    with Progress(*columns) as progress:
        bar = progress.add_task("tasks", total=len(asked))
        for name, task, lengths in _judged(asked):
            success = len(lengths) / STARTS[name]
            words = f"{name}_{task}".replace("-", "_")
            metrics[f"{words}_success"] = success
            metrics[f"{words}_steps"] = sum(lengths) / max(1, len(lengths))
            by_suite[name].append(success)
            progress.console.print(f"{name} {task}: {success:.2f}")
            progress.advance(bar)
    means = {f"{name.replace('-', '_')}_success": sum(found) / len(found) for name, found in by_suite.items()}
    return {**means, **metrics}


def _judged(asked: list[tuple[str, str]]) -> Iterator[tuple[str, str, list[int]]]:
    workers = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        names, tasks = zip(*asked, strict=True)
        for (name, task), lengths in zip(asked, pool.map(judge, names, tasks), strict=True):
            yield name, task, lengths


def judge(name: str, task: str) -> list[int]:
    """Lengths of the episodes in which the expert does `task` within the suite's steps, control steps."""
    import numpy as np

    from ...envs.foreign import ForeignEnv
    from ...envs.suites import suite_named

    suite = suite_named(name)
    env: Any = suite.make(disable_env_checker=True).unwrapped
    if not isinstance(env, ForeignEnv):
        raise TypeError(f"suite {name!r} made {type(env).__name__}, wanted a ForeignEnv")
    env.cameras = ()  # nobody looks
    lengths = []
    for index in range(STARTS[name]):
        env.reset(seed=suite.episode_seed(task, index), options={"task": task})
        expert = env.expert(np.random.default_rng(0))
        for step in range(1, suite.max_steps + 1):
            if env.step(expert())[2]:
                lengths.append(step)
                break
    env.close()
    return lengths
