"""A policy one of whose stages is replaced by the simulator's truth, as far as the policy can take it.

perception: pictures and proprioception, by those of a world that looks as in training; in worlds that look otherwise.
understanding: the instruction, by the plainest sentence for the same goal; where what it names is there.
grounding: where the policy looks, by the masks of what the instruction is about; policies that point.
planning: the sub-goal that the policy says, by the expert's; policies that say one.
execution: the actions, by the expert's with the object that the policy points at; policies that point.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..envs.tabletop.env import TabletopEnv
from ..envs.tabletop.expert import expert_action
from ..envs.tabletop.goals import ObjectRef
from ..envs.tabletop.scene import possible_targets
from ..policies.interfaces import Generators, Marks, Observation
from ..policies.policy import Policy
from .planted import Imagined
from .rollout import visible

NOWHERE = 254  # a label that no pixel has


class Helped:
    """The policy with the truth in place of one stage; to be told of every control step (`note`).

    Args:
        policy, env: whose stage, and whose truth.
        stage: of `attribution.STAGES`.
    """

    def __init__(self, policy: Policy, env: TabletopEnv, stage: str) -> None:
        self.policy, self.env, self.stage = policy, env, stage
        self.config, self.cameras = policy.config, policy.cameras
        self._clean: deque[dict[str, np.ndarray]] = deque(maxlen=self.config.obs_horizon)
        self._meant: Counter[ObjectRef] = Counter()
        self._masks: deque[dict[str, np.ndarray]] = deque(maxlen=self.config.obs_horizon)

    def testable(self) -> bool:
        """Whether the stage can be replaced, in the world that has just begun."""
        is_there = self.env.asked.goal is not None
        return {
            "perception": lambda: self.env.clean_observation() is not None,
            "understanding": lambda: self.env.canonical_instruction() is not None,
            "grounding": lambda: self.policy.points and is_there,
            "planning": lambda: self.policy.config.subgoals and is_there,
            "execution": lambda: self.policy.points and is_there,
        }[self.stage]()

    def note(self) -> None:
        """Keeps the truth of this moment, for when the policy looks back at it."""
        if self.stage == "perception":
            seen = self.env.clean_observation()
            if seen is not None:
                self._keep(self._clean, visible(seen, tuple(self.cameras)))
        elif self.stage == "grounding":
            self._keep(self._masks, {camera: self.env.segmentation(camera) for camera in self.cameras})

    def _keep(self, kept: deque[dict[str, np.ndarray]], now: dict[str, np.ndarray]) -> None:
        kept.extend([now] * (self.config.obs_horizon if not kept else 1))  # before the first moment was nothing else

    def say(self, observation: Observation) -> list[str] | None:
        """As the policy; the expert's where planning is replaced."""
        return [self.env.subgoal()] if self.stage == "planning" else self.policy.say(observation)

    def act(
        self, observation: Observation, generators: Generators = None, subgoals: Sequence[str] | None = None
    ) -> Tensor:
        """As the policy, with the truth in place of the stage."""
        if self.stage == "execution":
            return self._expert(observation)
        marks = None
        if self.stage == "perception":
            images = {c: torch.from_numpy(np.stack([seen[c] for seen in self._clean])[None]) for c in self.cameras}
            proprio = torch.from_numpy(np.stack([seen["proprio"] for seen in self._clean])[None])
            observation = replace(observation, images=images, proprio=proprio)
        elif self.stage == "understanding":
            observation = replace(observation, instruction=[self.env.canonical_instruction() or ""])
        elif self.stage == "grounding":
            marks = self._marks()
        return self.policy.act(observation, generators, subgoals, marks)

    def _marks(self) -> Marks:
        goal, names = self.env.goal, [item.name for item in self.env.objects]
        roles = [goal.target, goal.reference]
        labels = [NOWHERE if ref is None else names.index(ref.name) + 1 for ref in roles]
        masks = {c: torch.from_numpy(np.stack([seen[c] for seen in self._masks])[None]) for c in self.cameras}
        return Marks(masks, torch.tensor([labels], dtype=torch.uint8))

    def _expert(self, observation: Observation) -> Tensor:
        """One action of the expert, with what the policy takes for the target."""
        able = possible_targets(self.env.objects, self.env.goal)
        self._meant[self._pointed_at(self.policy.point(observation)[0, :, 0].numpy(), able)] += 1
        ((meant, _),) = self._meant.most_common(1)  # not another one whenever the hand is in the way
        states = {state.name: state for state in self.env.states}
        world = Imagined(self.env, replace(self.env.goal, target=meant), states)
        action = torch.as_tensor(expert_action(world), dtype=torch.float32)
        low, high = self.policy.action_low, self.policy.action_high
        return action.clamp(low, high).expand(1, self.config.action_horizon, -1)

    def _pointed_at(self, places: np.ndarray, able: Sequence[ObjectRef]) -> ObjectRef:
        """The object nearest to where a camera's heat map lies [cameras, 3], in the view that is surest of it."""
        camera = int(places[:, 2].argmax())
        seen = self.env.segmentation(list(self.cameras)[camera])
        where = places[camera, :2] / max(places[camera, 2], 1e-6)
        height, width = seen.shape
        names, distances = [item.name for item in self.env.objects], []
        for ref in able:
            rows, columns = np.nonzero(seen == names.index(ref.name) + 1)
            centre = (
                np.array([columns.mean() / width, rows.mean() / height]) * 2 - 1 if len(rows) else np.full(2, np.inf)
            )
            distances.append(float(np.hypot(*(centre - where))))
        return able[int(np.argmin(distances))]
