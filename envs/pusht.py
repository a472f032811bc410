"""Push-T (Chi et al. 2023, arXiv:2303.04137), from the package gym-pusht (extra `pusht`)."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from ..datasets.episode import StoreError
from ..datasets.spec import ACTION_STREAM, PROPRIO_STREAM
from ..datasets.store import TrajectoryStore

_ROUNDING = 1e-4  # pixels: of float32 at 512
NAMES = ("agent_x", "agent_y", "block_x", "block_y", "block_angle")


def make_pusht(**options: Any) -> Any:
    """The environment, unwrapped. ImportError says which extra is missing."""
    try:
        return importlib.import_module("gym_pusht.envs.pusht").PushTEnv(**options)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"Push-T needs a package that is not here ({error.name}); pip install 'deixis[pusht]'"
        ) from error


def drawn_start(demonstration: int) -> list[float]:
    """Where the human demonstration of this number began, [5] as NAMES, before the environment set it.

    The authors' recorder (demo_pusht.py of Diffusion Policy) seeds numpy's old generator with the number; the recorded
    starts of all 206 demonstrations agree.
    """
    draw = np.random.RandomState(demonstration)
    places = [draw.randint(50, 450), draw.randint(50, 450), draw.randint(100, 400), draw.randint(100, 400)]
    return [*map(float, places), draw.randn() * 2 * np.pi - np.pi]


def told(states: np.ndarray) -> np.ndarray:
    """States [T, 5] as NAMES with cosine and sine of the angle in its place, [T, 6]: equal poses are equal numbers."""
    states = np.array(states, np.float64)
    return np.concatenate([states[:, :4], np.cos(states[:, 4:]), np.sin(states[:, 4:])], axis=1)


def set_state(env: Any, state: np.ndarray) -> None:
    """Put agent and block, at rest, where `state` [5] says (NAMES; pixels of a 512 pixel arena, radians).

    The angle comes before the position: a body turns about its centre of gravity, which moves the block's origin. One
    step of the simulation (10 ms) lets the two push each other apart, as the environment's own reset does.
    """
    env.agent.velocity = (0.0, 0.0)
    env.block.velocity, env.block.angular_velocity = (0.0, 0.0), 0.0
    env.agent.position = [float(value) for value in state[:2]]
    env.block.angle = float(state[4])
    env.block.position = [float(value) for value in state[2:4]]
    env.space.step(env.dt)


class PushTWorld:
    """Push-T as a world to replay in: the human demonstrations of the benchmark and what is recorded like them."""

    names: tuple[str, ...] = (*NAMES[:4], "cos block_angle", "sin block_angle")  # equal poses are equal numbers
    actions = ACTION_STREAM

    def __init__(self, store: TrajectoryStore) -> None:
        if store.env_spec.proprio.dim != 2 or store.env_spec.action.dim != 2 or len(self._block(store)) != 1:
            raise StoreError(
                f"{store.path}: found streams {sorted(store.streams)}, wanted Push-T's: the agent's place as proprio "
                "[2], the block's pose as a privileged stream [3], the target place as action [2]"
            )
        self._store, self._env = store, make_pusht(obs_type="state")
        self._env.reset(seed=0)
        self._block_stream = self._block(store)[0]

    @staticmethod
    def _block(store: TrajectoryStore) -> list[str]:
        return [name for name, spec in store.streams.items() if spec.kind == "privileged" and spec.shape == (3,)]

    def recorded(self, episode: int) -> np.ndarray:
        agent = self._store.read(episode, PROPRIO_STREAM).values.astype(np.float64)
        return told(np.concatenate([agent, self._store.read(episode, self._block_stream).values], axis=1))

    def start(self, episode: int) -> np.ndarray:
        """The start that was drawn, where the recorded one is it in float32, whose rounding a push may blow up."""
        state = np.concatenate(
            [self._store.read(episode, name).values[0] for name in (PROPRIO_STREAM, self._block_stream)]
        )
        number = self._store.episode_info(episode)["meta"].get("episode_in_source", episode)
        seen, _ = self._env.reset(seed=0, options={"reset_to_state": drawn_start(number)})
        if not np.allclose(told(seen[None]), told(state[None]), rtol=0, atol=_ROUNDING):
            self._env.reset(seed=0)
            set_state(self._env, state)
        return told(self._env.get_obs()[None])[0]

    def step(self, action: np.ndarray) -> tuple[np.ndarray, bool]:
        observation, _, terminated, _, _ = self._env.step(np.asarray(action, np.float64))
        return told(observation[None])[0], bool(terminated)
