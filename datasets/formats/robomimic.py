"""robomimic's HDF5 data sets, and LIBERO's, which are the same with other names, into a store.

    data            attrs env_args (JSON: env_name, type, env_kwargs), total; LIBERO: problem_info, bddl_file_content
    data/demo_7     attrs num_samples; actions [T, A], states [T, D], rewards [T], dones [T], obs/KEY [T, ...]
    mask/KEY        names of the demonstrations that belong to the filter key

Sources: robomimic's documentation, "Dataset Structure"; LIBERO's scripts/create_dataset.py. What they say between the
lines and is kept here: demonstrations are numbered (demo_10 comes after demo_9); images of the convention "opengl" are
upside down; LIBERO's observations were taken after the action of the same row. Rows are paired as the file pairs them;
where it can be measured, an episode's meta says how late the observations are (`observation_lag_rows`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..episode import Episode, Stream, StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM, CameraSpec, EnvSpec, ProprioSpec, camera_stream
from ..store import TrajectoryStore
from . import hdf5
from .declaring import UNSTATED, camera_name, dimension_names, named_once
from .demonstrations import (
    declared_actions,
    declared_rate,
    demonstrations,
    has_state_clock,
    observation_lag,
    shown_rate,
    state_stamps,
    step_count,
)
from .importing import (
    Progress,
    checked_instruction,
    checked_name,
    checked_size,
    chosen_cameras,
    needed_rate,
    parsed_object,
    synthetic_stamps,
    write_store,
)
from .options import FormatError, ImportOptions

if TYPE_CHECKING:
    import h5py

_ROBOSUITE = 1  # robomimic's EnvType of robosuite
# What the robot itself knows: robomimic's usual low-dimensional observations, LIBERO's, and what our export writes.
_PROPRIO = (r"robot\d+_eef_pos", r"robot\d+_eef_quat", r"robot\d+_gripper_qpos")
_PROPRIO += ("ee_states", "gripper_states", "joint_states", "proprio")
_CLOCKS = {
    "stamps_ns": "stamps_ns of the file",
    "states": "simulation time, column 0 of the states",
    "synthetic": "made from the declared rate: the file keeps none",
}


@dataclass(frozen=True)
class _Layout:
    """What every demonstration has. Paths are those inside a demonstration, such as obs/agentview_image."""

    rows: dict[str, tuple[str, tuple[int, ...]]]  # path -> dtype, shape of a row
    cameras: dict[str, str]  # camera -> path
    proprio: tuple[str, ...]  # paths
    privileged: dict[str, str]  # stream -> path
    clock: str  # key of _CLOCKS
    upside_down: bool

    def width(self, path: str) -> int:
        return int(np.prod(self.rows[path][1], dtype=np.int64))


def import_robomimic(
    source: str | Path,
    destination: str | Path,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> TrajectoryStore:
    """Read a robomimic or LIBERO HDF5 file into a new store at `destination`.

    Cameras are the uint8 [T, H, W, 3] observations, proprioception the robot's own pose and gripper unless
    `options.proprio` names keys, everything else is privileged. `meta["filter_keys"]` has the filter keys.

    Raises FormatError for a file that is damaged, leads elsewhere, or contradicts itself.
    """
    source, options = Path(source), options or ImportOptions()
    with hdf5.open_hdf5(source) as file:
        data, every = hdf5.subgroup(file, "data"), demonstrations(file)
        filter_keys = _filter_keys(file, every)
        demos = dict(list(every.items())[: options.limit])
        groups = list(demos.values())
        env_args, problem = _json(data, "env_args"), _json(data, "problem_info")
        libero = bool(problem) or "bddl_file_content" in data.attrs
        robosuite = libero or env_args.get("type") == _ROBOSUITE
        layout = _layout(data, groups, options, robosuite)
        _check_all(groups, layout)
        rate = needed_rate(options, _own_rate(env_args, groups[0], layout), str(source))
        action, action_dtype = declared_actions(groups, env_args.get("env_kwargs"), rate)
        env_spec = EnvSpec(
            f"{'libero' if libero else 'robosuite' if robosuite else 'robomimic'}/{_env_name(data, env_args)}",
            tuple(
                CameraSpec(name, layout.rows[path][1][0], layout.rows[path][1][1], rate)
                for name, path in layout.cameras.items()
            ),
            _proprio(layout, rate),
            action,
        )
        streams = _streams(env_spec, layout, action_dtype, _is_measured(groups[0], layout))
        meta = {
            "format": "robomimic",
            "source": source.name,
            "env_args": env_args,
            "problem_info": problem,
            "filter_keys": filter_keys,
            "camera_keys": {name: path.removeprefix("obs/") for name, path in layout.cameras.items()},
            "proprio_keys": {path.removeprefix("obs/"): list(layout.rows[path][1]) for path in layout.proprio},
            "images": "turned upright: the file has the opengl convention" if layout.upside_down else "as in the file",
            "clock": _CLOCKS[layout.clock],
            "left_out": _left_out(groups[0]),
        }
        episodes = (
            _episode(name, demo, layout, streams, options.instruction, _store_words(data, problem))
            for name, demo in demos.items()
        )
        return write_store(destination, env_spec, streams, meta, episodes, len(demos), progress)


def _json(data: h5py.Group, name: str) -> dict[str, Any]:
    found = hdf5.text(data, name)
    return {} if found is None else parsed_object(found, f"{hdf5.place(data)}.attrs[{name!r}]")


def _filter_keys(file: h5py.File, demos: dict[str, h5py.Group]) -> dict[str, list[str]]:
    if "mask" not in hdf5.member_names(file):
        return {}
    mask = hdf5.subgroup(file, "mask")
    found = {checked_name(key, hdf5.place(mask)): hdf5.strings(mask, key) for key in hdf5.member_names(mask)}
    for key, names in found.items():
        if unknown := sorted(set(names) - set(demos)):
            raise FormatError(f"{hdf5.place(mask)}/{key}: found {unknown[:5]}, wanted demonstrations of this file")
    return found


def _env_name(data: h5py.Group, env_args: dict[str, Any]) -> str:
    name = env_args.get("env_name") or hdf5.text(data, "env_name") or "unnamed"
    return checked_instruction(name, f"{hdf5.place(data)}: env_name")


def _layout(data: h5py.Group, demos: Sequence[h5py.Group], options: ImportOptions, robosuite: bool) -> _Layout:
    first = demos[0]
    obs, rows = hdf5.subgroup(first, "obs"), step_count(first)
    where, observations = hdf5.place(obs), hdf5.arrays(obs, rows)
    images = [key for key, array in observations.items() if array.ndim == 4 and array.shape[3] == 3]
    for key in images:
        if observations[key].dtype != np.uint8:
            raise FormatError(f"{where}/{key}: found images of {observations[key].dtype}, wanted uint8")
    cameras = named_once([(camera_name(re.sub("_(image|rgb)$", "", key), where), key) for key in images], where)
    proprio = options.proprio or _default_proprio(list(observations))
    numbers = [key for key in observations if key not in images]
    if not proprio or not set(proprio) <= set(numbers):
        raise FormatError(
            f"{where}: found the observations {numbers}, wanted {list(proprio) or 'end effector, gripper or joints'} "
            "among them; name what the robot itself knows in ImportOptions.proprio"
        )
    others = hdf5.arrays(first, rows, ("obs", "actions", "next_obs", "stamps_ns"))
    everything = {f"obs/{key}": array for key, array in observations.items()} | others
    return _Layout(
        {path: (array.dtype.newbyteorder("=").name, array.shape[1:]) for path, array in everything.items()},
        {name: f"obs/{cameras[name]}" for name in chosen_cameras(cameras, options, where)},
        tuple(f"obs/{key}" for key in proprio),
        {f"privileged.{'obs.' if key in others else ''}{key}": f"obs/{key}" for key in numbers if key not in proprio}
        | {f"privileged.{name}": name for name in others},
        _clock(demos, robosuite),
        hdf5.text(data, "macros_image_convention") == "opengl",
    )


def _default_proprio(keys: list[str]) -> tuple[str, ...]:
    """Keys that are the robot's own, robot by robot, each in the order of _PROPRIO."""
    known = [(key.partition("_")[0], order, key)
             for order, pattern in enumerate(_PROPRIO) for key in keys if re.fullmatch(pattern, key)]  # fmt: skip
    robots = sorted(item for item in known if item[0].startswith("robot"))
    return tuple(key for _, _, key in robots or known)


