"""Instructions in a row without a reset: the world goes on, and the first failure ends the chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deixis.cli import main
from deixis.envs.suites import suite_named
from deixis.envs.tabletop.env import TabletopEnv
from deixis.eval.chains import LENGTH, run_chain, summarise_chains
from deixis.eval.planted import PlantedPolicy
from deixis.eval.results import EpisodeRecord, read_table
from deixis.eval.rollout import Player

SUITE = suite_named("tabletop-demo")


def test_the_expert_carries_out_chain_after_chain_in_a_world_that_goes_on(env: TabletopEnv) -> None:
    chains = []
    for index in range(6):
        chains.append(run_chain(Player(env, PlantedPolicy(env), SUITE), SUITE, index, "expert", {}))
        moved = [np.linalg.norm(s.position[:2] - (o.x, o.y)) for s, o in zip(env.states, env.objects, strict=True)]
        assert max(moved) > 0.05, "things lie where the whole chain has left them"
        assert [r.condition for r in chains[-1]] == [f"chain-{n + 1}" for n in range(len(chains[-1]))]
        assert {r.index for r in chains[-1]} == {index} and len({r.instruction for r in chains[-1]}) > 1
    found = summarise_chains(chains)
    assert found["chains"] == 6 and found["average_length"] >= 4, [[r.success for r in chain] for chain in chains]
    again = run_chain(Player(env, PlantedPolicy(env), SUITE), SUITE, 2, "expert", {})
    assert [(r.instruction, r.steps, r.success) for r in again] == [
        (r.instruction, r.steps, r.success) for r in chains[2]
    ]


def test_the_first_failure_ends_a_chain(env: TabletopEnv) -> None:
    chain = run_chain(Player(env, PlantedPolicy(env, "disordered"), SUITE), SUITE, 0, "disordered", {})
    assert [r.success for r in chain] == [False] and chain[0].steps == SUITE.max_steps


def test_what_is_asked_next_stands_on_the_table_and_is_new(env: TabletopEnv) -> None:
    for seed in range(4):
        env.reset(seed=seed, options={"task": "lift"})
        env.data.qpos[env.model.joint(env.objects[0].name).qposadr[0] + 2] += 0.3  # it hangs in the air
        env.step(np.zeros(5))
        for number in range(1, 5):
            asked = env.ask_next("lift", number)
            assert asked is not None
            observation, info = asked
            assert observation["instruction"] == info["instruction"] and not info["success"]
            assert info["goal"]["target"] != env.objects[0].name
            assert info["first_touched"] is None and info["first_moved"] is None


def outcomes(make: Callable[..., EpisodeRecord], *successes: bool) -> list[EpisodeRecord]:
    return [make(condition=f"chain-{n + 1}", success=success) for n, success in enumerate(successes)]


def test_lengths_are_counted(make_record: Callable[..., EpisodeRecord]) -> None:
    chains = [
        outcomes(make_record, True, True, False),
        outcomes(make_record, False),
        outcomes(make_record, *[True] * LENGTH),
        outcomes(make_record, True, True, True),
    ]
    found = summarise_chains(chains)
    assert found["average_length"] == pytest.approx((2 + 0 + 5 + 3) / 4) and found["cut_short"] == 1
    assert [found[f"success_at_{length}"] for length in range(1, 6)] == [0.75, 0.75, 0.5, 0.25, 0.25]
    assert sum(found[f"success_at_{length}"] for length in range(1, 6)) == pytest.approx(found["average_length"])


def test_the_command_writes_table_and_record(policy_folder: Path, tmp_path: Path) -> None:
    command = ["eval", str(policy_folder), "--chains", "2", "--out", str(tmp_path), "--eval.workers", "2"]
    assert main([*command, "--eval.exec_horizon", "16"]) == 0
    rows = read_table(tmp_path / "chains.parquet")
    assert [(r.index, r.condition) for r in rows] == [(0, "chain-1"), (1, "chain-1")]
    record = json.loads((tmp_path / "chains.json").read_text())
    assert record["metrics"]["chains"] == 2 and record["metrics"]["average_length"] == 0
    assert record["metrics"]["success_at_1_ci95.low"] == 0


def test_what_cannot_be_run_is_refused(policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(policy_folder), "--chains", "many", "--out", str(tmp_path)]) == 1
    assert "--chains: found 'many'" in capsys.readouterr().err
