"""The benchmark of evaluation measures what it promises, here on two episodes."""

from pathlib import Path

import pytest

from deixis.cli import main
from deixis.eval.bench import eval as evaluation
from deixis.eval.records import Record

SHARES = ("share_environment", "share_rendering", "share_policy", "share_rest")


def test_it_measures_all_that_is_promised(
    monkeypatch: pytest.MonkeyPatch, policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluation, "EPISODES", 2)
    monkeypatch.setattr(evaluation, "TURNS", 1)
    target = tmp_path / "bench-eval.json"
    assert main(["bench", "eval", "--policy", str(policy_folder), "--json", str(target)]) == 0
    metrics = Record.read(target).metrics
    assert metrics.keys() == {"episodes_per_minute", "overhead", *SHARES, "steps_per_episode"}
    assert sum(metrics[share] for share in SHARES) == pytest.approx(1)
    assert all(0 < metrics[share] < 1 for share in SHARES)
    assert metrics["episodes_per_minute"] > 0 and metrics["overhead"] > -1
    assert 1 <= metrics["steps_per_episode"] <= 80
    assert "episodes_per_minute" in capsys.readouterr().out


def test_without_a_policy_it_makes_one() -> None:
    policy = evaluation._policy(None)
    assert policy.config.head.kind == "regression"
    assert set(policy.cameras.values()) == {(64, 64)}


def test_loops_that_do_not_do_the_same_are_refused(monkeypatch: pytest.MonkeyPatch, policy_folder: Path) -> None:
    monkeypatch.setattr(evaluation, "EPISODES", 1)
    monkeypatch.setattr(evaluation, "TURNS", 1)
    monkeypatch.setattr(evaluation, "_bare", lambda *_: (79, True))
    with pytest.raises(RuntimeError, match=r"\('lift', 0\): found \(\d+, \w+\), wanted \(79, True\)"):
        evaluation.run(str(policy_folder))


@pytest.mark.parametrize(("name", "match"), [("eval", "no such file"), ("env", "--policy: found 'nowhere' for 'env'")])
def test_a_policy_that_cannot_be_run_is_said(name: str, match: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", name, "--policy", "nowhere"]) == 1
    assert match in capsys.readouterr().err
