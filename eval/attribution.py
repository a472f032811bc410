"""Which stage of a policy made an episode fail? The one whose replacement by the simulator's truth lets it succeed.

The episode is run again from the same start with the same noise, each time with one stage replaced (`interventions`),
in their order; the first that succeeds names the cause. Where a policy cannot take a replacement, that stage is "not
testable": no guess.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ..datasets.atomic import write_text
from ..envs.suites import suite_named
from .config import EvalConfig
from .jobs import run_jobs
from .provenance import policy_hash
from .results import EpisodeRecord, read_table
from .statistics import proportion
from .success import EpisodeJob
from .workers import Runner

STAGES = ("perception", "understanding", "grounding", "planning", "execution")
REACHED, MISSED, NOT_TESTABLE = "goal reached", "goal missed", "not testable"


@dataclass(frozen=True)
class Attribution:
    """What became of a failed episode with one stage replaced.

    Attributes:
        cause: the first stage whose replacement reached the goal; None where none of those that can be tested did.
        evidence: stage -> `REACHED`, `MISSED` or `NOT_TESTABLE`, of the stages up to the cause.
    """

    cause: str | None
    evidence: dict[str, str]


def attribute(play: Callable[[str], bool | None], stages: Sequence[str] = STAGES) -> Attribution:
    """play: runs the episode again with a stage replaced; whether it reached the goal, None where that cannot be."""
    evidence: dict[str, str] = {}
    for stage in stages:
        reached = play(stage)
        evidence[stage] = NOT_TESTABLE if reached is None else REACHED if reached else MISSED
        if reached:
            return Attribution(stage, evidence)
    return Attribution(None, evidence)


def attribute_failures(
    folder: Path, config: EvalConfig, out_dir: Path, most: int, console: Console | None = None
) -> dict[str, Any]:
    """Attributes up to `most` of the failed episodes in `out_dir`/episodes.parquet, conditions and tasks in turn.

    Writes `out_dir`/attribution.jsonl, a line for each with its cause and evidence. Returns the share of failures of
    each cause ("unexplained" where nothing that can be tested heals one) with Wilson's intervals, and of each stage in
    how many it was not testable. Raises ValueError where the table is of another policy or suite, WorkerError as
    `evaluate` does.
    """
    records, hash_of_policy = read_table(out_dir / "episodes.parquet"), policy_hash(folder)
    found = {(record.policy_hash, record.suite) for record in records}
    if found != {(hash_of_policy, config.suite)}:
        raise ValueError(
            f"{out_dir / 'episodes.parquet'}: found episodes of policy and suite {sorted(found)}, wanted "
            f"{(hash_of_policy, config.suite)}: `deixis eval` it with the same policy first"
        )
    jobs = _in_turn([record for record in records if not record.success and record.condition != "null"], most)
    if not jobs:
        return {"failures": 0}
    arguments = (str(folder), config.suite, config.exec_horizon)
    done: list[Attribution] = run_jobs(
        jobs, make_attributor, arguments, config.workers, "failures", console or Console()
    )
    lines = [_line(job, attribution) for job, attribution in zip(jobs, done, strict=True)]
    write_text(out_dir / "attribution.jsonl", "".join(lines))
    return summarise_causes(done)


def _line(job: EpisodeJob, attribution: Attribution) -> str:
    episode = {"task": job.task, "index": job.index, "condition": job.condition}
    return json.dumps({**episode, **asdict(attribution)}, ensure_ascii=False) + "\n"


def _in_turn(failures: Sequence[EpisodeRecord], most: int) -> list[EpisodeJob]:
    """The first failure of each condition and task, then the second, ..."""
    seen: Counter[tuple[str, str]] = Counter()
    ranked = []
    for record in failures:
        kind = (record.condition, record.task)
        ranked.append((seen[kind], EpisodeJob(record.condition, record.task, record.index)))
        seen[kind] += 1
    return [job for _, job in sorted(ranked, key=lambda pair: pair[0])][:most]


def make_attributor(folder: str, suite_name: str, exec_horizon: int | None) -> Runner:
    """What a worker does with the `EpisodeJob` of a failure: returns its `Attribution`."""
    import torch

    from ..envs.tabletop.env import TabletopEnv
    from ..policies.policy import Policy
    from .interventions import Helped
    from .rollout import Player, make_env

    torch.set_num_threads(1)
    suite, policy = suite_named(suite_name), Policy.load(Path(folder)).eval()
    made = make_env(suite, policy)
    env = made.unwrapped
    if not isinstance(env, TabletopEnv):
        raise ValueError(
            f"suite {suite_name!r}: found {type(env).__name__}, wanted the tabletop, whose truth can be given"
        )

    def run(job: EpisodeJob) -> Attribution:
        def play(stage: str) -> bool | None:
            helped = Helped(policy, env, stage)
            horizon = 1 if stage == "execution" else exec_horizon
            player = Player(made, helped, suite, horizon, on_step=helped.note)
            player.begin_episode(job.task, job.index, job.condition)
            if not helped.testable():
                return None
            player.follow()
            return bool(player.info["success"])

        return attribute(play)

    return run


def summarise_causes(found: Sequence[Attribution]) -> dict[str, Any]:
    """Shares of causes with Wilson's intervals, and how often each stage that was looked at could not be tested."""
    summary: dict[str, Any] = {"failures": len(found)}
    for cause in (*STAGES, None):
        share = proportion(sum(one.cause == cause for one in found), len(found))
        name = cause or "unexplained"
        summary |= {f"{name}_share": share.rate, f"{name}_ci95": [share.low, share.high]}
    for stage in STAGES:
        summary[f"{stage}_not_testable"] = sum(one.evidence.get(stage) == NOT_TESTABLE for one in found)
    return summary


def show_causes(found: Mapping[str, Any], console: Console | None = None) -> None:
    """The numbers as a table."""
    console = console or Console()
    if not found["failures"]:
        console.print("no failures to attribute")
        return
    table = Table(title=f"{found['failures']} failures: what the truth in place of one stage heals")
    for column in ("stage", "failures healed first", "95% interval", "not testable"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for name in (*STAGES, "unexplained"):
        low, high = found[f"{name}_ci95"]
        table.add_row(
            name,
            f"{found[f'{name}_share']:.1%}",
            f"{low:.1%} to {high:.1%}",
            str(found.get(f"{name}_not_testable", "")),
        )
    console.print(table)
