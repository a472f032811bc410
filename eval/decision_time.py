"""What a decision takes: milliseconds from an observation to a chunk of actions, batch 1, one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SECONDS, _LEAST, _MOST = 3.0, 5, 100  # of each measurement, and the calls in it


def decision_ms(policy_folder: Path, suite_name: str) -> float:
    """Median milliseconds of a policy's `act` on the first observation of the suite's first episode."""
    import torch

    from ..envs.suites import suite_named
    from ..policies.policy import Policy
    from .rollout import build_observation, make_env, visible

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        suite, policy = suite_named(suite_name), Policy.load(policy_folder)
        env, task = make_env(suite, policy), suite.tasks[0]
        seen, _ = env.reset(seed=suite.episode_seed(task, 0), options={"task": task, "condition": "correct"})
        env.close()
        history = [visible(seen, tuple(policy.cameras))] * policy.config.obs_horizon
        observation = build_observation(history, seen["instruction"])
        generators = [torch.Generator().manual_seed(0)]
        return milliseconds(lambda: policy.act(observation, generators))
    finally:
        torch.set_num_threads(threads)


def milliseconds(call: Callable[[], Any]) -> float:
    """Median of some calls after a warm one."""
    call()
    taken, begin = [], time.perf_counter()
    while len(taken) < _LEAST or (time.perf_counter() - begin < _SECONDS and len(taken) < _MOST):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return 1e3 * statistics.median(taken)
