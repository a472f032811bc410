"""Faults planted between a world and its recordings, or between these and a policy: does the ladder name them?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ...datasets.normalisation import MinMaxNormaliser
from ...datasets.spec import PROPRIO_STREAM, camera_stream
from ...policies.interfaces import Generators, Observation
from .rung import Patient

Shown = dict[str, Any]


class FaultyWorld(gymnasium.Wrapper):
    """A world that shows, or does, something else than the one that was recorded.

    show: an observation as it was before, None at a reset, and as it is now -> what is shown. do: likewise of actions.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        show: Callable[[Shown | None, Shown], Shown] | None = None,
        do: Callable[[np.ndarray | None, np.ndarray], np.ndarray] | None = None,
    ) -> None:
        super().__init__(env)
        self._show, self._do = show, do
        self._seen: Shown | None = None
        self._done: np.ndarray | None = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self._seen = self._done = None
        observation, info = self.env.reset(**kwargs)
        return self._shown(observation), info

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        given = np.asarray(action)
        carried_out = self._do(self._done, given) if self._do else given
        self._done = given
        observation, reward, terminated, truncated, info = self.env.step(carried_out)
        return self._shown(observation), reward, terminated, truncated, info

    def _shown(self, observation: Shown) -> Shown:
        shown = self._show(self._seen, dict(observation)) if self._show else observation
        self._seen = observation
        return shown


class FaultyPolicy:
    """A policy that is shown something else than was recorded, or says something else than it learned."""

    def __init__(
        self,
        policy: Patient,
        seen: Callable[[Observation], Observation] = lambda observation: observation,
        said: Callable[[Tensor], Tensor] = lambda chunks: chunks,
        **normalisers: MinMaxNormaliser,
    ) -> None:
        self.policy, self.config, self.spec, self.cameras = policy, policy.config, policy.spec, policy.cameras
        self.proprio_normaliser = normalisers.get("proprio", policy.proprio_normaliser)
        self.action_normaliser = normalisers.get("action", policy.action_normaliser)
        self._seen, self._said = seen, said

    def act(
        self, observation: Observation, generators: Generators = None, subgoals: Sequence[str] | None = None
    ) -> Tensor:
        """As the policy's."""
        return self._said(self.policy.act(self._seen(observation), generators, subgoals))

    def say(self, observation: Observation) -> list[str] | None:
        """As the policy's."""
        return self.policy.say(self._seen(observation))


@dataclass(frozen=True)
class Planted:
    """A fault, and where it is.

    Attributes:
        fault: a key of `suspects.ADVICE`.
        world, policy: what a sound one becomes.
    """

    fault: str
    world: Callable[[gymnasium.Env], gymnasium.Env] = lambda env: env
    policy: Callable[[Patient], Patient] = lambda policy: policy


def planted_faults(policy: Patient) -> dict[str, Planted]:
    """Name -> fault, of the world and of a policy such as this one, as far as it has what they need."""
    spec, cameras = policy.spec, tuple(policy.cameras)
    gripper = np.where(np.arange(spec.action.dim) == spec.action.dim - 1, -1, 1).astype(np.float32)
    first = np.where(np.arange(spec.proprio.dim) == 0, -1, 1).astype(np.float32)
    found = {
        "world: sign": Planted("sign", _shows(lambda x: {**x, PROPRIO_STREAM: x[PROPRIO_STREAM] * first})),
        "world: stale proprioception": Planted("stale proprioception", lambda env: FaultyWorld(env, _stale)),
        "world: action sign": Planted("action sign", lambda env: FaultyWorld(env, do=lambda _, x: x * gripper)),
        "world: chunk shift": Planted("chunk shift", lambda env: FaultyWorld(env, do=_late)),
        "policy: action sign": Planted(
            "action sign", policy=lambda p: FaultyPolicy(p, said=lambda x: x * torch.from_numpy(gripper))
        ),
        "policy: chunk shift": Planted("chunk shift", policy=lambda p: FaultyPolicy(p, said=_one_ahead)),
        "policy: normaliser": Planted("normaliser", policy=_other_normaliser),
    }
    if cameras:
        found |= {
            "world: channel order": Planted("channel order", _shows(lambda x: _each(x, cameras, _bgr))),
            "world: flipped image": Planted("flipped image", _shows(lambda x: _each(x, cameras[:1], _upside_down))),
            "policy: channel order": Planted(
                "channel order", policy=_sees(lambda images: {name: x.flip(-1) for name, x in images.items()})
            ),
            "policy: flipped image": Planted(
                "flipped image", policy=_sees(lambda images: {name: x.flip(2) for name, x in images.items()})
            ),
        }
    if len(cameras) == 2:
        one, other = cameras
        found |= {
            "world: swapped cameras": Planted("swapped cameras", _shows(lambda x: _swapped(x, one, other))),
            "policy: swapped cameras": Planted(
                "swapped cameras", policy=_sees(lambda images: {one: images[other], other: images[one]})
            ),
        }
    return found


def _shows(change: Callable[[Shown], Shown]) -> Callable[[gymnasium.Env], gymnasium.Env]:
    return lambda env: FaultyWorld(env, lambda _, shown: change(shown))


def _sees(change: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]) -> Callable[[Patient], Patient]:
    return lambda policy: FaultyPolicy(policy, lambda seen: replace(seen, images=change(seen.images)))


def _stale(before: Shown | None, now: Shown) -> Shown:
    return {**now, PROPRIO_STREAM: (before or now)[PROPRIO_STREAM]}


def _late(before: np.ndarray | None, now: np.ndarray) -> np.ndarray:
    return now if before is None else before


def _one_ahead(chunks: Tensor) -> Tensor:
    return torch.cat([chunks[:, 1:], chunks[:, -1:]], 1)


def _each(shown: Shown, cameras: Sequence[str], change: Callable[[np.ndarray], np.ndarray]) -> Shown:
    return shown | {camera_stream(name): change(shown[camera_stream(name)]) for name in cameras}


def _swapped(shown: Shown, one: str, other: str) -> Shown:
    first, second = camera_stream(one), camera_stream(other)
    return {**shown, first: shown[second], second: shown[first]}


def _bgr(image: np.ndarray) -> np.ndarray:
    return image[..., ::-1]


def _upside_down(image: np.ndarray) -> np.ndarray:
    return image[::-1]


def _other_normaliser(policy: Patient) -> Patient:
    """A normaliser of actions fitted to other data: what the policy means is half as large, and shifted."""
    right = policy.action_normaliser
    wrong = MinMaxNormaliser(right.low * 0.4, right.high * 0.6)

    def said(chunks: Tensor) -> Tensor:
        return wrong.unnormalise(right.normalise(chunks))

    return FaultyPolicy(policy, said=said, action=wrong)
