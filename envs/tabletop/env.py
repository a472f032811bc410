"""`deixis/Tabletop-v0`: a seven-joint arm, a table of coloured shapes, and a task in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .rendering import SEGMENT_ROBOT, SceneRenderer  # isort: skip  (sets MUJOCO_GL before mujoco is imported)

import gymnasium
import mujoco
import numpy as np

from ...datasets.language import language_of
from ...datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec, camera_stream
from ...datasets.subgoals import subgoal
from ..conditions import CHANGE_STEP, DISTRACTORS, all_conditions, allows
from .arm import FINGER_TRAVEL, JOINTS
from .asking import Asked, UnaskableError, ask, characters
from .challenges import LOOKS, NO_CHALLENGE, Challenge
from .control import CartesianController, tool_yaw
from .goals import VERBS, Goal, all_goals, targets
from .grammar import PHRASINGS
from .predicates import LeftAlone, SuccessMonitor
from .scene import Region, is_feasible, other_goals, sample_scene
from .splits import HELD_OUT_PAIRS, HELD_OUT_RELATIONS, SPLITS
from .state import History, ObjectState, StateReader, update_history
from .world import HOME_QPOS, TIMESTEP, world_xml

CAMERAS = ("front", "wrist")
CONTROL_HZ = 10.0
ACTION = ActionSpec(
    names=("dx", "dy", "dz", "dyaw", "gripper"),
    units=("m", "m", "m", "rad", "1"),
    low=(-0.05, -0.05, -0.05, -0.35, -1.0),
    high=(0.05, 0.05, 0.05, 0.35, 1.0),
    rate_hz=CONTROL_HZ,
)
PROPRIO = ProprioSpec(
    names=("tool_x", "tool_y", "tool_z", "tool_yaw_sin", "tool_yaw_cos", "gripper_opening", *JOINTS),
    units=("m", "m", "m", "1", "1", "m", *("rad" for _ in JOINTS)),
    rate_hz=CONTROL_HZ,
)
_SUBSTEPS = round(1.0 / (CONTROL_HZ * TIMESTEP))
_RAMP = 4  # the joint targets of a control step are approached in this many parts, so that the arm does not jerk
_SETTLE_STEPS = 20
_START_JITTER = 0.03  # radians, each joint
_TEXT_LENGTH = 200
_SCENES_TRIED = 50
_START_STEPS = 4
_UPRIGHT = 0.9  # cosine of the tilt at which a thing still stands


def _characters() -> str:
    """Every character an instruction may hold: printable ASCII and the grammar's Chinese."""
    spoken = {goal.target: goal for goal in all_goals() if goal.verb == "lift"}  # names every colour and shape
    sides = {(goal.verb, goal.relation): goal for goal in all_goals()}  # says every relation
    goals: list[Goal] = [*spoken.values(), *sides.values()]
    texts = (text for goal in goals for p in PHRASINGS.values() if p.verb == goal.verb for text in p.texts(goal))
    return "".join(sorted({chr(code) for code in range(32, 127)}.union(characters(), *texts)))


class TabletopEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """One arm, three to six objects, one instruction.

    Observation: `camera.front` and `camera.wrist` uint8 [image_size, image_size, 3]; `proprio` float32 [13] (names and
    units in `env_spec.proprio`); `instruction` text. Action float32 [5]: tool displacement dx, dy, dz (metres a step,
    world axes), dyaw (radians a step), gripper (-1 closed, 1 open), at 10 Hz. Reward 1 at success, else 0; an episode
    terminates at success.

    `reset(seed, options)`: options `task` (a verb), `condition` (one of `envs.conditions`; success is judged by what
    the instruction then asks for), `instruction` (a text to show instead), `objects` (how many, 3 to 6). The scene
    depends on the seed and the task alone, unless the condition is one of `OTHER_WORLDS` or has nothing to ask about
    in that scene: conditions can be compared pairwise. Where the named object is not there, an episode is a success as
    long as all others are left alone, and terminates when one is not.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(CONTROL_HZ)}

    def __init__(
        self,
        image_size: int = 64,
        tasks: Sequence[str] = VERBS,
        split: str = "all",
        languages: Sequence[str] = ("en", "zh"),
        held_out_phrasings: bool = False,
        render_mode: str | None = None,
        render_size: int = 256,
    ) -> None:
        unknown = [task for task in tasks if task not in VERBS]
        if unknown or not tasks:
            raise ValueError(f"tasks: found {list(tasks)}, wanted some of {', '.join(VERBS)}")
        if split not in SPLITS:
            raise ValueError(f"split: found {split!r}, wanted one of {', '.join(SPLITS)}")
        self.image_size, self.tasks, self.split, self.languages = (
            image_size,
            tuple(tasks),
            SPLITS[split],
            tuple(languages),
        )
        self.held_out_phrasings = held_out_phrasings
        self.render_mode, self._render_size = render_mode, render_size
        self.env_spec = EnvSpec(
            env_id="deixis/Tabletop-v0",
            cameras=tuple(CameraSpec(name, image_size, image_size, CONTROL_HZ) for name in CAMERAS),
            proprio=PROPRIO,
            action=ACTION,
        )
        image = gymnasium.spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {
                **{camera_stream(name): image for name in CAMERAS},
                "proprio": gymnasium.spaces.Box(-np.inf, np.inf, (len(PROPRIO.names),), np.float32),
                "instruction": gymnasium.spaces.Text(_TEXT_LENGTH, min_length=0, charset=_characters()),
            }
        )
        self.action_space = gymnasium.spaces.Box(
            np.asarray(ACTION.low, np.float32), np.asarray(ACTION.high, np.float32), dtype=np.float32
        )
        self._controller = CartesianController()
        self._observing = True
        self._images: dict[str, np.ndarray] = {}
        self._clean: tuple[mujoco.MjModel, mujoco.MjData, SceneRenderer] | None = None

    # ---- Gymnasium ----

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        options = dict(options or {})
        episode_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        task, condition, objects = self._checked_options(options, episode_seed)

        def rng(purpose: int) -> np.random.Generator:
            return np.random.default_rng((episode_seed, VERBS.index(task), purpose))

        self.episode_seed, self.condition = episode_seed, condition
        self._challenge = Challenge.of(condition, (episode_seed, VERBS.index(task), 4)) or NO_CHALLENGE
        asked = self._draw_and_ask(task, condition, rng, objects)
        if "instruction" in options:
            asked = replace(asked, text=str(options["instruction"]), earlier=None)
        self.asked = asked
        self._build(rng(1))
        self._begin_goal(asked.goal)
        return self.observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        action = self._checked_action(action)
        before = self.data.ctrl[:7].copy()
        joints = self._controller.step(action[:3], action[3], self.data.site_xpos[self._tool])
        self.data.ctrl[7] = (action[4] + 1.0) / 2.0 * FINGER_TRAVEL
        touched: set[str] = set()
        for part in range(1, _RAMP + 1):
            self.data.ctrl[:7] = before + (joints - before) * (part / _RAMP)
            mujoco.mj_step(self.model, self.data, _SUBSTEPS // _RAMP)
            touched |= self._reader.touched(self.data)
        # Kinematics of the state just reached: mj_step leaves those of the substep before.
        mujoco.mj_forward(self.model, self.data)
        self.states = self._reader.read(self.data)
        update_history(self.history, self.states, touched)
        self.success = self.monitor.update(self.states)
        self._original.update(self.states)
        self._steps += 1
        if self._steps >= CHANGE_STEP:
            self.instruction = self.asked.text
        over = self.monitor.over
        return self._observation(), float(self.success and over), over, False, self._info()

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]  (Gymnasium's union of frame types)
        """The front view, uint8 [render_size, render_size, 3]."""
        return self._renderer.rgb(self.data, "front", self._render_size, self._render_size)

    # ---- beside Gymnasium ----

    def ask_next(self, task: str, number: int) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Another instruction in the world as it is now: observation and info as `reset` gives them.

        It asks for what can be done with what stands on the table, for `task` if that can be, else for another of the
        environment's; None where nothing can. number: of the instruction in its chain, by which it is drawn.
        """
        rng = np.random.default_rng((self.episode_seed, 5, number))
        standing = {s.name for s in self.states if s.on_table and (s.shape == "ball" or s.up[2] > _UPRIGHT)}
        now = [
            replace(o, x=float(state.position[0]), y=float(state.position[1]))
            for o, state in zip(self.objects, self.states, strict=True)
        ]
        for verb in dict.fromkeys((task, *self.tasks)):
            goals = other_goals(now, [verb], self.split, rng)
            goals = [goal for goal in goals if goal.target.name in standing and is_feasible(now, goal)]
            if goals:
                goal = goals[int(rng.integers(len(goals)))]
                text = self.split.sample_instruction(goal, rng, self.languages, heldout=self.held_out_phrasings)
                self.asked, self.original_goal = Asked(text, goal, goal.target.name), goal
                self._reader.start_here(self.data)
                self._begin_goal(goal)
                return self.observe(), self._info()
        return None

    def set_observing(self, observing: bool) -> None:
        """With `False`, `step` returns the last rendered images again: for steps whose images nobody looks at."""
        self._observing = observing

    def observe(self) -> dict[str, Any]:
        """The observation of this moment, rendered now."""
        for name in CAMERAS:
            self._images[name] = self._renderer.rgb(self.data, name, self.image_size, self.image_size)
        return self._assemble()

    def subgoal(self) -> str:
        """What the expert would be about now (`datasets.subgoals`), in the instruction's language."""
        from .expert import expert_step  # which imports this module

        scene = [{"name": ref.name, "colour": ref.colour, "shape": ref.shape} for ref in self.objects]
        language = language_of(self.instruction)
        return subgoal(expert_step(self).phase, self.goal.to_dict(), scene, language)

    def canonical_instruction(self) -> str | None:
        """The plainest sentence for what is asked, in the instruction's language; None where it is not there."""
        if self.asked.goal is None:
            return None
        phrasings = self.split.phrasings(self.goal.verb, language_of(self.asked.text))
        return phrasings[0].texts(self.goal)[0]

    def clean_observation(self) -> dict[str, Any] | None:
        """What would be seen and felt now if the world looked as in training; None where it does."""
        if self._challenge.kind not in LOOKS:
            return None
        if self._clean is None:
            model = mujoco.MjModel.from_xml_string(world_xml(self.objects))
            self._clean = model, mujoco.MjData(model), SceneRenderer(model)
        model, data, renderer = self._clean
        data.qpos[:] = self.data.qpos
        mujoco.mj_forward(model, data)
        images = {name: renderer.rgb(data, name, self.image_size, self.image_size) for name in CAMERAS}
        return self._say(images, self._proprio())

    def segmentation(self, camera: str) -> np.ndarray:
        """uint8 [image_size, image_size]: i + 1 for object i of the scene, 255 the robot, else 0. Never observed."""
        return self._renderer.segmentation(self.data, camera, self.image_size, self.image_size, self._segment_of_geom)

    def object_state(self, name: str) -> ObjectState:
        """Truth about one object of the scene, by name."""
        for state in self.states:
            if state.name == name:
                return state
        raise KeyError(f"no object {name!r} in this scene; it has {', '.join(s.name for s in self.states)}")

    @property
    def tool_position(self) -> np.ndarray:
        """Point between the finger tips, metres [3]."""
        return self.data.site_xpos[self._tool].copy()

    @property
    def tool_yaw(self) -> float:
        """Turn of the tool about the vertical, radians."""
        return tool_yaw(self.data.site_xmat[self._tool].reshape(3, 3))

    @property
    def gripper_opening(self) -> float:
        """Distance between the fingers, metres."""
        return float(self.data.qpos[7] + self.data.qpos[8])

    # ---- inside ----

    def _draw_and_ask(
        self, task: str, condition: str, rng: Callable[[int], np.random.Generator], objects: int | None
    ) -> Asked:
        """Draws the scene; where it has nothing to ask about under the condition, which is seldom, the next one."""
        distractors = int(condition[-1]) if condition in DISTRACTORS else None
        region = self._challenge.region(Region())
        scenes, world, words = rng(0), rng(2), rng(3)
        for _ in range(_SCENES_TRIED):
            drawn = sample_scene(task, scenes, self._allowed(condition), objects, distractors, region)
            self.objects, self.original_goal = drawn
            with suppress(UnaskableError):
                return ask(
                    *(condition, *drawn, self.split, self.languages, self.tasks, self.held_out_phrasings, world, words)
                )
        raise RuntimeError(f"task {task!r}, condition {condition!r}: nothing to ask in {_SCENES_TRIED} scenes")

    def _begin_goal(self, goal: Goal | None) -> None:
        """Judges from now on what has just been asked; no goal asks for what is not there."""
        self.goal, self.instruction = goal or self.original_goal, self.asked.earlier or self.asked.text
        self.monitor = SuccessMonitor(goal) if goal else LeftAlone()
        self._original = SuccessMonitor(self.original_goal)
        self.history, self.success, self._steps = History(), goal is None, 0
        self.states = self._reader.read(self.data)

    def _build(self, rng: np.random.Generator) -> None:
        self.model = mujoco.MjModel.from_xml_string(world_xml(self.objects, self._challenge.bodies()))
        self._challenge.alter(self.model)
        self.data = mujoco.MjData(self.model)
        self._renderer, self._clean = SceneRenderer(self.model), None
        self._reader = StateReader(self.model, self.objects)
        self._tool = self.model.site("tool").id
        joints = HOME_QPOS[:7] + rng.uniform(-_START_JITTER, _START_JITTER, 7)
        self._controller.reset(joints)
        shift = self._challenge.start()
        # Upright again; where it is to begin farther away than the command may run ahead, in several steps.
        for _ in range(_START_STEPS if shift.any() else 1):
            part = shift / _START_STEPS
            joints = self._controller.step(part, -self._controller.yaw, self._controller.position)
        self.data.qpos[:7], self.data.qpos[7:9] = joints, HOME_QPOS[7:]
        self.data.ctrl[:7], self.data.ctrl[7] = joints, FINGER_TRAVEL
        mujoco.mj_step(self.model, self.data, _SETTLE_STEPS)
        mujoco.mj_forward(self.model, self.data)
        body_object = {self.model.body(o.name).id: index for index, o in enumerate(self.objects)}
        first_object = min(body_object)
        self._segment_of_geom = np.zeros(self.model.ngeom, np.uint8)
        for geom, body in enumerate(self.model.geom_bodyid):
            if int(body) in body_object:
                self._segment_of_geom[geom] = body_object[int(body)] + 1
            elif 0 < int(body) < first_object:
                self._segment_of_geom[geom] = SEGMENT_ROBOT

    def _observation(self) -> dict[str, Any]:
        return self.observe() if self._observing else self._assemble()

    def _assemble(self) -> dict[str, Any]:
        return self._say(*self._challenge.see(self._images, self._proprio(), self._steps))

    def _proprio(self) -> np.ndarray:
        yaw = self.tool_yaw
        values = (*self.tool_position, np.sin(yaw), np.cos(yaw), self.gripper_opening, *self.data.qpos[:7])
        return np.asarray(values, np.float32)

    def _say(self, images: Mapping[str, np.ndarray], proprio: np.ndarray) -> dict[str, Any]:
        seen = {camera_stream(name): images[name] for name in CAMERAS}
        return {**seen, "proprio": proprio, "instruction": self.instruction}

    def _info(self) -> dict[str, Any]:
        return {
            "success": self.success,
            "predicates": dict(self.monitor.predicates),
            "first_touched": self.history.first_touched,
            "first_grasped": self.history.first_grasped,
            "first_moved": self.history.first_moved,
            "scene": [o.to_dict() for o in self.objects],
            "goal": {**self.goal.to_dict(), "target": self.asked.named},
            "original_goal": self.original_goal.to_dict(),
            "original_success": self._original.over,
            "lure": self.asked.lure,
            "choices": sum(item.shape in targets(self.goal.verb) for item in self.objects),
            "instruction": " -> ".join(text for text in (self.asked.earlier, self.asked.text) if text is not None),
        }

    def _allowed(self, condition: str) -> Callable[[Goal], bool]:
        """Which goals a scene may have under a condition."""
        if condition == "pair":
            return lambda goal: (goal.target.colour, goal.target.shape) in HELD_OUT_PAIRS
        if condition == "relation":
            return lambda goal: (goal.verb, goal.relation) in HELD_OUT_RELATIONS
        return self.split.allows

    def _checked_action(self, action: np.ndarray) -> np.ndarray:
        array = np.asarray(action, dtype=np.float64)
        if array.shape != (len(ACTION.names),) or not np.isfinite(array).all():
            raise ValueError(
                f"action: found {action!r}, wanted {len(ACTION.names)} finite numbers: {', '.join(ACTION.names)}"
            )
        return np.clip(array, ACTION.low, ACTION.high)

    def _checked_options(self, options: Mapping[str, Any], seed: int) -> tuple[str, str, int | None]:
        known = ("task", "condition", "instruction", "objects")
        for key in options:
            if key not in known:
                raise ValueError(f"reset option {key!r} is unknown; known: {', '.join(known)}")
        default_task = self.tasks[int(np.random.default_rng((seed, 9)).integers(len(self.tasks)))]
        task, condition, objects = (
            options.get("task", default_task),
            options.get("condition", "correct"),
            options.get("objects"),
        )
        if task not in VERBS:
            raise ValueError(f"reset option 'task': found {task!r}, wanted one of {', '.join(VERBS)}")
        if condition not in all_conditions():
            raise ValueError(
                f"reset option 'condition': found {condition!r}, wanted one of {', '.join(all_conditions())}"
            )
        if not allows(condition, task):
            raise ValueError(f"reset option 'condition': found {condition!r} for {task!r}, which has no such goal")
        if objects is not None and not 3 <= objects <= 6:
            raise ValueError(f"reset option 'objects': found {objects!r}, wanted 3 to 6")
        return task, condition, objects
