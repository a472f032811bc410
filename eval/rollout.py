"""One episode in closed loop: receding horizon, and a wall between what the policy may see and the simulator's truth.

A policy is a pure function, so what lasts through an episode lives here: the last observations and the rest of the
current action chunk. Two episodes never share any of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch
from torch import Tensor

from ..datasets.spec import EnvSpec, camera_stream
from ..envs.suites import Suite
from ..policies.config import PolicyConfig
from ..policies.interfaces import Generators, Observation
from ..policies.policy import Policy
from .results import EpisodeRecord


class Embodied(Protocol):
    """What of a policy says which world it is for."""

    cameras: dict[str, tuple[int, int]]
    spec: EnvSpec


def make_env(suite: Suite, policy: Embodied, **overrides: Any) -> gymnasium.Env:
    """The suite's environment with the camera size that the policy was trained on.

    Raises ValueError when what it shows or takes differs from what the policy was trained on.
    """
    sizes = set(policy.cameras.values())
    if len(sizes) == 1:
        height, width = sizes.pop()
        if height == width:
            overrides = {"image_size": height} | overrides
    env = suite.make(disable_env_checker=True, **overrides)
    _check_match(suite, env.unwrapped.env_spec, policy)  # pyright: ignore[reportAttributeAccessIssue]
    return env


def run_episode(
    env: gymnasium.Env,
    policy: Policy,
    suite: Suite,
    task: str,
    index: int,
    condition: str,
    *,
    policy_hash: str,
    versions: Mapping[str, str],
    exec_horizon: int | None = None,
    on_step: Callable[[], None] | None = None,
    through: Callable[[Observation], Observation] | None = None,
    on_say: Callable[[str], None] | None = None,
) -> EpisodeRecord:
    """Runs episode `index` of `task` until the environment calls it a success or the suite's step limit is reached.

    Scene and policy noise are seeded from (suite, task, index) alone, not from the condition: the same scene with the
    same noise under another instruction is a paired comparison. The policy always sees a batch of one, because the
    rounding of matrix products depends on the batch size, and a contact-rich episode amplifies the last bit: batching
    episodes, like sharing threads with them, would let an outcome depend on what runs beside it.

    exec_horizon: actions of each chunk to carry out; None takes the policy's own.
    An environment without goals of its own or marks between 0 and 1 may leave them out of its info; `success` and
    `predicates` it must tell.
    on_step: called after reset and after every control step.
    through: what stands between the world and the policy's eyes; called before each of its decisions.
    on_say: called with every sub-goal that the policy says before it acts; what it says is compared with what the
    environment's own expert would be about, where there is one (`subgoal()`).
    """
    player = Player(env, policy, suite, exec_horizon, on_step, through, on_say)
    started = time.perf_counter()
    seed = player.begin_episode(task, index, condition)
    player.follow()
    return player.record(task, index, seed, condition, policy_hash, versions, time.perf_counter() - started)


class Acting(Protocol):
    """What of a policy it takes to play."""

    config: PolicyConfig
    cameras: dict[str, tuple[int, int]]

    def act(
        self, observation: Observation, generators: Generators = None, subgoals: Sequence[str] | None = None
    ) -> Tensor: ...
    def say(self, observation: Observation) -> list[str] | None: ...


class Player:
    """A policy in one world: what it has seen, and the noise it draws on, for as long as the world lasts.

    Arguments as those of `run_episode`.

    Attributes:
        info: what the environment says of the present.
        steps: control steps since the present instruction.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        policy: Acting,
        suite: Suite,
        exec_horizon: int | None = None,
        on_step: Callable[[], None] | None = None,
        through: Callable[[Observation], Observation] | None = None,
        on_say: Callable[[str], None] | None = None,
    ) -> None:
        self.env, self.policy, self.suite = env, policy, suite
        self.horizon = exec_horizon or policy.config.exec_horizon
        if self.horizon > policy.config.action_horizon:
            raise ValueError(
                f"exec_horizon: found {self.horizon}, wanted at most the {policy.config.action_horizon} actions of a "
                "chunk"
            )
        self._on_step, self._through, self._on_say = on_step, through, on_say
        # An environment that can skip rendering is told which steps nobody will look at.
        self._set_observing = getattr(env.unwrapped, "set_observing", lambda observing: None)
        self._truth: Callable[[], str] | None = getattr(env.unwrapped, "subgoal", None)

    def begin_episode(self, task: str, index: int, condition: str) -> int:
        """The world and the noise of episode `index` of `task` in the suite; returns the world's seed."""
        seed = self.suite.episode_seed(task, index)
        self.begin(seed, {"task": task, "condition": condition}, self.suite.policy_seed(task, index))
        return seed

    def begin(self, seed: int, options: Mapping[str, Any], noise: int) -> None:
        """A world of this seed, and a policy that has seen nothing but its first moment; noise: seed of its own."""
        self._generator = torch.Generator().manual_seed(noise)
        self._set_observing(True)
        observation, info = self.env.reset(seed=seed, options=dict(options))
        if self._on_step:
            self._on_step()
        cameras, obs_horizon = tuple(self.policy.cameras), self.policy.config.obs_horizon
        self._history = deque([visible(observation, cameras)] * obs_horizon, maxlen=obs_horizon)
        self.go_on(observation, info)

    def go_on(self, observation: Mapping[str, Any], info: dict[str, Any]) -> None:
        """The same world with what may be another instruction; what has been seen stays known."""
        self._observation, self.info = observation, info
        self.steps = self._said = self._right = 0

    def follow(self) -> None:
        """Acts until the environment calls it over or the suite's step limit is reached."""
        cameras, obs_horizon = tuple(self.policy.cameras), self.policy.config.obs_horizon
        over = False
        while not over:
            for number, action in enumerate(self._decide(), 1):
                seen = number > self.horizon - obs_horizon
                self._set_observing(seen and bool(cameras))
                self._observation, _, terminated, truncated, self.info = self.env.step(action)
                self.steps += 1
                if self._on_step:
                    self._on_step()
                if seen:
                    self._history.append(visible(self._observation, cameras))
                over = bool(terminated or truncated or self.steps == self.suite.max_steps)
                if over:
                    break
        self._set_observing(True)

    def _decide(self) -> np.ndarray:
        """The actions to carry out before looking again [horizon, A]."""
        seen = build_observation(self._history, self._observation["instruction"])  # which may change on the way
        if self._through:
            seen = self._through(seen)
        subgoals = self.policy.say(seen) if self.policy.config.subgoals else None
        if subgoals:
            self._said += 1
            self._right += self._truth is not None and subgoals[0] == self._truth()
            if self._on_say:
                self._on_say(subgoals[0])
        told = {"subgoals": subgoals} if subgoals else {}
        return self.policy.act(seen, [self._generator], **told)[0].cpu().numpy()[: self.horizon]

    def record(
        self,
        task: str,
        index: int,
        seed: int,
        condition: str,
        policy_hash: str,
        versions: Mapping[str, str],
        wall_s: float,
    ) -> EpisodeRecord:
        """What happened since the present instruction."""
        info = self.info
        success, goal = bool(info["success"]), info.get("goal", {})
        judged, tells = bool(self._said) and self._truth is not None, "first_touched" in info
        return EpisodeRecord(
            suite=self.suite.name,
            task=task,
            index=index,
            seed=seed,
            condition=condition,
            instruction=info.get("instruction", self._observation["instruction"]),
            success=success,
            score=float(info.get("score", success)),
            steps=self.steps,
            # Where nobody says what the robot touched, no object is counted as the right one or the wrong one.
            target=goal.get("target", "") if tells else "",
            original_target=info.get("original_goal", goal).get("target", "") if tells else "",
            original_success=info.get("original_success"),
            lure=info.get("lure"),
            choices=info.get("choices"),
            first_touched=info.get("first_touched"),
            first_grasped=info.get("first_grasped"),
            first_moved=info.get("first_moved"),
            predicates={name: _plain(value) for name, value in info["predicates"].items()},
            subgoals=self._said if judged else None,
            subgoals_right=self._right if judged else None,
            policy_hash=policy_hash,
            versions=dict(versions),
            wall_s=wall_s,
        )


