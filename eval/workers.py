"""A fixed number of worker processes over a list of jobs, each doing one job or several at a time.

Each worker builds its runner once (importing torch and the simulator is what takes long), and does every job in one of
its threads. A worker that dies has the jobs it was doing run again by a fresh one; a job that raises stops everything
with its traceback.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import SimpleQueue
from typing import Any, TypeVar

from .refusal import is_refusal

ONE_THREAD: dict[str, str] = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "LP_NUM_THREADS"), "1"
)
ATTEMPTS = 3

Made = TypeVar("Made")
Runner = Callable[[Any], Any]


class WorkerError(RuntimeError):
    """A job raised, or killed its worker again and again. The message holds the job and the worker's traceback, or
    what deixis itself has to say against it."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    jobs: set[int] = field(default_factory=set)


class WorkerPool:
    """Worker processes that stay alive between calls of `run`.

    workers: how many processes. make_runner: top-level function that a worker calls once with `arguments`; it returns
    the function that does a job. Jobs and results travel between processes and must be plain values.
    on_death: called with (job, exit code) for every job of a worker that died; it is about to be run again.
    at_once: jobs that a worker does at a time, each in one of so many threads, which call the same runner.
    """

    def __init__(
        self,
        workers: int,
        make_runner: Callable[..., Runner],
        arguments: tuple[Any, ...],
        on_death: Callable[[Any, int | None], None] = lambda job, exit_code: None,
        at_once: int = 1,
    ) -> None:
        self._size, self._at_once, self._on_death = workers, at_once, on_death
        self._make_runner, self._arguments = make_runner, arguments
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
            ready = wait([worker.connection for worker in self._workers if worker.jobs])
            for worker in [worker for worker in self._workers if worker.connection in ready]:
                try:
                    number, failure, result = worker.connection.recv()
                except (EOFError, OSError):  # it died, perhaps in the middle of an answer
                    waiting.extendleft(sorted(worker.jobs, reverse=True))
                    self._bury(worker, jobs, deaths)
                    continue
                if failure is not None:
                    raise WorkerError(f"job {jobs[number]} failed in its worker:\n{failure}")
                worker.jobs.remove(number)
                unfinished -= 1
                yield number, result

    def _assign(self, waiting: deque[int], jobs: Sequence[Any]) -> None:
        """Gives the workers as many jobs as they may do at once, the least busy first."""
        while waiting and len((worker := self._least_busy()).jobs) < self._at_once:
            number = waiting.popleft()
            worker.jobs.add(number)
            # A worker that died while idle: reading from it says so, and the job goes to another.
            with suppress(BrokenPipeError, ConnectionResetError):
                worker.connection.send((number, jobs[number]))

    def _least_busy(self) -> _Worker:
        """A worker with nothing to do, a new one while there may be more, else one with the fewest jobs."""
        if len(self._workers) < self._size and all(worker.jobs for worker in self._workers):
            return self._start()
        return min(self._workers, key=lambda worker: len(worker.jobs))

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work,
            args=(theirs, self._make_runner, self._arguments, self._at_once),
            daemon=True,
            name="deixis worker",
        )
        # Set around the start, not in the worker: numpy's and torch's thread pools read it when they are imported,
        # which can be while the worker's arguments are unpacked.
        with _environment(ONE_THREAD):
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker, jobs: Sequence[Any], deaths: list[int]) -> None:
        worker.connection.close()
        worker.process.join()
        self._workers.remove(worker)
        held = sorted(worker.jobs)
        for number in held:
            deaths[number] += 1
        fatal = [str(jobs[number]) for number in held if deaths[number] == ATTEMPTS]
        if fatal:  # of several that a worker does at once, any one may be to blame
            raise WorkerError(
                f"job {' or '.join(fatal)}: {ATTEMPTS} workers died of it one after the other, the last with exit code "
                f"{worker.process.exitcode} (negative: killed by that signal; -9 often means out of memory)"
            )
        for number in held:
            self._on_death(jobs[number], worker.process.exitcode)


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


@dataclass(frozen=True)
class _Desk:
    """What the threads of a worker share: jobs with their numbers come in, and one answer goes out at a time."""

    connection: Connection
    waiting: SimpleQueue[tuple[int, Any]] = field(default_factory=SimpleQueue)
    sending: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, number: int, failure: str | None, result: Any = None) -> None:
        with self.sending:
            self.connection.send((number, failure, result))


def _work(connection: Connection, make_runner: Callable[..., Runner], arguments: tuple[Any, ...], at_once: int) -> None:
    """A worker's life. Its main thread does no job: it hears of the parent's end whatever the others are at."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides what happens
    desk = _Desk(connection)
    threading.Thread(target=_open, args=(desk, make_runner, arguments, at_once), daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            desk.waiting.put(connection.recv())
    os._exit(0)  # the parent is gone or done; Python would tidy up under threads in the middle of a job


def _open(desk: _Desk, make_runner: Callable[..., Runner], arguments: tuple[Any, ...], at_once: int) -> None:
    """Makes the runner, and does jobs with it in this thread (which may be where it belongs) and in others."""
    try:
        runner = make_runner(*arguments)
    except Exception as error:
        runner = partial(_fail, error)  # which is then what the first job comes to
    for _ in range(at_once - 1):
        threading.Thread(target=_serve, args=(desk, runner), daemon=True).start()
    _serve(desk, runner)


def _serve(desk: _Desk, runner: Runner) -> None:
    """Does one job after the other."""
    while True:
        number, job = desk.waiting.get()
        try:
            desk.answer(number, None, runner(job))
        except BaseException as error:
            with suppress(OSError):  # where nobody listens any more
                desk.answer(number, str(error) if is_refusal(error) else traceback.format_exc())


def _fail(error: Exception, job: Any) -> Any:
    raise error


def in_each_thread(make: Callable[[], Made]) -> Callable[[], Made]:
    """A function that returns what the thread that calls it has made, each of them once."""
    here = threading.local()

    def mine() -> Made:
        if not hasattr(here, "made"):
            here.made = make()
        return here.made

    return mine
