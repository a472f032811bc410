"""Several policies over the same episodes: the checkpoints of a training, judged alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from ..envs.suites import suite_named
from .config import EvalConfig
from .jobs import as_they_end, open_pool
from .provenance import library_versions, policy_hash
from .results import EpisodeRecord, read_table, write_table
from .success import EpisodeJob, make_runner, plan
from .workers import Runner


class SeriesJob(NamedTuple):
    """One episode of one policy, by its place in the series."""

    policy: int
    episode: EpisodeJob

    def __str__(self) -> str:
        return f"{self.episode} of policy {self.policy + 1}"


def evaluate_series(
    folders: Sequence[Path], config: EvalConfig, out_dir: Path, console: Console | None = None
) -> list[list[EpisodeRecord]]:
    """Every policy over the episodes that `config` plans; the tables go to `out_dir`/FOLDER.parquet.

    A table that is there already and is of the same policy and the same episodes is taken as it is, so an interrupted
    series goes on. Returns the records of each folder, in the order of `plan`. Raises WorkerError as `evaluate` does.
    """
    console = console or Console()
    suite, versions = suite_named(config.suite), library_versions()
    planned, hashes = plan(suite, config), [policy_hash(folder) for folder in folders]
    tables = [out_dir / f"{folder.name}.parquet" for folder in folders]
    found: dict[int, list[EpisodeRecord]] = {}
    for place, table in enumerate(tables):
        records = read_table(table) if table.is_file() else []
        same = [(record.policy_hash, record.suite, record.task, record.index, record.condition) for record in records]
        if same == [(hashes[place], suite.name, job.task, job.index, job.condition) for job in planned]:
            found[place] = records
    missing = [place for place in range(len(folders)) if place not in found]
    jobs = [SeriesJob(place, job) for place in missing for job in planned]
    if not jobs:
        return [found[place] for place in range(len(folders))]
    arguments = ([str(folder) for folder in folders], suite.name, config.exec_horizon, hashes, versions)
    done: dict[int, EpisodeRecord] = {}

    def judge(record: EpisodeRecord) -> list[bool]:
        return [record.success] if record.condition == planned[0].condition else []

    with open_pool(config.workers, make_series_runner, arguments, console) as pool:
        for number, record in as_they_end(pool, jobs, "episodes", console, judge):
            done[number] = record
            place = jobs[number].policy
            first = missing.index(place) * len(planned)
            numbers = range(first, first + len(planned))
            if all(number in done for number in numbers):
                found[place] = [done[number] for number in numbers]
                write_table(found[place], tables[place])
    return [found[place] for place in range(len(folders))]


def make_series_runner(
    folders: list[str], suite: str, exec_horizon: int | None, hashes: list[str], versions: dict[str, str]
) -> Runner:
    """What a worker does with a `SeriesJob`; a policy is loaded when its first episode comes, at most two are kept."""
    loaded: dict[int, Runner] = {}

    def run(job: SeriesJob) -> EpisodeRecord:
        if job.policy not in loaded:
            if len(loaded) == 2:
                loaded.clear()
            loaded[job.policy] = make_runner(folders[job.policy], suite, exec_horizon, hashes[job.policy], versions)
        return loaded[job.policy](job.episode)

    return run