def visible(observation: Mapping[str, Any], cameras: Sequence[str]) -> dict[str, np.ndarray]:
    """What of an environment's observation a policy may see, by name, so that nothing else can slip through.

    Returns copies: camera name -> uint8 [H, W, 3], and "proprio" -> float32 [P].
    """
    seen = {camera: np.array(observation[camera_stream(camera)], dtype=np.uint8) for camera in cameras}
    return seen | {"proprio": np.array(observation["proprio"], dtype=np.float32)}


def build_observation(history: Sequence[Mapping[str, np.ndarray]], instruction: str) -> Observation:
    """A batch of one from the last `obs_horizon` results of `visible`, oldest first.

    images: camera -> uint8 [1, To, H, W, 3]; proprio: float32 [1, To, P]; instruction: one string.
    """

    def stacked(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([seen[name] for seen in history])[None])

    images = {name: stacked(name) for name in history[0] if name != "proprio"}
    return Observation(images=images, proprio=stacked("proprio"), instruction=[instruction])


def _check_match(suite: Suite, found: EnvSpec, policy: Embodied) -> None:
    wanted = policy.spec
    available = {camera.name: camera for camera in found.cameras}
    differing = {
        "action": (found.action, wanted.action),
        "proprio": (found.proprio, wanted.proprio),
        **({"look": (found.look, wanted.look)} if policy.cameras else {}),
        **{f"camera {name!r}": (available.get(name), wanted.camera(name)) for name in policy.cameras},
    }
    for name, (has, needs) in differing.items():
        if has != needs:
            raise ValueError(
                f"suite {suite.name!r} does not fit the policy: {name}: found {has}, "
                f"the policy was trained with {needs}; choose the suite that the demonstrations came from"
            )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
