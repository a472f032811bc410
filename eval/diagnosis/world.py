"""Rungs without the policy: does what was recorded happen again, and does it look as it did?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...datasets.spec import PROPRIO_STREAM
from .rung import TELLS, Case, Rung, named, untestable
from .suspects import Suspect, of_views, shifts, signs
from .tracks import Recording, Track, drive

REPLAYED = 0.95  # of the recorded successes have to succeed again
ALIKE = 0.02  # mean difference of two pictures, of 1, up to which they count as the same
NEAR = 0.05  # mean difference of proprioception in standard deviations, likewise
_ON_TRIAL = 4  # recordings with which faults are undone
_UNKNOWN = "the world does something else with these actions than the one that they were recorded in"
_OTHER = "another world, other lights or other cameras than those that were recorded: compare the two by eye"

Change = Callable[[np.ndarray], np.ndarray]


def replay(case: Case) -> Rung:
    """The recorded actions, through the policy's normaliser, in the world they were recorded in."""
    normaliser, spec = case.policy.action_normaliser, case.policy.spec.action
    said = any(recording.succeeded for recording in case.again)
    succeeded = [r for r in case.again if r.succeeded or (r.succeeded is None and not said)]
    if not succeeded:
        return untestable("replay", case.excuse or "none of the recordings is a success")
    distance = Distance.of([recording.track for recording in succeeded])

    def through(recording: Recording) -> np.ndarray:
        """What was executed, but for what the normaliser makes of the actions: what disturbed them is no policy's."""
        wanted = recording.chunks[:, 0].astype(np.float64)
        said = normaliser.unnormalise(normaliser.normalise(wanted).clip(-1, 1))
        return (said + (recording.executed - wanted)).clip(spec.low, spec.high)

    def failed(what: str, actions: Callable[[Recording], np.ndarray]) -> tuple[int, float]:
        """How many fail, and how far proprioception goes elsewhere."""
        again = [
            (_again(case, recording, actions(recording), ()), recording) for recording in case.each(what, succeeded)
        ]
        apart = distance.between([(track, Track({}, r.track.proprio, "")) for (track, _), r in again])
        return sum(not success for (_, success), _ in again), apart[PROPRIO_STREAM]

    failures, away = failed("replay", through)
    count = len(succeeded) - failures
    found = f"{count} of {len(succeeded)} recorded successes succeed again through the policy's normaliser"
    numbers = {"repeated": count, "episodes": len(succeeded)}
    if count >= REPLAYED * len(succeeded):
        return Rung("replay", True, found, numbers=numbers)
    unsayable = Suspect("normaliser", "of actions, which cannot say what was recorded", done=lambda actions: actions)
    trials = []
    for suspect in (unsayable, *_of_actions(case)):
        if suspect.done:
            left, apart = failed(str(suspect), lambda recording, undone=suspect.done: undone(recording.executed))
            # An arm that moves as recorded has nothing to come back from: then successes alone count.
            trials.append((min(left / failures, apart / away if away > NEAR else 1.0), left, suspect))
    share, _, likeliest = min(trials, key=lambda trial: trial[:2])
    cause = _UNKNOWN if share > 1 - TELLS else named(likeliest, "policy" if likeliest is unsayable else "world")
    return Rung("replay", False, found, (cause,), numbers)


def views(case: Case) -> Rung:
    """What the world shows while recordings happen again, against what was recorded."""
    if not case.again:
        return untestable("views", case.excuse)
    pairs = _pairs(case, "views", case.again, lambda actions: actions)
    distance = Distance.of([recorded for _, recorded in pairs])
    apart = distance.between(pairs)
    words = sum(live.instruction != recorded.instruction for live, recorded in pairs)
    numbers: dict[str, Any] = {"apart": apart, "other_instructions": words}
    if not excess(apart) and not words:
        return Rung("views", True, "the world shows what was recorded", numbers=numbers)
    off = [f"{stream} by {value:.2f}" for stream, value in apart.items() if value > _limit(stream)]
    off += [f"the instruction in {words} of {len(pairs)} episodes"] if words else []
    found = f"the world shows something else than was recorded: {', '.join(off)}"
    if not excess(apart):
        advice = "the policy is told something else than where it learned: compare the texts, language and phrasings"
        return Rung("views", False, found, (advice,), numbers)
    likeliest = _likeliest(case, distance, pairs, excess(apart))
    cause = named(likeliest, "world") if likeliest else _OTHER
    return Rung("views", False, found, (cause,), numbers)


def _likeliest(case: Case, distance: Distance, pairs: Sequence[tuple[Track, Track]], apart: float) -> Suspect | None:
    """The fault without which what is seen comes closest to what was recorded, if that explains most of it.

    One in the actions would show in everything that is seen; it is looked for where none in what is seen explains it.
    """
    trials: list[tuple[float, Suspect]] = []
    for suspect in of_views(case.policy.spec, case.cameras):
        if suspect.seen:
            trials.append((excess(distance.between([(suspect.seen(live), other) for live, other in pairs])), suspect))
    if min(trials, key=_left)[0] > (1 - TELLS) * apart:
        for suspect in _of_actions(case):
            if suspect.done:
                again = _pairs(case, str(suspect), case.again[:_ON_TRIAL], suspect.done)
                trials.append((excess(distance.between(again)), suspect))
    left, likeliest = min(trials, key=_left)
    return likeliest if left <= (1 - TELLS) * apart else None


def _left(trial: tuple[float, Suspect]) -> float:
    return trial[0]


def _of_actions(case: Case) -> list[Suspect]:
    return [*signs(case.policy.spec), *(suspect for _, suspect in shifts())]


def _pairs(case: Case, what: str, recordings: Sequence[Recording], change: Change) -> list[tuple[Track, Track]]:
    """What is seen now and what was recorded, of each recording."""
    return [(_again(case, r, change(r.executed), case.cameras)[0], r.track) for r in case.each(what, recordings)]


def _again(case: Case, recording: Recording, actions: np.ndarray, cameras: tuple[str, ...]) -> tuple[Track, bool]:
    return drive(case.world[1], case.store, recording.episode, actions, cameras)


@dataclass(frozen=True)
class Distance:
    """How far apart two tracks are.

    spread: [P], standard deviation of each dimension of proprioception.
    """

    spread: np.ndarray

    @classmethod
    def of(cls, tracks: Sequence[Track]) -> Distance:
        """In units of what varies in these tracks."""
        spread = np.concatenate([track.proprio for track in tracks]).std(0)
        return cls(np.where(spread > 1e-6, spread, 1.0))

    def between(self, pairs: Sequence[tuple[Track, Track]]) -> dict[str, float]:
        """Mean difference of each stream over the steps that both have: of pictures, of 1; of proprioception, in
        standard deviations, of the dimension that differs most.
        """
        found: dict[str, float] = {}
        for camera in pairs[0][0].images:
            away = [_away(live.images[camera], recorded.images[camera]).mean() / 255 for live, recorded in pairs]
            found[camera] = float(np.mean(away))
        away = [_away(live.proprio, recorded.proprio).mean(0) / self.spread for live, recorded in pairs]
        return {**found, PROPRIO_STREAM: float(np.mean(away, axis=0).max())}


def excess(apart: dict[str, float]) -> float:
    """By how many limits streams are apart, those within theirs not counted."""
    return sum(value / _limit(stream) for stream, value in apart.items() if value > _limit(stream))


def _limit(stream: str) -> float:
    return NEAR if stream == PROPRIO_STREAM else ALIKE


def _away(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    steps = min(len(one), len(other))
    return np.abs(one[:steps].astype(np.float64) - other[:steps])
