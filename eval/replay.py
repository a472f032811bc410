"""Replay: recorded actions driven open loop from the recorded start. What was recorded must happen again.

A flipped gripper, a wrong frame, a wrong scale or an action at the wrong step leads elsewhere at once. Driven through
normalisation and through tokens and back, the same actions show what a policy's own encoding of them costs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..datasets.bins import ActionBins
from ..datasets.normalisation import MinMaxNormaliser
from ..datasets.store import StoreError, TrajectoryStore
from ..envs.replaying import WORLDS, ReplayWorld

PATHS = ("recorded", "normalised", "tokens")
"""As recorded; through min-max normalisation and back; through that, 256 bins a dimension, and back."""
_EXACT = 1e-5  # deviations of the store's states within which a replay counts as exact


@dataclass(frozen=True)
class EpisodeReplay:
    """One episode driven again.

    deviation: largest difference of a state from the recorded one, in standard deviations of that dimension over the
    store; worst: the dimension. diverged: the first control step that is not exact, None if all are.
    recorded_success: None where the store does not say.
    """

    episode: int
    steps: int
    deviation: float
    worst: str
    diverged: int | None
    success: bool
    recorded_success: bool | None


@dataclass(frozen=True)
class ReplayReport:
    """What became of a store's episodes on one path."""

    store: str
    world: str
    path: str
    episodes: list[EpisodeReplay]

    @property
    def exact(self) -> int:
        return sum(replay.diverged is None for replay in self.episodes)

    @property
    def repeated(self) -> int:
        """Episodes recorded as successes that succeed again."""
        return sum(replay.success for replay in self.episodes if replay.recorded_success)

    @property
    def successes(self) -> int:
        return sum(bool(replay.recorded_success) for replay in self.episodes)

    @property
    def ok(self) -> bool:
        """Whether what was recorded happened again: every episode exactly; encoded and decoded, 95% of the successes.

        Where the store does not say what succeeded, an encoded path has nothing to fail.
        """
        enough = self.repeated >= 0.95 * self.successes
        return self.exact == len(self.episodes) or (self.path != "recorded" and enough)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok, "exact": self.exact, "repeated": self.repeated}


def replay(
    store: TrajectoryStore,
    world: str,
    path: str = "recorded",
    episodes: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ReplayReport:
    """Drive episodes (default all) of a store through a world (a key of `envs.replaying.WORLDS`) on one of PATHS.

    Raises StoreError for an unknown world or path, or an episode whose start cannot be set.
    """
    if world not in WORLDS or path not in PATHS:
        raise StoreError(f"replay: found {world!r}, {path!r}, wanted one of {sorted(WORLDS)} and one of {list(PATHS)}")
    place = WORLDS[world](store)
    chosen = list(range(len(store))) if episodes is None else list(episodes)
    coded = _coding(store.read_all(place.actions).values, path)
    spread = np.concatenate([place.recorded(index) for index in chosen]).std(0)
    done = []
    for number, index in enumerate(chosen, 1):
        done.append(_drive(store, place, index, coded, np.where(spread > 1e-12, spread, 1.0)))
        if progress:
            progress(number, len(chosen))
    return ReplayReport(str(store.path), world, path, done)


def _coding(actions: np.ndarray, path: str) -> Callable[[np.ndarray], np.ndarray]:
    """What an action [D] becomes on a path."""
    if path == "recorded":
        return lambda action: action
    normaliser = MinMaxNormaliser.fit(actions.astype(np.float64))
    if path == "normalised":
        return lambda action: normaliser.unnormalise(normaliser.normalise(action.astype(np.float64)))
    bins = ActionBins.fit(normaliser.normalise(actions.astype(np.float64)))
    return lambda action: normaliser.unnormalise(
        bins.decode(bins.encode(normaliser.normalise(action.astype(np.float64))))
    )


def _drive(
    store: TrajectoryStore,
    world: ReplayWorld,
    episode: int,
    coded: Callable[[np.ndarray], np.ndarray],
    spread: np.ndarray,
) -> EpisodeReplay:
    actions = store.read(episode, world.actions).values
    recorded = world.recorded(episode)
    states, success = [world.start(episode)], False
    for action in actions:
        state, reached = world.step(coded(action))
        states.append(state)
        success = success or reached
    seen = np.stack(states)[: len(recorded)]
    away = np.abs(seen - recorded[: len(seen)]) / spread
    wrong = np.flatnonzero((away > _EXACT).any(1))
    return EpisodeReplay(
        episode=episode,
        steps=len(actions),
        deviation=float(away.max()),
        worst=world.names[int(away.max(0).argmax())],
        diverged=int(wrong[0]) if len(wrong) else None,
        success=success,
        recorded_success=store.episode_info(episode)["meta"].get("success"),
    )
