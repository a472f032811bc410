"""Is one policy better than another? Both run the same episodes, which then count in pairs.

Outcomes of one scene are alike for both policies, so pairs tell more than two rates do: what counts are the episodes in
which one policy alone succeeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from scipy.special import betaln
from scipy.stats import binom, binomtest

RESAMPLES = 10_000


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same episodes.

    Attributes:
        episodes: how many pairs.
        first, second: mean score of each, the success rate where episodes are marked 0 or 1.
        difference: first - second; low, high: its 95% interval (`bootstrap_interval`).
        only_first, only_second: episodes in which that policy alone succeeds.
        p_value: of `mcnemar`.
        evidence: of `evidence`.
    """

    episodes: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    only_first: int
    only_second: int
    p_value: float
    evidence: float


def compare(
    first: Sequence[float], second: Sequence[float], succeeded: tuple[Sequence[bool], Sequence[bool]] | None = None
) -> Comparison:
    """Scores in [0, 1] of two policies, episode by episode; succeeded: whether each was a success, where a score of 1
    does not say it. Raises ValueError unless there are as many of both, and at least one.
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(
            f"found {len(first)} and {len(second)} episodes, wanted the same of both policies, at least one"
        )
    marks = np.asarray([first, second], float)
    won = marks == 1 if succeeded is None else np.asarray(succeeded, bool)
    only_first, only_second = int((won[0] & ~won[1]).sum()), int((won[1] & ~won[0]).sum())
    low, high = bootstrap_interval(marks[0] - marks[1])
    return Comparison(
        episodes=len(first),
        first=float(marks[0].mean()),
        second=float(marks[1].mean()),
        difference=float((marks[0] - marks[1]).mean()),
        low=low,
        high=high,
        only_first=only_first,
        only_second=only_second,
        p_value=mcnemar(only_first, only_second),
        evidence=evidence(only_first, only_second),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value of McNemar's test that both succeed equally often.

    An episode that only one of them solves is then as likely the first's as the second's.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12,
    1947; exact form with the binomial distribution.
    """
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def evidence(only_first: int, only_second: int) -> float:
    """How much likelier these counts are if one policy is better, by an amount averaged over, than if both are alike.

    One may look after every episode and stop as soon as it exceeds 1/a: two policies that are alike are then called
    different with a probability of at most a, however often one looks (Ville's inequality). The amount, that is the
    chance that the first alone solves an episode that only one of them solves, has Jeffreys' prior Beta(1/2, 1/2).
    Source: J. Ville, "Etude critique de la notion de collectif", 1939; A. Ramdas et al., "Game-theoretic statistics and
    safe anytime-valid inference", arXiv:2210.01948.
    """
    discordant = only_first + only_second
    return exp(betaln(only_first + 0.5, only_second + 0.5) - betaln(0.5, 0.5) + discordant * log(2))


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


def power(episodes: int, first: float, second: float, error_rate: float = 0.05) -> float:
    """Chance that `mcnemar` finds two success rates different in so many pairs of episodes, at that error rate.

    Outcomes of the two policies in one scene are taken for independent; where the same scenes are hard for both, fewer
    episodes are enough.
    """
    only_first, only_second = first * (1 - second), second * (1 - first)
    differing = only_first + only_second
    if not differing:
        return 0.0
    # Counts that all but never occur, once in 10**12, would take most of the time.
    least, most = binom.ppf([1e-12, 1 - 1e-12], episodes, differing)
    discordant = np.arange(max(least, 0), most + 1)
    likely = binom.pmf(discordant, episodes, differing)
    # The largest count of the rarer side that is rejected: both tails together are at most the error rate.
    largest = binom.ppf(error_rate / 2, discordant, 0.5)
    largest -= 2 * binom.cdf(largest, discordant, 0.5) > error_rate
    share = only_first / differing
    rejected = binom.cdf(largest, discordant, share) + binom.sf(discordant - largest - 1, discordant, share)
    return float((likely * np.where(largest >= 0, rejected, 0.0)).sum())


def episodes_needed(first: float, second: float, wanted: float = 0.8, error_rate: float = 0.05) -> int:
    """The fewest pairs of episodes from which on `power` is at least `wanted`.

    Raises ValueError unless both are success rates and differ, and `wanted` lies between the error rate and 1.
    """
    if not (0 <= first <= 1 and 0 <= second <= 1) or first == second:
        raise ValueError(f"success rates: found {first} and {second}, wanted two different numbers from 0 to 1")
    if not 0 < error_rate < wanted < 1:
        raise ValueError(f"power: found {wanted} at error rate {error_rate}, wanted 0 < error rate < power < 1")
    enough = 1
    while power(enough, first, second, error_rate) < wanted:
        enough *= 2
    low = enough // 2
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (low, middle) if power(middle, first, second, error_rate) >= wanted else (middle, enough)
    # Counts are whole numbers, so power goes up in a saw: take what stays enough over the next teeth.
    teeth = range(enough, enough + 40)
    return max([n + 1 for n in teeth if power(n, first, second, error_rate) < wanted], default=enough)
