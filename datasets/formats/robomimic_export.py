"""A store as one HDF5 file that robomimic's own loader reads.

    data            attrs total, env_args (JSON)
    data/demo_0     attrs num_samples, ep_meta (JSON with the instruction as "lang"); actions, rewards, dones,
                    stamps_ns, obs/KEY and next_obs/KEY
    mask/KEY        names of the demonstrations of each filter key, where the store has any

robomimic knows one rate and no clock: each action row gets what every stream showed by then, and the actions' stamps
are kept in stamps_ns, which robomimic passes over. Source: robomimic's documentation, "Dataset Structure".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..episode import Episode, StoreError, Stream, StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM
from ..store import TrajectoryStore
from .hdf5 import load_h5py
from .importing import Progress
from .options import FormatError

if TYPE_CHECKING:
    import h5py

_GYM = 2  # robomimic's EnvType of environments that are neither robosuite nor its other simulators
_STEP_ARRAYS = ("states", "rewards", "dones")


def export_robomimic(
    store: TrajectoryStore, destination: str | Path, progress: Progress | None = None, compress: bool = True
) -> Path:
    """Write all episodes of `store` to the HDF5 file `destination`, which appears only when it is complete.

    Cameras become obs/<camera>_image, or what they were called in the robomimic file that the store came from;
    proprioception becomes the keys it was joined from, or obs/proprio; every other stream obs/<name>. Rewards are the
    store's, else 1 in the last row of an episode whose meta says success; dones the store's, else 1 in the last row.
    The last row of next_obs repeats the last observation: what came after the last action was not recorded.

    Raises StoreError for an empty store, a clock that runs backward, and an observation that is missing or too old.
    """
    destination = Path(destination)
    if destination.exists() or destination.is_symlink():
        raise FormatError(f"{destination}: found something there, wanted nothing; remove it or choose another path")
    if len(store) == 0:
        raise StoreError(f"{store.path}: found no episodes, wanted at least one")
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = destination.with_name(f".{destination.name}.exporting-{os.getpid()}")
    keys = _observation_keys(store)
    try:
        with load_h5py().File(partial, "w") as file:
            data, total, demos = file.create_group("data"), 0, {}
            for index in range(len(store)):
                episode, name = store.episode(index), f"demo_{index}"
                total += _write_demonstration(data.create_group(name), store, episode, keys, index, compress)
                demos[episode.meta.get("demo", name)] = name
                if progress is not None:
                    progress(index + 1, len(store))
            data.attrs["total"] = total
            data.attrs["env_args"] = json.dumps(_env_args(store))
            if len(demos) == len(store):  # else stores were merged, and the names no longer say which is meant
                _write_filter_keys(file, store, demos)
        os.rename(partial, destination)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return destination


def _env_args(store: TrajectoryStore) -> dict[str, Any]:
    kept = store.meta.get("env_args")
    if isinstance(kept, dict) and kept:
        return kept
    arguments = {"control_freq": store.env_spec.action.rate_hz}
    return {"env_name": store.env_spec.env_id, "type": _GYM, "env_kwargs": arguments}


def _observation_keys(store: TrajectoryStore) -> dict[str, str]:
    """Path in a demonstration of each stream but the actions and, where it is taken apart again, proprioception."""
    cameras = store.meta.get("camera_keys") or {}
    keys: dict[str, str] = {}
    for name, spec in store.streams.items():
        if name == ACTION_STREAM:
            continue
        short = name.split(".", 1)[-1]
        if spec.kind == "image":
            keys[name] = f"obs/{cameras.get(short, f'{short}_image')}"
        elif spec.kind == "segmentation":
            keys[name] = f"obs/{short}_segmentation"
        elif name == PROPRIO_STREAM:
            keys[name] = "obs/proprio"
        else:
            keys[name] = short if short in _STEP_ARRAYS else f"obs/{short.removeprefix('obs.')}"
    if len(set(keys.values())) != len(keys):
        raise StoreError(f"{store.path}: found the streams {list(keys)}, which share names in robomimic: {keys}")
    return keys


def _write_demonstration(
    demo: h5py.Group, store: TrajectoryStore, episode: Episode, keys: Mapping[str, str], index: int, compress: bool
) -> int:
    controls = episode.streams[ACTION_STREAM]
    rows = len(controls.values)
    observed: dict[str, np.ndarray] = {}
    for name, path in keys.items():
        seen = _seen_rows(episode.streams[name], controls, store, store.streams[name], index)
        values = episode.streams[name].values
        values = values if np.array_equal(seen, np.arange(len(values))) else values[seen]
        observed |= _apart(values, store) if name == PROPRIO_STREAM else {path: values}
    last = np.arange(rows) == rows - 1
    arrays = {"rewards": last * float(episode.meta.get("success") is True), "dones": last.astype(np.int64)}
    arrays |= {path: values for path, values in observed.items() if not path.startswith("obs/")}
    arrays["actions"] = controls.values
    for path, values in observed.items():
        if path.startswith("obs/"):
            arrays[path] = values
            arrays[f"next_{path}"] = np.concatenate([values[1:], values[-1:]])
    for path, values in arrays.items():
        picture = values.dtype == np.uint8 and values.ndim >= 3
        options = {"chunks": (1, *values.shape[1:]), "compression": "gzip", "compression_opts": 1}
        demo.create_dataset(path, data=values, **(options if picture and compress else {}))
    clock = demo.create_dataset("stamps_ns", data=controls.stamps_ns)
    clock.attrs["clock"] = store.streams[ACTION_STREAM].clock
    demo.attrs["num_samples"] = rows
    demo.attrs["ep_meta"] = json.dumps({"lang": episode.instruction}, ensure_ascii=False)
    return rows


def _apart(values: np.ndarray, store: TrajectoryStore) -> dict[str, np.ndarray]:
    """Proprioception [T, P] as the observations it was joined from, where the store remembers them."""
    shapes: dict[str, list[int]] = store.meta.get("proprio_keys") or {}
    widths = [int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()]
    if sum(widths) != values.shape[1]:
        return {"obs/proprio": values}
    parts = np.split(values, np.cumsum(widths)[:-1], axis=1)
    named = zip(shapes.items(), parts, strict=True)
    return {f"obs/{key}": part.reshape(len(values), *shape) for (key, shape), part in named}


def _seen_rows(stream: Stream, controls: Stream, store: TrajectoryStore, spec: StreamSpec, index: int) -> np.ndarray:
    """For each action the newest row that is not later, int64 [T]. A clock that is the actions' needs no search."""
    if np.array_equal(stream.stamps_ns, controls.stamps_ns):
        return np.arange(len(controls.stamps_ns))
    where = f"{store.path}, episode {index}, stream {spec.name!r}"
    if np.any(np.diff(stream.stamps_ns) <= 0):
        raise StoreError(
            f"{where}: found stamps that do not increase, wanted a sound clock; run the gate on this store"
        )
    seen = np.searchsorted(stream.stamps_ns, controls.stamps_ns, side="right") - 1
    age = controls.stamps_ns - stream.stamps_ns[np.maximum(seen, 0)]
    bad = np.flatnonzero((seen < 0) | (age > store.tolerance.align * spec.period_ns))
    if len(bad):
        raise StoreError(
            f"{where}: found no row that is recent enough at action row {bad[0]}, wanted one not later and at most "
            f"{store.tolerance.align:g} periods old; run the gate on this store"
        )
    return seen


def _write_filter_keys(file: h5py.File, store: TrajectoryStore, demos: Mapping[str, str]) -> None:
    """The store's filter keys with the demonstrations' new names; those of episodes that are not here are dropped."""
    kept = store.meta.get("filter_keys") or {}
    for key, names in kept.items():
        present = [demos[name].encode() for name in names if name in demos]
        if present:
            file.create_dataset(f"mask/{key}", data=np.array(present, dtype="S"))
