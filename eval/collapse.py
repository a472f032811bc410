"""Modality collapse: what a policy does where one of image, words and proprioception is taken from it.

Each modality is replaced by noise, and by another episode's. Two things are measured: how far actions move on the very
same observations, and what becomes of success. A policy whose actions hardly move does not use the modality, however
high its success rate is (Winterbottom et al. 2020, arXiv:2012.10210; Fei et al. 2025, arXiv:2510.13626).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ..envs.suites import Suite, suite_named
from ..policies.interfaces import Observation
from ..policies.policy import Policy
from .config import EvalConfig
from .jobs import run_jobs
from .provenance import library_versions, policy_hash
from .results import EpisodeRecord, write_table
from .rollout import make_env, run_episode
from .statistics import proportion
from .workers import Runner

MODALITIES = ("image", "language", "proprioception")
REPLACEMENTS = ("noise", "other")
INTACT = "intact"
REDRAWN = "redrawn"  # the same observation with other noise of the policy's own
EVERY = 4  # decisions between two at which actions are compared
IGNORED = 0.05  # share of the actions' own variation below which they have not moved


class Pair(NamedTuple):
    """Two episodes, each the other's donor, by (task, index)."""

    first: tuple[str, int]
    second: tuple[str, int]

    def __str__(self) -> str:
        return "episodes {} {} and {} {}".format(*self.first, *self.second)


@dataclass(frozen=True)
class PairOutcome:
    """What came of a pair.

    Attributes:
        records: of every episode run; the condition says what was replaced.
        actions: first actions of intact decisions, normalised [K, A].
        moved: "MODALITY-REPLACEMENT" or "redrawn" -> how far each went, squared and summed over dimensions [K].
        same_words: whether both have the same instruction.
    """

    records: list[EpisodeRecord]
    actions: np.ndarray
    moved: dict[str, np.ndarray]
    same_words: bool


