"""Policies with one known fault, built from the expert stage by stage: what an evaluation says of them can be checked.

A planted policy perceives the objects, understands the instruction as a goal, grounds its words in what it perceives,
plans what to do next, and executes that. Each stage goes by the simulator's truth, but for the one with the fault; and
any stage can be given the truth again, which is how failures are attributed to stages.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..datasets.language import language_of
from ..datasets.spec import EnvSpec
from ..envs.tabletop.env import ACTION, TabletopEnv
from ..envs.tabletop.expert import CLOSED, OPEN, Step, expert_step
from ..envs.tabletop.goals import Goal, ObjectRef
from ..envs.tabletop.grammar import instructions
from ..envs.tabletop.scene import WORKSPACE_HIGH, WORKSPACE_LOW, possible_targets
from ..envs.tabletop.state import ObjectState
from ..policies.config import PolicyConfig
from ..policies.interfaces import Generators, Observation

FAULTS: dict[str, tuple[str, str]] = {
    "deaf": ("understanding", "does what belongs to the scene, whatever it is told"),
    "verb-deaf": ("understanding", "does one and the same thing with the object it is told of"),
    "mishearing": ("understanding", "takes another object where the sentence is not one of those in training"),
    "stubborn": ("understanding", "stays with the object that was named first"),
    "blind": ("perception", "takes every object to be elsewhere"),
    "colour-blind": ("grounding", "takes any object of the named shape"),
    "disordered": ("planning", "closes the hand before it is there, and opens it on the way"),
    "shaky": ("execution", "does not move as it means to"),
}
"""Fault -> the stage it is in, and what it does."""

SHAKE = 0.035  # metres, standard deviation of each action


@dataclass(frozen=True)
class Imagined:
    """The world as a planted policy takes it to be; `envs.tabletop.expert.World`."""

    env: TabletopEnv
    goal: Goal
    states: dict[str, ObjectState]

    @property
    def tool_position(self) -> np.ndarray:
        return self.env.tool_position

    @property
    def tool_yaw(self) -> float:
        return self.env.tool_yaw

    @property
    def gripper_opening(self) -> float:
        return self.env.gripper_opening

    def object_state(self, name: str) -> ObjectState:
        return self.states[name]


class PlantedPolicy:
    """Acts on the tabletop by its truth, with a fault. It has of a `Policy` what `rollout.Player` needs.

    Args:
        env: whose truth it goes by.
        fault: of `FAULTS`, or none.
        given: stages that have the truth whatever the fault.
    """

    def __init__(self, env: TabletopEnv, fault: str | None = None, given: Collection[str] = ()) -> None:
        if fault is not None and fault not in FAULTS:
            raise ValueError(f"fault: found {fault!r}, wanted one of {', '.join(FAULTS)}")
        self.env, self.given = env, tuple(given)
        stage = FAULTS[fault][0] if fault else None
        self.fault = None if stage in given else fault
        self.config = PolicyConfig(obs_horizon=1, action_horizon=1, exec_horizon=1)
        self.cameras: dict[str, tuple[int, int]] = {}
        self.spec: EnvSpec = env.env_spec

    def act(
        self, observation: Observation, generators: Generators = None, subgoals: Sequence[str] | None = None
    ) -> Tensor:
        """One action [1, 1, 5] of one observation, whose words alone it needs."""
        generator = generators[0] if generators else None
        goal = self._understand(observation.instruction[0])
        if goal is None:
            return self._chunk(np.array((0.0, 0.0, 0.0, 0.0, OPEN)))
        world = Imagined(self.env, self._ground(goal), self._perceive())
        return self._chunk(self._execute(self._plan(world), generator))

    def say(self, observation: Observation) -> list[str] | None:
        """Nothing: it plans without words."""
        return None

    def _perceive(self) -> dict[str, ObjectState]:
        states = {state.name: state for state in self.env.states}
        if self.fault != "blind":
            return states
        return {name: replace(state, position=self._elsewhere(name, state)) for name, state in states.items()}

    def _elsewhere(self, name: str, state: ObjectState) -> np.ndarray:
        """Somewhere on the table, the same throughout an episode."""
        rng = self._rng(name)
        return np.array((*rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH), state.position[2]))

    def _understand(self, text: str) -> Goal | None:
        """The goal it takes the instruction to ask for; None where it has nothing to do."""
        env = self.env
        if self.fault == "deaf":
            return env.original_goal
        asked = env.asked
        if not text or asked.goal is None:
            return None
        goal = asked.goal
        if asked.earlier is not None and text == asked.earlier:  # it is going to change
            goal = replace(goal, target=ObjectRef.from_name(str(asked.lure)))
        if self.fault == "verb-deaf":
            return Goal("lift", goal.target)
        if (
            self.fault == "stubborn"
            and asked.lure is not None
            and env.condition in ("negation", "correction", "change")
        ):
            return replace(goal, target=ObjectRef.from_name(asked.lure))
        if self.fault == "mishearing" and text not in instructions(goal, language_of(text), "train"):
            return replace(goal, target=self._other(goal, goal.target.shape, named=False))
        return goal

    def _ground(self, goal: Goal) -> Goal:
        if self.fault != "colour-blind":
            return goal
        return replace(goal, target=self._other(goal, goal.target.shape, named=True))

    def _other(self, goal: Goal, shape: str, named: bool) -> ObjectRef:
        """One of the objects that could be meant, of that shape if there are any, the same throughout an episode; the
        named one among them or not."""
        others = [ref for ref in possible_targets(self.env.objects, goal) if named or ref != goal.target]
        alike = [ref for ref in others if ref.shape == shape]
        choice = alike or others or [goal.target]
        return choice[int(self._rng("other").integers(len(choice)))]

    def _plan(self, world: Imagined) -> Step:
        step = expert_step(world)
        if self.fault != "disordered":
            return step
        # The hand is closed until it is there, and open from then on.
        gripper = OPEN if step.phase in ("grip", "raise", "carry", "lower") else CLOSED
        if step.phase in ("behind", "push"):
            return Step(np.array((*-step.action[:2], *step.action[2:])), step.phase)
        return Step(np.array((*step.action[:4], gripper)), step.phase)

    def _execute(self, step: Step, generator: torch.Generator | None) -> np.ndarray:
        if self.fault != "shaky":
            return step.action
        noise = torch.randn(5, generator=generator, dtype=torch.float64).numpy()
        return step.action + noise * (SHAKE, SHAKE, SHAKE, 0.2, 0.0)

    def _chunk(self, action: np.ndarray) -> Tensor:
        limited = np.clip(action, ACTION.low, ACTION.high)
        return torch.from_numpy(limited.astype(np.float32))[None, None]

    def _rng(self, what: str) -> np.random.Generator:
        return np.random.default_rng((self.env.episode_seed, *what.encode()))
