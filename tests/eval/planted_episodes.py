"""Episodes of a planted policy on the demo's tabletop, for the tests of what gives its fault away."""

from __future__ import annotations

from collections.abc import Sequence

from deixis.envs.suites import suite_named
from deixis.envs.tabletop.env import TabletopEnv
from deixis.eval.planted import PlantedPolicy
from deixis.eval.results import EpisodeRecord
from deixis.eval.rollout import Player

SUITE = suite_named("tabletop-demo")


def play_planted(
    env: TabletopEnv, fault: str | None, episodes: int, conditions: Sequence[str], given: tuple[str, ...] = ()
) -> list[EpisodeRecord]:
    """The first `episodes` turns of the suite under each condition; of the stages in `given` it is told the truth."""
    player, records = Player(env, PlantedPolicy(env, fault, given), SUITE), []
    for condition in conditions:
        for number in range(episodes):
            task, index = SUITE.turn(number)
            seed = player.begin_episode(task, index, condition)
            player.follow()
            records.append(player.record(task, index, seed, condition, "planted", {}, 0.0))
    return records
