"""The pool of worker processes: order, threads, deaths and errors, with real processes."""

import importlib
import os
import signal
import subprocess
import sys
import time
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


def test_a_worker_does_several_jobs_at_once_and_each_thread_has_its_own(tmp_path, jobs_module):
    with WorkerPool(1, jobs_module.make_runner, (str(tmp_path),), at_once=3) as pool:
        done = dict(pool.run(["meet 2"] * 3 + ["a", "sleep 0.1"] + ["meet 2"] * 3))
        threads = [result for _, result in pool.run(["thread"] * 12)]
    assert done == dict(enumerate([*["MEET 2"] * 3, "A", "SLEEP 0.1", *["MEET 2"] * 3]))
    assert len(list(tmp_path.glob("worker-*"))) == 1
    assert all(first == again for first, again, _ in threads)
    assert len({number for number, _, _ in threads}) == len({thread for _, _, thread in threads}) <= 3


def test_jobs_are_spread_over_workers_before_one_gets_two(tmp_path, jobs_module):
    with WorkerPool(2, jobs_module.make_runner, (str(tmp_path),), at_once=4) as pool:
        assert dict(pool.run(["a", "b"])) == {0: "A", 1: "B"}
    assert len(list(tmp_path.glob("worker-*"))) == 2


def test_all_jobs_of_a_dead_worker_run_again_and_each_is_said(tmp_path, jobs_module):
    said, jobs = [], ["linger 1", "die once beside 2", "linger 2", "a", "b"]
    with WorkerPool(
        1, jobs_module.make_runner, (str(tmp_path),), lambda job, code: said.append((job, code)), at_once=3
    ) as pool:
        done = dict(pool.run(jobs))
    assert done == {number: job.upper() for number, job in enumerate(jobs)}
    assert said == [(job, -signal.SIGKILL) for job in jobs[:3]]
    assert len(list(tmp_path.glob("worker-*"))) == 2


def test_of_jobs_that_kill_together_all_are_named(tmp_path, jobs_module):
    with (
        WorkerPool(1, jobs_module.make_runner, (str(tmp_path),), at_once=2) as pool,
        pytest.raises(WorkerError, match=r"job sleep 30 or die: 3 workers died"),
    ):
        list(pool.run(["sleep 30", "die"]))


def test_a_job_that_kills_every_worker_is_an_error(tmp_path, jobs_module):
    with (
        WorkerPool(2, jobs_module.make_runner, (str(tmp_path),)) as pool,
        pytest.raises(WorkerError, match=r"job die: 3 workers died .* exit code -9"),
    ):
        list(pool.run(["die"]))


@pytest.mark.parametrize(
    ("runner", "job", "match"),
    [
        ("make_runner", "raise", r"job raise failed[\s\S]*Traceback[\s\S]*KeyError"),
        ("make_runner", "leave", r"job leave failed[\s\S]*SystemExit"),
        ("make_runner", "unspeakable", r"job unspeakable failed[\s\S]*cannot pickle"),
        ("broken_runner", "raise", r"Traceback[\s\S]*FileNotFoundError: .*no policy"),
    ],
)
@pytest.mark.parametrize("at_once", [1, 2])
def test_an_exception_arrives_with_its_traceback(tmp_path, jobs_module, runner, job, match, at_once):
    make, folder = getattr(jobs_module, runner), str(tmp_path)
    with (
        WorkerPool(2, make, (folder,), at_once=at_once) as pool,
        pytest.raises(WorkerError, match=match),
    ):
        list(pool.run([job, "sleep 30", "sleep 30"]))


def test_workers_end_with_the_one_who_has_them(tmp_path, jobs_module):
    """Killed, it cannot end them: each hears of it by itself, though its threads are in the middle of a job."""
    program = (
        "import sys, pool_jobs; from deixis.eval.workers import WorkerPool\n"
        "if __name__ == '__main__':\n"
        "    pool = WorkerPool(1, pool_jobs.make_runner, (sys.argv[1],), at_once=2)\n"
        "    list(pool.run(['linger 1', 'linger 2']))\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(program)
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path}
    parent = subprocess.Popen([sys.executable, script, tmp_path], env=environment, stdout=subprocess.PIPE)
    until = time.monotonic() + 60
    while len(list(tmp_path.glob("linger*"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.kill()
    parent.communicate(timeout=30)  # returns when the last process that could write to its output has ended
