"""Rungs on which the policy acts: from where recordings begin, in scenes of their kind, in those of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import gymnasium
import numpy as np

from ...datasets.spec import PROPRIO_STREAM
from ...envs.suites import Suite
from ...policies.interfaces import Observation
from ..rollout import Player
from ..statistics import proportion
from .rung import Case, Rung, percent, untestable
from .tracks import Track

ENOUGH = 0.5  # a rung holds where the policy may succeed half as often as on the one below
_FRESH = 1_000_000  # attempts at demonstrations from this number on: no store holds so many


def exact_start(case: Case) -> Rung:
    """From where recordings begin; where that fails, with one stream at a time as it was recorded."""
    if not case.again:
        return untestable("exact start", case.excuse)
    recorded = float(np.mean([recording.succeeded is not False for recording in case.again]))
    won = _from_recorded(case, "exact start", None)
    rung = _judge("exact start", won, recorded, "succeed from where recordings begin")
    if rung.holds is not False:
        return rung
    rates = {
        stream: float(np.mean(_from_recorded(case, f"{stream} as recorded", stream)))
        for stream in (*case.cameras, PROPRIO_STREAM)
    }
    best, plain = max(rates, key=lambda stream: rates[stream]), rung.numbers["success_rate"]
    if rates[best] >= max(2 * plain, plain + 0.25):
        cause = (
            f"{best}: with it as recorded, {percent(rates[best])} succeed; compare what the world shows with what was "
            "recorded where the policy has left the recorded path"
        )
    else:
        cause = (
            "small errors add up: the policy leaves what was recorded and does not find back; record how to come back "
            "(collect.noise), carry out fewer actions of a chunk (eval.exec_horizon), or train longer"
        )
    return replace(rung, causes=(cause,), numbers={**rung.numbers, "with_stream_as_recorded": rates})


def training_scenes(case: Case, below: float, episodes: int) -> Rung:
    """Scenes drawn as those of the recordings, none of them recorded. below: how often the rung below succeeds."""
    (suite, env), collected = case.world, int(case.store.meta.get("seed", 0))
    turns = [suite.turn(number) for number in range(episodes)]
    won = [
        _play(case, env, suite, suite.demonstration_seed(task, _FRESH + index, collected), task, index)
        for task, index in case.each("training scenes", turns)
    ]
    rung = _judge("training scenes", won, below, "succeed in other scenes of the recordings' kind")
    advice = "it knows its recordings by heart: record more scenes, or augment them (imitate.shift)"
    return replace(rung, causes=(advice,)) if rung.holds is False else rung


def unseen_scenes(case: Case, below: float, episodes: int, suite: Suite, env: gymnasium.Env) -> Rung:
    """Scenes of the evaluation, whose suite may be another."""
    turns = [suite.turn(number) for number in range(episodes)]
    won = [
        _play(case, env, suite, suite.episode_seed(task, index), task, index)
        for task, index in case.each("unseen scenes", turns)
    ]
    rung = _judge("unseen scenes", won, below, "succeed in the scenes of the evaluation")
    advice = "the evaluation asks for what the recordings never show: other objects, words, places or lights"
    return replace(rung, causes=(advice,)) if rung.holds is False else rung


def _judge(rung: str, won: Sequence[bool], below: float, found: str) -> Rung:
    """Against `ENOUGH` of how often the rung below succeeds: surely less breaks it; in between, nobody can tell."""
    rate, wanted = proportion(sum(won), len(won)), ENOUGH * below
    holds = True if rate.rate >= wanted else False if rate.high < wanted else None
    told = f"{sum(won)} of {len(won)} {found}"
    if holds is not True:
        told += f", fewer than half of the {percent(below)} below" + ("" if holds is False else ": too few to be sure")
    return Rung(rung, holds, told, numbers={"success_rate": rate.rate, "ci95": [rate.low, rate.high]})


def _from_recorded(case: Case, what: str, as_recorded: str | None) -> list[bool]:
    (suite, env), won = case.world, []
    for recording in case.each(what, case.again):
        meta = case.store.episode_info(recording.episode)["meta"]
        shown = _AsRecorded(as_recorded, recording.track) if as_recorded else None
        won.append(_play(case, env, suite, int(meta["seed"]), meta["task"], recording.episode, shown))
    return won


def _play(
    case: Case,
    env: gymnasium.Env,
    suite: Suite,
    seed: int,
    task: str,
    noise: int,
    shown: _AsRecorded | None = None,
) -> bool:
    player = Player(env, case.policy, suite, case.exec_horizon, through=shown)
    if shown:
        shown.player = player
    player.begin(seed, {"task": task}, noise)
    player.follow()
    return bool(player.info["success"])


@dataclass
class _AsRecorded:
    """What a policy sees, with one stream as it was recorded at that step, whatever the world shows."""

    stream: str
    track: Track
    player: Player | None = None

    def __call__(self, seen: Observation) -> Observation:
        row = min(self.player.steps if self.player else 0, len(self.track) - 1)
        recorded = self.track.observation(np.array([row]), seen.proprio.shape[1])
        if self.stream == PROPRIO_STREAM:
            return replace(seen, proprio=recorded.proprio)
        return replace(seen, images={**seen.images, self.stream: recorded.images[self.stream]})
