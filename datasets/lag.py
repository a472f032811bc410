"""How late one signal is against another, read from the signals themselves.

An input stream (actions, or what a camera shows) should explain the target (the robot's motion) of the same instant. A
model with context and multivariate-t residuals, linear in the inputs and in fixed random non-linear features of them
(Rahimi and Recht 2008), is fitted to all episodes of a store, each judged by a model that has not seen it. For a shift
of k rows, the input of row t + k is paired with the target of row t; the k of the highest likelihood is the delay. Its
confidence is the log-likelihood ratio in nats (4 nats are odds of 55 to 1), divided by the autocorrelation time of the
residuals because neighbouring rows are no independent witnesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

FOLDS = 5
_DISBELIEF = 20.0  # nats by which inputs must be worse than none before strangers' are tried
_FEW, _BELIEVED = 20, 0.9  # episodes, and the share of them that the model must explain, before any is called foreign
_STRANGERS = 80  # other episodes whose inputs are tried in place of an episode's own
_TAIL = 4.0  # degrees of freedom of the residuals: one bad row must not decide (Lange, Little and Taylor 1989)
_ROWS = 20_000  # rows enough to fit a linear model
_EPISODES = 300  # episodes enough to tell the delay that all have
_ROUNDS = 3  # of reweighting
_HIDDEN, _ROWS_PER_HIDDEN = 256, 20  # random features, and rows that each of them needs
_RANDOM_RIDGE = 1e-3


@dataclass(frozen=True)
class Signals:
    """Of one episode: inputs [T, F], the stream that may be late; context [T, C] and targets [T, D], on time."""

    inputs: np.ndarray
    context: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Delay:
    """rows: how many rows the input comes too late (below 0: too early), None where the signal cannot tell.

    best: the likeliest delay, told or not. confidence: of `best` against no delay where it is not 0, else of no delay
    against its closest rival; nats. evidence: nats by which the inputs at `best` explain the targets better than no
    inputs do. foreign: they explain them worse than none, and worse than those of some other episode: they belong to
    something else.
    """

    rows: int | None
    best: int
    confidence: float
    evidence: float
    foreign: bool = False


@dataclass(frozen=True)
class Delays:
    """store: rows by which the inputs of all episodes together come too late; episodes: each against that, or None."""

    store: int
    store_confidence: float
    episodes: list[Delay | None]


_Costs = tuple[np.ndarray, np.ndarray]  # negative log-likelihood of rows [n], nats, and the rows [n]


def late(rows: int) -> str:
    """A delay in words."""
    return f"{abs(rows)} {'row' if abs(rows) == 1 else 'rows'} too {'late' if rows > 0 else 'early'}"


def estimate_delays(
    signals: Sequence[Signals | None], longest: int, confidence: float, ridge: float = 1e-6, least_rows: int = 6
) -> Delays | None:
    """Delays of the inputs, up to `longest` rows either way; None if there are too few rows to fit anything.

    confidence: nats from which a delay counts as told. ridge: of the regressions, as a share of the inputs' variance:
    small where inputs are few and exact, larger where they are many. An episode of None, or of fewer than `least_rows`
    usable rows, gets None.
    """
    if longest < 1:
        return None
    usable = [s for s in signals if s is not None and len(s.targets) >= least_rows + longest]
    width = max((s.inputs.shape[1] + s.context.shape[1] for s in usable), default=0)
    if sum(len(s.targets) for s in usable) < 3 * (width + 1) or len(usable) < 2:
        return None
    scaled = _standardise(usable)
    if not scaled[0].targets.shape[1]:
        return None  # nothing ever moves
    whole, sure = _store_delay(scaled, longest, ridge)
    linear = scaled[0].inputs.shape[1]
    scaled = _with_random_features(scaled)
    penalty = np.full(scaled[0].inputs.shape[1] + scaled[0].context.shape[1] + 1, ridge)
    penalty[linear : scaled[0].inputs.shape[1]] = max(ridge, _RANDOM_RIDGE)
    model = _Model.fit(scaled, whole, penalty)
    without = _Model.fit([_without_inputs(s) for s in scaled], 0, ridge)
    judged = []
    for place, own in enumerate(scaled):
        nothing = without.cost(_without_inputs(own), place % FOLDS, 0)
        delay = model.judge(own, place % FOLDS, whole, longest, confidence, nothing)
        if delay.evidence < -_DISBELIEF:
            delay = replace(delay, foreign=model.prefers_a_stranger(scaled, place, whole + delay.best))
        judged.append(delay)
    believed = np.mean([delay.evidence > 0 for delay in judged])
    if len(judged) < _FEW or believed < _BELIEVED:  # the model itself is too weak to call an episode foreign
        judged = [replace(delay, foreign=False) for delay in judged]
    if np.median([delay.evidence for delay in judged]) < confidence:  # nowhere does it say anything of the motion
        judged, sure = [replace(delay, rows=None, foreign=False) for delay in judged], 0.0
    delays = iter(judged)
    used = {id(s) for s in usable}
    return Delays(whole, sure, [next(delays) if s is not None and id(s) in used else None for s in signals])


def _standardise(signals: Sequence[Signals]) -> list[Signals]:
    """Zero mean and unit deviation of every column over the store, without columns that never vary."""

    def scale(parts: list[np.ndarray]) -> list[np.ndarray]:
        joined = np.concatenate(parts).astype(np.float64)
        mean, deviation = joined.mean(0), joined.std(0)
        varies = deviation > 1e-9 * (1 + np.abs(mean))
        return [(part[:, varies] - mean[varies]) / deviation[varies] for part in parts]

    parts = [scale([getattr(s, name) for s in signals]) for name in ("inputs", "context", "targets")]
    return [Signals(*columns) for columns in zip(*parts, strict=True)]


def _with_random_features(signals: Sequence[Signals]) -> list[Signals]:
    rows, width = sum(len(s.inputs) for s in signals), signals[0].inputs.shape[1]
    count = min(_HIDDEN, rows // _ROWS_PER_HIDDEN)
    rng = np.random.default_rng(0)
    weights, offset = rng.normal(size=(width, count)) / np.sqrt(max(width, 1)), rng.normal(size=count)
    return [
        Signals(np.concatenate([s.inputs, np.tanh(s.inputs @ weights + offset)], axis=1), s.context, s.targets)
        for s in signals
    ]


def _without_inputs(signals: Signals) -> Signals:
    return Signals(signals.inputs[:, :0], signals.context, signals.targets)


def _pairs(signals: Signals, shift: int, margin: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Design [n, F + C + 1] and targets [n, D] with the input `shift` rows later, and the target rows [n] they are of.

    margin: leave out as many rows at both ends as a shift of that size needs.
    """
    count = len(signals.targets)
    rows = np.arange(max(margin, -shift, 0), count - max(margin, shift, 0))
    design = np.concatenate([signals.inputs[rows + shift], signals.context[rows], np.ones((len(rows), 1))], axis=1)
    return design, signals.targets[rows], rows


