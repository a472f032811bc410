"""Foreign data sets in and out: a registry by name, and recognition of a format from its files.

    from deixis.datasets.formats import IMPORTERS, detect
    store = IMPORTERS[detect(source)](source, destination, ImportOptions())

Nothing is read but what a name needs: each importer and exporter is loaded when it is called.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Importer = Callable[..., Any]
"""import_X(source, destination, options, progress=None) -> TrajectoryStore

`options` is an `ImportOptions`; `progress(done, total)` is called after each episode. The destination appears only when
it is complete. Raises FormatError for a data set that is not as its format says.
"""

Exporter = Callable[..., Any]
"""export_X(store, destination, ...) -> Path of what was written. The destination appears only when it is complete."""


def _lazy(address: str) -> Callable[..., Any]:
    """A function that loads `.module:name` when it is first called."""
    module, name = address.split(":")

    def call(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(module, __name__), name)(*arguments, **options)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"See `{__name__}{module}`."
    return call


IMPORTERS: dict[str, Importer] = {
    "lerobot": _lazy(".lerobot:import_lerobot"),
    "replay_buffer": _lazy(".replay_buffer:import_replay_buffer"),
    "rlds": _lazy(".rlds:import_rlds"),
    "robomimic": _lazy(".robomimic:import_robomimic"),
    "robosuite_raw": _lazy(".robosuite_raw:import_robosuite_raw"),
}
EXPORTERS: dict[str, Exporter] = {
    "lerobot": _lazy(".lerobot:export_lerobot"),
    "robomimic": _lazy(".robomimic_export:export_robomimic"),
}

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def detect(path: str | os.PathLike[str]) -> str:
    """The name in IMPORTERS of the format that `path`, a file or a folder, is in.

    A folder is a LeRobot set if it has meta/info.json, RLDS if it has TFRecords or features.json, a replay buffer if it
    is a zarr v2 group with meta/episode_ends, robosuite's raw demonstrations if it has demo.hdf5. An HDF5 file is
    robomimic's (or LIBERO's) if its demonstrations have observations, robosuite's raw if they have only states.

    Raises FormatError where there is nothing, or nothing that is known.
    """
    from .options import FormatError

    path = Path(path)
    if path.is_dir():
        if (path / "meta" / "info.json").is_file():
            return "lerobot"
        if (path / "meta" / "episode_ends").is_dir() and (path / "data").is_dir():
            return "replay_buffer"
        if (path / "features.json").is_file() or any(path.glob("*.tfrecord*")):
            return "rlds"
        if any((folder / "features.json").is_file() for folder in path.glob("*.*.*")):
            return "rlds"  # tensorflow_datasets keeps each version in a folder: bridge/1.0.0/features.json
        if (path / "demo.hdf5").is_file():
            return "robosuite_raw"
        if (path / "zarr.json").is_file():
            raise FormatError(f"{path}: found a zarr v3 folder; a deixis store needs no import, open it as it is")
    elif path.is_file():
        with path.open("rb") as file:
            head = file.read(len(_HDF5_SIGNATURE))
        if head == _HDF5_SIGNATURE:
            return _hdf5_format(path)
        if ".tfrecord" in path.name:
            return "rlds"
    else:
        raise FormatError(f"{path}: found nothing there, wanted a data set in one of {sorted(IMPORTERS)}")
    raise FormatError(f"{path}: found no format that is known, wanted one of {sorted(IMPORTERS)}; name it yourself")


def _hdf5_format(path: Path) -> str:
    from .demonstrations import demonstrations
    from .hdf5 import member_names, open_hdf5

    with open_hdf5(path) as file:
        first = next(iter(demonstrations(file).values()))
        return "robomimic" if "obs" in member_names(first) else "robosuite_raw"
