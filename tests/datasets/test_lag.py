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


def test_inputs_of_another_episode_fit_badly_at_every_delay() -> None:
    rng = np.random.default_rng(3)
    signals = [_episode(rng) for _ in range(20)]
    signals[4], signals[9] = (
        Signals(signals[9].inputs, signals[4].context, signals[4].targets),
        Signals(signals[4].inputs, signals[9].context, signals[9].targets),
    )
    delays = estimate_delays(signals, 4, 6.0)
    assert delays is not None
    evidence = [delay.evidence if delay else 0.0 for delay in delays.episodes]
    assert max(evidence[4], evidence[9]) < -10
    assert min(value for episode, value in enumerate(evidence) if episode not in (4, 9)) > 10