def _clock(demos: Sequence[h5py.Group], robosuite: bool) -> str:
    if all("stamps_ns" in hdf5.member_names(demo) for demo in demos):
        return "stamps_ns"
    return "states" if robosuite and has_state_clock(demos) else "synthetic"


def _is_measured(demo: h5py.Group, layout: _Layout) -> bool:
    if layout.clock == "stamps_ns":
        return hdf5.text(hdf5.dataset(demo, "stamps_ns"), "clock") == "measured"
    return layout.clock == "states"


def _stamps(demo: h5py.Group, layout: _Layout, rate: float) -> np.ndarray:
    """The clock of a demonstration, int64 [T] ns."""
    if layout.clock == "states":
        return state_stamps(demo)
    if layout.clock == "synthetic":
        return synthetic_stamps(step_count(demo), rate)
    stamps = hdf5.dataset(demo, "stamps_ns", step_count(demo))
    if stamps.dtype != np.int64 or stamps.ndim != 1:
        raise FormatError(f"{hdf5.place(stamps)}: found {stamps.dtype} {stamps.shape}, wanted int64 [T] ns")
    return hdf5.values(stamps)


def _own_rate(env_args: dict[str, Any], demo: h5py.Group, layout: _Layout) -> float | None:
    declared = declared_rate(env_args.get("env_kwargs"), f"{demo.file.filename}: env_args")
    if declared is not None or layout.clock == "synthetic":
        return declared
    return shown_rate(_stamps(demo, layout, 1.0))


