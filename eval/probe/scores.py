"""Scores of predictions that no class can buy by being common, each with what it would be with a part left out.

R2 for numbers, macro F1 for classes, average precision (the area under precision over recall) for flags.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from .labels import Target


@dataclass(frozen=True)
class Score:
    """A score and its leave-one-block-out values.

    Attributes:
        value: of all frames.
        without: with each block of scenes left out in turn [M].
        drawn: variance that is not the frames', where a score is a mean over draws.
    """

    value: float
    without: np.ndarray
    drawn: float = 0.0

    @property
    def ci95(self) -> tuple[float, float]:
        """Jackknife over blocks (Quenouille 1956, Tukey 1958): frames of an episode are no independent samples."""
        half = self.half
        return self.value - half, self.value + half

    @property
    def half(self) -> float:
        """Half the interval's width."""
        count = len(self.without)
        if count < 2 or not np.isfinite(self.without).all():
            return float("inf")
        spread = np.square(self.without - self.without.mean()).sum()
        return float(student.ppf(0.975, count - 1) * np.sqrt((count - 1) / count * spread + self.drawn))

    def __sub__(self, other: Score) -> Score:
        """The paired difference: both leave out the same blocks."""
        return Score(self.value - other.value, self.without - other.without)

    def over(self, chance: Score) -> Score:
        """The share of what is possible above chance: 0 at chance, 1 for perfect."""
        return Score(
            (self.value - chance.value) / max(1e-9, 1 - chance.value),
            (self.without - chance.without) / np.maximum(1e-9, 1 - chance.without),
        )


def score(target: Target, predicted: np.ndarray, blocks: np.ndarray, rows: np.ndarray | None = None) -> Score:
    """The score of predictions [F, K] in the target's own units (flags and classes: something like a probability).

    blocks: int64 [F]; all alike where no interval is wanted. rows: bool [F], which frames are judged; by default all.
    """
    counts = target.counts if rows is None else target.counts & rows[:, None]
    scorer = {"regression": _r2, "classes": _macro_f1, "flags": _precision}[target.kind]
    found = scorer(target.values, predicted, counts, blocks)
    return Score(float(found[0]), found[1:])


def mean_of(scores: Sequence[Score]) -> Score:
    """The mean of scores that differ by what was drawn."""
    values = np.array([each.value for each in scores])
    drawn = float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0
    return Score(float(values.mean()), np.mean([each.without for each in scores], axis=0), drawn)


def chance(target: Target, blocks: np.ndarray) -> Score:
    """The best score of one who does not look.

    For numbers the mean, whose R2 is 0. For flags any constant, whose average precision is how common they are. For
    classes a guess of each as often as it is there: the rates q that make the mean of 2 p q / (p + q) largest are the
    classes' own rates p, and it is 1 / K then. Always saying the commonest scores less.
    """
    counts, values = target.counts, target.values
    if target.kind == "regression":
        return Score(0.0, np.zeros(int(blocks.max()) + 1))
    of = _less(_sums((values * counts).astype(float), blocks))
    rates = of / np.maximum(1, _less(_sums(counts.astype(float), blocks)))
    if target.kind == "flags":
        positive = rates[0] > 0
        found = rates[:, positive].mean(1)
        return Score(float(found[0]), found[1:])
    share = 1 / rates.shape[1]
    return Score(share, np.full(len(rates) - 1, share))


def _sums(values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Sums [M, K] of rows [F, K] by block."""
    found = np.zeros((int(blocks.max()) + 1, values.shape[1]))
    np.add.at(found, blocks, values)
    return found


def _less(sums: np.ndarray) -> np.ndarray:
    """The whole, then the whole without each block: [1 + M, ...] of sums by block [M, ...]."""
    return np.concatenate([sums.sum(0, keepdims=True), sums.sum(0, keepdims=True) - sums])


def _r2(values: np.ndarray, predicted: np.ndarray, counts: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Mean over columns of 1 - squared error / squared distance from the mean."""
    truth, error = values.astype(float) * counts, np.square(values.astype(float) - predicted) * counts
    number, total, squares, errors = (
        _less(_sums(x, blocks)) for x in (counts.astype(float), truth, np.square(truth), error)
    )
    spread = squares - np.square(total) / np.maximum(number, 1)
    usable = spread[0] > 1e-12
    return (1 - errors[:, usable] / np.maximum(spread[:, usable], 1e-12)).mean(1)


def _macro_f1(values: np.ndarray, predicted: np.ndarray, counts: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Mean over classes of 2 TP / (2 TP + FP + FN); a prediction is the class that is likeliest beside its rate.

    Divided by how common a class is, the regression on indicators says of which class a frame is most typical.
    """
    rows, classes = counts.any(1), values.shape[1]
    rates = values[rows].mean(0)
    said, true = (predicted[rows] / np.maximum(rates, 1e-9)).argmax(1), values[rows].argmax(1)
    confusion = np.zeros((int(blocks.max()) + 1, classes, classes))
    np.add.at(confusion, (blocks[rows], true, said), 1)
    table = _less(confusion)
    right = np.einsum("mkk->mk", table)
    both = table.sum(1) + table.sum(2)
    return np.divide(2 * right, both, out=np.zeros_like(right), where=both > 0).mean(1)


def _precision(values: np.ndarray, predicted: np.ndarray, counts: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Mean over columns of the sum of precision times what recall gains, over falling thresholds; ties are one."""
    number, found = int(blocks.max()) + 1, []
    for column in range(values.shape[1]):
        rows = np.flatnonzero(counts[:, column])
        if not values[rows, column].any():
            continue
        order = rows[np.argsort(-predicted[rows, column], kind="stable")]
        sorted_scores, true, of = predicted[order, column], values[order, column] > 0, blocks[order]
        ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(order) - 1)
        part = of == np.arange(number)[:, None]  # a block's own, to be taken off the whole
        hits, seen = (_less(np.cumsum(x, 1, dtype=np.int32)[:, ends]) for x in (part & true, part))
        gained = np.diff(hits, axis=1, prepend=np.int32(0))
        precision = hits / np.maximum(seen, 1)
        found.append((gained * precision).sum(1) / np.maximum(hits[:, -1], 1))
    return np.mean(found, axis=0)
