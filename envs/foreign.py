"""Worlds of other packages behind one API: what robosuite, Meta-World and LIBERO have in common here."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .drawing.renderer import Renderer, level_renderer  # isort: skip  (sets MUJOCO_GL before mujoco is imported)

import gymnasium
import mujoco
import numpy as np

from ..datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec, camera_stream
from .asking import CONDITIONS, action_space, checked_action, checked_options, observation_space, shown
from .drawing.contexts import LARGEST
from .drawing.detail import tolerances
from .drawing.level import DEFAULT, level_named
from .touching import Touching, is_free

SEGMENT_ROBOT = 255
_LOOK_SEED = 0  # of the start by which it is decided how near things are to cameras
POINTS = ("hand", "object", "goal")
_BEFORE_M = 1e-3  # what is not before a camera is seen at its border


@dataclass(frozen=True)
class Camera:
    """A camera of a package's model, under the name that it has here. turned: its picture is turned by 180 degrees."""

    name: str
    model_name: str
    turned: bool = False


@dataclass(frozen=True)
class Thing:
    """Something of a scene that words may be about: its name in words, and its bodies in the model."""

    name: str
    bodies: tuple[str, ...]


@dataclass(frozen=True)
class Asked:
    """What is asked for in an episode.

    instruction: the words. task: by whose rule success is judged. target: the thing that it is about, by name.
    original: task and target of the condition "correct", where they differ.
    """

    instruction: str
    task: str
    target: str = ""
    original: tuple[str, str] | None = None


