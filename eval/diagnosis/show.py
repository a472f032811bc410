"""A diagnosis on the console: the ladder with its first broken rung."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from . import Diagnosis

_MARKS = {True: "[green]holds[/]", False: "[red]breaks[/]", None: "-"}


def show_diagnosis(found: Diagnosis, console: Console | None = None) -> None:
    """The rungs from the bottom up, what predicts badly where that is known, and what to do."""
    console = console or Console()
    table = Table(title="from the recordings up", show_lines=True)
    table.add_column("rung", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("found", overflow="fold")
    for rung in found.rungs:
        dims = rung.numbers.get("by_dimension", {})
        errors = f"\nunexplained: {', '.join(f'{name} {share:.0%}' for name, share in dims.items())}" if dims else ""
        table.add_row(rung.name, _MARKS[rung.holds], escape(rung.found + errors))
    console.print(table)
    if found.broken is None:
        console.print("No rung is broken.")
        return
    console.print(f"First broken rung: [bold]{found.broken.name}[/]")
    for cause in found.broken.causes:
        console.print(f"  {escape(cause)}")
