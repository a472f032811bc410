"""How often the cause of a failure is named, of 100 failed episodes of each policy with a planted fault."""

from __future__ import annotations

FAILURES = 100
MOST_EPISODES = 600  # after which a fault that hardly ever fails is given up
SHOWS = {"deaf": "swap", "verb-deaf": "verb", "mishearing": "paraphrase-en", "stubborn": "correction"}
"""Fault -> the condition under which it fails; the others fail under "correct"."""


def run() -> dict[str, float]:
    """Metrics: `FAULT_named`, the share of failures attributed to the stage of the fault, `FAULT_failures`, how many
    there were; `expert_failures` of as many episodes without a fault, and `expert_accused`, how many of these have a
    cause all the same."""
    from ..planted import FAULTS

    metrics: dict[str, float] = {}
    for fault, (stage, _) in FAULTS.items():
        causes = causes_of(fault, SHOWS.get(fault, "correct"), FAILURES)
        metrics[f"{fault}_named"] = causes.count(stage) / max(1, len(causes))
        metrics[f"{fault}_failures"] = len(causes)
        print(f"{fault}: {metrics[f'{fault}_named']:.0%} of {len(causes)}", flush=True)
    causes = causes_of(None, "correct", FAILURES, FAILURES)
    return {**metrics, "expert_failures": len(causes), "expert_accused": sum(cause is not None for cause in causes)}


def causes_of(fault: str | None, condition: str, failures: int, episodes: int = MOST_EPISODES) -> list[str | None]:
    """The causes of the first so many failures under a condition, in at most so many episodes."""
    from ...envs.suites import suite_named
    from ...envs.tabletop.env import TabletopEnv
    from ..attribution import attribute
    from ..planted import PlantedPolicy
    from ..rollout import Player

    suite = suite_named("tabletop-demo")
    made = suite.make(disable_env_checker=True, image_size=16)
    env = made.unwrapped
    if not isinstance(env, TabletopEnv):
        raise TypeError(f"suite 'tabletop-demo' made {type(env).__name__}, wanted TabletopEnv")

    def succeeds(task: str, index: int, given: tuple[str, ...]) -> bool:
        player = Player(made, PlantedPolicy(env, fault, given), suite)
        player.begin_episode(task, index, condition)
        player.follow()
        return bool(player.info["success"])

    causes: list[str | None] = []
    for number in range(episodes):
        task, index = suite.turn(number)
        if not succeeds(task, index, ()):
            causes.append(attribute(lambda stage, t=task, i=index: succeeds(t, i, (stage,))).cause)
        if len(causes) == failures:
            break
    made.close()
    return causes
