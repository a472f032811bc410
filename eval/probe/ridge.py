"""Linear probes in closed form: ridge regression on shared normal equations, for all targets and all folds at once.

What a probe needs of its training frames is a sum over them: X'X and X'Y. The sums of the parts of a split are taken
once; every fold and every share of the data is a sum of such parts, and one eigendecomposition of X'X serves every
penalty and every target. Flags and classes are regressions on indicators, whose predictions estimate probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .labels import Target
from .splits import Split

PENALTIES = tuple(10.0**power for power in range(-6, 3))  # of the mean eigenvalue that standardised features have, 1
LOG2 = math.log(2)
_CHOOSING = 1500  # frames that penalties are compared on, at most
_LEAST = 0.01  # probability that anything is given before it is coded


@dataclass(frozen=True)
class Fitted:
    """What probes on some features predict of frames that they have not learned from.

    Attributes:
        predicted: in the targets' units, by level of the split: float32 [L, F, K].
        chosen: error on the frames that choose the penalty, as a share of the variance, by target [T], mean over folds.
        bits: a label saved by coding with what is known so far, against coding by how common it is; by target [T].
        samples: training frames at each level [L], mean over folds.
    """

    predicted: np.ndarray
    chosen: np.ndarray
    bits: np.ndarray
    samples: np.ndarray


@dataclass(frozen=True)
class Columns:
    """Targets side by side, as the solver sees them.

    Attributes:
        values: standardised, 0 where they do not count [F, K].
        counts: bool [F, K].
        mean, scale: of the columns [K]. low, high: the least and the largest value of each, standardised.
        kinds: of each column.
        owner: the target of each column, int64 [K].
    """

    values: Tensor
    counts: Tensor
    mean: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor
    kinds: tuple[str, ...]
    owner: np.ndarray

    @classmethod
    def of(cls, targets: Sequence[Target]) -> Columns:
        """The columns of targets, in order."""
        values = torch.from_numpy(np.concatenate([target.values for target in targets], 1)).double()
        counts = torch.from_numpy(np.concatenate([target.counts for target in targets], 1))
        number = counts.sum(0).clamp_min(1)
        mean = (values * counts).sum(0) / number
        centred = (values - mean) * counts
        scale = (centred.square().sum(0) / number).sqrt().clamp_min(1e-9)
        widths = [target.values.shape[1] for target in targets]
        kinds = tuple(target.kind for target, width in zip(targets, widths, strict=True) for _ in range(width))
        found = (centred / scale).float()
        owner = np.repeat(np.arange(len(targets)), widths)
        return cls(found, counts, mean, scale, found.amin(0), found.amax(0), kinds, owner)


def standardised(features: np.ndarray | Tensor) -> Tensor:
    """Features float32 [F, D], centred and each of deviation 1; what does not vary is 0."""
    found = torch.as_tensor(features, dtype=torch.float32)
    mean, scale = found.mean(0), found.std(0)
    return (found - mean) / torch.where(scale > 1e-6 * (1 + mean.abs()), scale, torch.inf)


@dataclass
class Sums:
    """Sums over some frames: how many, of features [D], of targets [K], of products [D, D] and [D, K]."""

    count: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor

    @classmethod
    def over(cls, features: Tensor, values: Tensor) -> Sums:
        return cls(
            len(features),
            *(features.sum(0, dtype=torch.float64), values.sum(0, dtype=torch.float64)),
            *((features.T @ features).double(), (features.T @ values).double()),
        )

    def __add__(self, other: Sums) -> Sums:
        pairs = ((self.x, other.x), (self.y, other.y), (self.xx, other.xx), (self.xy, other.xy))
        return Sums(self.count + other.count, *(a + b for a, b in pairs))

    def centred(self) -> tuple[Tensor, Tensor]:
        """X'X [D, D] and X'Y [D, K] about the means."""
        count = max(1, self.count)
        return self.xx - torch.outer(self.x, self.x) / count, self.xy - torch.outer(self.x, self.y) / count


def fit(
    features: Tensor,
    targets: Sequence[Target],
    split: Split,
    usable: np.ndarray,
    masters: Sequence[int] | None = None,
    folds: int | None = None,
) -> Fitted:
    """Probes for every fold and level of a split.

    Args:
        features: standardised [F, D].
        targets: all known at the same frames.
        split: who is held out.
        usable: which frames these are, bool [F].
        masters: of each target the one whose penalty it takes, [T]; by default its own.
        folds: how many of the split's are gone through; by default all.
    """
    columns, levels, chosen, bits = Columns.of(targets), len(split.levels), [], []
    predicted = torch.zeros(levels, len(features), len(columns.kinds))
    samples = np.zeros(levels)
    parts = _parts(features, columns.values, split, usable)
    taken = split.folds[:folds]
    for fold, parts_of_fold in enumerate(taken):
        train, choose, test = (torch.from_numpy(np.flatnonzero(rows & usable)) for rows in parts_of_fold)
        level_of = torch.from_numpy(split.level)[train]
        choose = choose[:: -(-len(choose) // _CHOOSING)] if len(choose) else choose
        skipped, learned, coder = (fold + 1) % (int(split.inner.max()) + 1), None, _Coder(columns, len(targets))
        for level in range(levels):
            for (outer, inner, of), sums in parts.items():
                if of == level and outer != fold and inner != skipped:
                    learned = sums if learned is None else learned + sums
            if learned is None:
                continue
            probe = _solve(learned, features[choose], columns, choose, masters or range(len(targets)))
            predicted[level, test] = probe(features[test])
            samples[level] += learned.count / len(taken)
            if level == 0:
                coder.code(train[level_of == 0])
            following = train[level_of == level + 1]
            coder.code(following, probe(features[following]), probe.deviation)
        chosen.append(probe.error)
        bits.append(coder.saved)
    units = predicted * columns.scale.float() + columns.mean.float()
    return Fitted(units.numpy(), np.mean(chosen, 0), np.mean(bits, 0), samples)


def _parts(features: Tensor, values: Tensor, split: Split, usable: np.ndarray) -> dict[tuple[int, int, int], Sums]:
    """The sums of each (outer, inner, level)."""
    keys = np.stack([split.outer, split.inner, split.level], 1)
    found, place = np.unique(keys[usable], axis=0, return_inverse=True)
    rows = np.flatnonzero(usable)
    return {
        (int(key[0]), int(key[1]), int(key[2])): Sums.over(features[of], values[of])
        for number, key in enumerate(found)
        for of in [torch.from_numpy(rows[place == number])]
    }


class _Probe:
    """Weights of one fold and level: each target has the penalty that served it best where penalties are chosen."""

    def __init__(self, weights: Tensor, bias: Tensor, error: np.ndarray, deviation: Tensor, columns: Columns) -> None:
        self.weights, self.bias, self.error, self.deviation = weights, bias, error, deviation
        self.columns = columns

    def __call__(self, features: Tensor) -> Tensor:
        """Standardised predictions [N, K], none outside of what there is: a line leads far off where all is new."""
        return (features @ self.weights + self.bias).clamp(self.columns.low, self.columns.high)


def _solve(learned: Sums, features: Tensor, columns: Columns, rows: Tensor, masters: Sequence[int]) -> _Probe:
    """The probe of what was learned; features [N, D] and rows [N] of the frames that choose the penalty."""
    targets = len(masters)
    xx, xy = learned.centred()
    eigenvalues, vectors = torch.linalg.eigh(xx)
    projected = vectors.T @ xy
    mean_x, mean_y = learned.x / max(1, learned.count), learned.y / max(1, learned.count)
    truth, counts = columns.values[rows], columns.counts[rows]
    owner, number = torch.from_numpy(columns.owner), counts.sum(0).clamp_min(1)
    best = torch.full((targets,), torch.inf, dtype=torch.float64)
    directions = vectors.float()
    weights, bias = torch.zeros(len(xx), len(owner)), torch.zeros(len(owner))
    deviation = torch.ones(len(owner))
    for penalty in PENALTIES:
        shrunk = projected / (eigenvalues.clamp_min(0) + penalty * learned.count)[:, None]
        found = directions @ shrunk.float()
        shift = (mean_y - mean_x @ found.double()).float()
        squares = ((features @ found + shift - truth).square() * counts).sum(0) / number
        error = torch.zeros(targets, dtype=torch.float64).scatter_reduce(
            0, owner, squares.double(), "mean", include_self=False
        )[list(masters)]
        better = (error < best)[owner]
        weights[:, better], bias[better] = found[:, better], shift[better]
        deviation[better] = squares[better].sqrt().clamp_min(1e-3)
        best = torch.minimum(best, error)
    return _Probe(weights, bias, best.numpy(), deviation, columns)


class _Coder:
    """Online coding of labels (Blier and Ollivier 2018, arXiv:1802.07044; Voita and Titov 2020, arXiv:2003.12298): each
    portion is coded with what was learned from those before it. What is saved is counted against coding every label by
    how common it is."""

    def __init__(self, columns: Columns, targets: int) -> None:
        self.columns, self.total = columns, np.zeros(targets)
        self.number = np.zeros(targets)

    @property
    def saved(self) -> np.ndarray:
        """Bits a label [T]."""
        return self.total / np.maximum(1, self.number)

    def code(self, rows: Tensor, predicted: Tensor | None = None, deviation: Tensor | None = None) -> None:
        """Code these frames [N] by predictions [N, K] and their usual error [K]; without any, nothing is saved."""
        if not len(rows):
            return
        columns = self.columns
        values, counts = columns.values[rows], columns.counts[rows]
        saved = torch.zeros_like(values)
        if predicted is not None and deviation is not None:
            mean, scale = columns.mean.float(), columns.scale.float()
            # An indicator's standardised value says which it is.
            truth, rate = values * scale + mean > 0.5, mean.clamp(_LEAST / 10, 1 - _LEAST / 10)
            likely = (predicted * scale + mean).clamp(_LEAST, 1 - _LEAST)
            flags = torch.where(truth, likely / rate, (1 - likely) / (1 - rate)).log()
            numbers = (values.square() - ((values - predicted) / deviation).square()) / 2 - deviation.log()
            kinds = np.array(columns.kinds)
            saved = torch.where(torch.from_numpy(kinds == "regression"), numbers, flags)
            for owner in np.unique(columns.owner[kinds == "classes"]):
                of = torch.from_numpy(np.flatnonzero(columns.owner == owner))
                share = likely[:, of] / likely[:, of].sum(1, keepdim=True)
                saved[:, of] = torch.where(truth[:, of], (share / rate[of]).log(), 0.0)
        totals = (saved * counts).sum(0).double().numpy() / LOG2
        numbers_coded = counts.sum(0).double().numpy()
        for owner in range(len(self.total)):
            of = np.flatnonzero(columns.owner == owner)
            one = columns.kinds[of[0]] == "classes"
            self.total[owner] += totals[of].sum()
            self.number[owner] += numbers_coded[of[:1]].sum() if one else numbers_coded[of].sum()
