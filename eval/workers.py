"""A fixed number of single-threaded worker processes over a list of jobs.

Each worker builds its runner once (importing torch and the simulator is what takes long) and then gets one job at a
time. A worker that dies gets its job run again by a fresh one; a job that raises stops everything with its traceback.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

ONE_THREAD: dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "LP_NUM_THREADS"), "1"
)
ATTEMPTS = 3

Runner = Callable[[Any], Any]


class WorkerError(RuntimeError):
    """A job raised, or killed its worker again and again. The message holds the job and the worker's traceback."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: int | None = None


class WorkerPool:
    """Worker processes that stay alive between calls of `run`.

    workers: how many processes. make_runner: top-level function that a worker calls once with `arguments`; it returns
    the function that does a job. Jobs and results travel between processes and must be plain values.
    on_death: called with (job, exit code) when a worker died and its job is about to be run again.
    """

    def __init__(
        self,
        workers: int,
        make_runner: Callable[..., Runner],
        arguments: tuple[Any, ...],
        on_death: Callable[[Any, int | None], None] = lambda job, exit_code: None,
    ) -> None:
        self._size, self._make_runner, self._arguments, self._on_death = workers, make_runner, arguments, on_death
        self._context = multiprocessing.get_context("spawn")  # a forked OpenGL context or torch thread pool hangs
        self._workers: list[_Worker] = []

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()

    def run(self, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Yields (position in `jobs`, result) as jobs finish. Raises WorkerError."""
        waiting = deque(range(len(jobs)))
        deaths = [0] * len(jobs)
        unfinished = len(jobs)
        while unfinished:
            self._assign(waiting, jobs)
            ready = wait([worker.connection for worker in self._workers if worker.job is not None])
            for worker in [worker for worker in self._workers if worker.connection in ready]:
                number = worker.job
                if number is None:
                    continue
                try:
                    failure, result = worker.connection.recv()
                except (EOFError, ConnectionResetError):
                    self._bury(worker, jobs[number], deaths, number)
                    waiting.appendleft(number)
                    continue
                if failure is not None:
                    raise WorkerError(f"job {jobs[number]} failed in its worker:\n{failure}")
                worker.job = None
                unfinished -= 1
                yield number, result

    def _assign(self, waiting: deque[int], jobs: Sequence[Any]) -> None:
        """Gives every idle worker a job, starting workers up to the pool's size."""
        idle = [worker for worker in self._workers if worker.job is None]
        while waiting and (idle or len(self._workers) < self._size):
            worker = idle.pop() if idle else self._start()
            worker.job = waiting.popleft()
            # A worker that died while idle: reading from it says so, and the job goes to another.
            with suppress(BrokenPipeError, ConnectionResetError):
                worker.connection.send(jobs[worker.job])

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._make_runner, self._arguments), daemon=True, name="deixis worker"
        )
        # Set around the start, not in the worker: numpy's and torch's thread pools read it when they are imported,
        # which can be while the worker's arguments are unpacked.
        with _environment(ONE_THREAD):
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker, job: Any, deaths: list[int], number: int) -> None:
        worker.connection.close()
        worker.process.join()
        self._workers.remove(worker)
        deaths[number] += 1
        if deaths[number] == ATTEMPTS:
            raise WorkerError(
                f"job {job}: {ATTEMPTS} workers died of it one after the other, the last with exit code "
                f"{worker.process.exitcode} (negative: killed by that signal; -9 often means out of memory)"
            )
        self._on_death(job, worker.process.exitcode)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(connection: Connection, make_runner: Callable[..., Runner], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides what happens
    runner: Runner | None = None
    while True:
        try:
            job = connection.recv()
        except (EOFError, ConnectionResetError):
            return  # the parent is gone or done
        try:
            runner = runner or make_runner(*arguments)
            answer = (None, runner(job))
        except Exception:
            answer = (traceback.format_exc(), None)
        connection.send(answer)
