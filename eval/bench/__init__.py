"""Benchmarks that `deixis bench NAME` runs: every module here is one, and its `run() -> dict` measures it.

A benchmark's docstring begins with a line that says what it measures; the mapping it returns is metric -> number.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib import import_module
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


def run(name: str, command: str) -> Record:
    """Run one benchmark and return its record.

    Args:
        name: one of `names()`.
        command: the command line to note in the record.

    Raises:
        KeyError: there is no such benchmark.
    """
    if name not in names():
        raise KeyError(f"no benchmark {name!r}; there are {', '.join(names()) or 'none'}")
    metrics: Mapping[str, Any] = import_module(f"{__name__}.{name}").run()
    return make_record(f"bench-{name}", command, metrics)
