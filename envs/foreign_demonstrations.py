"""Demonstrations in other packages' worlds: an expert acts, and what it sees is recorded with what its words are about.

As on the tabletop, an action may be disturbed before it is executed, so that the demonstrations show how to come back;
the store keeps the clean action as "action" and the executed one as "executed".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..datasets.spec import (
    EXECUTED_STREAM,
    OBJECTS_STREAM,
    EnvSpec,
    camera_stream,
    points_stream,
    segmentation_stream,
)
from ..datasets.store import Episode, StreamSpec
from ..datasets.tolerance import Tolerance
from .collect import Rows
from .config import CollectConfig
from .foreign import POINTS, ForeignEnv
from .suites import Suite

SEGMENTATION_EVERY = 4  # control steps between two segmentations, which cost as much as images and are needed rarely
MOST_THINGS = 16
_STILL_S = 2.0  # seconds for which an arm may seem to stand still: hands close, and pictures are small
_SLIP = 8.0  # times the usual: a hand that presses against a door and slips off jumps, but not as another episode does
_SURE = 8.0  # nats: over some thousand episodes of small motions less than that turns up by chance


class ForeignDemonstrator:
    """The expert of a `ForeignEnv` (a `Demonstrator`)."""

    def __init__(self, config: CollectConfig, suite: Suite) -> None:
        self._noise, self._max_steps = config.noise, suite.max_steps
        env = suite.make(image_size=config.image_size, disable_env_checker=True).unwrapped
        if not isinstance(env, ForeignEnv):
            raise TypeError(f"suite {suite.name!r}: found {type(env).__name__}, wanted a ForeignEnv")
        self._env, self.env_spec = env, env.env_spec
        self.streams = _streams(env.env_spec)
        self.tolerance = Tolerance(
            frozen=round(_STILL_S * env.env_spec.action.rate_hz), jump=_SLIP, delay_confidence=_SURE
        )
        self.meta: dict[str, Any] = {"demonstrator": env.expert_name}
        self.versions: tuple[str, ...] = ("deixis", "mujoco", "gymnasium", "numpy", "zarr", *env.packages)
        self.remedy = f"lower collect.noise (now {config.noise}), or leave out tasks that the expert cannot do"

    def attempt(self, task: str, seed: int) -> Episode | None:
        """One demonstration of `task` in the world of `seed`; None where the expert failed in the suite's steps."""
        env, rows = self._env, Rows(self.env_spec.action.rate_hz)
        low, high = np.asarray(self.env_spec.action.low), np.asarray(self.env_spec.action.high)
        rng = np.random.default_rng((seed, 77))
        observation, info = env.reset(seed=seed, options={"task": task})
        expert = env.expert(np.random.default_rng((seed, 78)))
        for step in range(self._max_steps):
            action = np.asarray(expert(), np.float64).clip(low, high)
            disturbance = rng.normal(0.0, self._noise, len(action)) * high
            disturbance[list(env.grippers)] = 0.0
            executed = (action + disturbance).clip(low, high).astype(np.float32)
            rows.add("action", step, action.astype(np.float32))
            rows.add(EXECUTED_STREAM, step, executed)
            self._add_seen(rows, step, observation)
            observation, _, terminated, _, info = env.step(executed)
            if terminated and not info["success"]:
                return None
            if terminated:
                meta = {
                    "task": task,
                    "seed": seed,
                    "scene": info["scene"],
                    "goal": info["goal"],
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
            rows.add(points_stream(camera.name), step, env.seen_points(camera.name))
            if step % SEGMENTATION_EVERY == 0:
                rows.add(segmentation_stream(camera.name), step, env.segmentation(camera.name))
        if step % SEGMENTATION_EVERY == 0:
            places, found = np.zeros((MOST_THINGS, 3), np.float32), env.places()[:MOST_THINGS]
            places[: len(found)] = found
            rows.add(OBJECTS_STREAM, step, places)


def _streams(spec: EnvSpec) -> list[StreamSpec]:
    rate, slow = spec.action.rate_hz, spec.action.rate_hz / SEGMENTATION_EVERY
    pictures = [(camera, (camera.height, camera.width)) for camera in spec.cameras]
    return [
        *(StreamSpec(camera_stream(c.name), "uint8", (*size, 3), rate, "image", "1") for c, size in pictures),
        *(StreamSpec(segmentation_stream(c.name), "uint8", size, slow, "segmentation", "1") for c, size in pictures),
        *(
            StreamSpec(points_stream(c.name), "float32", (len(POINTS), 2), rate, "privileged", "pixel")
            for c, _ in pictures
        ),
        StreamSpec("proprio", "float32", (spec.proprio.dim,), rate, "proprio", "mixed"),
        StreamSpec("action", "float32", (spec.action.dim,), rate, "action", "mixed"),
        StreamSpec(EXECUTED_STREAM, "float32", (spec.action.dim,), rate, "privileged", "mixed"),
        StreamSpec(OBJECTS_STREAM, "float32", (MOST_THINGS, 3), slow, "privileged", "m"),
    ]
