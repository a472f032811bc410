"""Which numbers of a replay buffer the robot itself can know: said by the user, by names, or known of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .options import FormatError

_COLUMNS = re.compile(r"(angle\()?([\w.+-]+)(?:\[(\d{0,6}):(\d{0,6})\])?(?(1)\))", re.ASCII)
# Arrays that by their name are the robot's own, in Diffusion Policy's data sets.
_OWN = ("agent_pos", "robot_eef_pose", "robot_joint", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of one row of each array."""


@dataclass(frozen=True)
class Columns:
    """Columns first to stop of the array data/<array> [rows, D], or all of an array of any shape (stop None).

    angle: they are angles in radians, each told by its cosine and then its sine, so that a full turn is no jump.
    """

    array: str
    first: int = 0
    stop: int | None = None
    angle: bool = False

    def __str__(self) -> str:
        text = self.array if self.stop is None else f"{self.array}[{self.first}:{self.stop}]"
        return f"angle({text})" if self.angle else text


@dataclass(frozen=True)
class ReplayLayout:
    """What is known of one data set beyond its files.

    rows: shape of a row of each array by which the data set is known. columns: name and unit of each column of an
    array. proprio: what the robot itself knows. unit, limits: of every action. streams: names of what is left of an
    array of which the robot knows a part.
    """

    name: str
    env_id: str
    rows: dict[str, tuple[int, ...]]
    rate_hz: float
    proprio: tuple[str, ...]
    columns: dict[str, tuple[tuple[str, str], ...]]
    action_names: tuple[str, ...]
    unit: str
    limits: tuple[float, float]
    streams: dict[str, str]


PUSHT = ReplayLayout(
    name="pusht",
    env_id="gym_pusht/PushT-v0",
    rows={"img": (96, 96, 3), "state": (5,), "action": (2,)},
    rate_hz=10.0,
    # The robot knows where its own tip is; the block's place and angle (pixels, radians) are for the camera to find.
    proprio=("state[0:2]",),
    columns={
        "state": (
            *((name, "pixel") for name in ("agent_x", "agent_y", "block_x", "block_y")),
            ("block_angle", "radian"),
        )
    },
    action_names=("target_x", "target_y"),
    unit="pixel",
    limits=(0.0, 512.0),
    streams={"state[2:5]": "block_pose"},
)
KNOWN = (PUSHT,)


def known_layout(rows: Shapes) -> ReplayLayout | None:
    """The known data set that has these arrays, or None."""
    return next((layout for layout in KNOWN if layout.rows.items() <= rows.items()), None)


def chosen_proprio(
    chosen: Sequence[str], layout: ReplayLayout | None, rows: Shapes, images: Sequence[str], where: str
) -> tuple[Columns, ...]:
    """What becomes proprioception: the user's choice, else what is known, else arrays whose names say so.

    Raises FormatError for what is not there, twice there or a picture, and where nothing says what the robot knows.
    """
    texts = tuple(chosen) or (layout.proprio if layout else tuple(name for name in _OWN if name in rows))
    if not texts:
        raise FormatError(
            f"{where}: found the arrays {sorted(rows)}, and nothing says which numbers the robot itself knows; name "
            "them in ImportOptions.proprio, such as 'agent_pos', or 'state[0:2]' for some columns"
        )
    found = tuple(_columns(text, rows, images, where) for text in texts)
    for name in {columns.array for columns in found}:
        spans = sorted(_span(columns, rows) for columns in found if columns.array == name)
        if any(start < stop for (_, stop), (start, _) in pairwise(spans)):
            raise FormatError(f"{where}: found {list(texts)}, wanted each column of {name!r} once")
    return found


def remaining(
    proprio: Sequence[Columns], layout: ReplayLayout | None, rows: Shapes, skip: Sequence[str]
) -> dict[str, Columns]:
    """Privileged streams: whatever of the arrays is neither proprioception nor in `skip`, by the stream's name."""
    names = layout.streams if layout else {}
    found: dict[str, Columns] = {}
    for name in rows:
        if name in skip:
            continue
        of_array = [columns for columns in proprio if columns.array == name]
        for columns in _gaps(name, of_array, rows) if of_array else [Columns(name)]:
            own = name if columns.stop is None else f"{name}_{columns.first}_{columns.stop}"
            found[f"privileged.{names.get(str(columns), own)}"] = columns
    return found


def _gaps(name: str, taken: Sequence[Columns], rows: Shapes) -> Iterator[Columns]:
    position = 0
    for first, stop in sorted(_span(columns, rows) for columns in taken):
        if first > position:
            yield Columns(name, position, first)
        position = stop
    if len(rows[name]) == 1 and position < rows[name][0]:
        yield Columns(name, position, rows[name][0])


def _span(columns: Columns, rows: Shapes) -> tuple[int, int]:
    width = rows[columns.array][0] if len(rows[columns.array]) == 1 else 1  # an array of another shape is taken whole
    return columns.first, width if columns.stop is None else columns.stop


def _columns(text: str, rows: Shapes, images: Sequence[str], where: str) -> Columns:
    match = _COLUMNS.fullmatch(text)
    if match is None or match[2] not in rows or match[2] in images:
        numbers = sorted(set(rows) - set(images))
        raise FormatError(
            f"{where}: found no numbers {text!r}, wanted some of {numbers}, columns such as 'state[0:2]', or angles "
            "such as 'angle(state[4:5])'"
        )
    angle, name, first, stop = match.groups()
    if first is None:
        return Columns(name, angle=bool(angle))
    shape = rows[name]
    width = shape[0] if len(shape) == 1 else 0
    columns = Columns(name, int(first or 0), int(stop or width), bool(angle))
    if not 0 <= columns.first < (columns.stop or 0) <= width:
        raise FormatError(f"{where}: found {text!r}, wanted columns of {name!r}, which has rows of shape {shape}")
    return columns
