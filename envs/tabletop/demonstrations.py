"""Demonstrations of the tabletop: the expert with disturbed actions, and everything that is recorded beside them.

An action may be disturbed before it is executed, so that the demonstrations show how to come back. The store keeps the
clean action, which is what the expert wanted in the state it was in, as "action", and what was executed as "executed",
from which an episode can be replayed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...datasets.spec import EXECUTED_STREAM, OBJECTS_STREAM, EnvSpec, camera_stream, segmentation_stream
from ...datasets.store import Episode, StreamSpec
from ...datasets.subgoals import PHASE_STREAM, PHASES
from ...datasets.tolerance import Tolerance
from ..collect import Rows
from ..config import CollectConfig
from ..suites import Suite
from .env import TabletopEnv
from .expert import expert_step
from .scene import other_goals

SEGMENTATION_EVERY = 4  # control steps between two segmentations, which cost as much as images and are needed rarely
_SEES_NOTHING_NEW = 8  # rows: over a bare table the wrist camera shows the same for up to 6
_MAX_OBJECTS = 6
_OTHER_INSTRUCTIONS = 8
_SHOVE_CHANCE, _SHOVE_STEPS = 0.3, 3
_FUMBLE_CHANCE, _FUMBLE_STEPS = 0.5, (3, 7)  # how long the fingers do something else than what they were told


class TabletopDemonstrator:
    """The tabletop's expert in one environment (a `Demonstrator`)."""

    tolerance = Tolerance(frozen=_SEES_NOTHING_NEW)
    versions: tuple[str, ...] = ("deixis", "mujoco", "gymnasium", "numpy", "zarr")

    def __init__(self, config: CollectConfig, suite: Suite) -> None:
        self._config, self._max_steps, self._tasks = config, suite.max_steps, suite.tasks
        self._env: TabletopEnv = suite.make(
            image_size=config.image_size, split=config.split, languages=config.languages, disable_env_checker=True
        ).unwrapped  # pyright: ignore[reportAttributeAccessIssue]  (the suite's id says what it is)
        self.env_spec = self._env.env_spec
        self.streams = _streams(self.env_spec)
        self.meta: dict[str, Any] = {"split": config.split, "languages": list(config.languages)}
        self.remedy = f"lower collect.noise (now {config.noise})"

    def attempt(self, task: str, seed: int) -> Episode | None:
        """One demonstration of `task` in the scene of `seed`; None where the expert failed in the suite's steps."""
        env, rows = self._env, Rows(self.env_spec.action.rate_hz)
        observation, info = env.reset(seed=seed, options={"task": task})
        limits = np.asarray(env.env_spec.action.low), np.asarray(env.env_spec.action.high)
        disturb = _disturbance(np.random.default_rng((seed, 77)), self._config.noise, self._max_steps, limits[1])
        for step in range(self._max_steps):
            action, phase = expert_step(env)
            executed = (action + disturb[step]).clip(*limits).astype(np.float32)
            rows.add("action", step, action.clip(*limits).astype(np.float32))
            rows.add(EXECUTED_STREAM, step, executed)
            rows.add(PHASE_STREAM, step, np.array([PHASES.index(phase)], np.uint8))
            self._add_seen(rows, step, observation)
            observation, _, terminated, _, info = env.step(executed)
            if terminated:
                meta = {
                    "task": task,
                    "seed": seed,
                    "scene": info["scene"],
                    "goal": info["goal"],
                    "other_instructions": self._other_instructions(np.random.default_rng((seed, 78))),
                    "success": True,
                }
                return Episode(rows.streams(), info["instruction"], meta)
        return None

    def _add_seen(self, rows: Rows, step: int, observation: dict[str, Any]) -> None:
        """What is seen before the action of `step`, and now and then what only the simulator knows."""
        env = self._env
        rows.add("proprio", step, observation["proprio"])
        for camera in env.env_spec.cameras:
            rows.add(camera_stream(camera.name), step, observation[camera_stream(camera.name)])
            if step % SEGMENTATION_EVERY == 0:
                rows.add(segmentation_stream(camera.name), step, env.segmentation(camera.name))
        if step % SEGMENTATION_EVERY == 0:
            positions = np.zeros((_MAX_OBJECTS, 3), np.float32)
            positions[: len(env.states)] = [state.position for state in env.states]
            rows.add(OBJECTS_STREAM, step, positions)

    def _other_instructions(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """What else could have been asked in this scene: text and goal. It teaches words, not actions."""
        goals = other_goals(self._env.objects, self._tasks, self._env.split, rng)
        chosen = [goals[index] for index in rng.permutation(len(goals))[:_OTHER_INSTRUCTIONS]]
        texts = [self._env.split.sample_instruction(goal, rng, self._config.languages) for goal in chosen]
        return [{"text": text, "goal": goal.to_dict()} for text, goal in zip(texts, chosen, strict=True)]


def _streams(spec: EnvSpec) -> list[StreamSpec]:
    rate = spec.action.rate_hz
    images = [
        StreamSpec(camera_stream(c.name), "uint8", (c.height, c.width, 3), rate, "image", "1") for c in spec.cameras
    ]
    segments = [
        StreamSpec(
            segmentation_stream(c.name), "uint8", (c.height, c.width), rate / SEGMENTATION_EVERY, "segmentation", "1"
        )
        for c in spec.cameras
    ]
    return [
        *images,
        *segments,
        StreamSpec("proprio", "float32", (len(spec.proprio.names),), rate, "proprio", "mixed"),
        StreamSpec("action", "float32", (len(spec.action.names),), rate, "action", "mixed"),
        StreamSpec(EXECUTED_STREAM, "float32", (len(spec.action.names),), rate, "privileged", "mixed"),
        StreamSpec(PHASE_STREAM, "uint8", (1,), rate, "privileged", "1"),
        StreamSpec(OBJECTS_STREAM, "float32", (_MAX_OBJECTS, 3), rate / SEGMENTATION_EVERY, "privileged", "m"),
    ]


def _disturbance(rng: np.random.Generator, scale: float, steps: int, limits: np.ndarray) -> np.ndarray:
    """Added to each executed action [steps, A]: small noise, now and then a shove, now and then a fumble.

    A fumble closes the fingers too early or opens them while they carry. Without it a policy never sees an empty closed
    hand or a dropped object, and does not know what to do after its own missed grasp.

    limits: [A], the largest action; the noise is a share `scale` of it.
    """
    noise = rng.normal(0.0, scale, (steps, len(limits))) * limits
    if scale > 0 and rng.random() < _SHOVE_CHANCE:
        start = int(rng.integers(2, 25))
        noise[start : start + _SHOVE_STEPS, :3] += rng.uniform(-0.6, 0.6, 3) * limits[:3]
    noise[:, -1] = 0.0
    if scale > 0 and rng.random() < _FUMBLE_CHANCE:
        closes = rng.random() < 0.7
        start = int(rng.integers(4, 16) if closes else rng.integers(12, 32))
        stop = start + int(rng.integers(*_FUMBLE_STEPS, endpoint=True))
        noise[start:stop, -1] = -2.0 if closes else 2.0  # more than its range: it overrules the expert's word
    return noise
