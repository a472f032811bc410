"""How well a stream explains the robot's motion: the regression behind the estimates of delays and of foreign streams.

Targets (the robot's motion) are predicted from inputs (actions, or what a camera shows) and context of the same row.
The model is linear in them and in fixed random non-linear features of the inputs (Rahimi and Recht 2008), with
multivariate-t residuals. Each episode is judged by weights that have not seen it. Its word is a log-likelihood ratio in
nats (4 nats are odds of 55 to 1), divided by the autocorrelation time of the residuals, because neighbouring rows are
no independent witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FOLDS = 5
_TAIL = 4.0  # degrees of freedom of the residuals: one bad row must not decide (Lange, Little and Taylor 1989)
_ROWS = 20_000  # rows enough to fit a linear model
_HIDDEN, _ROWS_PER_HIDDEN = 256, 20  # random features, and rows that each of them needs


@dataclass(frozen=True)
class Signals:
    """Of one episode: inputs [T, F], the stream that may be late; context [T, C] and targets [T, D], on time."""

    inputs: np.ndarray
    context: np.ndarray
    targets: np.ndarray

    def delayed(self, rows: int) -> Signals:
        """With the input of row t + `rows` at row t, and only the rows that have one."""
        at = np.arange(max(-rows, 0), len(self.targets) - max(rows, 0))
        return Signals(self.inputs[at + rows], self.context[at], self.targets[at])

    def without_inputs(self) -> Signals:
        return Signals(self.inputs[:, :0], self.context, self.targets)


def standardised(signals: Sequence[Signals], reach: float = np.inf) -> list[Signals]:
    """Zero mean and unit deviation of every column over the store, without columns that never vary.

    reach: deviations at which inputs are cut off, so that what is seen once leads to no wild prediction.
    """

    def scale(parts: list[np.ndarray]) -> list[np.ndarray]:
        joined = np.concatenate(parts).astype(np.float64)
        mean, deviation = joined.mean(0), joined.std(0)
        varies = deviation > 1e-9 * (1 + np.abs(mean))
        return [(part[:, varies] - mean[varies]) / deviation[varies] for part in parts]

    parts = [scale([getattr(s, name) for s in signals]) for name in ("inputs", "context", "targets")]
    parts[0] = [np.clip(part, -reach, reach) for part in parts[0]]
    return [Signals(*columns) for columns in zip(*parts, strict=True)]


def with_random_features(signals: Sequence[Signals]) -> list[Signals]:
    """Further inputs: random non-linear mixtures of those there are, fewer for small stores."""
    rows, width = sum(len(s.inputs) for s in signals), signals[0].inputs.shape[1]
    count = min(_HIDDEN, rows // _ROWS_PER_HIDDEN)
    rng = np.random.default_rng(0)
    weights, offset = rng.normal(size=(width, count)) / np.sqrt(max(width, 1)), rng.normal(size=count)
    return [
        Signals(np.concatenate([s.inputs, np.tanh(s.inputs @ weights + offset)], axis=1), s.context, s.targets)
        for s in signals
    ]


class MotionModel:
    """A ridge regression for each fold, fitted to the episodes of the others, and the scatter of what it leaves.

    Episode i of those it was fitted to is of fold i % FOLDS. All is said in units in which residuals have unit scatter.
    correlation: autocorrelation time of the residuals, rows.
    """

    def __init__(self, weights: list[np.ndarray], precision: np.ndarray, inputs: int, correlation: float) -> None:
        """weights: of each fold [inputs + C + 1, D], for inputs, context and a constant; precision: [D, D]."""
        self._whiten = np.linalg.cholesky(precision)
        self._weights, self._inputs = [w @ self._whiten for w in weights], inputs
        self._base = -0.5 * float(np.linalg.slogdet(precision)[1])
        self.correlation = correlation

    @classmethod
    def fit(cls, signals: Sequence[Signals], ridge: float | np.ndarray, rounds: int = 3) -> MotionModel:
        """ridge: penalty of the weights, one or for each, as a share of the mean variance of the columns."""
        design, targets, folds = _stack(signals)
        trust, left = np.ones(len(design)), np.empty_like(targets)
        for _ in range(rounds):
            weights = _fold_weights(design, targets, folds, trust, ridge)
            for rows, of_fold in zip(folds, weights, strict=True):
                left[rows] = targets[rows] - design[rows] @ of_fold
            precision = _precision(left, trust)
            trust = (_TAIL + left.shape[1]) / (_TAIL + ((left @ precision) * left).sum(1))
        white = left @ np.linalg.cholesky(precision)
        white *= np.sqrt(trust)[:, None]
        near = float((white[1:] * white[:-1]).sum() / (white * white).sum())
        near = min(max(near, 0.0), 0.9)
        return cls(weights, precision, signals[0].inputs.shape[1], (1 + near) / (1 - near))

    def wanted(self, signals: Signals, fold: int) -> np.ndarray:
        """What the context leaves of the targets for the inputs to explain, [T, D]."""
        of_context = self._weights[fold][self._inputs :]
        return signals.targets @ self._whiten - signals.context @ of_context[:-1] - of_context[-1]

    def explained(self, inputs: np.ndarray, fold: int) -> np.ndarray:
        """What inputs [T, F] explain, [T, D], in the eyes of the weights that have not seen `fold`."""
        return inputs @ self._weights[fold][: self._inputs]

    def nats(self, left: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of rows of which this is left unexplained, [..., D] to [...]."""
        width = left.shape[-1]
        return 0.5 * (_TAIL + width) * np.log1p(np.einsum("...d,...d->...", left, left) / _TAIL) + self._base


def _stack(signals: Sequence[Signals]) -> tuple[np.ndarray, np.ndarray, list[slice]]:
    """Designs and targets of as many episodes as a fit needs, and the rows of each fold.

    Whole episodes are left out, not rows: the autocorrelation is between rows that follow each other.
    """
    step = -(-sum(len(s.targets) for s in signals) // _ROWS)
    designs, targets, folds, begin = [], [], [], 0
    for fold in range(FOLDS):
        of_fold = signals[fold::FOLDS][::step]
        designs += [np.concatenate([s.inputs, s.context, np.ones((len(s.targets), 1))], axis=1) for s in of_fold]
        targets += [s.targets for s in of_fold]
        folds.append(slice(begin, begin + sum(len(s.targets) for s in of_fold)))
        begin = folds[-1].stop
    return np.concatenate(designs), np.concatenate(targets), folds


def _fold_weights(
    design: np.ndarray,
    targets: np.ndarray,
    folds: Sequence[slice],
    trust: np.ndarray,
    ridge: float | np.ndarray,
) -> list[np.ndarray]:
    root = np.sqrt(trust)[:, None]
    weighted, wanted = design * root, targets * root
    grams = [weighted[rows].T @ weighted[rows] for rows in folds]
    products = [weighted[rows].T @ wanted[rows] for rows in folds]
    gram, product = sum(grams), sum(products)
    width = design.shape[1]
    penalty = np.diag(np.broadcast_to(ridge, width) * np.trace(gram) / width)
    return [np.linalg.solve(gram - g + penalty, product - p) for g, p in zip(grams, products, strict=True)]


def _precision(left: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Inverse scatter of residuals, shrunk a little towards its diagonal."""
    scatter = left.T @ (left * trust[:, None]) / len(left)
    scatter = 0.95 * scatter + 0.05 * np.diag(np.diag(scatter)) + 1e-6 * np.eye(len(scatter))
    return np.linalg.inv(scatter)
