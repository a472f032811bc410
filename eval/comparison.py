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
from scipy.stats import binomtest

from .statistics import bootstrap_interval


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
