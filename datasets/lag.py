"""How late one signal is against another, read from the signals themselves.

An input stream (actions, or what a camera shows) should explain the target (the robot's motion) of the same instant.
For a shift of k rows, the input of row t + k is paired with the target of row t; the k under which a model of the store
(`motion_model`) finds the targets likeliest is the delay. Its confidence is a log-likelihood ratio in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .exchange import Exchange, exchanged_pairs, prefers_a_stranger
from .motion_model import FOLDS, MotionModel, Signals, standardised, with_random_features

# Nats by which inputs must be worse than none before strangers' are tried. A model of fewer rows than so many for each
# of its inputs goes astray in sound episodes, too (by 62 nats, with 5 rows): then more is asked for.
_DISBELIEF, _ROWS_PER_INPUT = 20.0, 10
_FEW, _BELIEVED = 20, 0.9  # episodes, and the share of them that the model must explain, before any is called foreign
_ROWS = 8_000  # enough to tell the delay that all have
_VOICE = 3.0  # nats that an episode may say of the delay of all, or as many as half of them do
_SURE = 50.0  # nats of a delay that counts though the inputs explain the motion no better than none
_RANDOM_RIDGE = 1e-3


@dataclass(frozen=True)
class Delay:
    """rows: how many rows the input comes too late (below 0: too early), None where the signal cannot tell.

    least, most: the delays that cannot be told from `best` (those between which the true one is, if it is not 0).
    best: the likeliest delay, told or not. confidence: of `best` against no delay where it is not 0, else of no delay
    against its closest rival; nats. evidence: nats by which the inputs at `best` explain the targets better than no
    inputs do. foreign: they explain them worse than none, and worse than those of some other episode: they belong to
    something else.
    """

    rows: int | None
    best: int
    least: int
    most: int
    confidence: float
    evidence: float
    foreign: bool = False


@dataclass(frozen=True)
class Delays:
    """store: rows by which the inputs of all episodes together come too late; episodes: each against that, or None.

    exchanged: pairs of episodes whose inputs have changed places.
    """

    store: int
    store_confidence: float
    episodes: list[Delay | None]
    exchanged: list[Exchange]


def late(rows: int, most: int | None = None) -> str:
    """A delay in words; with `most` (of the same sign), one between the two."""
    low, high = sorted((abs(rows), abs(rows if most is None else most)))
    count = f"{high}" if low == high else f"{low} to {high}"
    return f"{count} {'row' if high == 1 else 'rows'} too {'late' if rows > 0 else 'early'}"


def estimate_delays(
    signals: Sequence[Signals | None],
    longest: int,
    confidence: float,
    ridge: float = 1e-6,
    reach: float = np.inf,
    declared: int = 0,
    least_rows: int = 6,
) -> Delays | None:
    """Delays of the inputs, up to `longest` rows either way; None if there are too few rows to fit anything.

    confidence: nats from which a delay counts as told. ridge: of the regressions, as a share of the inputs' variance:
    small where inputs are few and exact, larger where they are many. reach: standard deviations at which inputs are cut
    off. declared: delay of the store as a whole, until the signals surely say another. An episode of None, or of fewer
    than `least_rows` usable rows, gets None.
    """
    if longest < 1:
        return None
    places = [i for i, s in enumerate(signals) if s is not None and len(s.targets) >= least_rows + longest]
    usable = [s for i in places if (s := signals[i]) is not None]
    width = max((s.inputs.shape[1] + s.context.shape[1] for s in usable), default=0)
    if sum(len(s.targets) for s in usable) < 3 * (width + 1) or len(usable) < 2:
        return None
    scaled = standardised(usable, reach)
    if not scaled[0].targets.shape[1]:
        return None  # nothing ever moves
    whole, sure = _store_delay(scaled, longest, ridge, rounds=1)
    if whole != declared or sure < confidence:  # look again, with models that outliers do not bend
        whole, sure = _store_delay(scaled, longest, ridge, rounds=3)
    if sure < confidence:
        whole = declared
    linear = scaled[0].inputs.shape[1]
    scaled = with_random_features([s.delayed(whole) for s in scaled])
    penalty = np.full(scaled[0].inputs.shape[1] + scaled[0].context.shape[1] + 1, ridge)
    penalty[linear : scaled[0].inputs.shape[1]] = max(ridge, _RANDOM_RIDGE)
    model = MotionModel.fit(scaled, penalty)
    without = MotionModel.fit([s.without_inputs() for s in scaled], ridge)
    nothing = [without.nats(without.wanted(own.without_inputs(), i % FOLDS)) for i, own in enumerate(scaled)]
    rows = sum(len(s.targets) for s in scaled)
    weak = max(1.0, _ROWS_PER_INPUT * len(penalty) / rows)
    judged, gains = [], []
    for place, own in enumerate(scaled):
        fold = place % FOLDS
        wanted, explained = model.wanted(own, fold), model.explained(own.inputs, fold)
        delay, gain = _judge(model, wanted, explained, nothing[place], longest, confidence)
        if delay.evidence < -_DISBELIEF * weak**2:
            best = [s.delayed(delay.best) for s in scaled]
            delay = replace(delay, foreign=prefers_a_stranger(model, best, place))
        judged.append(delay)
        gains.append(gain)
    most = np.sort(gains, axis=0)[-2:]
    needed = 2 * confidence * weak
    judged = [
        _outstanding(delay, gain, most, longest, confidence, needed) for delay, gain in zip(judged, gains, strict=True)
    ]
    exchanged = exchanged_pairs(model, scaled, nothing)
    believed = np.mean([delay.evidence > 0 for delay in judged])
    if len(judged) < _FEW or believed < _BELIEVED:  # the model itself is too weak to call an episode foreign
        judged, exchanged = [replace(delay, foreign=False) for delay in judged], []
    if np.median([delay.evidence for delay in judged]) < confidence:  # nowhere does it say anything of the motion
        judged, sure = [replace(delay, rows=None, foreign=False) for delay in judged], 0.0
    of_episode = dict(zip(places, judged, strict=True))
    pairs = [replace(pair, first=places[pair.first], second=places[pair.second]) for pair in exchanged]
    return Delays(whole, sure, [of_episode.get(i) for i in range(len(signals))], pairs)


def _judge(
    model: MotionModel,
    wanted: np.ndarray,
    explained: np.ndarray,
    without: np.ndarray,
    longest: int,
    confidence: float,
) -> tuple[Delay, np.ndarray]:
    """The delay of one episode around that of the store, and the nats that every delay gains over none.

    without: nats [T] of its rows in a model that has no inputs. Two shifts are compared on the rows that both have, so
    that neither wins by having more of them.
    """
    count, shifts = len(wanted), list(range(-longest, longest + 1))
    nats, has = np.zeros((len(shifts), count)), np.zeros((len(shifts), count))
    for row, k in enumerate(shifts):
        rows = slice(max(-k, 0), count - max(k, 0))
        nats[row, rows] = model.nats(wanted[rows] - explained[max(k, 0) : count - max(-k, 0)])
        has[row, rows] = 1
    gains = (nats @ has.T - has @ nats.T) / model.correlation  # of the column's shift over the row's
    place = int(gains.max(1).argmin()) if gains[longest].max() > 0 else longest
    best, evidence = shifts[place], float((has[place] * without - nats[place]).sum()) / model.correlation
    near = [k for k, gain in zip(shifts, gains[place], strict=True) if gain > -confidence and k * best > 0] or [best]
    if best == 0:  # no shift is better than none: how sure is it that the closest rival is worse?
        sure = -max(gain for k, gain in zip(shifts, gains[longest], strict=True) if k)
        return Delay(0 if sure >= confidence / 2 else None, 0, 0, 0, float(sure), evidence), gains[longest]
    # Inputs that explain nothing at any shift still fit one of them best: that is no delay. Only where that one stands
    # out far may the model be worse than none, as that of a few episodes often is.
    sure = float(gains[longest, place])
    told = sure >= confidence and (evidence >= confidence or sure >= _SURE - 2 * evidence)
    return Delay(best if told else None, best, min(near), max(near), sure, evidence), gains[longest]


def _outstanding(
    delay: Delay, gain: np.ndarray, most: np.ndarray, longest: int, confidence: float, needed: float
) -> Delay:
    """Told, too, where the delay gains little over none, but every other episode of the store loses much by it.

    gain: [K] nats of each delay in this episode; most: [2, K] the second largest and the largest of all episodes;
    needed: nats by which it must stand out from them.
    """
    place = delay.best + longest
    rival = most[0, place] if gain[place] == most[1, place] else most[1, place]
    if delay.rows is None and delay.best and delay.evidence >= confidence and gain[place] - rival >= needed:
        return replace(delay, rows=delay.best)
    return delay


def _store_delay(signals: Sequence[Signals], longest: int, ridge: float, rounds: int) -> tuple[int, float]:
    """The delay of all episodes together, each shift with a model of its own, and its confidence against the next.

    A foreign episode must not decide it, so none has more voice than most others. The confidence is the least of
    two: the nats, and what the agreement of the episodes among themselves is worth (z^2 / 2, the log-likelihood ratio
    of a normal mean against 0).
    """
    long = [s for s in signals if len(s.targets) > 2 * longest]
    if not long:
        return 0, 0.0
    long = long[:: -(-sum(len(s.targets) - 2 * longest for s in long) // _ROWS)]
    costs, correlation, shifts = [], 1.0, range(-longest, longest + 1)
    for shift in shifts:
        # The same rows for all shifts: those that even the longest shift leaves.
        trimmed = [_middle(s, longest, shift) for s in long]
        model = MotionModel.fit(trimmed, ridge, rounds)
        left = [model.wanted(s, i % FOLDS) - model.explained(s.inputs, i % FOLDS) for i, s in enumerate(trimmed)]
        costs.append([model.nats(part).sum() for part in left])
        correlation = max(correlation, model.correlation)
    nats = np.array(costs) / correlation
    gains = nats[:, None] - nats[None]  # of the second shift over the first, by each episode
    most = np.maximum(_VOICE, np.median(np.abs(gains), axis=2, keepdims=True))
    gains = np.clip(gains, -most, most)
    totals = gains.sum(2)
    best = int(totals.max(1).argmin())
    rival = min((k for k in range(len(shifts)) if k != best), key=lambda k: totals[k, best])
    agreed = gains[rival, best].mean() / max(gains[rival, best].std() / np.sqrt(len(long)), 1e-9)
    sure = min(float(totals[rival, best]), 0.5 * float(np.square(max(agreed, 0.0))))
    return shifts[best], max(sure, 0.0)


def _middle(signals: Signals, margin: int, shift: int) -> Signals:
    """Without `margin` rows at both ends, the inputs taken `shift` rows later."""
    rows = np.arange(margin, len(signals.targets) - margin)
    return Signals(signals.inputs[rows + shift], signals.context[rows], signals.targets[rows])
