"""Confidence intervals for a success rate, for a mean score, and for the mean of any numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 10_000


@dataclass(frozen=True)
class Proportion:
    """A rate with its interval, all in [0, 1], and the counts that it stands on."""

    rate: float
    low: float
    high: float
    successes: int
    episodes: int


def wilson_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval (low, high), without continuity correction.

    Its coverage is close to nominal on average, also for few episodes and for rates near 0 or 1.
    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    Raises ValueError unless 0 <= successes <= episodes, episodes >= 1 and 0 < confidence < 1.
    """
    return _interval(successes, episodes, confidence, "wilson")


def clopper_pearson_interval(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson "exact" interval (low, high).

    Its coverage is never below nominal, at the price of being wider than Wilson's.
    Source: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits", Biometrika 26, 1934.
    Raises ValueError unless 0 <= successes <= episodes, episodes >= 1 and 0 < confidence < 1.
    """
    return _interval(successes, episodes, confidence, "exact")


def proportion(successes: int, episodes: int, confidence: float = 0.95) -> Proportion:
    """A success rate with its Wilson interval."""
    low, high = wilson_interval(successes, episodes, confidence)
    return Proportion(successes / episodes, low, high, successes, episodes)


def _interval(successes: int, episodes: int, confidence: float, method: str) -> tuple[float, float]:
    if episodes < 1 or not 0 <= successes <= episodes:
        raise ValueError(f"found {successes} successes in {episodes} episodes, wanted 0 <= successes <= episodes >= 1")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: found {confidence}, wanted a number between 0 and 1")
    interval = binomtest(successes, episodes).proportion_ci(confidence, method=method)
    return float(interval.low), float(interval.high)


def mean_score(scores: Sequence[float]) -> dict[str, Any]:
    """Mean of marks in [0, 1] as "score", and its 95% interval from the standard error as "score_ci95".

    Where all marks are 0, or all are 1, the standard error says nothing, and the interval is Wilson's.
    """
    mean = fmean(scores)
    if mean in (0, 1):
        return {"score": mean, "score_ci95": list(wilson_interval(round(mean) * len(scores), len(scores)))}
    half = 1.96 * stdev(scores) / len(scores) ** 0.5 if len(scores) > 1 else 1.0
    return {"score": mean, "score_ci95": [max(0.0, mean - half), min(1.0, mean + half)]}


def bootstrap_interval(
    numbers: Sequence[float] | np.ndarray, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of numbers, one for each episode; the same for the same numbers."""
    rng = np.random.default_rng(seed)
    values, counts = np.unique(np.asarray(numbers, float), return_counts=True)
    drawn = rng.multinomial(counts.sum(), counts / counts.sum(), RESAMPLES)
    means = drawn @ values / counts.sum()
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
