"""Suites: named sets of tasks with published seeds. An episode's outcome depends on (suite, task, index) alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .metaworld.tasks import MT10, MT50, TIERS

if TYPE_CHECKING:
    import gymnasium

_SCENE, _POLICY = 0, 1
TRAINING_SEEDS = 10_000_000  # demonstrations draw their seeds below this number, evaluations at or above it


@dataclass(frozen=True)
class Suite:
    """Tasks of one environment, judged together.

    Attributes:
        name: the suite's name, part of every seed.
        env_id: Gymnasium id. env_kwargs: its arguments.
        tasks: values of the reset option `task`.
        max_steps: control steps after which an episode has failed.
        first_seed: seed of evaluation episode 0, the next has the next one: for benchmarks whose seeds are published.
            None draws them from the names.
        tiers: groups of tasks whose success is also told apart, such as easy and hard ones.
        slow_to_change: another task means another model, built in seconds: demonstrations of a task are then made in
            two runs of them, not one by one.
    """

    name: str
    env_id: str
    tasks: tuple[str, ...]
    max_steps: int
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    first_seed: int | None = None
    tiers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    slow_to_change: bool = False

    def make(self, **overrides: Any) -> gymnasium.Env:
        """The environment. `overrides` replace entries of `env_kwargs` (image_size, render_mode, ...)."""
        import gymnasium

        from .. import envs  # noqa: F401  (registers deixis/…)

        return gymnasium.make(self.env_id, **{**self.env_kwargs, **overrides})

    def turn(self, number: int) -> tuple[str, int]:
        """Task and index of an evaluation's episode of this number, from 0: tasks take turns, indices begin at 0."""
        return self.tasks[number % len(self.tasks)], number // len(self.tasks)

    def run_length(self, episodes: int) -> int:
        """How many of `episodes` demonstrations are made of one task before the next one's turn."""
        return max(1, episodes // (2 * len(self.tasks))) if self.slow_to_change else 1

    def demonstration(self, number: int, run: int = 1) -> tuple[str, int]:
        """Task and index of the attempt of this number, from 0, at a demonstration: tasks take turns after `run`."""
        turn, within = divmod(number, run)
        task, again = self.turn(turn)
        return task, again * run + within

    def episode_seed(self, task: str, index: int) -> int:
        """Seed of the scene of evaluation episode `index` of `task`: never one that a demonstration used."""
        if self.first_seed is not None:
            return self.first_seed + index
        return TRAINING_SEEDS + self._draw(task, index, _SCENE) % (2**31 - TRAINING_SEEDS)

    def policy_seed(self, task: str, index: int) -> int:
        """Seed of the policy's own noise in that episode."""
        return self._draw(task, index, _POLICY)

    def demonstration_seed(self, task: str, index: int, seed: int) -> int:
        """Seed of the `index`-th attempt at a demonstration of `task` in a collection run with `seed`."""
        return self._draw(task, index, 2 + seed) % TRAINING_SEEDS

    def _draw(self, task: str, index: int, purpose: int) -> int:
        if task not in self.tasks:
            raise ValueError(f"suite {self.name!r} has no task {task!r}; it has {', '.join(self.tasks)}")
        words = (_number(self.name), _number(task), index, purpose)
        return int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0])


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _metaworld(name: str, tasks: tuple[str, ...]) -> Suite:
    tiers = {tier: tuple(task for task in of_tier if task in tasks) for tier, of_tier in TIERS.items()}
    several = {tier: chosen for tier, chosen in tiers.items() if chosen} if len(tasks) > 1 else {}
    return Suite(name, "deixis/MetaWorld-v0", tasks, 500, {"tasks": tasks}, tiers=several)


_ROBOSUITE = "deixis/Robosuite-v0"
_BINNED = ("pick-can", "pick-milk", "pick-bread", "pick-cereal")  # four objects there: the words say which
_SINGLE = ("lift", "stack", "can", "milk", "bread", "cereal", "square", "door", "wipe")
_ORDERED = ("stack-red-green", "stack-green-red")
_DEMO = ("lift", "push", "place")
SUITES = {
    "tabletop-demo": Suite("tabletop-demo", "deixis/Tabletop-v0", _DEMO, 80, {"tasks": _DEMO}),
    # The same tasks in other scenes: settings are chosen here, so that the scenes above stay unseen.
    "tabletop-demo-validation": Suite("tabletop-demo-validation", "deixis/Tabletop-v0", _DEMO, 80, {"tasks": _DEMO}),
    "tabletop": Suite("tabletop", "deixis/Tabletop-v0", ("touch", "lift", "push", "place", "stack", "move"), 80),
    # Protocol and seeds of Diffusion Policy (arXiv:2303.04137); its human demonstrations have the seeds 0 to 205.
    "pusht-state": Suite("pusht-state", "deixis/PushT-v0", ("push-t",), 300, {"observation": "state"}, 100_000),
    "pusht-image": Suite("pusht-image", "deixis/PushT-v0", ("push-t",), 300, {"observation": "image"}, 100_000),
    **{
        f"robosuite-{task}": Suite(f"robosuite-{task}", _ROBOSUITE, (task,), 500 if task in ("square", "door") else 400)
        for task in ("lift", "can", "stack", "square", "door")
    },
    # robosuite 1.5 has it, 1.4.0 does not; without an expert.
    "robosuite-tool-hang": Suite("robosuite-tool-hang", _ROBOSUITE, ("tool-hang",), 700, {"tasks": ("tool-hang",)}),
    "robosuite-pickplace": Suite("robosuite-pickplace", _ROBOSUITE, _BINNED, 400),
    "robosuite": Suite("robosuite", _ROBOSUITE, (*_SINGLE, *_BINNED, *_ORDERED), 500),
    "robosuite-two-arm": Suite(
        "robosuite-two-arm", "deixis/RobosuiteTwoArm-v0", ("two-arm-lift", "two-arm-peg", "two-arm-handover"), 400
    ),
    # The dimensions at which implicit behavioural cloning (arXiv:2109.00137) is compared with regression.
    **{
        f"particle-{dim}": Suite(f"particle-{dim}", "deixis/Particle-v0", ("reach",), 50, {"dim": dim})
        for dim in (1, 2, 4, 8, 16, 32)
    },
    "metaworld-mt10": _metaworld("metaworld-mt10", MT10),
    "metaworld-mt50": _metaworld("metaworld-mt50", MT50),
    **{f"metaworld-{task}": _metaworld(f"metaworld-{task}", (task,)) for task in MT50},  # MT1
}


def tiers_of(name: str) -> Mapping[str, tuple[str, ...]]:
    """Groups of tasks of the suite of that name; none of a suite that is not known here."""
    return SUITES[name].tiers if name in SUITES else {}


def suite_named(name: str) -> Suite:
    """The suite of that name; an unknown name is a ValueError that lists the known ones.

    LIBERO's suites are read from its package when they are asked for, CALVIN's from a checkout: ImportError where there
    is none.
    """
    if name.startswith("libero-"):
        from .libero.suites import libero_suite

        return libero_suite(name)
    if name.startswith("calvin-"):
        from .calvin.suites import calvin_suite

        return calvin_suite(name)
    if name not in SUITES:
        others = "libero-spatial, libero-object, libero-goal, libero-long, libero-90, calvin-d, calvin-d-original"
        known = ", ".join((*SUITES, others))
        raise ValueError(f"suite: found {name!r}, wanted one of {known}, or another of LIBERO-PRO's")
    return SUITES[name]
