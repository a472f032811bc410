"""The modality-collapse test: what is ignored is named, what is used is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from deixis.cli import main
from deixis.envs.suites import suite_named
from deixis.eval.collapse import (
    MODALITIES,
    REDRAWN,
    REPLACEMENTS,
    Pair,
    PairOutcome,
    judge_pair,
    pairs_of,
    show_collapse,
    summarise,
)
from deixis.eval.config import EvalConfig
from deixis.eval.results import EpisodeRecord, read_table
from deixis.eval.rollout import make_env
from deixis.policies.policy import Policy

SUITE = replace(suite_named("tabletop-demo"), max_steps=5)


def planted(folder: Path, blind: str | None) -> Policy:
    """The small policy with a part that says nothing: of zeros, whatever goes in comes out alike."""
    policy = Policy.load(folder)
    torch.manual_seed(1)
    for name, part in policy.parts.items():
        for parameter in part.parameters():
            if name == blind:
                parameter.data.zero_()
            elif parameter.ndim > 1:  # sensitive to all it has
                parameter.data.normal_(0, 2 / parameter[0].numel() ** 0.5)
    return policy


def blind_to_proprio(policy: Policy) -> Policy:
    def forget(_module: torch.nn.Module, arguments: tuple) -> tuple:
        (seen,) = arguments
        return (replace(seen, proprio=torch.zeros_like(seen.proprio)),)

    policy.backbone.register_forward_pre_hook(forget)
    return policy


def ignored(found: dict) -> list[str]:
    return [name for name in MODALITIES if found.get(name, {}).get("ignored")]


def judged(policy: Policy) -> dict:
    env = make_env(SUITE, policy)
    judge = partial(judge_pair, env, policy, SUITE, exec_horizon=1, hash_of_policy="0", versions={})
    found = summarise([judge(pair) for pair in pairs_of(SUITE, EvalConfig(episodes=2))])
    env.close()
    return found


@pytest.mark.parametrize(("part", "modality"), [("text", "language"), ("image", "image"), (None, "proprioception")])
def test_a_planted_blind_policy_is_named_and_nothing_else(policy_folder: Path, part: str | None, modality: str) -> None:
    policy = planted(policy_folder, part)
    found = judged(policy if part else blind_to_proprio(policy))
    assert ignored(found) == [modality]
    for how in REPLACEMENTS:
        assert found[modality][how]["action_change"] == 0.0
        assert found[modality][how]["success_rate"] == found["intact"]["success_rate"]


def test_a_policy_that_uses_all_is_not_accused(policy_folder: Path) -> None:
    found = judged(planted(policy_folder, None))
    assert ignored(found) == []
    assert set(MODALITIES) < set(found)


def test_every_episode_has_one_partner_with_another_instruction_where_there_is_one() -> None:
    pairs = pairs_of(SUITE, EvalConfig(episodes=60))
    episodes = [episode for pair in pairs for episode in pair]
    assert len(pairs) == 30 and len(set(episodes)) == 60
    assert all(pair.first[0] != pair.second[0] for pair in pairs)
    alone = replace(SUITE, tasks=("lift",))
    assert pairs_of(alone, EvalConfig(episodes=4)) == [Pair(("lift", 0), ("lift", 1)), Pair(("lift", 2), ("lift", 3))]
    assert len(pairs_of(alone, EvalConfig(episodes=1))) == 1


def outcome(record: Callable[..., EpisodeRecord], moved: dict[str, float], same_words: bool = False) -> PairOutcome:
    conditions = ["intact", *(name for name in moved if name != REDRAWN)]
    records = [record(condition=name, index=i, success=name == "intact") for name in conditions for i in range(2)]
    squares = {name: np.full(4, value**2) for name, value in moved.items()}
    return PairOutcome(records, np.array([[1.0, 0.0], [-1.0, 0.0]] * 2), squares, same_words)


def test_changes_are_shares_of_the_actions_own_variation(make_record: Callable[..., EpisodeRecord]) -> None:
    names = [f"{modality}-{how}" for modality in MODALITIES for how in REPLACEMENTS]
    moved = dict(zip(names, [0.04, 0.04, 0.04, 0.06, 0.5, 0.0], strict=True)) | {REDRAWN: 0.25}
    found = summarise([outcome(make_record, moved)] * 2)
    assert found["redrawn_action_change"] == pytest.approx(0.25)
    assert found["image"]["noise"]["action_change"] == pytest.approx(0.04)
    assert ignored(found) == ["image"], "one replacement that moves actions is enough to be used"
    assert found["intact"]["success_rate"] == 1.0 and found["language"]["other"]["success_rate"] == 0.0
    assert found["intact"]["success_ci95"] == pytest.approx([0.5101, 1.0], abs=1e-4), "Wilson, 4 of 4"
    show_collapse(found, console := Console(record=True, width=120))
    shown = console.export_text()
    assert "ignored" in shown and "4.0%" in shown and "25.0%" in shown


def test_what_cannot_be_tested_is_not_guessed(make_record: Callable[..., EpisodeRecord]) -> None:
    names = [f"{modality}-{how}" for modality in MODALITIES[1:] for how in REPLACEMENTS]
    found = summarise([outcome(make_record, dict.fromkeys([*names, REDRAWN], 0.0), same_words=True)])
    assert "image" not in found
    assert list(found["language"]) == ["ignored", "noise"]
    assert ignored(found) == ["language", "proprioception"]
    show_collapse(found, console := Console(record=True, width=120))
    assert "not testable" in console.export_text()


def test_the_command_writes_table_and_record(policy_folder: Path, tmp_path: Path) -> None:
    out, record = tmp_path / "run", tmp_path / "collapse.json"
    command = ["eval", str(policy_folder), "--collapse", "--eval.episodes", "2", "--eval.workers", "1"]
    assert main([*command, "--eval.exec_horizon", "16", "--out", str(out), "--json", str(record)]) == 0
    table = read_table(out / "collapse.parquet")
    assert len(table) == 2 * 7
    assert {r.condition for r in table} == {"intact", *(f"{m}-{how}" for m in MODALITIES for how in REPLACEMENTS)}
    written = json.loads(record.read_text())
    assert written["name"] == "collapse" and "--collapse" in written["command"]
    assert written["metrics"]["episodes"] == 2
    assert not (out / "episodes.parquet").exists()
