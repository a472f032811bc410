"""Intervals against published values, and against simulation."""

import numpy as np
import pytest

from deixis.eval.statistics import (
    bootstrap_interval,
    clopper_pearson_interval,
    mean_score,
    proportion,
    wilson_interval,
)

# R. G. Newcombe, "Two-sided confidence intervals for the single proportion: comparison of seven methods",
# Statistics in Medicine 17, 1998, table I: methods 3 (score) and 5 (Clopper-Pearson).
PUBLISHED = [
    (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20, (0.0000, 0.1611), (0.0000, 0.1684)),
    (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
]


@pytest.mark.parametrize(("successes", "episodes", "wilson", "exact"), PUBLISHED)
def test_published_values(successes, episodes, wilson, exact):
    assert wilson_interval(successes, episodes) == pytest.approx(wilson, abs=5e-5)
    assert clopper_pearson_interval(successes, episodes) == pytest.approx(exact, abs=5e-5)


@pytest.mark.parametrize("rate", [0.05, 0.5, 0.8, 0.95])
def test_coverage(rate):
    """Of 20,000 simulated evaluations of 200 episodes, about 95% have an interval that holds the true rate."""
    successes = np.random.default_rng(0).binomial(200, rate, 20_000)
    for interval, least in ((wilson_interval, 0.93), (clopper_pearson_interval, 0.95)):
        bounds = {int(k): interval(int(k), 200) for k in np.unique(successes)}
        covered = np.mean([bounds[int(k)][0] <= rate <= bounds[int(k)][1] for k in successes])
        assert least <= covered <= 0.98


def test_symmetry_and_bounds():
    for interval in (wilson_interval, clopper_pearson_interval):
        low, high = interval(13, 40)
        assert interval(27, 40) == pytest.approx((1 - high, 1 - low))
        assert interval(0, 7)[0] == 0
        assert interval(7, 7)[1] == 1
        narrow, wide = interval(13, 40, 0.8), interval(13, 40, 0.99)
        assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_proportion():
    found = proportion(9, 10)
    assert (found.rate, found.successes, found.episodes) == (0.9, 9, 10)
    assert (found.low, found.high) == wilson_interval(9, 10)


@pytest.mark.parametrize(
    ("successes", "episodes", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)]
)
def test_impossible_counts_are_errors(successes, episodes, confidence):
    with pytest.raises(ValueError, match="found"):
        wilson_interval(successes, episodes, confidence)


def test_the_interval_of_a_mean_is_never_of_no_width():
    found = mean_score([0.2, 0.4, 0.6, 0.4])
    assert found["score"] == pytest.approx(0.4)
    half = 1.96 * (0.08 / 3) ** 0.5 / 2
    assert found["score_ci95"] == pytest.approx([0.4 - half, 0.4 + half])
    assert mean_score([0.0] * 20)["score_ci95"] == pytest.approx([0.0, 0.1611], abs=5e-5)
    assert mean_score([1.0] * 20)["score_ci95"] == pytest.approx([1 - 0.1611, 1.0], abs=5e-5)


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(2), 0
    for _ in range(400):
        hard = rng.random(100)  # the same scenes are hard for both policies, as they are in one world
        first, second = (0.5 * hard + 0.5 * rng.random(100)) < 0.7, (0.5 * hard + 0.5 * rng.random(100)) < 0.5
        truth = _TRUE_RATES[0.7] - _TRUE_RATES[0.5]
        low, high = bootstrap_interval(first.astype(float) - second)
        held += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.98


# P(U/2 + V/2 < x) of two uniform numbers: 2 x**2 below a half, 1 - 2 (1 - x)**2 above.
_TRUE_RATES = {0.7: 1 - 2 * 0.3**2, 0.5: 0.5}
