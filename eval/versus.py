"""Two policies over the same episodes, in turn, until it is sure which is better or the planned episodes are over."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..envs.suites import suite_named
from .comparison import Comparison, compare, evidence
from .config import EvalConfig
from .jobs import as_they_end, open_pool
from .provenance import library_versions, policy_hash
from .results import EpisodeRecord, write_table
from .series import SeriesJob, make_series_runner
from .success import EpisodeJob, plan


def judge_against(
    first: Path, second: Path, config: EvalConfig, out_dir: Path, console: Console | None = None
) -> dict[str, Any]:
    """Runs both policies over the same scenes with the scenes' own instructions and noise of the same seeds.

    Stops as soon as `comparison.evidence` of the episodes so far, in their order, reaches 1 / error_rate. What another
    worker has begun beyond that does not count, so the number of workers changes nothing. Writes
    `out_dir`/comparison.parquet with the episodes of both. Returns the numbers of `Comparison`, "planned" episodes and
    "decided", 1 where it is sure which is better. Raises WorkerError as `evaluate` does.
    """
    console = console or Console()
    suite, hashes = suite_named(config.suite), [policy_hash(folder) for folder in (first, second)]
    episodes = [job for job in plan(suite, config) if job.condition == "correct"]
    jobs = [SeriesJob(policy, job) for job in episodes for policy in (0, 1)]
    arguments = ([str(first), str(second)], suite.name, config.exec_horizon, hashes, library_versions())
    done: dict[int, EpisodeRecord] = {}
    pairs: list[tuple[EpisodeRecord, EpisodeRecord]] = []
    with (
        open_pool(config.workers, make_series_runner, arguments, console) as pool,
        closing(as_they_end(pool, jobs, "episodes of both, at most", console)) as ended,
    ):
        for number, record in ended:
            done[number] = record
            while not settled(pairs, config.error_rate) and all(2 * len(pairs) + policy in done for policy in (0, 1)):
                pairs.append((done[2 * len(pairs)], done[2 * len(pairs) + 1]))
            if settled(pairs, config.error_rate):
                break
    write_table(
        [record for policy in (0, 1) for record in (pair[policy] for pair in pairs)], out_dir / "comparison.parquet"
    )
    found = compare_records(pairs)
    return {**asdict(found), "planned": len(episodes), "decided": int(settled(pairs, config.error_rate))}


def compare_records(pairs: Sequence[tuple[EpisodeRecord, EpisodeRecord]]) -> Comparison:
    """Episodes of two policies, in pairs of one scene. Raises ValueError where a pair is not of one episode."""
    for one, other in pairs:
        if _episode(one) != _episode(other):
            raise ValueError(
                f"found a pair of {_episode(one)} and {_episode(other)}, wanted one episode of both policies"
            )
    return compare(
        [one.score for one, _ in pairs],
        [other.score for _, other in pairs],
        ([one.success for one, _ in pairs], [other.success for _, other in pairs]),
    )


def _episode(record: EpisodeRecord) -> EpisodeJob:
    return EpisodeJob(record.condition, record.task, record.index)


def settled(pairs: Sequence[tuple[EpisodeRecord, EpisodeRecord]], error_rate: float) -> bool:
    """Whether these episodes show which policy is better, at that error rate, however often one looks."""
    only_first = sum(one.success and not other.success for one, other in pairs)
    only_second = sum(other.success and not one.success for one, other in pairs)
    return evidence(only_first, only_second) >= 1 / error_rate


def show_comparison(found: dict[str, Any], names: tuple[str, str], console: Console | None = None) -> None:
    """The numbers as a table, and what follows from them in one line."""
    console = console or Console()
    table = Table(title=f"{found['episodes']} of at most {found['planned']} episodes, the same for both")
    for column in ("policy", "score", "alone successful"):
        table.add_column(column, justify="left" if column == "policy" else "right")
    for name, which in zip(names, ("first", "second"), strict=True):
        table.add_row(name, f"{found[which]:.1%}", str(found[f"only_{which}"]))
    console.print(table)
    difference = f"{100 * found['difference']:+.1f} points ({100 * found['low']:+.1f} to {100 * found['high']:+.1f})"
    better = names[0 if found["only_first"] > found["only_second"] else 1]
    verdict = f"{better} is better" if found["decided"] else "not sure which is better"
    console.print(
        f"{verdict}: difference {difference}, exact McNemar p {found['p_value']:.3g}, evidence {found['evidence']:.3g}",
        highlight=False,
    )
