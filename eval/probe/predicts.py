"""Does the check predict success? Rank correlation of what it says of backbones with what policies on them reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..charts import scatter
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
        skills: target -> skill on each backbone, in the order of `successes`.
    """

    successes: Mapping[str, Proportion]
    correlations: Mapping[str, tuple[float, float, float]]
    skills: Mapping[str, Sequence[float]]

    def shown(self) -> dict[str, Any]:
        """For the page."""
        ordered = sorted(self.correlations.items(), key=lambda item: -item[1][0])
        return {
            "count": len(self.successes),
            "rollouts": next(iter(self.successes.values())).episodes,
            "rows": [{"name": name, "value": r, "low": low, "high": high} for name, (r, low, high) in ordered],
            "charts": [
                (name, scatter(self.skills[name], list(self.successes.values()), list(self.successes), name))
                for name, _ in ordered
                if name in self.skills
            ],
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
    """Correlations of each target's skill and LogME with success; None for fewer than `LEAST` backbones."""
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
    correlations = {name: _correlation(values, reached) for name, values in said.items()}
    return Prediction(successes, correlations, {name: said[name].tolist() for name in shared})


def _correlation(one: np.ndarray, other: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Spearman's correlation, and the percentile interval of resampled pairs; what is constant correlates with none."""
    rows = np.random.default_rng(seed).integers(len(one), size=(RESAMPLES, len(one)))
    low, high = np.quantile(_spearman(one[rows], other[rows]), (0.025, 0.975))
    return float(_spearman(one[None], other[None])[0]), float(low), float(high)


def _spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation of the ranks, of each row of [R, N]."""
    a, b = (rankdata(x, axis=1) - (x.shape[1] + 1) / 2 for x in (one, other))
    scale = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    return np.divide((a * b).sum(1), scale, out=np.zeros(len(a)), where=scale > 0)
