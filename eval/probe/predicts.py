"""Does the check predict success? Rank correlation of what it says of backbones with what policies on them reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ..statistics import Proportion
from .check import Check

LEAST = 4  # backbones
RESAMPLES = 2000


@dataclass(frozen=True)
class Prediction:
    """Rank correlations over backbones.

    Attributes:
        successes: of the policy on each backbone, by its name.
        correlations: what is said -> (Spearman's correlation, 95% interval).
    """

    successes: Mapping[str, Proportion]
    correlations: Mapping[str, tuple[float, float, float]]

    def shown(self) -> dict[str, Any]:
        """For the page."""
        ordered = sorted(self.correlations.items(), key=lambda item: -item[1][0])
        return {
            "count": len(self.successes),
            "rollouts": next(iter(self.successes.values())).episodes,
            "rows": [{"name": name, "value": r, "low": low, "high": high} for name, (r, low, high) in ordered],
            "successes": [(name, f"{p.rate:.0%} ({p.low:.0%} to {p.high:.0%})") for name, p in self.successes.items()],
        }

    def numbers(self) -> dict[str, Any]:
        """For a record."""
        found: dict[str, Any] = {"n_backbones": len(self.successes)}
        for name, (r, low, high) in self.correlations.items():
            found |= {f"spearman_{name}": r, f"spearman_{name}_ci95": [low, high]}
        found |= {f"success_rate_{number}": p.rate for number, p in enumerate(self.successes.values())}
        return found


def predict(checks: Sequence[Check], successes: Mapping[str, Proportion]) -> Prediction | None:
    """Correlations of each target's skill, gain and LogME with success; None for fewer than `LEAST` backbones."""
    if len(checks) < LEAST:
        return None
    reached = np.array([successes[check.name].rate for check in checks])
    shared = [name for name in checks[0].answers if all(name in check.answers for check in checks)]
    said: dict[str, np.ndarray] = {}
    for name in shared:
        answers = [check.answers[name] for check in checks]
        said[name] = np.array([answer.skill.value for answer in answers])
        said[f"{name}_logme"] = np.array([answer.cheap["logme"] for answer in answers])
    said["mean"] = np.mean([said[name] for name in shared], axis=0)
    said["mean_logme"] = np.mean([said[f"{name}_logme"] for name in shared], axis=0)
    return Prediction(successes, {name: _correlation(values, reached) for name, values in said.items()})


def _correlation(one: np.ndarray, other: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Spearman's correlation, and the percentile interval of resampled pairs."""
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        rows = rng.integers(len(one), size=len(one))
        if np.ptp(one[rows]) > 0 and np.ptp(other[rows]) > 0:
            drawn.append(_spearman(one[rows], other[rows]))
    constant = not (np.ptp(one) > 0 and np.ptp(other) > 0)
    value = 0.0 if constant else _spearman(one, other)
    low, high = np.quantile(drawn, (0.025, 0.975)) if drawn else (-1.0, 1.0)
    return value, float(low), float(high)


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    found: Any = spearmanr(one, other)
    return float(found.statistic)
