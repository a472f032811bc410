"""What robomimic's, LIBERO's and robosuite's HDF5 files have in common: numbered demonstrations of states and actions.

Column 0 of a robosuite state is the simulation's clock in seconds, then come qpos and qvel (`MjSimState.flatten`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..spec import ActionSpec
from . import hdf5
from .declaring import ActionRange, dimension_names
from .importing import stamps_from_seconds
from .options import FormatError

if TYPE_CHECKING:
    import h5py

_DEMO = re.compile(r"demo_?([0-9]{1,9})", re.ASCII)
_OSC_POSE = ("dx", "dy", "dz", "rotation_x", "rotation_y", "rotation_z", "gripper")
_JOINTS = ("robot0_joint_pos", "joint_states")  # also found in the states, which tells how late observations are


def demonstrations(file: h5py.File) -> dict[str, h5py.Group]:
    """The groups data/demo_0, data/demo_1, ... in the order of their numbers, which is not that of their letters.

    Early robosuite files write demo1 without the underline. FormatError for another name, or two of one number.
    """
    data = hdf5.subgroup(file, "data")
    numbers: dict[int, str] = {}
    for name in hdf5.member_names(data):
        match = _DEMO.fullmatch(name)
        if match is None or int(match[1]) in numbers:
            raise FormatError(
                f"{hdf5.place(data)}: found the member {name!r}, wanted demo_0, demo_1, ..., each number once"
            )
        numbers[int(match[1])] = name
    if not numbers:
        raise FormatError(f"{hdf5.place(data)}: found no demonstrations, wanted demo_0, demo_1, ...")
    return {numbers[number]: hdf5.subgroup(data, numbers[number]) for number in sorted(numbers)}


def step_count(demo: h5py.Group) -> int:
    """Number of steps, from the actions [T, A]; FormatError where the attribute num_samples says another."""
    actions = hdf5.dataset(demo, "actions")
    if actions.ndim != 2:
        raise FormatError(f"{hdf5.place(actions)}: found shape {actions.shape}, wanted [T, A]")
    rows = actions.shape[0]
    declared = hdf5.count(demo, "num_samples")
    if declared is not None and declared != rows:
        raise FormatError(
            f"{hdf5.place(demo)}: found num_samples {declared} and {rows} actions, wanted the same number"
        )
    return rows


def has_state_clock(demos: Sequence[h5py.Group]) -> bool:
    """Whether column 0 of the states can be a clock: there in each demonstration, and not standing still."""
    for demo in demos:
        if "states" not in hdf5.member_names(demo):
            return False
        states = hdf5.dataset(demo, "states", step_count(demo))
        if states.ndim != 2 or states.dtype.kind != "f":
            return False
        times = hdf5.values(states, (slice(None), 0))
        if len(times) > 1 and np.all(times == times[0]):
            return False
    return True


def state_stamps(demo: h5py.Group) -> np.ndarray:
    """The simulation's clock, int64 [T] ns, in the order it came."""
    states = hdf5.dataset(demo, "states", step_count(demo))
    return stamps_from_seconds(hdf5.values(states, (slice(None), 0)), f"{hdf5.place(states)}, column 0 (time)")


def shown_rate(stamps: np.ndarray) -> float | None:
    """The rate that a clock shows, Hz, from its median interval; None if that is not positive."""
    median = float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0
    return round(1e9 / median, 3) if median > 0 else None


def declared_rate(arguments: Any, where: str) -> float | None:
    """`control_freq` of an environment's arguments, Hz; None if they have none. FormatError if it is no rate."""
    rate = arguments.get("control_freq") if isinstance(arguments, Mapping) else None
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1e6):
        raise FormatError(f"{where}: control_freq: found {rate!r}, wanted a rate in Hz")
    return None if rate is None else float(rate)


def declared_actions(demos: Sequence[h5py.Group], arguments: Any, rate_hz: float) -> tuple[ActionSpec, str]:
    """What is known of the actions, and their dtype. All demonstrations must have as many dimensions.

    robosuite's controllers take -1 to 1. Where more was recorded (absolute poses), the limits are what was recorded.
    """
    first = hdf5.dataset(demos[0], "actions")
    width, recorded = first.shape[1], ActionRange(first.shape[1])
    for demo in demos:
        actions = hdf5.dataset(demo, "actions")
        if (actions.shape[1:], actions.dtype) != (first.shape[1:], first.dtype):
            found, wanted = (
                f"{actions.dtype} {actions.shape[1:]}",
                f"{first.dtype} {first.shape[1:]} as in {first.name}",
            )
            raise FormatError(f"{hdf5.place(actions)}: found {found} a row, wanted {wanted}")
        recorded.update(hdf5.values(actions).astype(np.float64))
    controller = arguments.get("controller_configs") if isinstance(arguments, Mapping) else None
    osc = isinstance(controller, Mapping) and controller.get("type") == "OSC_POSE" and width == len(_OSC_POSE)
    names = dimension_names("action", width, _OSC_POSE if osc else ())
    low, high = np.minimum(recorded.low, -1.0), np.maximum(recorded.high, 1.0)
    limits = tuple(map(float, low)), tuple(map(float, high))
    return ActionSpec(names, ("controller's",) * width, *limits, rate_hz), first.dtype.newbyteorder("=").name


def observation_lag(demo: h5py.Group) -> int | None:
    """By how many rows the observations are later than the states of the same row: 0 or 1, None if it cannot be told.

    The joints are in both: they are found among the columns of the states, once in the same row and once in the next.
    """
    observations, rows = hdf5.subgroup(demo, "obs"), step_count(demo)
    key = next((key for key in _JOINTS if key in hdf5.member_names(observations)), None)
    if key is None or "states" not in hdf5.member_names(demo) or rows < 3:
        return None
    joints = hdf5.values(hdf5.dataset(observations, key, rows)).reshape(rows, -1).astype(np.float64)
    states = hdf5.values(hdf5.dataset(demo, "states", rows)).reshape(rows, -1).astype(np.float64)
    if states.shape[1] <= joints.shape[1]:
        return None
    columns = np.lib.stride_tricks.sliding_window_view(states, joints.shape[1], axis=1)  # [T, places, joints]
    same = np.abs(columns[:-1] - joints[:-1, None]).mean((0, 2)).min()
    late = np.abs(columns[1:] - joints[:-1, None]).mean((0, 2)).min()
    if not min(same, late) < 0.2 * max(same, late):
        return None
    return int(late < same)
