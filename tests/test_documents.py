"""Commands that the documents show can be typed as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from deixis.cli import COMMANDS
from deixis.run_config import read_run_config

ROOT = Path(__file__).parents[1]
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def shown() -> list[tuple[str, str]]:
    """(document, command line) of every `deixis ...` in a block of code."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in FENCED.findall(path.read_text("utf-8")):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(path.name, line.split("#")[0].strip()) for line in lines if line.startswith("deixis ")]
    return found


CONFIGURED = [
    (document, line)
    for document, line in shown()
    if any(line.startswith(f"deixis {name}") for name, command in COMMANDS.items() if command.sections)
]


@pytest.mark.parametrize(("document", "line"), CONFIGURED, ids=lambda text: text[:60])
def test_a_command_shown_is_one_that_can_be_typed(document: str, line: str) -> None:
    typed = [word for word in shlex.split(line)[1:] if word != "..."]
    name = next(name for name in COMMANDS if name.split() == typed[: len(name.split())])
    command = COMMANDS[name]
    read_run_config(name, typed[len(name.split()) :], command.sections, command.options, command.switches)


def test_documents_show_commands() -> None:
    assert len(CONFIGURED) > 20
