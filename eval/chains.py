"""Five instructions in a row without a reset: how many of them does the policy carry out before it fails at one?

The protocol of CALVIN (Mees et al. 2022, arXiv:2112.03227): success at each length, and the average completed length.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.table import Table

from ..envs.suites import Suite, suite_named
from .config import EvalConfig
from .jobs import run_jobs
from .provenance import library_versions, policy_hash
from .results import EpisodeRecord, write_table
from .statistics import bootstrap_interval, proportion
from .workers import Runner

if TYPE_CHECKING:
    from .rollout import Player

LENGTH = 5


class ChainJob(NamedTuple):
    """A chain by its number."""

    index: int

    def __str__(self) -> str:
        return f"chain {self.index}"


def judge_chains(
    folder: Path, chains: int, config: EvalConfig, out_dir: Path, console: Console | None = None
) -> dict[str, Any]:
    """Runs so many chains; a chain ends with the first instruction that is not carried out.

    Writes `out_dir`/chains.parquet with a row for every instruction that was given, with condition "chain-1" to
    "chain-5" and the chain's number as index. Returns `summarise_chains`. Raises ValueError for a suite whose
    environment cannot ask for more, WorkerError as `evaluate` does.
    """
    suite, jobs = suite_named(config.suite), [ChainJob(index) for index in range(chains)]
    arguments = (str(folder), suite.name, config.exec_horizon, policy_hash(folder), library_versions())
    done: list[list[EpisodeRecord]] = run_jobs(
        jobs, make_chain_runner, arguments, config.workers, "chains", console or Console()
    )
    write_table([record for chain in done for record in chain], out_dir / "chains.parquet")
    return summarise_chains(done)


def make_chain_runner(
    folder: str, suite_name: str, exec_horizon: int | None, hash_of_policy: str, versions: dict[str, str]
) -> Runner:
    """What a worker does with a `ChainJob`: returns the records of its instructions."""
    import torch

    from ..policies.policy import Policy
    from .rollout import Player, make_env

    torch.set_num_threads(1)
    suite, policy = suite_named(suite_name), Policy.load(folder).eval()
    env = make_env(suite, policy)
    if not hasattr(env.unwrapped, "ask_next"):
        raise ValueError(f"suite {suite_name!r}: its environment has one instruction, wanted one that can ask for more")

    def run(job: ChainJob) -> list[EpisodeRecord]:
        return run_chain(Player(env, policy, suite, exec_horizon), suite, job.index, hash_of_policy, versions)

    return run


def run_chain(
    player: Player, suite: Suite, index: int, hash_of_policy: str, versions: dict[str, str], length: int = LENGTH
) -> list[EpisodeRecord]:
    """One chain: the environment's own of that number where it has published ones (`chain`), else of tasks that take
    turns from `suite.turn(index)` on.

    The policy's noise goes on through the chain, and so does what it has seen. What it is asked depends on the world as
    it has left it, so that all that is asked can be done; a world in which nothing more can be done ends the chain.
    """
    turns, seed = _begin_chain(player, suite, index, length)
    records: list[EpisodeRecord] = []
    for place, task in enumerate(turns):
        started = time.perf_counter()
        if place:
            asked = player.env.unwrapped.ask_next(task, place)  # pyright: ignore[reportAttributeAccessIssue]
            if asked is None:
                break
            player.go_on(*asked)
        verb = player.info.get("goal", {}).get("verb", task)
        player.follow()
        spent = time.perf_counter() - started
        records.append(player.record(verb, index, seed, f"chain-{place + 1}", hash_of_policy, versions, spent))
        if not records[-1].success:
            break
    return records


def _begin_chain(player: Player, suite: Suite, index: int, length: int) -> tuple[list[str], int]:
    """The tasks of a chain, in whose world the player now is, and the world's seed."""
    published = getattr(player.env.unwrapped, "chain", None)
    if published is None:
        first, number = suite.turn(index)
        start = suite.tasks.index(first)
        turns = [suite.tasks[(start + place) % len(suite.tasks)] for place in range(length)]
        return turns, player.begin_episode(first, number, "correct")
    turns = list(published(index))[:length]
    seed = suite.episode_seed(turns[0], index)
    options = {"task": turns[0], "condition": "correct", "chain": index}
    player.begin(seed, options, suite.policy_seed(turns[0], index))
    return turns, seed


def summarise_chains(chains: Sequence[Sequence[EpisodeRecord]]) -> dict[str, Any]:
    """Share of chains with at least 1, 2, ... instructions carried out in a row, with Wilson's intervals, and their
    average number with a bootstrap interval. cut_short: chains in which nothing more could be asked."""
    completed = [sum(record.success for record in chain) for chain in chains]
    low, high = bootstrap_interval(completed)
    found: dict[str, Any] = {
        "chains": len(chains),
        "cut_short": sum(chain[-1].success and len(chain) < LENGTH for chain in chains),
        "average_length": fmean(completed),
        "average_length_ci95": [low, high],
    }
    for length in range(1, LENGTH + 1):
        share = proportion(sum(count >= length for count in completed), len(completed))
        found |= {f"success_at_{length}": share.rate, f"success_at_{length}_ci95": [share.low, share.high]}
    return found


def show_chains(found: dict[str, Any], console: Console | None = None) -> None:
    """The numbers as a table."""
    low, high = found["average_length_ci95"]
    title = f"{found['chains']} chains: {found['average_length']:.2f} of {LENGTH} in a row ({low:.2f} to {high:.2f})"
    table = Table(title=title)
    for column in ("instructions in a row", "chains", "95% interval"):
        table.add_column(column, justify="right")
    for length in range(1, LENGTH + 1):
        low, high = found[f"success_at_{length}_ci95"]
        table.add_row(str(length), f"{found[f'success_at_{length}']:.1%}", f"{low:.1%} to {high:.1%}")
    (console or Console()).print(table)
