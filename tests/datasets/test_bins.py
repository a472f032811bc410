"""Actions to integers and back: every bin survives the round trip, and no two bins share a centre."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.bins import ActionBins

BINS = ActionBins(np.array([-1.0, -0.05, 3.0]), np.array([1.0, 0.07, 3.0]))


def test_every_bin_survives_the_round_trip() -> None:
    indices = np.stack([np.arange(256), np.arange(256), np.zeros(256, int)], axis=1)
    np.testing.assert_array_equal(BINS.encode(BINS.decode(indices)), indices)
    for dimension in (0, 1):
        assert len(np.unique(BINS.decode(indices)[:, dimension])) == 256


def test_centres_are_the_middle_of_equal_widths() -> None:
    centres = BINS.decode(np.array([[0, 0, 0], [255, 255, 0]]))
    np.testing.assert_allclose(centres[:, 0], [-1 + 1 / 256, 1 - 1 / 256])
    assert centres[:, 2].tolist() == [3.0, 3.0], "a constant is its own centre"


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_a_value_comes_back_within_half_a_bin_or_at_the_edge(action: list[float]) -> None:
    value = np.array(action)
    inside = np.clip(value, BINS.low, BINS.high)
    assert (np.abs(BINS.decode(BINS.encode(value)) - inside) <= (BINS.high - BINS.low) / 512 + 1e-12).all()


def test_percentiles_leave_outliers_to_the_outermost_bins() -> None:
    rows = np.concatenate([np.linspace(-1, 1, 1001), [50.0]])[:, None]
    bins = ActionBins.fit(rows)
    assert bins.high[0] < 1.0 and bins.encode(np.array([[50.0]])).item() == 255
    restored = ActionBins.from_dict(json.loads(json.dumps(bins.to_dict())))
    np.testing.assert_array_equal(restored.encode(rows), bins.encode(rows))


def test_a_dimension_that_hardly_ever_moves_keeps_its_range() -> None:
    rows = np.zeros((1000, 2))
    rows[:5, 0], rows[:, 1] = np.linspace(-1, 2, 5), 0.7
    bins = ActionBins.fit(rows)
    assert (bins.low.tolist(), bins.high.tolist()) == ([-1.0, 0.7], [2.0, 0.7])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: ActionBins(np.zeros(2), np.zeros(3)), r"low \(2,\), high \(3,\)"),
        (lambda: ActionBins(np.ones(1), np.zeros(1)), "finite low <= high"),
        (lambda: ActionBins(np.zeros(1), np.ones(1), 1), "at least 2 bins"),
        (lambda: BINS.encode(np.array([np.nan, 0, 0])), "not finite"),
        (lambda: BINS.decode(np.array([256, 0, 0])), "outside 0 to 255"),
        (lambda: BINS.decode(np.array([0.5, 0, 0])), "float64 outside"),
        (lambda: ActionBins.from_dict({"low": [0]}), "exactly low, high, count"),
    ],
)
def test_nonsense_is_refused(act: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()  # type: ignore[operator]
