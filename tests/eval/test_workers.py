"""The pool of worker processes: order, threads, deaths and errors, with real processes."""

import importlib
import os
import signal
from pathlib import Path

import pytest

from deixis.eval.workers import ONE_THREAD, WorkerError, WorkerPool


@pytest.fixture(autouse=True)
def jobs_module(monkeypatch):
    """pool_jobs, importable by the workers too: they start with this process's sys.path."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("pool_jobs")


@pytest.mark.parametrize("workers", [1, 2])
def test_all_jobs_are_done_and_workers_stay(tmp_path, jobs_module, workers):
    jobs = [f"sleep {0.02 * (number % 3)}" for number in range(12)]
    before = dict(os.environ)
    with WorkerPool(workers, jobs_module.make_runner, (str(tmp_path),)) as pool:
        first = dict(pool.run(jobs))
        second = dict(pool.run(["a", "b"]))
    assert first == dict(enumerate(job.upper() for job in jobs))
    assert second == {0: "A", 1: "B"}
    assert 1 <= len(list(tmp_path.glob("worker-*"))) <= workers
    assert dict(os.environ) == before


def test_workers_have_one_thread(tmp_path, jobs_module):
    with WorkerPool(1, jobs_module.make_runner, (str(tmp_path),)) as pool:
        assert dict(pool.run(["environment"])) == {0: ONE_THREAD}


def test_the_job_of_a_dead_worker_runs_again_and_it_is_said(tmp_path, jobs_module):
    said = []
    with WorkerPool(2, jobs_module.make_runner, (str(tmp_path),), lambda job, code: said.append((job, code))) as pool:
        done = dict(pool.run(["a", "die once", "b"]))
    assert done == {0: "A", 1: "DIE ONCE", 2: "B"}
    assert said == [("die once", -signal.SIGKILL)]


def test_a_job_that_kills_every_worker_is_an_error(tmp_path, jobs_module):
    with (
        WorkerPool(2, jobs_module.make_runner, (str(tmp_path),)) as pool,
        pytest.raises(WorkerError, match=r"job die: 3 workers died .* exit code -9"),
    ):
        list(pool.run(["die"]))


@pytest.mark.parametrize(
    ("runner", "match"),
    [("make_runner", r"job raise failed[\s\S]*KeyError"), ("broken_runner", r"FileNotFoundError: .*no policy")],
)
def test_an_exception_arrives_with_its_traceback(tmp_path, jobs_module, runner, match):
    with WorkerPool(2, getattr(jobs_module, runner), (str(tmp_path),)) as pool, pytest.raises(WorkerError, match=match):
        list(pool.run(["raise", "raise"]))
