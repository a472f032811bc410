"""Success rate of a policy over a suite: a fixed list of episodes, a fixed number of workers, one table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from ..envs.conditions import allows
from ..envs.suites import Suite, suite_named
from .config import EvalConfig
from .jobs import as_they_end, open_pool
from .journal import Journal
from .media import CLIP_FOLDER, Clip, choose_clips, write_index
from .provenance import library_versions, policy_hash
from .results import EpisodeRecord, write_table
from .workers import Runner, WorkerPool, in_each_thread

PARTIAL = "episodes.partial.jsonl"


class EpisodeJob(NamedTuple):
    """One planned episode. film: folder for its clip, or None when it only counts."""

    condition: str
    task: str
    index: int
    film: str | None = None

    def __str__(self) -> str:
        return f"episode {self.task} {self.index} ({self.condition})"


def plan(suite: Suite, config: EvalConfig) -> list[EpisodeJob]:
    """Every episode of the evaluation: per condition as many as the config says, spread evenly over the tasks.

    Tasks take turns and indices begin at 0, so all conditions share their scenes as far as both go. A task that cannot
    be asked under a condition has no turn there; a condition under which no task can be asked is a ValueError.
    """
    jobs: list[EpisodeJob] = []
    for condition in config.conditions:
        asked = replace(suite, tasks=tuple(task for task in suite.tasks if allows(condition, task)))
        if not asked.tasks:
            raise ValueError(
                f"eval.conditions: found {condition!r}, under which none of the tasks of suite {suite.name!r} can be "
                f"asked ({', '.join(suite.tasks)}); leave it out"
            )
        jobs += [EpisodeJob(condition, *asked.turn(number)) for number in range(config.episodes_of(condition))]
    return jobs


def evaluate(
    policy_folder: Path | str, config: EvalConfig, out_dir: Path | str, console: Console | None = None
) -> list[EpisodeRecord]:
    """Runs the episodes, writes `out_dir`/episodes.parquet and films some into `out_dir`/media.

    Episodes stand in `out_dir`/episodes.partial.jsonl as they end: the same evaluation, stopped, goes on there.

    The table's rows are ordered by condition, task and index, and equal for any number of workers and environments (see
    `results.table_digest`). Raises WorkerError with the worker's traceback when an episode raises.
    """
    console = console or Console()
    suite, out_dir = suite_named(config.suite), Path(out_dir)
    jobs = plan(suite, config)
    versions, hash_of_policy = library_versions(), policy_hash(policy_folder)
    arguments = (str(policy_folder), suite.name, config.exec_horizon, hash_of_policy, versions)
    about = {
        "suite": suite.name,
        "exec_horizon": config.exec_horizon,
        "policy_hash": hash_of_policy,
        "versions": versions,
    }
    numbers = {(job.condition, job.task, job.index): number for number, job in enumerate(jobs)}
    with (
        Journal(out_dir / PARTIAL, about) as journal,
        open_pool(config.workers, make_runner, arguments, console, config.environments) as pool,
    ):
        known = {(record.condition, record.task, record.index): record for record in journal.records}
        done = {numbers[episode]: record for episode, record in known.items() if episode in numbers}
        if done:
            console.print(f"going on after {len(done)} of {len(jobs)} episodes")
        missing = [number for number in range(len(jobs)) if number not in done]
        if suite.slow_to_change:
            missing.sort(key=lambda number: suite.tasks.index(jobs[number].task))
        left, before = [jobs[number] for number in missing], list(done.values())

        def judge(record: EpisodeRecord) -> list[bool]:
            return [record.success] if record.condition == jobs[0].condition else []

        for place, record in as_they_end(pool, left, "episodes", console, judge, before):
            done[missing[place]] = record
            journal.add(record)
        order = {job: (config.conditions.index(job.condition), suite.tasks.index(job.task), job.index) for job in jobs}
        records = [done[number] for number in sorted(done, key=lambda number: order[jobs[number]])]
        write_table(records, out_dir / "episodes.parquet")
        _film(pool, records, config.videos, out_dir, console)
    return records


def make_runner(
    policy_folder: str, suite_name: str, exec_horizon: int | None, hash_of_policy: str, versions: dict[str, str]
) -> Runner:
    """What a worker does with an `EpisodeJob`: returns the record, or for a film the `Clip`.

    Threads may do so at once: they share the policy, and each has an environment of its own, made in the thread because
    what it draws with belongs there.
    """
    import torch

    from ..policies.policy import Policy
    from .media import film
    from .rollout import make_env, run_episode

    # One thread whatever the machine: the order of a threaded sum depends on the number of threads.
    torch.set_num_threads(1)
    suite, policy = suite_named(suite_name), Policy.load(policy_folder).eval()
    own_env = in_each_thread(lambda: make_env(suite, policy, render_mode="rgb_array"))

    def run(job: EpisodeJob) -> EpisodeRecord | Clip:
        env = own_env()

        def episode(
            on_step: Callable[[], None] | None = None, on_say: Callable[[str], None] | None = None
        ) -> EpisodeRecord:
            return run_episode(
                env,
                policy,
                suite,
                job.task,
                job.index,
                job.condition,
                policy_hash=hash_of_policy,
                versions=versions,
                exec_horizon=exec_horizon,
                on_step=on_step,
                on_say=on_say,
            )

        return episode() if job.film is None else film(env, episode, Path(job.film))

    return run


def _film(pool: WorkerPool, records: Sequence[EpisodeRecord], videos: int, out_dir: Path, console: Console) -> None:
    """Runs some episodes again, with a camera. They go the same way again, or filming says that they did not."""
    folder = out_dir / CLIP_FOLDER
    chosen = choose_clips(records, videos)
    jobs = [EpisodeJob(record.condition, record.task, record.index, str(folder)) for record in chosen]
    clips: dict[int, Clip] = {}
    for number, clip in as_they_end(pool, jobs, "films", console):
        clips[number], counted = clip, chosen[number]
        if (clip.success, clip.steps) != (counted.success, counted.steps):
            console.print(
                f"warning: {jobs[number]} took {counted.steps} steps when counted and {clip.steps} when filmed: "
                "this machine does not repeat an episode exactly"
            )
    write_index([clips[number] for number in sorted(clips)], folder)
