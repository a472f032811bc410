"""Cost of an evaluation over the bare loop of environment and policy, episodes a minute, where the time goes."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...envs.suites import Suite
    from ...policies.policy import Policy

SUITE = "tabletop-demo"
EPISODES, TURNS = 6, 7
EXEC_HORIZON = 2  # of the demo's preset


def run(policy: str | None = None) -> dict[str, float]:
    """Each episode in the bare loop and by `run_episode`, in turns and many times over; one thread.

    policy: folder of one that fits the suite "tabletop-demo"; None makes one of the demo's size that nothing trained.

    Metrics: `episodes_per_minute` of the evaluation, median, in this one process and without its start; `overhead`, of
    its time divided by the bare loop's just before or after, median, minus 1; `share_environment` (stepping and
    resetting), `share_rendering`, `share_policy` and `share_rest` of the evaluation's time, 1 in all;
    `steps_per_episode`.

    Raises ValueError or FileNotFoundError where the policy cannot be read or does not fit, RuntimeError where the two
    loops did not do the same.
    """
    import torch

    from ...envs.suites import SUITES
    from ..rollout import make_env

    torch.set_num_threads(1)
    suite, acting = SUITES[SUITE], _policy(policy)
    env, episodes = make_env(suite, acting), [suite.turn(number) for number in range(EPISODES)]
    loops = {"bare": _bare, "whole": _whole}
    for loop in loops.values():
        loop(env, acting, suite, *episodes[0])  # warm from here on
    taken: dict[str, list[float]] = {name: [] for name in loops}
    steps = []
    for number, episode in enumerate(episodes * TURNS):
        done = {}
        for name in sorted(loops, reverse=bool(number % 2)):
            begin = time.perf_counter()
            done[name] = loops[name](env, acting, suite, *episode)
            taken[name].append(time.perf_counter() - begin)
        if done["bare"] != done["whole"]:
            raise RuntimeError(f"{episode}: found {done['whole']}, wanted {done['bare']}, as in the bare loop")
        steps.append(done["whole"][0])
    ratios = [whole / bare for whole, bare in zip(taken["whole"], taken["bare"], strict=True)]
    return {
        "episodes_per_minute": 60 / statistics.median(taken["whole"]),
        "overhead": statistics.median(ratios) - 1,
        **_shares(env, acting, lambda: [_whole(env, acting, suite, *episode) for episode in episodes]),
        "steps_per_episode": statistics.fmean(steps),
    }


def _policy(folder: str | None) -> Policy:
    from ...envs.tabletop.goals import all_goals
    from ...envs.tabletop.grammar import instructions
    from ._untrained import policy_or_untrained

    texts = tuple(text for goal in all_goals() if goal.verb == "lift" for text in instructions(goal))
    return policy_or_untrained(folder, texts)


def _bare(env: Any, policy: Policy, suite: Suite, task: str, index: int) -> tuple[int, bool]:
    """Steps and success of an episode by the shortest loop that does what it needs: reset, act, step."""
    import numpy as np
    import torch

    from ...datasets.spec import camera_stream
    from ...policies.interfaces import Observation

    cameras, memory, set_observing = tuple(policy.cameras), policy.config.obs_horizon, env.unwrapped.set_observing
    generators = [torch.Generator().manual_seed(suite.policy_seed(task, index))]
    set_observing(True)
    options = {"task": task, "condition": "correct"}
    seen, info = env.reset(seed=suite.episode_seed(task, index), options=options)
    history, steps, over = deque([seen] * memory, maxlen=memory), 0, False
    while not over:
        images = {c: torch.from_numpy(np.stack([x[camera_stream(c)] for x in history])[None]) for c in cameras}
        proprio = torch.from_numpy(np.stack([x["proprio"] for x in history])[None])
        chunk = policy.act(Observation(images, proprio, [seen["instruction"]]), generators)[0].numpy()
        for number, action in enumerate(chunk[:EXEC_HORIZON], 1):
            looked_at = number > EXEC_HORIZON - memory
            set_observing(looked_at)
            seen, _, over, _, info = env.step(action)
            steps += 1
            if looked_at:
                history.append(seen)
            over = over or steps == suite.max_steps
            if over:
                break
    return steps, bool(info["success"])


def _whole(env: Any, policy: Policy, suite: Suite, task: str, index: int) -> tuple[int, bool]:
    """The same by the evaluation's own way to a row of the results table."""
    from ..rollout import run_episode

    told = {"policy_hash": "", "versions": {}, "exec_horizon": EXEC_HORIZON}
    record = run_episode(env, policy, suite, task, index, "correct", **told)
    return record.steps, record.success


def _shares(env: Any, policy: Policy, whole: Callable[[], object]) -> dict[str, float]:
    """Where the time of an evaluation goes."""
    spent: dict[str, float] = defaultdict(float)
    with (
        _timed(env, "reset", spent, "stepping"),
        _timed(env, "step", spent, "stepping"),
        _timed(env.unwrapped, "observe", spent, "rendering"),  # within the two above
        _timed(policy, "act", spent, "policy"),
        _timed(policy, "say", spent, "policy"),
    ):
        begin = time.perf_counter()
        whole()
        total = time.perf_counter() - begin
    return {
        "share_environment": (spent["stepping"] - spent["rendering"]) / total,
        "share_rendering": spent["rendering"] / total,
        "share_policy": spent["policy"] / total,
        "share_rest": (total - spent["stepping"] - spent["policy"]) / total,
    }


@contextmanager
def _timed(owner: Any, method: str, spent: dict[str, float], what: str) -> Iterator[None]:
    """Within it the seconds that this object's method takes are added to `spent`."""
    call = getattr(owner, method)

    def timed(*arguments: Any, **options: Any) -> Any:
        begin = time.perf_counter()
        try:
            return call(*arguments, **options)
        finally:
            spent[what] += time.perf_counter() - begin

    setattr(owner, method, timed)
    try:
        yield
    finally:
        delattr(owner, method)
