"""Every source has its share to within one window at every position, and any step is reached directly."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.datasets.loader import Loader
from deixis.datasets.mixture import Mixture, Schedule, Source, joined
from deixis.datasets.sampling import BlockShuffledOrder, ShuffledOrder
from deixis.datasets.windows import WindowDataset, WindowSpec

weights = st.lists(
    st.one_of(st.integers(1, 60), st.sampled_from([0.7, 0.2, 0.1, 0.05, 1 / 3, 2.5])), min_size=1, max_size=7
)


@settings(max_examples=60)
@given(weights=weights)
def test_shares_are_exact_to_within_one_at_every_position(weights: list[float]) -> None:
    schedule = Schedule(weights)
    exact = [Fraction(str(w)) / sum(Fraction(str(w)) for w in weights) for w in weights]
    assert schedule.shares == exact or schedule.period == 1 << 16
    positions = np.arange(min(3 * schedule.period, 5000) + 1)
    drawn = schedule.sources(0, len(positions) - 1)[:, None] == np.arange(len(weights))
    counts = np.cumsum(np.concatenate([np.zeros((1, len(weights)), bool), drawn]), axis=0)
    for position in positions[::97].tolist():
        np.testing.assert_array_equal(schedule.counts(position), counts[position])
    for column, share in zip(counts.T, schedule.shares, strict=True):
        assert (np.abs(column * share.denominator - positions * share.numerator) < share.denominator).all()


@given(weights=weights, start=st.integers(0, 10**12), length=st.integers(0, 300))
def test_any_position_is_reached_directly(weights: list[float], start: int, length: int) -> None:
    schedule = Schedule(weights)
    before, after = schedule.counts(start), schedule.counts(start + length)
    drawn = np.bincount(schedule.sources(start, start + length), minlength=len(weights))
    np.testing.assert_array_equal(after - before, drawn)
    for count, share in zip(after.tolist(), schedule.shares, strict=True):
        assert abs(count - (start + length) * share) < 1


@settings(max_examples=15)
@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=12))
def test_any_weights_make_shares(weights: list[float]) -> None:
    schedule = Schedule(weights)
    assert sum(schedule.shares) == 1 and schedule.period <= 1 << 16
    for share, weight in zip(schedule.shares, weights, strict=True):
        assert share > 0
        # One part of 65,536 for rounding, and one for each source that is lifted to its least part.
        assert abs(float(share) - weight / sum(weights)) <= (1 + len(weights)) / (1 << 16)


@pytest.mark.parametrize("bad", [[], [0], [-1.0], [float("nan")], [float("inf")], ["1"], [True]])
def test_weights_that_are_none_are_refused(bad: list[Any]) -> None:
    with pytest.raises(ValueError, match="found"):
        Schedule(bad)


@pytest.fixture
def sources(make_store: Any, make_episode: Any) -> list[Source]:
    stores = [make_store([make_episode(10 * k + i, 9 + i) for i in range(k + 1)], f"store-{k}") for k in range(3)]
    datasets = [WindowDataset(store, WindowSpec(2, 4), ("front",)) for store in stores]
    orders = [
        ShuffledOrder(len(datasets[0]), 8, 1),
        BlockShuffledOrder(datasets[1].blocks(4), 2, 8, 2),
        ShuffledOrder(len(datasets[2]), 8, 3),
    ]
    tokens = ({"image": 64, "action": 4}, {"image": 128, "action": 8}, {"image": 64, "text": 4})
    return [
        Source(name, windows, order, weight, cost)
        for name, windows, order, weight, cost in zip("abc", datasets, orders, (0.5, 0.3, 0.2), tokens, strict=True)
    ]


def test_each_source_follows_its_own_order(sources: list[Source]) -> None:
    mixture, drawn = Mixture(sources, 8), {source.name: [] for source in sources}
    for step in range(50):
        indices = mixture.indices(step)
        assert sum(map(len, indices.values())) == 8
        for name, found in indices.items():
            drawn[name].extend(found.tolist())
    for source in sources:
        assert len(drawn[source.name]) == round(400 * source.weight)
        np.testing.assert_array_equal(drawn[source.name], source.order.span(0, len(drawn[source.name])))
    assert mixture.budget(50) == {
        "a": {"windows": 200, "image": 12800, "action": 800},
        "b": {"windows": 120, "image": 15360, "action": 960},
        "c": {"windows": 80, "image": 5120, "text": 320},
    }


def test_a_step_does_not_depend_on_those_before(sources: list[Source]) -> None:
    mixture = Mixture(sources, 8)
    for step, batch in zip(range(20, 25), Loader(mixture, 2).steps(20, 25), strict=True):
        fresh = Mixture(sources, 8)[step]
        assert list(batch) == list(fresh)
        for name, windows in batch.items():
            np.testing.assert_array_equal(windows["images"]["front"], fresh[name]["images"]["front"])
            np.testing.assert_array_equal(windows["t"], fresh[name]["t"])


def test_tokens_may_be_what_is_shared_out(sources: list[Source]) -> None:
    mixture = Mixture(sources, 10, by="tokens")
    spent = {name: sum(cost.values()) - cost["windows"] for name, cost in mixture.budget(10_000).items()}
    for source in sources:
        # To within one window of its own and of what the others spend.
        assert abs(spent[source.name] / sum(spent.values()) - source.weight) < 1e-4
    assert mixture.schedule.shares[0] / mixture.schedule.shares[1] == Fraction(5, 3) * 2


def test_batches_of_one_shape_are_joined(sources: list[Source]) -> None:
    batches = Mixture(sources, 8).batch(3)
    whole = joined(batches)
    assert whole["images"]["front"].shape == (8, 2, 8, 6, 3) and whole["actions"].shape == (8, 4, 2)
    begin = 0
    for name, batch in batches.items():
        stop = begin + len(batch["t"])
        assert whole["source"][begin:stop] == [name] * len(batch["t"])
        assert whole["instruction"][begin:stop] == batch["instruction"]
        np.testing.assert_array_equal(whole["proprio"][begin:stop], batch["proprio"])
        begin = stop
    assert begin == 8
    other = WindowDataset(sources[0].windows.store, WindowSpec(2, 5), ("front",)).batch(np.array([0]))
    with pytest.raises(ValueError, match="wanted the same of at least one source; keep them apart"):
        joined({**batches, "other": other})
    with pytest.raises(ValueError, match=r"joined: found shapes \{\}"):
        joined({})


def test_mixtures_that_make_no_sense_are_refused(sources: list[Source]) -> None:
    first = sources[0]
    bad: Any = (
        (([first, first], 8), r"found sources \['a', 'a'\], wanted each name once"),
        ((sources, 0), "found batch_size 0"),
        ((sources, 8, "bytes"), "found by='bytes'"),
        (([Source("a", first.windows, first.order, 1)], 8, "tokens"), "source 'a': found no tokens"),
        (([Source("a", first.windows, first.order, 1, {"image": -1})], 8), "source 'a': found tokens"),
        (([Source("a", first.windows, ShuffledOrder(3, 1, 0), 1)], 8), "found an order of 3 items"),
        (([Source("a", first.windows, first.order, 0)], 8), "weight: found 0"),
    )
    for arguments, message in bad:
        with pytest.raises(ValueError, match=message):
            Mixture(*arguments)
    with pytest.raises(ValueError, match="found step -1"):
        Mixture(sources, 8).indices(-1)
