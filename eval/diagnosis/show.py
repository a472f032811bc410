"""A diagnosis on the console: progress while the ladder is climbed, and the ladder with its first broken rung."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from . import Diagnosis

_MARKS = {True: "[green]holds[/]", False: "[red]breaks[/]", None: "-"}


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for what is being done; yields what to call with it, how often it was done, and how often it will be."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)

        def advance(what: str, done: int, wanted: int) -> None:
            if not done:
                bar.reset(task)
            bar.update(task, description=what, completed=done, total=wanted)

        yield advance


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
