"""One episode in closed loop: receding horizon, and a wall between what the policy may see and the simulator's truth.

A policy is a pure function, so what lasts through an episode lives here: the last observations and the rest of the
current action chunk. Two episodes never share any of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch

from ..datasets.spec import EnvSpec, camera_stream
from ..envs.suites import Suite
from ..policies.interfaces import Observation
from ..policies.policy import Policy
from .results import EpisodeRecord


def make_env(suite: Suite, policy: Policy, **overrides: Any) -> gymnasium.Env:
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
    horizon = exec_horizon or policy.config.exec_horizon
    if horizon > policy.config.action_horizon:
        raise ValueError(
            f"exec_horizon: found {horizon}, wanted at most the {policy.config.action_horizon} actions of a chunk"
        )
    cameras, obs_horizon = tuple(policy.cameras), policy.config.obs_horizon
    # An environment that can skip rendering is told which steps nobody will look at.
    set_observing: Callable[[bool], None] = getattr(env.unwrapped, "set_observing", lambda observing: None)
    generator = torch.Generator().manual_seed(suite.policy_seed(task, index))
    seed = suite.episode_seed(task, index)

    started = time.perf_counter()
    set_observing(True)
    observation, info = env.reset(seed=seed, options={"task": task, "condition": condition})
    if on_step:
        on_step()
    history = deque([visible(observation, cameras)] * obs_horizon, maxlen=obs_horizon)
    steps, over = 0, False
    truth: Callable[[], str] | None = getattr(env.unwrapped, "subgoal", None)
    said, right = 0, 0
    while not over:
        seen_now = build_observation(history, observation["instruction"])  # which may change on the way
        if through:
            seen_now = through(seen_now)
        told: dict[str, Any] = {}
        if policy.config.subgoals and (subgoals := policy.say(seen_now)):
            said, right = said + 1, right + (truth is not None and subgoals[0] == truth())
            if on_say:
                on_say(subgoals[0])
            told["subgoals"] = subgoals
        chunk = policy.act(seen_now, [generator], **told)[0].cpu().numpy()
        for number, action in enumerate(chunk[:horizon], 1):
            seen = number > horizon - obs_horizon
            set_observing(seen)
            observation, _, terminated, truncated, info = env.step(action)
            steps += 1
            if on_step:
                on_step()
            if seen:
                history.append(visible(observation, cameras))
            over = bool(terminated or truncated or steps == suite.max_steps)
            if over:
                break
    set_observing(True)
    success, goal = bool(info["success"]), info.get("goal", {})
    return EpisodeRecord(
        suite=suite.name,
        task=task,
        index=index,
        seed=seed,
        condition=condition,
        instruction=info.get("instruction", observation["instruction"]),
        success=success,
        score=float(info.get("score", success)),
        steps=steps,
        target=goal.get("target", ""),
        original_target=info.get("original_goal", goal).get("target", ""),
        original_success=info.get("original_success"),
        lure=info.get("lure"),
        choices=info.get("choices"),
        first_touched=info.get("first_touched"),
        first_grasped=info.get("first_grasped"),
        first_moved=info.get("first_moved"),
        predicates={name: _plain(value) for name, value in info["predicates"].items()},
        subgoals=said if said and truth is not None else None,
        subgoals_right=right if said and truth is not None else None,
        policy_hash=policy_hash,
        versions=dict(versions),
        wall_s=time.perf_counter() - started,
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


def _check_match(suite: Suite, found: EnvSpec, policy: Policy) -> None:
    wanted = policy.spec
    available = {camera.name: camera for camera in found.cameras}
    differing = {
        "action": (found.action, wanted.action),
        "proprio": (found.proprio, wanted.proprio),
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
