"""Tasks: which scene of robosuite each has, what stands in it, and when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import numpy as np

from ..foreign import Thing


@dataclass(frozen=True)
class Scene:
    """A world of robosuite. name: there. things: in it. arms: Pandas."""

    name: str
    things: tuple[Thing, ...]
    arms: int = 1


@dataclass(frozen=True)
class Task:
    """What can be asked for in a scene.

    target: the thing that it is about. others: tasks of the same scene that another word asks for. done: whether it is
    done in robosuite's environment. goal: where the target belongs, from that environment and the target's place: the
    same, where a task only moves it or its hinge. lost: whether the environment calls the episode over without success.
    """

    scene: Scene
    target: str
    done: Callable[[Any], bool] = field(default=lambda env: bool(env._check_success()))
    others: tuple[str, ...] = ()
    goal: Callable[[Any, np.ndarray], np.ndarray] = field(default=lambda env, place: place)
    lost: Callable[[Any], bool] = field(default=lambda env: False)


def _called_off(env: Any) -> bool:
    with redirect_stdout(StringIO()):  # it prints why
        return bool(env._check_terminated())


OBJECTS = ("milk", "bread", "cereal", "can")  # in robosuite's order


def placed(env: Any, name: str) -> bool:
    """Whether an object of PickPlace lies in its bin and is let go, by robosuite's rule."""
    env._check_success()
    return bool(env.objects_in_bins[OBJECTS.index(name)])


def stacked(env: Any, upper: Any, lower: Any) -> bool:
    """Whether one cube stands on another and is let go: the rule of robosuite's Stack, for either order."""
    raised = env.sim.data.body_xpos[env.sim.model.body_name2id(upper.root_body)][2] > env.table_offset[2] + 0.04
    return bool(
        raised
        and env.check_contact(upper, lower)
        and not env._check_grasp(gripper=env.robots[0].gripper, object_geoms=upper)
    )


def _to_bin(name: str) -> Callable[[Any, np.ndarray], np.ndarray]:
    return lambda env, place: env.target_bin_placements[OBJECTS.index(name)]


def _to(body: str) -> Callable[[Any, np.ndarray], np.ndarray]:
    return lambda env, place: env.sim.data.body_xpos[env.sim.model.body_name2id(body)]


def _things(**bodies: str) -> tuple[Thing, ...]:
    return tuple(Thing(name.replace("_", " "), (body,)) for name, body in bodies.items())


_BINS = {name: Thing(name, (f"{name.capitalize()}_main",)) for name in OBJECTS}
_LIFT = Scene("Lift", _things(red_cube="cube_main"))
_STACK = Scene("Stack", _things(red_cube="cubeA_main", green_cube="cubeB_main"))
_PICK = Scene("PickPlace", tuple(_BINS.values()))
_POT = Scene("TwoArmLift", _things(pot="pot_root"), 2)
_PEG = Scene("TwoArmPegInHole", _things(peg="peg_main", plate="hole_main"), 2)
_HAMMER = Scene("TwoArmHandover", _things(hammer="hammer_root"), 2)


def _pick(name: str) -> Task:
    others = tuple(f"pick-{other}" for other in OBJECTS if other != name)
    return Task(_PICK, name, lambda env: placed(env, name), others, _to_bin(name))


_ORDERS = {
    "stack-red-green": Task(
        *(_STACK, "red cube", lambda env: stacked(env, env.cubeA, env.cubeB), ("stack-green-red",), _to("cubeB_main"))
    ),
    "stack-green-red": Task(
        *(_STACK, "green cube", lambda env: stacked(env, env.cubeB, env.cubeA), ("stack-red-green",), _to("cubeA_main"))
    ),
}
SINGLE: Mapping[str, Task] = {
    "lift": Task(_LIFT, "red cube"),
    "stack": Task(_STACK, "red cube", goal=_to("cubeB_main")),
    **{
        name: Task(Scene(f"PickPlace{name.capitalize()}", (_BINS[name],)), name, goal=_to_bin(name))
        for name in reversed(OBJECTS)
    },
    "square": Task(Scene("NutAssemblySquare", _things(square_nut="SquareNut_main")), "square nut", goal=_to("peg1")),
    "door": Task(Scene("Door", _things(door="Door_door", handle="Door_latch")), "door"),
    "wipe": Task(Scene("Wipe", _things(table="table")), "table", lost=_called_off),
    "tool-hang": Task(Scene("ToolHang", _things(frame="frame_root", tool="tool_root")), "tool"),
    **{f"pick-{name}": _pick(name) for name in reversed(OBJECTS)},
    **_ORDERS,
}
"""Tasks of one arm by name; the installed version may lack the scene of some."""

TWO_ARMS: Mapping[str, Task] = {
    "two-arm-lift": Task(_POT, "pot"),
    "two-arm-peg": Task(_PEG, "peg"),
    "two-arm-handover": Task(_HAMMER, "hammer"),
}
"""Tasks of two arms by name."""
