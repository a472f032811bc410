"""Jobs in the hands of workers: results in the order of the jobs, and a console that says how it goes."""

from __future__ import annotations

import importlib
import io
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from deixis.eval.chains import ChainJob
from deixis.eval.collapse import Pair
from deixis.eval.jobs import as_they_end, open_pool, run_jobs
from deixis.eval.series import SeriesJob
from deixis.eval.success import EpisodeJob


@pytest.fixture(autouse=True)
def jobs_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """pool_jobs, importable by the workers too: they start with this process's sys.path."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("pool_jobs")


def test_results_stand_in_the_order_of_the_jobs_and_deaths_are_said(tmp_path: Path, jobs_module: ModuleType) -> None:
    console = Console(file=io.StringIO(), width=200)
    jobs = ["sleep 0.3", "die once", "b", "c"]
    done = run_jobs(
        jobs, jobs_module.make_runner, (str(tmp_path),), 2, "errands", console, lambda result: [len(result) == 1]
    )
    assert done == ["SLEEP 0.3", "DIE ONCE", "B", "C"]
    said = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "a worker died (exit code -9) in die once: running it again" in said
    assert "errands 4/4" in said and "success 50% of 4" in said


def test_what_was_done_before_counts_and_one_may_stop_early(tmp_path: Path, jobs_module: ModuleType) -> None:
    console, alone = Console(file=io.StringIO(), width=200), (jobs_module.make_runner, (str(tmp_path),))
    with open_pool(1, *alone, console) as pool:
        with closing(as_they_end(pool, ["a", "b", "c"], "errands", console)) as ended:
            assert next(ended) == (0, "A")
        assert console.file.getvalue() == ""  # pyright: ignore[reportAttributeAccessIssue]
    with open_pool(1, *alone, console) as pool:
        judge = {"A": [True], "B": [False], "C": []}.__getitem__
        assert list(as_they_end(pool, ["b", "c"], "errands", console, judge, ["A"])) == [(0, "B"), (1, "C")]
    said = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "errands 3/3" in said and "success 50% of 2" in said


def test_a_job_says_what_it_is() -> None:
    episode = EpisodeJob("swap", "lift", 3)
    assert str(episode) == "episode lift 3 (swap)"
    assert str(SeriesJob(1, episode)) == "episode lift 3 (swap) of policy 2"
    assert str(ChainJob(4)) == "chain 4"
    assert str(Pair(("lift", 0), ("push", 2))) == "episodes lift 0 and push 2"
