"""Streams that belong to another episode: inputs that explain another episode's motion, not their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .motion_model import FOLDS, MotionModel, Signals

_STRANGERS = 80  # other episodes whose inputs are tried in place of an episode's own
_CANDIDATES = 1000  # episodes that are compared pair by pair: those that the model explains worst
_LONGEST = 256  # rows of an episode that are compared
_EXCHANGED = 20.0  # nats by which a pair must be better explained the other way round
_NEARER = 0.3  # share of its distance from the usual that each must gain by it
_USUAL = 3.0  # times what four in five episodes of the store do not reach with their best partner
# Share of the nats a row that inputs usually bring, of which their own must bring the two less. Of exchanged pairs, in
# stores of 45 to 200 tabletop episodes, they brought 0.15 and less (66 of 67), of pairs that only look alike 0.28 and
# more.
_LESS = 0.2


@dataclass(frozen=True)
class Exchange:
    """Two episodes whose inputs go better with the other's motion, together by so many nats."""

    first: int
    second: int
    nats: float


def prefers_a_stranger(model: MotionModel, signals: Sequence[Signals], place: int) -> bool:
    """Whether the inputs of some other episode explain the targets of the one at `place` better than its own do."""
    fold, others = place % FOLDS, [other for other in range(len(signals)) if other != place]
    wanted = model.wanted(signals[place], fold)
    own = np.cumsum(model.nats(wanted - model.explained(signals[place].inputs, fold)))
    for other in others[:: -(-len(others) // _STRANGERS)]:
        inputs = signals[other].inputs[: len(wanted)]
        if (
            len(inputs)
            and model.nats(wanted[: len(inputs)] - model.explained(inputs, fold)).sum() < own[len(inputs) - 1]
        ):
            return True
    return False


def exchanged_pairs(model: MotionModel, signals: Sequence[Signals], nothing: Sequence[np.ndarray]) -> list[Exchange]:
    """Pairs of episodes whose inputs have changed places.

    In each pair both motions are better explained by the other's inputs: by more than similar episodes of this store
    ever are, for where all movements look alike more is asked for; so much better that it brings them nearer to the
    usual, for two episodes that nothing explains may well prefer each other; and their own inputs explain less of them
    than inputs usually do, for among some dozens of episodes two that are explained well may still prefer each other.

    nothing: nats of each episode's rows in a model that has no inputs.
    """
    if len(signals) < 2:
        return []
    short = [Signals(s.inputs[:_LONGEST], s.context[:_LONGEST], s.targets[:_LONGEST]) for s in signals]
    wanted = [model.wanted(own, place % FOLDS) for place, own in enumerate(short)]
    own = [
        model.nats(w - model.explained(s.inputs, i % FOLDS)) for i, (w, s) in enumerate(zip(wanted, short, strict=True))
    ]
    means = np.array([part.mean() for part in own])
    brought = [float((none[: len(part)] - part).sum()) for none, part in zip(nothing, own, strict=True)]
    lengths = [len(part) for part in own]
    usual = float(np.median(np.divide(brought, lengths)))
    chosen: list[int] = sorted(np.argsort(means)[::-1][:_CANDIDATES].tolist())
    rows = np.array([len(wanted[place]) for place in chosen])
    gains = _gains(model, [short[i].inputs for i in chosen], [wanted[i] for i in chosen], np.array(chosen) % FOLDS)
    needed = _NEARER * np.minimum(rows[:, None], rows) * (means[chosen] - np.median(means))[:, None] / model.correlation
    both = gains + gains.T
    np.fill_diagonal(both, -np.inf)
    least = max(_EXCHANGED, _USUAL * float(np.quantile(both.max(1), 0.8)))
    better = gains > np.maximum(needed, 0)
    both[~(better & better.T)] = -np.inf
    partner = both.argmax(1)

    def astray(one: int, other: int) -> bool:
        pair = (chosen[one], chosen[other])
        return sum(brought[i] for i in pair) < _LESS * usual * sum(lengths[i] for i in pair)

    return [
        Exchange(chosen[one], chosen[other], float(both[one, other]))
        for one, other in enumerate(partner)
        if one < other and partner[other] == one and both[one, other] >= least
        if astray(one, other)
    ]


def _gains(
    model: MotionModel, inputs: Sequence[np.ndarray], wanted: Sequence[np.ndarray], folds: np.ndarray
) -> np.ndarray:
    """Nats by which the inputs of the column's episode explain the row's better than its own do, [N, N]."""
    rows, width = np.array([len(part) for part in wanted]), wanted[0].shape[1]
    bounds = np.cumsum([0, *rows])
    stacked, gains = np.concatenate(inputs), np.empty((len(rows), len(rows)))
    for fold in range(FOLDS):
        explained = np.zeros((len(rows), rows.max(), width), np.float32)  # by the inputs of each
        flat = model.explained(stacked, fold)
        for place, count in enumerate(rows.tolist()):
            explained[place, :count] = flat[bounds[place] : bounds[place + 1]]
        for place in np.flatnonzero(folds == fold).tolist():
            count = int(rows[place])
            nats = model.nats(wanted[place].astype(np.float32) - explained[:, :count])
            common = np.arange(count) < rows[:, None]
            gains[place] = np.where(common, nats[place] - nats, 0).sum(1) / model.correlation
    return gains
