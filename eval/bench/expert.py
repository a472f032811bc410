"""Success of the tabletop's expert on 200 seeds of every task, undisturbed, and its mean number of steps."""

from __future__ import annotations

SEEDS = 200


def run() -> dict[str, float]:
    """Metrics: `TASK_success` in 0..1 and `TASK_steps`, the mean length of the successful episodes (control steps)."""
    from ...envs.suites import SUITES
    from ...envs.tabletop.env import TabletopEnv
    from ...envs.tabletop.expert import expert_action

    suite = SUITES["tabletop"]
    env = suite.make(disable_env_checker=True).unwrapped
    if not isinstance(env, TabletopEnv):
        raise TypeError(f"suite 'tabletop' made {type(env).__name__}, wanted TabletopEnv")
    env.set_observing(False)
    metrics = {}
    for task in suite.tasks:
        lengths = []
        for index in range(SEEDS):
            env.reset(seed=suite.episode_seed(task, index), options={"task": task})
            for step in range(1, suite.max_steps + 1):
                if env.step(expert_action(env))[2]:
                    lengths.append(step)
                    break
        metrics[f"{task}_success"] = len(lengths) / SEEDS
        metrics[f"{task}_steps"] = sum(lengths) / max(1, len(lengths))
    return metrics
