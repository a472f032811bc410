"""Where each joint is in a MuJoCo state, read from the model's XML text alone: no simulator, no mesh files.

MuJoCo numbers joints body by body, depth first, in the order of the file: a free joint has 7 numbers in qpos and 6 in
qvel, a ball joint 4 and 3, a hinge or slide 1 and 1. Source: MuJoCo's documentation, XML reference and "mjModel".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from .importing import MAX_TEXT_BYTES
from .options import FormatError

_SIZES = {"free": (7, 6), "ball": (4, 3), "hinge": (1, 1), "slide": (1, 1)}
_ROBOT = re.compile(r"(robot|gripper|mobilebase)\d+_|(right|left|l|r)_|joint\d|finger_joint", re.ASCII)


@dataclass(frozen=True)
class Joint:
    """qpos, qvel: the first column of this joint in a state [time, qpos, qvel]; sizes: how many it has in each."""

    name: str
    kind: str
    qpos: int
    qvel: int
    sizes: tuple[int, int]

    @property
    def is_robots(self) -> bool:
        """Whether the robot can feel it: robosuite prefixes the joints of robots and grippers."""
        return self.kind in ("hinge", "slide") and _ROBOT.match(self.name) is not None


def joints_of(model: str, where: str) -> list[Joint]:
    """The joints of a MuJoCo model, in order.

    Raises FormatError for text that is no model, or that defines entities or includes files.
    """
    if len(model) > MAX_TEXT_BYTES or re.search(r"<!(DOCTYPE|ENTITY)|<include\b", model):
        raise FormatError(f"{where}: found entities, includes or too much text, wanted a complete MuJoCo model")
    try:
        root = ElementTree.fromstring(model)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise FormatError(f"{where}: found no XML that can be read ({error}), wanted a MuJoCo model") from error
    if root.tag != "mujoco":
        raise FormatError(f"{where}: found the root element {root.tag!r}, wanted 'mujoco'")
    found = [(item.get("name", ""), _kind(item, where)) for body in root.iterfind("worldbody") for item in _walk(body)]
    positions = sum(_SIZES[kind][0] for _, kind in found)
    joints, qpos, qvel = [], 1, 1 + positions  # column 0 is the time
    for name, kind in found:
        joints.append(Joint(name, kind, qpos, qvel, _SIZES[kind]))
        qpos, qvel = qpos + _SIZES[kind][0], qvel + _SIZES[kind][1]
    return joints


def state_width(joints: list[Joint]) -> int:
    """Number of columns of a state: time, qpos, qvel."""
    return 1 + sum(sum(joint.sizes) for joint in joints)


def _walk(body: ElementTree.Element) -> Iterator[ElementTree.Element]:
    """Joints of a body and then of the bodies in it; a stack, for nesting is only as deep as the file says."""
    stack = [body]
    while stack:
        element = stack.pop()
        yield from (child for child in element if child.tag in ("joint", "freejoint"))
        stack.extend(reversed([child for child in element if child.tag == "body"]))


def _kind(joint: ElementTree.Element, where: str) -> str:
    kind = "free" if joint.tag == "freejoint" else joint.get("type", "hinge")
    if kind not in _SIZES:
        raise FormatError(f"{where}, joint {joint.get('name')!r}: found type {kind!r}, wanted one of {sorted(_SIZES)}")
    return kind
