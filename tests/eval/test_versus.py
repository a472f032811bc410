"""Two policies over the same episodes: paired, in order, stopped when it is sure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from deixis.cli import main
from deixis.eval.comparison import evidence
from deixis.eval.results import EpisodeRecord, read_table
from deixis.eval.versus import compare_records, settled, show_comparison


def test_a_policy_is_not_better_than_itself(
    policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        command = ["eval", str(policy_folder), "--against", str(policy_folder), "--out", str(out)]
        command += ["--eval.episodes", "3", "--eval.exec_horizon", "16", "--eval.workers", str(workers)]
        assert main(command) == 0
        record = json.loads((out / "comparison.json").read_text())["metrics"]
        assert (record["episodes"], record["planned"], record["decided"]) == (3, 3, 0)
        assert record["difference"] == 0 and record["p_value"] == 1
        tables.append([replace(row, wall_s=0.0) for row in read_table(out / "comparison.parquet")])
    assert tables[0] == tables[1], "whatever the number of workers"
    assert tables[0][:3] == tables[0][3:], "the same episodes of both, which end alike"
    assert "not sure which is better" in capsys.readouterr().out


def test_it_is_settled_as_soon_as_the_evidence_is_enough(make_record: Callable[..., EpisodeRecord]) -> None:
    both, alone = ((make_record(success=True), make_record(success=second)) for second in (True, False))
    enough = next(n for n in range(100) if evidence(n, 0) >= 20)
    assert not settled([both] * 50 + [alone] * (enough - 1), 0.05)
    assert settled([both] * 50 + [alone] * enough, 0.05)
    assert not settled([both] * 50 + [alone] * enough, 0.01)


def test_pairs_are_of_one_episode(make_record: Callable[..., EpisodeRecord]) -> None:
    good, bad = make_record(index=1), make_record(index=1, success=False)
    found = compare_records([(good, bad)] * 8)
    assert (found.only_first, found.only_second, found.difference) == (8, 0, 1.0)
    with pytest.raises(ValueError, match="one episode of both"):
        compare_records([(good, make_record(index=2))])


def test_the_verdict_names_the_better_one(make_record: Callable[..., EpisodeRecord]) -> None:
    found = compare_records([(make_record(success=False), make_record())] * 12)
    values = {**found.__dict__, "planned": 40, "decided": 1}
    show_comparison(values, ("old", "new"), console := Console(record=True, width=120))
    said = console.export_text()
    assert "new is better: difference -100.0 points" in said and "12 of at most 40" in said


def test_one_question_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--plan", "0.1", "--collapse"]) == 1
    assert "--collapse and --plan, wanted one at a time" in capsys.readouterr().err
    assert main(["eval", "--plan", "ten"]) == 1
    assert "wanted a number such as 0.1" in capsys.readouterr().err
    assert main(["eval", "--eval.error_rate", "0.7"]) == 2
    assert "eval.error_rate: found 0.7" in capsys.readouterr().err
