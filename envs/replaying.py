"""Worlds in which recorded actions can be driven again: each starts where an episode was recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..datasets.spec import ACTION_STREAM, EXECUTED_STREAM, PROPRIO_STREAM
from ..datasets.store import StoreError, TrajectoryStore

if TYPE_CHECKING:
    import gymnasium


class ReplayWorld(Protocol):
    """An environment that can be put back to the start of a recorded episode.

    names: of the state's dimensions, float64 [S]. actions: name of the stream to drive.
    """

    names: tuple[str, ...]
    actions: str

    def recorded(self, episode: int) -> np.ndarray:
        """The states of an episode at its control stamps, [T, S]."""
        ...

    def start(self, episode: int) -> np.ndarray:
        """Put the world where the episode began, and return its state [S]."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        """Carry out one action; the state [S] after it, and whether the goal has been reached."""
        ...


def restart(env: gymnasium.Env, store: TrajectoryStore, episode: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Put an environment whose scenes are functions of their seed where an episode began: its observation and info.

    Raises StoreError where the store does not say the seed, or its seed gives another scene now.
    """
    meta = store.episode_info(episode)["meta"]
    missing = [key for key in ("seed", "task") if key not in meta]
    if missing:
        raise StoreError(f"{store.path}, episode {episode}: meta lacks {missing}, wanted both to set its scene")
    if meta.get("curated_from", {}).get("rows", [0])[0]:
        raise StoreError(
            f"{store.path}, episode {episode}: begins in the middle of its demonstration, wanted its start; "
            "replay the store that it was cut from"
        )
    observation, info = env.reset(seed=int(meta["seed"]), options={"task": meta["task"]})
    if info.get("scene") != meta.get("scene"):
        raise StoreError(
            f"{store.path}, episode {episode}: its seed gives another scene than it was recorded in; "
            f"replay it with the versions it was made with: {store.meta.get('versions')}"
        )
    return observation, info


class SuiteWorld:
    """That of the suite which a store names: a scene is a function of its seed.

    What was executed is driven again, where it is recorded beside the expert's word.
    """

    def __init__(self, store: TrajectoryStore) -> None:
        from .rendering_backend import select_backend

        select_backend()
        from .suites import suite_named

        self._store = store
        self.actions = EXECUTED_STREAM if EXECUTED_STREAM in store.streams else ACTION_STREAM
        self.names = store.env_spec.proprio.names
        made_with = {"split": store.meta["split"]} if "split" in store.meta else {}
        suite = suite_named(str(store.meta.get("suite")))
        self._env: Any = suite.make(**made_with, disable_env_checker=True).unwrapped
        self._env.set_observing(False)

    def recorded(self, episode: int) -> np.ndarray:
        return self._store.read(episode, PROPRIO_STREAM).values.astype(np.float64)

    def start(self, episode: int) -> np.ndarray:
        observation, _ = restart(self._env, self._store, episode)
        return np.asarray(observation["proprio"], np.float64)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        observation, _, terminated, _, _ = self._env.step(action)
        return np.asarray(observation["proprio"], np.float64), bool(terminated)


def _pusht(store: TrajectoryStore) -> ReplayWorld:
    from .pusht import PushTWorld

    return PushTWorld(store)


WORLDS: dict[str, Callable[[TrajectoryStore], ReplayWorld]] = {
    "suite": SuiteWorld,
    "tabletop": SuiteWorld,
    "pusht": _pusht,
}
"""Worlds by the name that `deixis data replay --env` takes."""