def _check_all(demos: Sequence[h5py.Group], layout: _Layout) -> None:
    """Each demonstration is as the layout says and fits the memory; nothing but headers is read."""
    for demo in demos:
        rows, total = step_count(demo), 0
        for path, (dtype, shape) in layout.rows.items():
            array = _array(demo, path, rows)
            if (array.dtype.newbyteorder("=").name, array.shape[1:]) != (dtype, shape):
                found, wanted = f"{array.dtype} {array.shape[1:]}", f"{dtype} {shape} as in {demos[0].name}"
                raise FormatError(f"{hdf5.place(array)}: found {found} a row, wanted {wanted}")
            total += array.nbytes
        checked_size(rows, total // rows, hdf5.place(demo))


def _array(demo: h5py.Group, path: str, rows: int) -> h5py.Dataset:
    group, _, name = path.rpartition("/")
    return hdf5.dataset(hdf5.subgroup(demo, group) if group else demo, name, rows)


def _proprio(layout: _Layout, rate: float) -> ProprioSpec:
    names = [name for path in layout.proprio
             for name in dimension_names(path.removeprefix("obs/"), layout.width(path), ())]  # fmt: skip
    return ProprioSpec(tuple(names), (UNSTATED,) * len(names), rate)


def _streams(env_spec: EnvSpec, layout: _Layout, action_dtype: str, measured: bool) -> list[StreamSpec]:
    rate, clock = env_spec.action.rate_hz, "measured" if measured else "synthetic"
    proprio_dtype = np.result_type(np.float32, *(layout.rows[path][0] for path in layout.proprio)).name
    shapes = {
        **{camera_stream(name): ("uint8", layout.rows[path][1], "image") for name, path in layout.cameras.items()},
        PROPRIO_STREAM: (proprio_dtype, (env_spec.proprio.dim,), "proprio"),
        ACTION_STREAM: (action_dtype, (env_spec.action.dim,), "action"),
        **{stream: (*layout.rows[path], "privileged") for stream, path in layout.privileged.items()},
    }
    return [
        StreamSpec(name, dtype, shape, rate, kind, UNSTATED, clock) for name, (dtype, shape, kind) in shapes.items()
    ]


def _left_out(demo: h5py.Group) -> list[str]:
    """What a demonstration has and a store does not take: nested groups and the text of the simulator's model."""
    h5py = hdf5.load_h5py()
    names = [name for name in hdf5.member_names(demo) if name != "obs"]
    groups = [name for name in names if isinstance(hdf5.member(demo, name), h5py.Group)]
    return [*groups, *(name for name in ("model_file", "init_state") if name in demo.attrs)]


def _store_words(data: h5py.Group, problem: dict[str, Any]) -> str:
    """LIBERO's instruction: what its task definition (BDDL) says, else problem_info; empty where there is neither."""
    definition = hdf5.text(data, "bddl_file_content")
    if definition is not None and (match := re.search(r"\(:language\s+([^()]*)\)", definition)):
        return match[1].strip().strip('"')
    where = f"{hdf5.place(data)}.attrs['problem_info'], language_instruction"
    return checked_instruction(problem.get("language_instruction", ""), where).strip('"')


def _episode_words(demo: h5py.Group, otherwise: str) -> str:
    """The instruction of one demonstration, from the attribute ep_meta (robosuite 1.5, and our export)."""
    found = hdf5.text(demo, "ep_meta")
    if found is None:
        return otherwise
    where = f"{hdf5.place(demo)}.attrs['ep_meta']"
    return checked_instruction(parsed_object(found, where).get("lang", otherwise), f"{where}, lang")


def _episode(
    name: str, demo: h5py.Group, layout: _Layout, streams: Sequence[StreamSpec], chosen: str | None, words: str
) -> Episode:
    rows, specs = step_count(demo), {spec.name: spec for spec in streams}
    stamps = _stamps(demo, layout, specs[ACTION_STREAM].rate_hz)
    read = {stream: hdf5.values(_array(demo, path, rows)) for stream, path in layout.privileged.items()}
    for camera, path in layout.cameras.items():
        images = hdf5.values(_array(demo, path, rows))
        read[camera_stream(camera)] = np.ascontiguousarray(images[:, ::-1]) if layout.upside_down else images
    parts = [hdf5.values(_array(demo, path, rows)).reshape(rows, -1) for path in layout.proprio]
    read[PROPRIO_STREAM] = np.concatenate(parts, axis=1).astype(specs[PROPRIO_STREAM].dtype)
    read[ACTION_STREAM] = hdf5.values(hdf5.dataset(demo, "actions", rows))
    meta = {"demo": name, "observation_lag_rows": observation_lag(demo)}
    instruction = chosen if chosen is not None else _episode_words(demo, words)
    return Episode({stream: Stream(read[stream], stamps) for stream in specs}, instruction, meta)
