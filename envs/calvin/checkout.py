"""The user's own checkout of calvin_env: where it is, whether it is whole, its modules and its settings.

CALVIN is not on the package index. `DEIXIS_CALVIN` names the folder of a clone of github.com/mees/calvin_env, or of
github.com/mees/calvin with its submodules. Importing from it runs its code, as any import does; of its settings only
plain YAML is read, and they may start nothing but parts of calvin_env.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .tasks import TASKS

VARIABLE = "DEIXIS_CALVIN"
CAMERAS = {"static": 200, "gripper": 84}  # pixels a side, as in CALVIN's data
_PACKAGE = "calvin_env"
_SCENE, _ROBOT = "calvin_scene_D_eval", ("panda", "panda_longer_finger")  # the second says how it differs
_FILES = (
    f"{_PACKAGE}/__init__.py",
    f"{_PACKAGE}/envs/play_table_env.py",
    f"{_PACKAGE}/envs/tasks.py",
    f"conf/scene/{_SCENE}.yaml",
    *(f"conf/robot/{name}.yaml" for name in _ROBOT),
    *(f"conf/cameras/cameras/{name}.yaml" for name in CAMERAS),
    "data",
)
_SENTENCES = "calvin_models/conf/annotations/new_playtable_validation.yaml"
_CLONE = "git clone --recursive https://github.com/mees/calvin_env"


class CheckoutError(ImportError):
    """There is no checkout that can be used. The message names the variable, the folder and what is missing."""


@dataclass(frozen=True)
class Checkout:
    """A checkout that is whole, as far as its files tell. folder: that which holds `calvin_env`, `conf` and `data`."""

    folder: Path

    @cached_property
    def tasks(self) -> Any:
        """CALVIN's task oracle, with our table of its 34 rules."""
        return self.module("envs.tasks").Tasks({name: list(task.rule) for name, task in TASKS.items()})

    def module(self, name: str) -> Any:
        """A module of the checkout's package, such as "envs.tasks".

        Raises CheckoutError where a package that it needs is not installed, or another calvin_env is imported already.
        """
        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):  # gym and pybullet greet
                self._import_package()
                return importlib.import_module(f"{_PACKAGE}.{name}")
        except ModuleNotFoundError as error:
            raise CheckoutError(
                f"{self.folder}: its module {_PACKAGE}.{name} needs a module that is not here ({error.name}); "
                "pip install 'deixis[calvin]'"
            ) from error

    def settings(self, sizes: Mapping[str, int], seed: int = 0) -> Any:
        """What the simulation is started with: OmegaConf's `robot`, `scene` and `cameras`, which refer to each other.

        sizes: camera -> pixels a side.
        """
        conf = self._omegaconf()
        folder = self.folder / "conf"
        robot = conf.merge(*(self._read(folder / "robot" / f"{name}.yaml") for name in _ROBOT))
        robot.pop("defaults", None)
        cameras = {name: self._read(folder / "cameras" / "cameras" / f"{name}.yaml") for name in sizes}
        for name, size in sizes.items():
            cameras[name].width = cameras[name].height = size
        # The published results stand on this one: CALVIN's change log of February 2022.
        robot.use_nullspace, robot.euler_obs = True, True
        scene = self._read(folder / "scene" / f"{_SCENE}.yaml")
        return conf.create(
            {
                "seed": seed,
                "data_path": str(self.folder / "data"),
                "robot": robot,
                "scene": scene,
                "cameras": cameras,
            }
        )

    def sentences(self) -> dict[str, str]:
        """CALVIN's own instruction for each task, from the repository `calvin` around this checkout.

        Raises CheckoutError where the checkout stands alone, ValueError where the file lacks a task.
        """
        path = self.folder.parent / _SENTENCES
        if not path.is_file():
            raise CheckoutError(
                f"{VARIABLE}: found no {path}, wanted CALVIN's own sentences there; clone github.com/mees/calvin with "
                f"--recurse-submodules and set {VARIABLE} to it, or evaluate the suite 'calvin-d', whose sentences "
                "are ours"
            )
        found = self._omegaconf().to_container(self._read(path))
        for task in TASKS:
            texts = found.get(task)
            if not (isinstance(texts, list) and texts and isinstance(texts[0], str) and texts[0].strip()):
                raise ValueError(f"{path}: task {task!r}: found {texts!r}, wanted a list of at least one sentence")
        return {task: found[task][0] for task in TASKS}

    def _read(self, path: Path) -> Any:
        """A file of settings; ValueError where it is none, or would start something from elsewhere."""
        conf = self._omegaconf()
        try:
            found = conf.load(path)
        except Exception as error:  # whatever yaml or omegaconf raise
            raise ValueError(f"{path}: cannot be read as settings ({error}); restore it with `git checkout`") from error
        if not conf.is_dict(found):
            raise ValueError(f"{path}: found {type(found).__name__}, wanted names with values; restore the file")
        for target in _targets(conf.to_container(found)):
            if not str(target).startswith(f"{_PACKAGE}."):
                raise ValueError(f"{path}: _target_: found {target!r}, wanted a part of {_PACKAGE}; restore the file")
        return found

    def _omegaconf(self) -> Any:
        try:
            return importlib.import_module("omegaconf").OmegaConf
        except ModuleNotFoundError as error:
            raise CheckoutError(
                f"CALVIN needs a package that is not here ({error.name}); pip install 'deixis[calvin]'"
            ) from error

    def _import_package(self) -> None:
        """Imports the package from this folder alone: nothing else of the folder becomes importable."""
        source = self.folder / _PACKAGE / "__init__.py"
        known = sys.modules.get(_PACKAGE)
        if known is not None:
            if Path(getattr(known, "__file__", None) or "").resolve() != source:
                raise CheckoutError(
                    f"{VARIABLE}: found {self.folder}, but {_PACKAGE} is imported from "
                    f"{getattr(known, '__file__', 'elsewhere')} already; use one checkout in a process"
                )
            return
        spec = importlib.util.spec_from_file_location(_PACKAGE, source, submodule_search_locations=[str(source.parent)])
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[_PACKAGE] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[_PACKAGE]
            raise


