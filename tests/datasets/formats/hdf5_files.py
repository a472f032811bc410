"""HDF5 files as robomimic, LIBERO and robosuite write them, small, and ways to damage them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

ROBOMIMIC_ARGS = {
    "env_name": "Lift",
    "type": 1,
    "env_kwargs": {"control_freq": 20, "controller_configs": {"type": "OSC_POSE"}},
}
MODEL = """<mujoco model="base"><worldbody>
  <body name="robot0_base"><body name="link1"><joint name="robot0_joint1" type="hinge"/>
    <body name="link2"><joint name="robot0_joint2"/>
      <body name="hand"><joint name="gripper0_finger_joint1" type="slide"/></body></body></body></body>
  <body name="cube"><freejoint name="cube_joint0"/></body>
  <body name="ball"><joint name="ball_joint0" type="ball"/></body>
</worldbody></mujoco>"""
STATE_WIDTH = 1 + (1 + 1 + 1 + 7 + 4) + (1 + 1 + 1 + 6 + 3)


def write_attributes(item: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        item.attrs[name] = json.dumps(value) if isinstance(value, dict) else value


def robomimic_demo(rows: int, seed: int) -> dict[str, np.ndarray]:
    """The arrays of one demonstration, by path."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(rows, 10))
    states[:, 0] = 0.05 * np.arange(rows)
    return {
        "actions": rng.uniform(-1, 1, (rows, 7)),
        "states": states,
        "rewards": np.arange(rows) / rows,
        "dones": (np.arange(rows) == rows - 1).astype(np.int64),
        "obs/agentview_image": rng.integers(0, 256, (rows, 6, 5, 3), dtype=np.uint8),
        "obs/robot0_eye_in_hand_image": rng.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8),
        "obs/robot0_eef_pos": rng.normal(size=(rows, 3)),
        "obs/robot0_eef_quat": rng.normal(size=(rows, 4)),
        "obs/robot0_gripper_qpos": rng.normal(size=(rows, 2)),
        "obs/object": rng.normal(size=(rows, 10)),
    }


def write_demos(
    path: Path,
    demos: dict[str, dict[str, np.ndarray]],
    data: dict[str, Any] | None = None,
    of_each: dict[str, Any] | None = None,
    masks: dict[str, list[str]] | None = None,
) -> Path:
    """A file of these demonstrations, with the attributes of `data` and of each demonstration."""
    with h5py.File(path, "w") as file:
        group = file.create_group("data")
        write_attributes(group, {"env_args": ROBOMIMIC_ARGS} if data is None else data)
        for name, arrays in demos.items():
            demo = group.create_group(name)
            write_attributes(demo, {"num_samples": len(arrays["actions"])} if of_each is None else of_each)
            for key, values in arrays.items():
                demo[key] = values
        for key, names in (masks or {}).items():
            file[f"mask/{key}"] = np.array([name.encode() for name in names])
    return path


def robosuite_demo(rows: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(rows, STATE_WIDTH))
    states[:, 0] = 0.05 * np.arange(1, rows + 1)
    return {"actions": rng.uniform(-2, 1, (rows, 4)), "states": states}


def damage(path: Path, change: Callable[[h5py.File], Any]) -> Path:
    """Change an open file."""
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def poke(file: h5py.File, name: str, index: Any, value: Any) -> None:
    """One number of an array."""
    array: Any = file[name]
    array[index] = value


def replace(file: h5py.File, name: str, value: Any, **options: Any) -> None:
    """Another array, link or group in the place of `name`."""
    del file[name]
    if options:
        file.create_dataset(name, **options)
    else:
        file[name] = value


def strange_arrays(
    name: str, shape: tuple[int, ...], elsewhere: Path
) -> dict[str, tuple[Callable[[h5py.File], Any], str]]:
    """Ways to make the array `name` [rows, ...] of float64 hostile, and what the refusal says."""
    rows = shape[0]
    return {
        "a soft link": (lambda f: replace(f, name, h5py.SoftLink("/data")), "found a SoftLink"),
        "a dangling link": (lambda f: replace(f, name, h5py.SoftLink("/nowhere")), "found a SoftLink"),
        "an external link": (
            lambda f: replace(f, name, h5py.ExternalLink(str(elsewhere), "/x")), "found a ExternalLink"),
        "bytes of another file": (
            lambda f: replace(
                f, name, None, shape=shape, dtype="f8", external=[(str(elsewhere), 0, h5py.h5f.UNLIMITED)]),
            "kept in other files"),
        "a virtual array": (lambda f: _virtual(f, name, shape, elsewhere), "kept in other files"),
        "text": (
            lambda f: replace(f, name, None, data=np.array([b"ab"] * rows), dtype="S2"), "wanted bool, int or float"),
        "objects": (
            lambda f: replace(f, name, None, data=["x"] * rows, dtype=h5py.string_dtype()), "never unpickled"),
        "references": (
            lambda f: replace(f, name, None, data=[f.ref] * rows, dtype=h5py.ref_dtype), "wanted bool, int or float"),
        "records": (
            lambda f: replace(f, name, np.zeros(rows, [("a", "f4"), ("b", "i4")])), "wanted bool, int or float"),
        "complex numbers": (lambda f: replace(f, name, np.zeros(shape, complex)), "wanted bool, int or float"),
        "a single number": (lambda f: replace(f, name, 1.0), r"wanted \[rows, ...\]"),
        "no rows": (lambda f: replace(f, name, np.zeros((0, *shape[1:]))), r"wanted \[rows, ...\]"),
        "an absurd size": (
            lambda f: replace(f, name, None, shape=(rows, 10**12), dtype="f8", chunks=(1, 1)), "in one episode"),
        "only a declaration": (
            lambda f: replace(f, name, None, shape=shape, dtype="f8", chunks=shape), "declared and no data"),
    }  # fmt: skip


def _virtual(file: h5py.File, name: str, shape: tuple[int, ...], elsewhere: Path) -> None:
    layout = h5py.VirtualLayout(shape, "f8")
    layout[:] = h5py.VirtualSource(str(elsewhere), "x", shape)
    del file[name]
    file.create_virtual_dataset(name, layout)
