"""The order is a function of (seed, step), and fair."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.sampling import ShuffledOrder

sizes = {"n": st.integers(1, 60), "batch_size": st.integers(1, 70), "seed": st.integers(0, 2**64)}


@given(epochs=st.integers(1, 5), **sizes)
def test_every_item_comes_once_an_epoch(n: int, batch_size: int, seed: int, epochs: int) -> None:
    order = ShuffledOrder(n, batch_size, seed)
    steps = -(-n * epochs // batch_size)
    batches = [order.indices(step) for step in range(steps)]
    assert all(batch.dtype == np.int64 and batch.shape == (batch_size,) for batch in batches)
    for epoch in np.concatenate(batches)[: n * epochs].reshape(epochs, n):
        assert sorted(epoch) == list(range(n))


@given(steps=st.lists(st.integers(0, 10**6), min_size=1, max_size=6), **sizes)
def test_a_step_does_not_depend_on_those_before(n: int, batch_size: int, seed: int, steps: list[int]) -> None:
    used = ShuffledOrder(n, batch_size, seed)
    for step in steps:
        np.testing.assert_array_equal(used.indices(step), ShuffledOrder(n, batch_size, seed).indices(step))


def test_seeds_and_epochs_differ() -> None:
    first = ShuffledOrder(1000, 1000, 0)
    assert not np.array_equal(first.indices(0), first.indices(1))
    assert not np.array_equal(first.indices(0), ShuffledOrder(1000, 1000, 1).indices(0))


def test_nonsense_is_refused() -> None:
    for arguments, message in (
        ((0, 1, 0), "found n 0"),
        ((1, 0, 0), "found batch_size 0"),
        ((1, 1, -1), "found seed -1"),
    ):
        with pytest.raises(ValueError, match=message):
            ShuffledOrder(*arguments)
    with pytest.raises(ValueError, match="found step -1"):
        ShuffledOrder(1, 1, 0).indices(-1)
