"""Jobs in the hands of workers, and what the console says of them meanwhile: how far they are, and who died."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .workers import Runner, WorkerPool

QUIET_SECONDS = 15.0  # without a terminal: a line this often

Judge = Callable[[Any], Iterable[bool]]
"""What a result says of success: an entry for every episode that counts."""


def run_jobs(
    jobs: Sequence[Any],
    make_runner: Callable[..., Runner],
    arguments: tuple[Any, ...],
    workers: int,
    what: str,
    console: Console,
    judge: Judge = lambda result: (),
) -> list[Any]:
    """The results of jobs, in the order of the jobs. make_runner, arguments: as `WorkerPool` takes them.

    Raises WorkerError as `WorkerPool.run` does.
    """
    with open_pool(workers, make_runner, arguments, console) as pool:
        done = dict(as_they_end(pool, jobs, what, console, judge))
    return [done[number] for number in range(len(jobs))]


def open_pool(
    workers: int,
    make_runner: Callable[..., Runner],
    arguments: tuple[Any, ...],
    console: Console,
    at_once: int = 1,
) -> WorkerPool:
    """At most so many workers; where one dies, the console says so, and in which jobs (by their `str`)."""

    def say(job: Any, exit_code: int | None) -> None:
        console.print(f"a worker died (exit code {exit_code}) in {job}: running it again in a new worker")

    return WorkerPool(workers, make_runner, arguments, say, at_once)


def as_they_end(
    pool: WorkerPool,
    jobs: Sequence[Any],
    what: str,
    console: Console,
    judge: Judge = lambda result: (),
    before: Sequence[Any] = (),
) -> Generator[tuple[int, Any], None, None]:
    """(Position in `jobs`, result) as jobs end, while the console shows how many have, and how many with success.

    what: what the jobs are, in the plural. before: results that there were already, which count, too.
    """
    successes = [success for result in before for success in judge(result)]
    with _progress(console, what, len(before) + len(jobs), len(before)) as advance:
        for number, result in pool.run(jobs):
            yield number, result  # which is seen to before it is said
            successes += judge(result)
            advance(successes)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


@contextmanager
def _progress(console: Console, what: str, total: int, done: int) -> Iterator[Callable[[Sequence[bool]], None]]:
    """A bar with rate, success so far and time left; without a terminal, a line now and then. Some may be done already.

    Yields what to call, after each job, with the successes so far.
    """
    columns: tuple[Any, ...] = (
        *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _RateColumn()),
        *(TextColumn("{task.fields[success]}"), TimeRemainingColumn()),
    )
    began = said = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, completed=done, success="")
        before = done

        def advance(successes: Sequence[bool]) -> None:
            nonlocal done, said
            done += 1
            rate = f"success {sum(successes) / len(successes):.0%} of {len(successes)}" if successes else ""
            bar.update(task, advance=1, success=rate)
            now = time.monotonic()
            if not console.is_terminal and (now - said >= QUIET_SECONDS or done == total):
                said, speed = now, (done - before) / (now - began)
                line = f"{what} {done}/{total}  {speed:.1f}/s  {rate}  {(total - done) / speed:.0f} s left"
                console.print(line, highlight=False, soft_wrap=True)

        yield advance
