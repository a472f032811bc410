"""Scores equal those of scikit-learn, leave out what they say they leave out, and call chance chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, r2_score

from deixis.eval.probe.scores import Score, chance, mean_of, score

from .probe_inputs import classes, flags, regression

BLOCKS = np.arange(400) % 8


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), ties=st.booleans())
def test_average_precision_is_scikit_learns(seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.random((400, 3)) < (0.1, 0.5, 0.9)
    said = rng.normal(size=(400, 3)) + truth
    said = said.round(0 if ties else 6)
    found = score(flags(truth), said, BLOCKS)
    wanted = np.mean([average_precision_score(truth[:, i], said[:, i]) for i in range(3)])
    assert found.value == pytest.approx(wanted, abs=1e-9)
    left = BLOCKS != 3
    without = np.mean([average_precision_score(truth[left, i], said[left, i]) for i in range(3)])
    assert found.without[3] == pytest.approx(without, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_r2_and_macro_f1_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(400, 2)) * (1, 30)
    said = truth + rng.normal(size=truth.shape) * (0.5, 20)
    found, left = score(regression(truth), said, BLOCKS), BLOCKS != 2
    target = regression(truth).values
    assert found.value == pytest.approx(r2_score(target, said), abs=1e-6)
    assert found.without[2] == pytest.approx(r2_score(target[left], said[left]), abs=1e-6)
    of = rng.integers(0, 4, 400)
    likely = np.eye(4)[of] + rng.normal(size=(400, 4))
    named = (likely / np.bincount(of, minlength=4)).argmax(1)
    found = score(classes(of, 4), likely, BLOCKS)
    assert found.value == pytest.approx(f1_score(of, named, average="macro"), abs=1e-9)
    assert found.without[2] == pytest.approx(f1_score(of[left], named[left], average="macro"), abs=1e-9)


def test_chance_is_what_a_constant_gets() -> None:
    rng = np.random.default_rng(0)
    rare = flags(rng.random((400, 2)) < (0.05, 0.6))
    assert chance(rare, BLOCKS).value == pytest.approx(rare.values.mean(0).mean())
    assert score(rare, np.ones((400, 2)), BLOCKS).value == pytest.approx(chance(rare, BLOCKS).value)
    common = rng.choice(3, 100_000, p=(0.7, 0.2, 0.1))
    guesses = {
        rates: f1_score(common, rng.choice(3, 100_000, p=rates), average="macro")
        for rates in ((0.7, 0.2, 0.1), (1.0, 0.0, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.3, 0.2))
    }
    assert chance(classes(common, 3), np.zeros(100_000, int)).value == pytest.approx(guesses[0.7, 0.2, 0.1], abs=0.01)
    assert max(guesses, key=lambda rates: guesses[rates]) == (0.7, 0.2, 0.1)
    numbers = regression(rng.normal(size=(400, 1)))
    assert score(numbers, np.full((400, 1), numbers.values.mean()), BLOCKS).value == pytest.approx(0, abs=1e-6)
    assert chance(numbers, BLOCKS).value == 0


def test_what_does_not_count_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    target = regression(rng.normal(size=(400, 2)))
    said = target.values + rng.normal(size=(400, 2))
    target.counts[::3] = False
    found = score(target, said, BLOCKS)
    said[::3] = 1e6
    assert score(target, said, BLOCKS).value == pytest.approx(found.value)


def test_intervals_cover() -> None:
    """R2 of a linear truth with noise of equal strength is one half; frames of an episode share their noise in part."""
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        blocks = np.repeat(np.arange(20), 20)
        signal, shared = rng.normal(size=400), np.repeat(rng.normal(size=20), 20)
        truth = signal + np.sqrt(0.5) * (shared + rng.normal(size=400))
        low, high = score(regression(truth), signal[:, None], blocks).ci95
        covered += low <= 0.5 <= high
    assert covered >= 0.85 * 200  # 20 blocks are few: 0.95 is reached from many on


def test_differences_are_paired_and_draws_widen_intervals() -> None:
    one, other = (Score(value, np.array([value - 0.1, value + 0.1, value])) for value in (0.7, 0.5))
    assert (one - other).value == pytest.approx(0.2)
    assert (one - other).half == pytest.approx(0)
    drawn = mean_of([Score(value, np.full(5, value)) for value in (0.1, 0.2, 0.3)])
    assert drawn.value == pytest.approx(0.2)
    assert drawn.half == pytest.approx(2.776 * 0.1 / np.sqrt(3), rel=1e-3)
    assert one.over(other).value == pytest.approx(0.4)