class _Model:
    """A ridge regression for each fold, fitted to the episodes of the others, and the scatter of what it leaves.

    correlation: autocorrelation time of the residuals, rows.
    """

    def __init__(self, weights: list[np.ndarray], precision: np.ndarray, correlation: float) -> None:
        self.weights, self.precision, self.correlation = weights, precision, correlation
        self.base = -0.5 * float(np.linalg.slogdet(precision)[1])

    @classmethod
    def fit(cls, signals: Sequence[Signals], shift: int, ridge: float | np.ndarray, margin: int = 0) -> _Model:
        design, targets, folds = _stack(signals, shift, margin)
        trust = np.ones(len(design))
        for _ in range(_ROUNDS):
            weights = _fold_weights(design, targets, folds, trust, ridge)
            left = targets - np.stack([design @ w for w in weights])[folds, np.arange(len(design))]
            precision = _precision(left, trust)
            trust = (_TAIL + left.shape[1]) / (_TAIL + _squared(left, precision))
        white = left @ np.linalg.cholesky(precision)
        white *= np.sqrt(trust)[:, None]
        near = float((white[1:] * white[:-1]).sum() / (white * white).sum())
        near = min(max(near, 0.0), 0.9)
        return cls(weights, precision, (1 + near) / (1 - near))

    def cost(self, signals: Signals, fold: int, shift: int) -> _Costs:
        """Negative log-likelihood of each row [n], nats up to a constant, and the rows [n]."""
        design, targets, rows = _pairs(signals, shift)
        squared = _squared(targets - design @ self.weights[fold], self.precision)
        return 0.5 * (_TAIL + targets.shape[1]) * np.log1p(squared / _TAIL) + self.base, rows

    def judge(self, signals: Signals, fold: int, whole: int, longest: int, confidence: float, without: _Costs) -> Delay:
        """The delay of one episode around that of the store. without: its costs in a model that has no inputs."""
        costs = {k: self.cost(signals, fold, whole + k) for k in range(-longest, longest + 1)}
        gains = {k: _gain(costs[0], costs[k]) / self.correlation for k in costs if k}
        best = max(gains, key=lambda k: gains[k])
        evidence = _gain(without, costs[best if gains[best] > 0 else 0]) / self.correlation
        if gains[best] <= 0:  # no shift is better than none: how sure is it that the closest rival is worse?
            sure = -gains[best]
            return Delay(0 if sure >= confidence / 2 else None, 0, sure, evidence)
        # Inputs that explain nothing at any shift still fit one of them best: that is no delay.
        told = gains[best] >= confidence and evidence >= confidence
        return Delay(best if told else None, best, gains[best], evidence)

    def prefers_a_stranger(self, signals: Sequence[Signals], place: int, shift: int) -> bool:
        """Whether the inputs of some other episode explain the targets of the one at `place` better than its own do."""
        own, fold = signals[place], place % FOLDS
        others = [other for other in range(len(signals)) if other != place]
        for other in others[:: -(-len(others) // _STRANGERS)]:
            rows = min(len(own.targets), len(signals[other].inputs))
            if rows <= abs(shift):
                continue
            costs = [
                self.cost(Signals(inputs[:rows], own.context[:rows], own.targets[:rows]), fold, shift)
                for inputs in (own.inputs, signals[other].inputs)
            ]
            if _gain(*costs) > 0:
                return True
        return False


def _store_delay(signals: Sequence[Signals], longest: int, ridge: float) -> tuple[int, float]:
    """The delay of all episodes together, each shift with a model of its own, and its confidence against the next."""
    long = [s for s in signals if len(s.targets) > 2 * longest]
    if not long:
        return 0, 0.0
    long = long[:: -(-len(long) // _EPISODES)]
    costs, correlation = {}, 1.0
    for shift in range(-longest, longest + 1):
        model = _Model.fit(long, shift, ridge, margin=longest)
        parts = [model.cost(s, i % FOLDS, shift) for i, s in enumerate(long)]
        # The same rows for all shifts: those that even the longest shift leaves.
        costs[shift] = sum(
            float(cost[(rows >= longest) & (rows < len(s.targets) - longest)].sum())
            for (cost, rows), s in zip(parts, long, strict=True)
        )
        correlation = max(correlation, model.correlation)
    best, rival = sorted(costs, key=lambda k: costs[k])[:2]
    return best, (costs[rival] - costs[best]) / correlation


def _stack(signals: Sequence[Signals], shift: int, margin: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = [_pairs(s, shift, margin) for s in signals]
    folds = np.concatenate([np.full(len(p[2]), i % FOLDS) for i, p in enumerate(parts)])
    design, targets = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    step = -(-len(design) // _ROWS)
    return design[::step], targets[::step], folds[::step]


def _fold_weights(
    design: np.ndarray, targets: np.ndarray, folds: np.ndarray, trust: np.ndarray, ridge: float | np.ndarray
) -> list[np.ndarray]:
    grams, products = [], []
    for fold in range(FOLDS):
        rows = folds == fold
        weighted = design[rows] * trust[rows, None]
        grams.append(design[rows].T @ weighted)
        products.append(weighted.T @ targets[rows])
    gram, product = sum(grams), sum(products)
    width = design.shape[1]
    penalty = np.diag(np.broadcast_to(ridge, width) * np.trace(gram) / width)
    return [np.linalg.solve(gram - g + penalty, product - p) for g, p in zip(grams, products, strict=True)]


def _precision(left: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """Inverse scatter of residuals, shrunk a little towards its diagonal."""
    scatter = left.T @ (left * trust[:, None]) / len(left)
    scatter = 0.95 * scatter + 0.05 * np.diag(np.diag(scatter)) + 1e-6 * np.eye(len(scatter))
    return np.linalg.inv(scatter)


def _squared(left: np.ndarray, precision: np.ndarray) -> np.ndarray:
    return ((left @ precision) * left).sum(1)


def _gain(none: _Costs, other: _Costs) -> float:
    """By how many nats the other shift explains the rows better that both have."""
    if not (len(none[1]) and len(other[1])):
        return 0.0
    first, stop = max(none[1][0], other[1][0]), min(none[1][-1], other[1][-1]) + 1
    rows = slice(first - none[1][0], stop - none[1][0]), slice(first - other[1][0], stop - other[1][0])
    return float((none[0][rows[0]] - other[0][rows[1]]).sum())
