"""A bar on the console for work of several kinds, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
