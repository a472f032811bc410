"""robosuite's own demonstrations, states and actions without observations, into a store.

    data            attrs env, env_info (JSON, robosuite's arguments) or env_args (JSON, as robomimic's)
    data/demo_1     states [T, 1 + nq + nv], actions [T, A]; attr model_file: the MuJoCo model, or a file in models/
    data/demo_1/user_info/0/KEY   [U, ...] what a remote operator's device sent, with its own clock `timestamp`

Sources: robosuite's scripts/collect_human_demonstrations.py and the demonstrations in the robosuite 1.4.1 wheel (lift,
wipe/panda, handover/panda_panda). Column 0 of a state is the simulation's clock. Proprioception is what the model says
of the robot's own joints; the whole state is privileged. An operator's device keeps its own clock, seconds of the wall
and not of the simulation, which repeats a stamp where the controller read one message again: hundreds of times an
episode in the hand-over demonstrations. Both are kept, for the gate to say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..episode import Episode, Stream, StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM, EnvSpec, ProprioSpec
from ..store import TrajectoryStore
from . import hdf5
from .declaring import UNSTATED
from .demonstrations import (
    declared_actions,
    declared_rate,
    demonstrations,
    has_state_clock,
    shown_rate,
    state_stamps,
    step_count,
)
from .importing import (
    Progress,
    checked_name,
    checked_size,
    needed_rate,
    parsed_object,
    stamps_from_seconds,
    write_store,
)
from .metadata import read_text
from .mujoco_joints import Joint, joints_of, state_width
from .options import FormatError, ImportOptions

if TYPE_CHECKING:
    import h5py

_DEVICES = "user_info"


@dataclass(frozen=True)
class _Layout:
    """What every demonstration has, found in the first."""

    joints: tuple[Joint, ...]  # the robot's own
    steps: dict[str, tuple[str, tuple[int, ...]]]  # array with a row for each step -> dtype, shape of a row
    devices: dict[str, dict[str, tuple[int, ...]]]  # operator -> key -> shape of a row
    left_out: tuple[str, ...]


def import_robosuite_raw(
    source: str | Path,
    destination: str | Path,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> TrajectoryStore:
    """Read robosuite's raw demonstrations, an HDF5 file or the folder of its demo.hdf5, into a new store.

    Proprioception: positions, then velocities, of the robot's own joints, or of those that `options.proprio` names.
    Streams: "privileged.states", one for each array that has a row a step, and "privileged.user_N" for each operator,
    whose columns `meta["devices"]` names.

    Raises FormatError for a file that is damaged, leads elsewhere, or contradicts itself or its model.
    """
    source, options = Path(source), options or ImportOptions()
    source = source / "demo.hdf5" if source.is_dir() else source
    if options.cameras:
        raise FormatError(f"{source}: found no cameras {list(options.cameras)}: raw demonstrations have no images")
    with hdf5.open_hdf5(source) as file:
        data, demos = hdf5.subgroup(file, "data"), dict(list(demonstrations(file).items())[: options.limit])
        groups = list(demos.values())
        if not has_state_clock(groups):
            raise FormatError(f"{source}: found no states [T, 1 + nq + nv] with a clock in column 0, wanted them")
        name, arguments = _environment(data)
        layout = _layout(groups[0], options)
        for demo in groups:
            _check(demo, layout, options, groups[0])
        own_rate = declared_rate(arguments, str(source)) or shown_rate(state_stamps(groups[0]))
        rate = needed_rate(options, own_rate, str(source))
        action, action_dtype = declared_actions(groups, arguments, rate)
        env_spec = EnvSpec(f"robosuite/{name}", (), _proprio(layout.joints, rate), action)
        streams = _streams(env_spec, layout, action_dtype, groups)
        meta = {
            "format": "robosuite demonstrations",
            "source": source.name,
            "env": name,
            "env_args": {"env_name": name, "type": 1, "env_kwargs": arguments},
            "repository_version": hdf5.text(data, "repository_version"),
            "clock": "simulation time, column 0 of the states; of an operator's device: its own, wall time",
            "devices": {user: _columns(keys) for user, keys in layout.devices.items()},
            "left_out": list(layout.left_out),
        }
        episodes = (_episode(key, demo, layout, streams, options) for key, demo in demos.items())
        return write_store(destination, env_spec, streams, meta, episodes, len(demos), progress)


def _environment(data: h5py.Group) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the environment: robosuite's env and env_info, or env_args in robomimic's manner."""
    where, info, robomimics = hdf5.place(data), hdf5.text(data, "env_info"), hdf5.text(data, "env_args")
    name, arguments = hdf5.text(data, "env"), parsed_object(info, f"{where}: env_info") if info else {}
    if robomimics is not None:
        found = parsed_object(robomimics, f"{where}: env_args")
        kept = found.get("env_kwargs")
        name, arguments = name or found.get("env_name"), kept if isinstance(kept, dict) else arguments
    return checked_name(name or "unnamed", f"{where}: env"), arguments