def pairs_of(suite: Suite, config: EvalConfig) -> list[Pair]:
    """Half as many pairs as there are episodes: the same index of two tasks, or two indices where there is one."""
    tasks, count = suite.tasks, max(1, config.episodes // 2)
    if len(tasks) == 1:
        return [Pair((tasks[0], 2 * i), (tasks[0], 2 * i + 1)) for i in range(count)]
    both = [(tasks[i % len(tasks)], tasks[(i + 1) % len(tasks)]) for i in range(count)]
    return [Pair((a, i // len(tasks) * 2), (b, i // len(tasks) * 2 + 1)) for i, (a, b) in enumerate(both)]


def judge_pair(
    env: gymnasium.Env,
    policy: Policy,
    suite: Suite,
    pair: Pair,
    exec_horizon: int | None,
    hash_of_policy: str,
    versions: dict[str, str],
) -> PairOutcome:
    """Run both episodes as they are and with each replacement, and compare actions on what was seen."""
    run = partial(
        run_episode,
        env,
        policy,
        suite,
        condition="correct",
        policy_hash=hash_of_policy,
        versions=versions,
        exec_horizon=exec_horizon,
    )
    records, seen = [], []
    for episode in pair:
        looked: list[Observation] = []

        def watch(observation: Observation, looked: list[Observation] = looked) -> Observation:
            looked.append(observation)
            return observation

        records.append(replace(run(*episode, through=watch), condition=INTACT))
        seen.append(looked)
    actions: list[np.ndarray] = []
    moved: dict[str, list[float]] = {REDRAWN: []}
    for own, donor, episode in ((0, 1, pair.first), (1, 0, pair.second)):
        intact = {at: _first_action(policy, seen[own][at], at) for at in range(0, len(seen[own]), EVERY)}
        seed = suite.policy_seed(*episode)
        for modality, how in product(_modalities(policy), REPLACEMENTS):
            alter = _alteration(policy, modality, seen[donor] if how == "other" else None, seed)
            name = f"{modality}-{how}"
            records.append(replace(run(*episode, through=_counted(alter)), condition=name))
            moved.setdefault(name, [])
            for at, action in intact.items():
                moved[name].append(_distance(action, _first_action(policy, alter(seen[own][at], at), at)))
        for at, action in intact.items():
            actions.append(action)
            moved[REDRAWN].append(_distance(action, _first_action(policy, seen[own][at], at + 1_000_003)))
    same_words = records[0].instruction == records[1].instruction
    return PairOutcome(records, np.stack(actions), {k: np.array(v) for k, v in moved.items()}, same_words)


def summarise(outcomes: Sequence[PairOutcome]) -> dict[str, Any]:
    """What was measured of each modality, and which are ignored.

    `action_change`: root mean square of how far actions moved on the same observations, as a share of the root mean
    square of their own variation; `redrawn_action_change` is the same for other noise of the policy, where it has any.
    `success_rate` with its 95% Wilson interval, in closed loop. A modality is `ignored` (1, else 0) where neither
    replacement moved actions by more than `IGNORED`. What the policy has no input for is left out, and so is another
    episode's text where all have the same.
    """
    actions = np.concatenate([outcome.actions for outcome in outcomes])
    variation = max(float(np.sqrt(np.square(actions - actions.mean(0)).sum(-1).mean())), 1e-12)

    def change(name: str) -> float:
        squares = np.concatenate([outcome.moved[name] for outcome in outcomes])
        return float(np.sqrt(squares.mean())) / variation

    def success(condition: str) -> dict[str, Any]:
        chosen = [r.success for outcome in outcomes for r in outcome.records if r.condition == condition]
        rate = proportion(sum(chosen), len(chosen))
        return {"success_rate": rate.rate, "success_ci95": [rate.low, rate.high]}

    found: dict[str, Any] = {
        "episodes": sum(r.condition == INTACT for outcome in outcomes for r in outcome.records),
        "redrawn_action_change": change(REDRAWN),
        INTACT: success(INTACT),
    }
    one_text = all(outcome.same_words for outcome in outcomes)
    for modality in MODALITIES:
        if f"{modality}-noise" not in outcomes[0].moved:
            continue
        tests = {
            how: {"action_change": change(f"{modality}-{how}"), **success(f"{modality}-{how}")}
            for how in REPLACEMENTS
            if not (how == "other" and modality == "language" and one_text)
        }
        ignored = all(test["action_change"] < IGNORED for test in tests.values())
        found[modality] = {"ignored": int(ignored), **tests}
    return found


def judge_collapse(folder: Path, config: EvalConfig, out_dir: Path, console: Console | None = None) -> dict[str, Any]:
    """Judge a policy with each of its inputs replaced; episodes go to `out_dir`/collapse.parquet.

    Returns what `summarise` says. Raises WorkerError as `success.evaluate` does.
    """
    suite = suite_named(config.suite)
    pairs = pairs_of(suite, config)
    arguments = (str(folder), suite.name, config.exec_horizon, policy_hash(folder), library_versions())
    outcomes: list[PairOutcome] = run_jobs(
        pairs,
        _make_pair_runner,
        arguments,
        config.workers,
        "pairs of episodes",
        console or Console(),
        lambda outcome: [record.success for record in outcome.records if record.condition == INTACT],
    )
    write_table([record for outcome in outcomes for record in outcome.records], out_dir / "collapse.parquet")
    return summarise(outcomes)


def show_collapse(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `summarise` found as a table."""
    table = Table(title=f"{found['episodes']} episodes, success {_rate(found[INTACT])} as they are")
    for column in ("replaced", "by", "actions moved", "success", "verdict"):
        table.add_column(column, justify="left" if column in ("replaced", "by", "verdict") else "right")
    for modality in MODALITIES:
        if modality not in found:
            table.add_row(modality, "-", "-", "-", "not testable: the policy has no such input")
            continue
        verdict = "ignored" if found[modality]["ignored"] else "used"
        for how in REPLACEMENTS:
            if how in found[modality]:
                test = found[modality][how]
                table.add_row(modality, how, f"{test['action_change']:.1%}", _rate(test), verdict)
                verdict = ""
    console = console or Console()
    console.print(table)
    console.print(
        "actions moved: on the same observations, as a share of their own variation; other noise of the policy moves "
        f"them {found['redrawn_action_change']:.1%}"
    )


def _rate(of: Mapping[str, Any]) -> str:
    return "{:.1%} ({:.1%} to {:.1%})".format(of["success_rate"], *of["success_ci95"])


def _make_pair_runner(
    folder: str, suite_name: str, exec_horizon: int | None, hash_of_policy: str, versions: dict[str, str]
) -> Runner:
    torch.set_num_threads(1)
    policy, suite = Policy.load(folder), suite_named(suite_name)
    env = make_env(suite, policy)
    return lambda pair: judge_pair(env, policy, suite, pair, exec_horizon, hash_of_policy, versions)


def _modalities(policy: Policy) -> tuple[str, ...]:
    return MODALITIES if policy.cameras else MODALITIES[1:]


def _alteration(
    policy: Policy, modality: str, donor: Sequence[Observation] | None, seed: int
) -> Callable[[Observation, int], Observation]:
    """What replaces a modality at the decision of this number: noise, or what the donor had then (or last)."""

    def alter(observation: Observation, number: int) -> Observation:
        rng = np.random.default_rng([seed, MODALITIES.index(modality), number])
        if donor is not None:
            other = donor[min(number, len(donor) - 1)]
        else:
            other = Observation(
                {camera: _noise_image(x, rng) for camera, x in observation.images.items()},
                _noise_proprio(policy, observation.proprio, rng),
                [_noise_words(text, rng) for text in observation.instruction],
            )
        if modality == "image":
            return replace(observation, images=other.images)
        if modality == "language":
            return replace(observation, instruction=other.instruction)
        return replace(observation, proprio=other.proprio)

    return alter


def _counted(alter: Callable[[Observation, int], Observation]) -> Callable[[Observation], Observation]:
    number = -1

    def through(observation: Observation) -> Observation:
        nonlocal number
        number += 1
        return alter(observation, number)

    return through


def _noise_image(like: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 256, tuple(like.shape), np.uint8))


def _noise_proprio(policy: Policy, like: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Anything within the range that training has seen."""
    within = torch.from_numpy(rng.uniform(-1, 1, tuple(like.shape)).astype(np.float32))
    return policy.proprio_normaliser.unnormalise(within)


def _noise_words(text: str, rng: np.random.Generator) -> str:
    """Letters in place of the words, as many as there were."""
    letters = rng.choice(list(ascii_lowercase + "   "), max(len(text), 12))
    return "".join(letters).strip()


def _first_action(policy: Policy, observation: Observation, number: int) -> np.ndarray:
    """The first action of a chunk, normalised [A]; the number decides the policy's noise."""
    chunk = policy.act(observation, [torch.Generator().manual_seed(number)])
    return policy.action_normaliser.normalise(chunk[0, 0].cpu()).numpy()


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.square(one - other).sum())
