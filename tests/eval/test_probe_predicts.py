"""Rank correlation of checks with success: exact where ranks are known, and silent where backbones are few."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from deixis.eval.probe.predicts import predict
from deixis.eval.statistics import proportion


def check_of(name: str, skill: float, logme: float) -> Any:
    answer = SimpleNamespace(skill=SimpleNamespace(value=skill), cheap={"logme": logme})
    return SimpleNamespace(name=name, answers={"named_position": answer})


def test_correlations_are_those_of_the_ranks() -> None:
    skills, successes = [0.1, 0.9, 0.5, 0.7, 0.3], [3, 80, 20, 60, 10]
    checks = [check_of(str(n), skill, -skill) for n, skill in enumerate(skills)]
    found = predict(checks, {str(n): proportion(k, 100) for n, k in enumerate(successes)})
    assert found is not None
    metrics = found.numbers()
    assert metrics["n_backbones"] == 5
    assert metrics["spearman_named_position"] == pytest.approx(1)
    assert metrics["spearman_named_position_logme"] == pytest.approx(-1)
    low, high = metrics["spearman_named_position_ci95"]
    assert 0.5 < low <= high <= 1
    assert metrics["success_rate_1"] == 0.8
    shown = found.shown()
    assert shown["rows"][0]["name"] == "named_position" and shown["charts"][0][0] == "named_position"
    assert shown["charts"][0][1].count("<circle") == 5


def test_what_says_the_same_of_all_predicts_nothing() -> None:
    checks = [check_of(str(n), 0.5, n) for n in range(6)]
    found = predict(checks, {str(n): proportion(n, 10) for n in range(6)})
    assert found is not None and found.correlations["named_position"][0] == 0


def test_it_is_scipys_and_its_interval_covers() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(40):
        values, successes = rng.random(16), rng.integers(0, 8, 16) * 10
        checks = [check_of(str(n), float(value), 0.0) for n, value in enumerate(values)]
        found = predict(checks, {str(n): proportion(int(k), 100) for n, k in enumerate(successes)})
        assert found is not None
        correlation, low, high = found.correlations["named_position"]
        assert correlation == pytest.approx(spearmanr(values, successes)[0])
        covered += low < 0 < high
    assert covered >= 34, "unrelated numbers"


def test_three_backbones_are_too_few() -> None:
    checks = [check_of(str(n), 0.1 * n, 0.0) for n in range(3)]
    assert predict(checks, {str(n): proportion(n, 10) for n in range(3)}) is None