def _layout(demo: h5py.Group, options: ImportOptions) -> _Layout:
    steps, devices = hdf5.arrays(demo, step_count(demo), ("actions", _DEVICES)), _devices(demo)
    others = [name for name in hdf5.member_names(demo) if name not in steps and name not in ("actions", _DEVICES)]
    return _Layout(
        _robot_joints(demo, options),
        {name: (array.dtype.newbyteorder("=").name, array.shape[1:]) for name, array in steps.items()},
        {user: {key: array.shape[1:] for key, array in device.items()} for user, device in devices.items()},
        (*others, "model_file"),
    )


def _devices(demo: h5py.Group) -> dict[str, dict[str, h5py.Dataset]]:
    """The arrays of each operator's device that has a clock; all of one device have as many rows."""
    if _DEVICES not in hdf5.member_names(demo):
        return {}
    users, found = hdf5.subgroup(demo, _DEVICES), {}
    for name in hdf5.member_names(users):
        device = hdf5.subgroup(users, checked_name(name, hdf5.place(users)))
        times = hdf5.dataset(device, "timestamp")
        if times.ndim != 1 or times.dtype != np.float64:
            raise FormatError(f"{hdf5.place(times)}: found {times.dtype} {times.shape}, wanted float64 [U] seconds")
        found[f"user_{name}"] = hdf5.arrays(device, times.shape[0])
    return found


def _model(demo: h5py.Group) -> str:
    """The text of the model: the attribute itself, or the file in models/ that early demonstrations name."""
    where, found = f"{hdf5.place(demo)}.attrs['model_file']", hdf5.text(demo, "model_file")
    if found is None:
        raise FormatError(f"{where}: found none, wanted the MuJoCo model, which says which joints are the robot's")
    if found.lstrip().startswith("<"):
        return found
    file = Path(demo.file.filename).parent / "models" / checked_name(found, where)
    if file.is_symlink() or file.parent.is_symlink():
        raise FormatError(f"{file}: found a link, wanted the model itself")
    return read_text(file)


def _robot_joints(demo: h5py.Group, options: ImportOptions) -> tuple[Joint, ...]:
    states, where = hdf5.dataset(demo, "states", step_count(demo)), f"{hdf5.place(demo)}, model"
    joints = joints_of(_model(demo), where)
    if state_width(joints) != states.shape[1]:
        raise FormatError(
            f"{where}: found joints for states of {state_width(joints)} columns, wanted {states.shape[1]}; "
            "the model is of another demonstration"
        )
    own = {joint.name: joint for joint in joints if joint.is_robots}
    names = options.proprio or tuple(own)
    if not names or not set(names) <= {joint.name for joint in joints}:
        raise FormatError(
            f"{where}: found the joints {[joint.name for joint in joints]}, wanted {list(names) or 'some of a robot'}; "
            "name the robot's own in ImportOptions.proprio"
        )
    return tuple(joint for joint in joints if joint.name in names)