def _targets(settings: Any) -> Iterator[Any]:
    """What settings would start, at any depth."""
    if isinstance(settings, Mapping):
        yield from (value for name, value in settings.items() if name == "_target_")
    parts = settings.values() if isinstance(settings, Mapping) else settings if isinstance(settings, list) else ()
    for part in parts:
        yield from _targets(part)


def find_checkout(folder: str | Path | None = None) -> Checkout:
    """The checkout in this folder, or in the one that `DEIXIS_CALVIN` names. Raises CheckoutError."""
    named = str(folder) if folder is not None else os.environ.get(VARIABLE, "").strip()
    if not named:
        raise CheckoutError(
            f"CALVIN is read from your own checkout: `{_CLONE}`, then `export {VARIABLE}=/path/to/calvin_env`"
        )
    root = Path(named).expanduser().resolve()
    if not root.is_dir():
        raise CheckoutError(f"{VARIABLE}: found {named!r}, which is no folder; wanted the one that `{_CLONE}` makes")
    if not (root / _PACKAGE / "__init__.py").is_file() and (root / _PACKAGE / _PACKAGE / "__init__.py").is_file():
        root = root / _PACKAGE  # that of `calvin` was named, of which calvin_env is a submodule
    missing = [name for name in _FILES if not (root / name).exists()]
    if missing:
        raise CheckoutError(
            f"{VARIABLE}: {root} lacks {', '.join(missing)}; wanted a whole checkout of calvin_env: `{_CLONE}`"
        )
    if not any((above / ".git").exists() for above in (root, *root.parents)):
        raise CheckoutError(
            f"{VARIABLE}: {root} is no git clone (no .git in it or above), and calvin_env asks git for its commit when "
            f"it starts; take it with `{_CLONE}`"
        )
    return Checkout(root)