class ForeignEnv(gymnasium.Env[dict[str, Any], np.ndarray], ABC):
    """A package's world, drawn and judged as everything here is.

    Observation: `camera.NAME` uint8 [image_size, image_size, 3], upright; `proprio` float32 [P]; `instruction` text.
    Action: float32 [A] in the limits of `env_spec.action`. Reward 1 at success, else 0; an episode terminates at
    success or where none can follow, by the package's own rules.

    `reset(seed, options)`: options `task`, `condition` (one of `conditions`), `instruction` (a text to show instead).
    Equal seeds and tasks make equal worlds, whatever was there before.

    A subclass says how its package is started, stepped and read, in the methods below that are abstract.

    Attributes:
        model, data: the simulation as it is now.
        asked: what is asked for.
        things: what stands in the scene.
        packages: whose versions decide what happens. expert_name: who demonstrates, for whoever reads a store.
        grippers: which action dimensions close hands.
    """

    metadata = {"render_modes": ["rgb_array"]}
    conditions: tuple[str, ...] = CONDITIONS
    groups: tuple[int, ...] | None = None  # geom groups that are drawn
    robot_bodies: tuple[str, ...] = ()  # prefixes of the names of the robot's bodies
    packages: tuple[str, ...] = ()
    expert_name: str = "scripted expert of deixis"
    grippers: tuple[int, ...] = (-1,)
    kept_renderers: int = 16  # of models that come again, as where tasks take turns

    def __init__(
        self,
        env_id: str,
        tasks: Sequence[str],
        cameras: Sequence[Camera],
        proprio: ProprioSpec,
        action: ActionSpec,
        image_size: int = 128,
        level: str = DEFAULT,
        render_mode: str | None = None,
        render_size: int = 256,
    ) -> None:
        self.tasks, self.image_size, self.level = tuple(tasks), image_size, level_named(level)
        if not tasks:
            raise ValueError("tasks: found none, wanted at least one")
        _check_fits(image_size, len(cameras), "image_size")
        _check_fits(render_size, 1, "render_size")
        self.render_mode, self._render_size = render_mode, render_size
        self.cameras = tuple(cameras)
        self.env_spec = EnvSpec(
            env_id,
            tuple(CameraSpec(camera.name, image_size, image_size, action.rate_hz) for camera in cameras),
            proprio,
            action,
            look=level,
        )
        self.observation_space = observation_space(self.env_spec)
        self.action_space = action_space(action)
        self._observing = True
        self._images: dict[str, np.ndarray] = {}
        self._models_cameras = [camera.model_name for camera in cameras]
        self._allowed: dict[str, dict[int, float]] = {}
        self._renderers: deque[tuple[mujoco.MjModel, dict[int, float], Renderer]] = deque(maxlen=self.kept_renderers)
        self._values: np.ndarray | None = None
        self.asked: Asked

    # ---- what a package says ----

    @property
    @abstractmethod
    def model(self) -> mujoco.MjModel: ...

    @property
    @abstractmethod
    def data(self) -> mujoco.MjData: ...

    @abstractmethod
    def _ask(self, task: str, condition: str, rng: np.random.Generator) -> Asked:
        """What is asked for in an episode of `task`; ValueError where it cannot be under the condition."""

    @abstractmethod
    def _start(self, task: str, seed: int) -> None:
        """Puts the world where the episode of `task` and `seed` begins; the same one each time."""

    @abstractmethod
    def _act(self, action: np.ndarray) -> None:
        """One control step."""

    @abstractmethod
    def _proprio(self) -> np.ndarray:
        """The robot's own state now, [P]."""

    @abstractmethod
    def _succeeded(self, task: str) -> bool:
        """Whether what `task` asks for is done now, by the package's rule."""

    def _failed(self) -> bool:
        """Whether the package calls the episode over, so that no success can follow."""
        return False

    @property
    @abstractmethod
    def things(self) -> Sequence[Thing]: ...

    @abstractmethod
    def points(self) -> np.ndarray:
        """Where the hand is, what it acts on, and where that belongs, metres in the world, [3, 3] (`POINTS`)."""

    @abstractmethod
    def expert(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """Who solves the episode that has just begun: what it returns gives the next action in the world as it is."""

    def _predicates(self) -> dict[str, Any]:
        """What success rests on, by name, as JSON values."""
        return {}

    # ---- Gymnasium ----

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.episode_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        task, condition, instruction = self._checked_options(dict(options or {}))
        number = sum(task.encode())  # tasks of equal letters say the same phrasing at the same seed
        self.asked = self._ask(task, condition, np.random.default_rng((self.episode_seed, number, 1)))
        self.instruction = shown(instruction, condition, self.asked.instruction)
        self._begun = task
        if task not in self._allowed:
            self._allowed[task] = self._allowed_errors(task)
        with global_seed(self.episode_seed):
            self._start(task, self.episode_seed)
        self.success, self._values = self._succeeded(self.asked.task), None
        self._touching = self._begin_touching()
        self._scene = [{"name": thing.name} for thing in self.things]
        return self.observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._act(checked_action(action, self.env_spec.action))
        if self._touching is not None:
            self._touching.update(self.data)
        self.success = self._succeeded(self.asked.task)
        terminated = self.success or self._failed()
        return self._observation(), float(self.success), terminated, False, self._info()

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]  (Gymnasium's union of frame types)
        """The first camera's view, uint8 [render_size, render_size, 3]; ValueError where there is no camera."""
        if not self.cameras:
            raise ValueError("render: found cameras=(), wanted at least one to see with")
        camera = self.cameras[0]
        return _turned(camera, self._draws().rgb(self.data, camera.model_name, self._render_size, self._render_size))

    # ---- beside Gymnasium ----

    def set_observing(self, observing: bool) -> None:
        """With `False`, `step` returns the last rendered images again: for steps whose images nobody looks at."""
        self._observing = observing

    def observe(self) -> dict[str, Any]:
        """The observation of this moment, rendered now."""
        if self.cameras:
            names, size = [camera.model_name for camera in self.cameras], self.image_size
            pictures = self._draws().pictures(self.data, names, size, size)
            self._images = {
                camera_stream(camera.name): _turned(camera, pictures[camera.model_name]) for camera in self.cameras
            }
        return self._assemble()

    def segmentation(self, camera: str) -> np.ndarray:
        """uint8 [image_size, image_size]: i + 1 for thing i of the scene, 255 the robot, else 0. Never observed."""
        seen = self._camera(camera)
        size, values = self.image_size, self._values_of_geoms()
        return _turned(seen, self._draws().segmentation(self.data, seen.model_name, size, size, values))

    def places(self) -> np.ndarray:
        """Where each thing of the scene is, metres in the world, float32 [things, 3]."""
        return np.array([self.data.body(thing.bodies[0]).xpos for thing in self.things], np.float32).reshape(-1, 3)

    def seen_points(self, camera: str) -> np.ndarray:
        """`points` in a camera's picture, float32 [3, 2]: pixels right and down, clipped to the picture."""
        seen = self._camera(camera)
        number = self.model.camera(seen.model_name).id
        axes = self.data.cam_xmat[number].reshape(3, 3)
        right, up, back = ((self.points() - self.data.cam_xpos[number]) @ axes).T
        focal = 0.5 / np.tan(np.radians(self.model.cam_fovy[number]) / 2)
        away = np.maximum(-back, _BEFORE_M)
        places = np.stack([0.5 + focal * right / away, 0.5 - focal * up / away], axis=1).clip(0.0, 1.0)
        return (self.image_size * (1.0 - places if seen.turned else places)).astype(np.float32)

    # ---- inside ----

    def _camera(self, name: str) -> Camera:
        for known in self.cameras:
            if known.name == name:
                return known
        raise ValueError(f"camera: found {name!r}, wanted one of {', '.join(known.name for known in self.cameras)}")

    def _draws(self) -> Renderer:
        allowed = self._allowed[self._begun]
        for model, of_model, known in self._renderers:
            if model is self.model and of_model == allowed:
                return known
        drawn = level_renderer(self.model, self.level, allowed, self.groups)
        self._renderers.appendleft((self.model, allowed, drawn))
        return drawn

    def _allowed_errors(self, task: str) -> dict[int, float]:
        """How far the surfaces of the task's meshes may move, of the same start whichever episode comes first."""
        if self.level.error_px is None or not self._models_cameras:
            return {}  # nothing is simplified, or nothing is ever drawn
        with global_seed(_LOOK_SEED):
            self._start(task, _LOOK_SEED)
        return tolerances(self.model, self.data, self.level, self._models_cameras, self.image_size)

    def _begin_touching(self) -> Touching | None:
        """None where what the words are about does not lie free: one cannot choose among doors by carrying them."""
        names = [thing.name for thing in self.things]
        bodies = [self.model.body(thing.bodies[0]).id for thing in self.things]
        target = self.asked.target
        if target not in names or not is_free(self.model, bodies[names.index(target)]):
            return None
        return Touching(self.model, self.data, names, bodies, self._values_of_geoms(), SEGMENT_ROBOT)

    def _values_of_geoms(self) -> np.ndarray:
        """What each geom is, as `segmentation` shows it, until the next reset."""
        if self._values is None:
            self._values = self._found_values()
        return self._values

    def _found_values(self) -> np.ndarray:
        model = self.model
        owner = {model.body(name).id: number for number, thing in enumerate(self.things, 1) for name in thing.bodies}
        values = np.zeros(model.ngeom, np.uint8)
        for geom in range(model.ngeom):
            body = int(model.geom_bodyid[geom])
            while body:
                if body in owner:
                    values[geom] = owner[body]
                    break
                if model.body(body).name.startswith(self.robot_bodies):
                    values[geom] = SEGMENT_ROBOT
                    break
                body = int(model.body_parentid[body])
        return values

    def _checked_options(self, options: dict[str, Any]) -> tuple[str, str, str | None]:
        return checked_options(options, self.tasks, self.conditions)

    def _observation(self) -> dict[str, Any]:
        return self.observe() if self._observing else self._assemble()

    def _assemble(self) -> dict[str, Any]:
        return {**self._images, "proprio": self._proprio().astype(np.float32), "instruction": self.instruction}

    def _info(self) -> dict[str, Any]:
        asked = self.asked
        info = {
            "success": self.success,
            "predicates": {"success": self.success, **self._predicates()},
            "instruction": self.instruction,
            "goal": {"verb": asked.task, "target": asked.target},
            "scene": self._scene,
        }
        if self._touching is not None:
            info |= {
                "first_touched": self._touching.first_touched,
                "first_grasped": self._touching.first_grasped,
                "first_moved": self._touching.first_moved,
            }
        if asked.original:
            task, target = asked.original
            info |= {
                "original_goal": {"verb": task, "target": target},
                "original_success": bool(self._succeeded(task)),
            }
        return info


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seeds the generators of the process for as long as it lasts: packages draw from them."""
    state, states = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(states)


def _check_fits(size: int, pictures: int, what: str) -> None:
    most = LARGEST // max(1, pictures)
    if not 1 <= size <= most:
        raise ValueError(f"{what}: found {size}, wanted 1 to {most} pixels for {pictures} pictures side by side")


def _turned(camera: Camera, picture: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(picture[::-1, ::-1]) if camera.turned else picture
