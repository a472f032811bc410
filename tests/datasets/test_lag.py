"""Delays are read from signals alone, in single episodes and in whole stores, and not where nothing moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.datasets.lag import estimate_delays
from deixis.datasets.motion_model import Signals


def _episode(rng: np.random.Generator, rows: int = 40, moving: bool = True) -> Signals:
    """A robot that follows commands with friction and noise; commands are smooth, as people's are."""
    commands = np.zeros((rows, 3))
    for row in range(1, rows):
        commands[row] = 0.8 * commands[row - 1] + rng.normal(size=3)
    step = 0.7 * commands + 0.3 * rng.normal(size=(rows, 3))
    if not moving:
        step = 0.3 * rng.normal(size=(rows, 3))
    place = np.cumsum(step, axis=0) - step
    return Signals(commands, place, step)


def _late(signals: Signals, rows: int) -> Signals:
    """The same inputs `rows` rows later."""
    take = np.clip(np.arange(len(signals.inputs)) - rows, 0, len(signals.inputs) - 1)
    return Signals(signals.inputs[take], signals.context, signals.targets)


@given(st.integers(0, 2**31), st.sampled_from([-3, -2, -1, 1, 2, 3]), st.integers(0, 19))
@settings(max_examples=15)
def test_one_late_episode_is_told_from_the_others(seed: int, rows: int, which: int) -> None:
    rng = np.random.default_rng(seed)
    signals = [_episode(rng) for _ in range(20)]
    signals[which] = _late(signals[which], rows)
    delays = estimate_delays(signals, 4, 6.0)
    assert delays is not None and delays.store == 0
    told = [delay.rows if delay else None for delay in delays.episodes]
    assert told[which] == rows
    assert all(other in (0, None) for episode, other in enumerate(told) if episode != which)


@pytest.mark.parametrize("rows", [-3, -1, 0, 1, 2, 4])
def test_a_store_that_is_late_as_a_whole(rows: int) -> None:
    rng = np.random.default_rng(rows + 10)
    delays = estimate_delays([_late(_episode(rng), rows) for _ in range(20)], 4, 6.0)
    assert delays is not None and delays.store == rows and delays.store_confidence > 6
    assert all(delay is not None and delay.rows in (0, None) for delay in delays.episodes), "each agrees with its store"


def test_without_motion_nothing_is_told() -> None:
    rng = np.random.default_rng(0)
    signals = [_episode(rng) for _ in range(20)] + [_episode(rng, moving=False) for _ in range(4)]
    still = [Signals(np.zeros_like(s.inputs), s.context * 0, s.targets * 0) for s in signals[:2]]
    delays = estimate_delays([*signals, *still, None], 4, 6.0)
    assert delays is not None
    assert all(delay is not None and delay.rows in (0, None) for delay in delays.episodes[20:26])
    assert all(delay is not None and delay.rows is None for delay in delays.episodes[24:26]), "zeros tell nothing"
    assert delays.episodes[26] is None


def test_too_little_to_learn_from() -> None:
    rng = np.random.default_rng(0)
    assert estimate_delays([_episode(rng)], 4, 6.0) is None
    assert estimate_delays([_episode(rng, rows=6) for _ in range(30)], 4, 6.0) is None
    assert estimate_delays([], 4, 6.0) is None


@pytest.mark.parametrize("others", [(4, 9), (0, 19), (7, 8)])
def test_inputs_of_another_episode_fit_badly_and_are_called_exchanged(others: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    signals = [_episode(rng) for _ in range(24)]
    clean = estimate_delays(signals, 4, 6.0)
    assert clean is not None and clean.exchanged == [] and not any(d and d.foreign for d in clean.episodes)
    one, two = (signals[i] for i in others)
    signals[others[0]] = Signals(two.inputs, one.context, one.targets)
    signals[others[1]] = Signals(one.inputs, two.context, two.targets)
    delays = estimate_delays(signals, 4, 6.0)
    assert delays is not None
    evidence = [delay.evidence if delay else 0.0 for delay in delays.episodes]
    assert max(evidence[i] for i in others) < -10
    assert min(value for episode, value in enumerate(evidence) if episode not in others) > 10
    assert [(pair.first, pair.second) for pair in delays.exchanged] == [others] and delays.exchanged[0].nats > 40


def test_one_foreign_episode_is_foreign_and_exchanged_with_none() -> None:
    rng = np.random.default_rng(5)
    signals = [_episode(rng) for _ in range(24)]
    signals[4] = Signals(_episode(rng).inputs, signals[4].context, signals[4].targets)
    delays = estimate_delays(signals, 4, 6.0)
    assert delays is not None and delays.exchanged == []
    assert [i for i, delay in enumerate(delays.episodes) if delay and delay.foreign] == [4]


@given(st.integers(0, 2**31), st.sampled_from([-2, -1, 1, 2]))
@settings(max_examples=10)
def test_what_a_few_foreign_episodes_say_does_not_move_the_store(seed: int, rows: int) -> None:
    """Their nats are many, their voices few."""
    rng = np.random.default_rng(seed)
    signals = [_late(_episode(rng), rows) for _ in range(20)]
    long = [_episode(rng, rows=120) for _ in range(3)]
    foreign = [Signals(_episode(rng, rows=120).inputs, s.context, s.targets) for s in long]
    delays = estimate_delays([*signals, *foreign], 4, 6.0)
    assert delays is not None and delays.store == rows and delays.store_confidence > 6


def test_an_unsure_store_keeps_its_declared_delay() -> None:
    rng = np.random.default_rng(1)
    still = [_episode(rng, moving=False) for _ in range(20)]
    for declared in (0, -2):
        delays = estimate_delays(still, 4, 6.0, declared=declared)
        assert delays is not None and delays.store == declared


def test_a_range_of_delays_is_told_where_neighbours_are_alike() -> None:
    """Commands that hardly change for three rows cannot tell three rows apart."""
    rng = np.random.default_rng(4)

    def slow(rows: int = 60) -> Signals:
        commands = np.repeat(rng.normal(size=(rows // 6, 3)), 6, axis=0) + 0.01 * rng.normal(size=(rows, 3))
        step = commands + 0.8 * rng.normal(size=(rows, 3))
        return Signals(commands, np.cumsum(step, axis=0) - step, step)

    signals = [slow() for _ in range(30)]
    signals[3] = _late(signals[3], 3)
    delays = estimate_delays(signals, 4, 4.0)
    assert delays is not None and (delay := delays.episodes[3]) is not None
    assert delay.rows and 0 < delay.least <= 3 <= delay.most <= 4
