"""Benchmarks that `deixis bench NAME` runs: every module here is one, but for those whose name begins with "_".

A benchmark's docstring begins with a line that says what it measures; its `run()` returns metric -> number. One that
runs a policy lets the user choose it: `run(policy)`, a folder or None for its own.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from ..records import Record, make_record


def names() -> dict[str, str]:
    """Every benchmark -> the first line of its docstring, without importing any of them."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        found[path.stem] = docstring.partition("\n")[0]
    return found


def run(name: str, command: str, policy: str | None = None) -> Record:
    """Run one benchmark and return its record.

    Args:
        name: one of `names()`.
        command: the command line to note in the record.
        policy: folder of the policy that it runs; None leaves it to the benchmark.

    Raises:
        KeyError: there is no such benchmark.
        ValueError: a policy was given to one that runs none.
    """
    if name not in names():
        raise KeyError(f"no benchmark {name!r}; there are {', '.join(names()) or 'none'}")
    measure = import_module(f"{__name__}.{name}").run
    if policy is not None and "policy" not in signature(measure).parameters:
        raise ValueError(f"--policy: found {policy!r} for {name!r}, wanted none: this benchmark makes what it measures")
    metrics: Mapping[str, Any] = measure() if policy is None else measure(policy)
    return make_record(f"bench-{name}", command, metrics)
