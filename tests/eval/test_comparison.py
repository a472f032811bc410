"""Paired comparison: published and hand-computed values, and error rates by simulation."""

from __future__ import annotations

from math import comb, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.eval.comparison import compare, evidence, mcnemar

COUNTS = st.integers(0, 60)


def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ() -> None:
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    assert mcnemar(4, 4) == 1.0 and mcnemar(0, 0) == 1.0
    # Agresti, Categorical Data Analysis (2002), table 10.1: 150 and 86 changed their mind; p is about 3e-5.
    assert mcnemar(150, 86) == pytest.approx(3.7e-5, rel=0.05)


@given(COUNTS, COUNTS)
def test_neither_policy_is_preferred(a: int, b: int) -> None:
    assert mcnemar(a, b) == pytest.approx(mcnemar(b, a))
    assert evidence(a, b) == pytest.approx(evidence(b, a))


def test_evidence_by_hand() -> None:
    assert evidence(0, 0) == pytest.approx(1)
    assert evidence(1, 0) == pytest.approx(1), "one episode says nothing about which is better on average"
    assert evidence(2, 0) == pytest.approx((3 / 8) * 4)  # the mean of p**2 under Beta(1/2, 1/2) is 3/8
    assert evidence(1, 1) == pytest.approx((1 / 8) * 4)
    n = 40  # Stirling: the mean of p**n is C(2n, n) / 4**n
    assert evidence(n, 0) == pytest.approx(comb(2 * n, n) / 4**n * 2**n)
    assert evidence(n, 0) == pytest.approx(2**n / (pi * n) ** 0.5, rel=0.01)


@given(COUNTS, COUNTS)
def test_alike_policies_expect_no_more_evidence(a: int, b: int) -> None:
    """A martingale: the next fair coin changes it by nothing on average."""
    assert (evidence(a + 1, b) + evidence(a, b + 1)) / 2 == pytest.approx(evidence(a, b), rel=1e-9)


def _pairs(rng: np.random.Generator, first: float, second: float, episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of two policies for which the same scenes are hard, as they are in one world."""
    hard = rng.random(episodes)
    return (0.5 * hard + 0.5 * rng.random(episodes)) < first, (0.5 * hard + 0.5 * rng.random(episodes)) < second


def test_two_policies_alike_are_seldom_called_different() -> None:
    """1,000 evaluations of 200 episodes, with one look at the end and with a look after every episode."""
    rng, fixed, ever = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        first, second = _pairs(rng, 0.6, 0.6, 200)
        one, other = np.cumsum(first & ~second), np.cumsum(second & ~first)
        fixed += mcnemar(int(one[-1]), int(other[-1])) <= 0.05
        looks = {(int(a), int(b)) for a, b in zip(one, other, strict=True)}
        ever += max(evidence(*look) for look in looks) >= 1 / 0.05
    assert fixed <= 50 + 3 * 7 and ever <= 50, "at most 5%: three standard deviations of luck for the first"
    assert ever > 0, "a test that never stops would pass, too"


def test_a_comparison_counts_pairs() -> None:
    found = compare([1, 1, 0, 1, 0], [1, 0, 0, 0, 1])
    assert (found.episodes, found.first, found.second) == (5, 0.6, 0.4)
    assert found.difference == pytest.approx(0.2)
    assert (found.only_first, found.only_second, found.p_value) == (2, 1, 1.0)
    assert found.low < 0 < found.high
    marked = compare([0.9, 0.2], [0.8, 0.1], ([True, False], [False, False]))
    assert marked.difference == pytest.approx(0.1) and (marked.only_first, marked.only_second) == (1, 0)
    assert marked.low == pytest.approx(marked.high), "every pair differs by as much"
    with pytest.raises(ValueError, match="the same of both"):
        compare([1], [])