def _check(demo: h5py.Group, layout: _Layout, options: ImportOptions, first: h5py.Group) -> None:
    found = _layout(demo, options)
    for field in ("joints", "steps", "devices"):  # what is left out may differ
        if getattr(found, field) != getattr(layout, field):
            raise FormatError(
                f"{hdf5.place(demo)}: found {field} {getattr(found, field)}, wanted {getattr(layout, field)} as in "
                f"{first.name}"
            )
    rows = step_count(demo)
    devices = [array for device in _devices(demo).values() for array in device.values()]
    arrays = [*hdf5.arrays(demo, rows, (_DEVICES,)).values(), *devices]
    checked_size(rows, sum(array.nbytes for array in arrays) // rows, hdf5.place(demo))


def _proprio(joints: Sequence[Joint], rate: float) -> ProprioSpec:
    names, units = [], []
    for part, per_second in (("qpos", ""), ("qvel", "/s")):
        for joint in joints:
            size = joint.sizes[part == "qvel"]
            names += [f"{joint.name}.{part}"] if size == 1 else [f"{joint.name}.{part}_{i}" for i in range(size)]
            unit = {"hinge": "radian", "slide": "metre"}.get(joint.kind)
            units += [unit + per_second if unit else UNSTATED] * size
    return ProprioSpec(tuple(names), tuple(units), rate)


def _columns(keys: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Names of the columns of an operator's stream: every key but the clock, arrays flattened row by row."""
    widths = {key: int(np.prod(shape, dtype=np.int64)) for key, shape in keys.items() if key != "timestamp"}
    return [key if width == 1 else f"{key}_{i}" for key, width in widths.items() for i in range(width)]


def _streams(env_spec: EnvSpec, layout: _Layout, action_dtype: str, demos: Sequence[h5py.Group]) -> list[StreamSpec]:
    rate = env_spec.action.rate_hz
    streams = [
        StreamSpec(PROPRIO_STREAM, "float64", (env_spec.proprio.dim,), rate, "proprio", "radian, metre", "measured"),
        StreamSpec(ACTION_STREAM, action_dtype, (env_spec.action.dim,), rate, "action", "controller's", "measured"),
    ]
    for key, (dtype, shape) in layout.steps.items():
        streams.append(StreamSpec(f"privileged.{key}", dtype, shape, rate, "privileged", UNSTATED, "measured"))
    for user, keys in layout.devices.items():
        width = len(_columns(keys))
        if width == 0:
            continue
        rates = [_mean_rate(hdf5.values(_devices(demo)[user]["timestamp"])) for demo in demos]
        mean = round(float(np.median([found or rate for found in rates])), 3)
        streams.append(StreamSpec(f"privileged.{user}", "float64", (width,), mean, "privileged", UNSTATED, "measured"))
    return streams


def _mean_rate(seconds: np.ndarray) -> float | None:
    """Rows a second of the whole recording: with repeated stamps the median interval says nothing."""
    lasted = float(seconds[-1] - seconds[0])
    return (len(seconds) - 1) / lasted if 0 < lasted < np.inf else None


def _episode(
    name: str, demo: h5py.Group, layout: _Layout, streams: Sequence[StreamSpec], options: ImportOptions
) -> Episode:
    rows, stamps = step_count(demo), state_stamps(demo)
    states = hdf5.values(hdf5.dataset(demo, "states", rows)).astype(np.float64)
    columns = [joint.qpos + i for joint in layout.joints for i in range(joint.sizes[0])]
    columns += [joint.qvel + i for joint in layout.joints for i in range(joint.sizes[1])]
    read = {
        PROPRIO_STREAM: Stream(states[:, columns], stamps),
        ACTION_STREAM: Stream(hdf5.values(hdf5.dataset(demo, "actions", rows)), stamps),
    }
    for key in layout.steps:
        read[f"privileged.{key}"] = Stream(hdf5.values(hdf5.dataset(demo, key, rows)), stamps)
    for user, device in _devices(demo).items():
        clock = stamps_from_seconds(hdf5.values(device["timestamp"]), hdf5.place(device["timestamp"]))
        parts = [hdf5.values(array).reshape(len(clock), -1) for key, array in device.items() if key != "timestamp"]
        if parts:
            read[f"privileged.{user}"] = Stream(np.concatenate(parts, axis=1).astype(np.float64), clock)
    return Episode({spec.name: read[spec.name] for spec in streams}, options.instruction or "", {"demo": name})
