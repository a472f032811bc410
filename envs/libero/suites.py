"""LIBERO's benchmarks as suites, with the field's step limits and starts."""

from __future__ import annotations

from ..suites import TRAINING_SEEDS, Suite
from .package import benchmarks, complete_tasks

ENV_ID = "deixis/Libero-v0"
MAX_STEPS = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520}
_OTHERS = 400  # LIBERO-90, and what has its scenes


def libero_suite(name: str) -> Suite:
    """The suite of a name such as "libero-spatial", "libero-long" or LIBERO-PRO's "libero-object-task".

    Evaluation episode i of each task begins in the benchmark's shipped state i. Tasks whose files the package lacks are
    not part of a suite; where none is left, and for an unknown name, a ValueError.
    """
    known = {suite_name(benchmark): benchmark for benchmark in benchmarks()}
    if name not in known:
        raise ValueError(f"suite: found {name!r}, wanted one of {', '.join(known)}")
    benchmark = known[name]
    limit = next((steps for family, steps in MAX_STEPS.items() if f"{benchmark}_".startswith(f"{family}_")), _OTHERS)
    tasks, made_with = complete_tasks(benchmark), {"benchmark": benchmark}
    return Suite(name, ENV_ID, tasks, limit, made_with, TRAINING_SEEDS, slow_to_change=True)


def suite_name(benchmark: str) -> str:
    """The package's "libero_10_lan" is "libero-long-lan" here: the name that papers use."""
    words = benchmark.split("_")
    if words[:2] == ["libero", "10"]:
        words[1] = "long"
    return "-".join(words)
