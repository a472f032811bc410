"""`deixis/Calvin-v0`: CALVIN's play table from the user's own checkout of calvin_env, by CALVIN's own rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from ...datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec, camera_stream
from ..asking import CONDITIONS, action_space, checked_action, checked_options, observation_space, say, shown
from .chains import ROBOT, STARTING, chain, published_noise, scene, tables_for
from .checkout import CAMERAS, find_checkout
from .tasks import HELD_OUT, TASKS
from .world import RATE_HZ, PlayTable

ENV_ID = "deixis/Calvin-v0"
ACTION = ActionSpec(
    names=("dx", "dy", "dz", "rx", "ry", "rz", "gripper"),
    units=("1",) * 7,
    low=(-1.0,) * 7,
    high=(1.0,) * 7,
    rate_hz=float(RATE_HZ),
)
PROPRIO = ProprioSpec(
    names=(
        *("x", "y", "z", "euler_x", "euler_y", "euler_z", "opening"),
        *(f"joint_{number}" for number in range(1, 8)),
        "gripper_command",
    ),
    units=(*("m",) * 3, *("rad",) * 3, "m", *("rad",) * 7, "1"),
    rate_hz=float(RATE_HZ),
)


class CalvinEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Environment D of CALVIN, in which all its splits are judged.

    Observation: `camera.static` and `camera.gripper`, uint8, upright; `proprio` float32 [15], CALVIN's robot_obs;
    `instruction` text. Action: CALVIN's relative action, float32 [7] in [-1, 1] at 30 Hz: shares of 2 cm and of
    0.05 rad by which the grip's target moves, in the world's axes and Euler angles; the gripper opens above 0 and
    closes else. Reward 1 at success, else 0; an episode ends at success, by CALVIN's task oracle.

    `reset(seed, options)`: options `task` (one of `tasks`), `condition` (one of `conditions`), `instruction` (a text to
    show instead), `chain` (number of one of CALVIN's 1,000 chains, which begins on that chain's table, with its first
    task). Equal seeds and tasks make equal worlds, whatever was there before. `ask_next` goes on in the world as it is.

    Arguments:
        image_size: pixels a side of both cameras; None takes CALVIN's, 200 and 84.
        sentences: "own" asks in our words; "calvin" in CALVIN's, which the repository around the checkout has.
        egl: draw with a GPU through EGL, as CALVIN's data were drawn; else on the CPU.
        folder: the checkout; None takes what `DEIXIS_CALVIN` names.

    Attributes:
        tasks: what an episode can begin with. Seven of the 34 need others before them, and come in chains alone.
        table: the simulation.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE_HZ}
    tasks: tuple[str, ...] = STARTING
    conditions: tuple[str, ...] = CONDITIONS

    def __init__(
        self,
        image_size: int | None = None,
        sentences: str = "own",
        egl: bool = False,
        render_mode: str | None = None,
        folder: str | Path | None = None,
    ) -> None:
        if sentences not in ("own", "calvin"):
            raise ValueError(f"sentences: found {sentences!r}, wanted own or calvin")
        sizes = {name: image_size or size for name, size in CAMERAS.items()}
        checkout = find_checkout(folder)
        self._published = checkout.sentences() if sentences == "calvin" else {}
        self.table = PlayTable(checkout, sizes, egl)
        self.render_mode = render_mode
        self.env_spec = EnvSpec(
            ENV_ID,
            tuple(CameraSpec(name, size, size, float(RATE_HZ)) for name, size in sizes.items()),
            PROPRIO,
            ACTION,
        )
        self.observation_space = observation_space(self.env_spec)
        self.action_space = action_space(ACTION)
        self._observing = True
        self._images: dict[str, np.ndarray] = {}

    # ---- Gymnasium ----

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.episode_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        asked = dict(options or {})
        number = asked.pop("chain", None)
        self.task, self.condition, self._given = checked_options(asked, self.tasks, self.conditions)
        if number is None:
            self._start_alone()
        else:
            self._start_chain(number)
        self._ask(0)
        return self.observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.table.step(checked_action(action, ACTION))
        self.success = self.table.done(self.task)
        observation = self.observe() if self._observing else self._assemble()
        return observation, float(self.success), self.success, False, self._info()

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]  (Gymnasium's union of frame types)
        """The static camera's view, uint8 [size, size, 3]."""
        return self.table.pictures()["static"]

    def close(self) -> None:
        self.table.close()

    # ---- beside Gymnasium ----

    @staticmethod
    def chain(number: int) -> tuple[str, ...]:
        """The five tasks of CALVIN's chain of this number, from 0; ValueError past the last."""
        return chain(number)[1]

    def ask_next(self, task: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Another instruction, for any of the 34 tasks, in the world as it is: observation and info as `reset` gives
        them. number: of the instruction in its chain, by which its words are drawn."""
        if task not in TASKS:
            raise ValueError(f"task: found {task!r}, wanted one of {', '.join(TASKS)}")
        self.task, self._given = task, None
        self.table.begin_task()
        self._ask(number)
        return self.observe(), self._info()

    def set_observing(self, observing: bool) -> None:
        """With `False`, `step` returns the last rendered images again: for steps whose images nobody looks at."""
        self._observing = observing

    def observe(self) -> dict[str, Any]:
        """The observation of this moment, rendered now."""
        self._images = {camera_stream(name): picture for name, picture in self.table.pictures().items()}
        return self._assemble()

    # ---- inside ----

    def _start_alone(self) -> None:
        """On one of the tables on which the task can be done, with the blocks where the seed says."""
        tables = tables_for(self.task)
        words = np.random.SeedSequence((self.episode_seed, list(TASKS).index(self.task))).generate_state(2, np.uint32)
        self.table.start(ROBOT, scene(tables[int(words[0]) % len(tables)], np.random.RandomState(words[1])))

    def _start_chain(self, number: int) -> None:
        table, tasks = chain(number)
        if self.task != tasks[0]:
            raise ValueError(
                f"reset option 'task': found {self.task!r}, wanted {tasks[0]!r}, the first of chain {number}"
            )
        self.table.start(ROBOT, scene(table, published_noise(table)))

    def _ask(self, number: int) -> None:
        """The words of the present task, by the episode's seed and the instruction's number."""
        rng = np.random.default_rng((self.episode_seed, list(TASKS).index(self.task), number))
        asked = say(TASKS[self.task].texts, self.condition, rng, HELD_OUT)
        if self._published and self.condition != "paraphrase-en":
            asked = self._published[self.task]
        self.instruction = shown(self._given, self.condition, asked)
        self.success = False

    def _assemble(self) -> dict[str, Any]:
        proprio = self.table.robot().astype(np.float32)
        return {**self._images, "proprio": proprio, "instruction": self.instruction}

    def _info(self) -> dict[str, Any]:
        return {
            "success": self.success,
            "predicates": {"success": self.success},
            "instruction": self.instruction,
            "goal": {"verb": self.task, "target": TASKS[self.task].target},
        }
