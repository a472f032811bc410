"""Demonstrations of the particle, as the paper has them: clean actions of an expert that commands the way-points."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..datasets.store import Episode, StreamSpec
from ..datasets.tolerance import Tolerance
from .collect import Rows
from .particle import ENV_ID, ParticleEnv
from .suites import Suite

SWITCH = 0.01  # distance from the first way-point within which the published expert turns to the second


class ParticleExpert:
    """Commands the first way-point until it has been observed within `SWITCH` of it, and from then on the second.

    The rule of the published one (google-research/ibc, environments/particle/particle_oracles.py) with its defaults.
    It remembers that it has been there, so each episode needs an expert of its own.
    """

    def __init__(self) -> None:
        self._passed = False

    def action(self, proprio: np.ndarray) -> np.ndarray:
        """The command [N] at an observation [4 N] of the particle."""
        position, _, first, second = np.reshape(proprio, (4, -1))
        self._passed = self._passed or bool(np.linalg.norm(position - first) < SWITCH)
        return second if self._passed else first


class ParticleDemonstrator:
    """The particle's expert in one environment (a `Demonstrator`). Nothing disturbs it."""

    tolerance = Tolerance()
    versions: tuple[str, ...] = ("deixis", "gymnasium", "numpy", "zarr")
    remedy = "take fewer dimensions: from as far away as in 128, it passes the first way-point too fast to notice"

    def __init__(self, suite: Suite) -> None:
        env = suite.make(disable_env_checker=True).unwrapped
        if not isinstance(env, ParticleEnv):
            raise TypeError(f"suite {suite.name!r}: found {type(env).__name__}, wanted {ENV_ID}")
        self._env, self._max_steps, self.env_spec = env, suite.max_steps, env.env_spec
        self.meta: dict[str, Any] = {"dim": env.dim}
        rate = env.env_spec.action.rate_hz
        self.streams = [
            StreamSpec("proprio", "float32", (4 * env.dim,), rate, "proprio", "mixed"),
            StreamSpec("action", "float32", (env.dim,), rate, "action", "1"),
        ]

    def attempt(self, task: str, seed: int) -> Episode | None:
        """One demonstration from the start of `seed`; None where it is no success."""
        rows, expert = Rows(self.env_spec.action.rate_hz), ParticleExpert()
        observation, info = self._env.reset(seed=seed, options={"task": task})
        for step in range(self._max_steps):
            action = expert.action(observation["proprio"])
            rows.add("proprio", step, observation["proprio"])
            rows.add("action", step, action)
            observation, _, terminated, _, info = self._env.step(action)
            if terminated:
                return Episode(rows.streams(), info["instruction"], {"task": task, "seed": seed, "success": True})
        return None
