"""Into [-1, 1] and back, for numpy and torch."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deixis.datasets.normalisation import MinMaxNormaliser, fit_normalisers

values = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    st.tuples(st.integers(1, 20), st.integers(1, 5)),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(values)
def test_round_trip(rows: np.ndarray) -> None:
    normaliser = MinMaxNormaliser.fit(rows, min_range=0.0)
    scaled = normaliser.normalise(rows)
    eps = np.finfo(rows.dtype).eps
    assert scaled.dtype == rows.dtype
    span = rows.max(0).astype(np.float64) - rows.min(0)
    # What is lost is a rounding of the largest value, seen at the scale of the range.
    loss = 4 * eps * (1 + np.abs(rows).max(0) / np.where(span > 0, span, 1))
    assert (np.abs(scaled) <= 1 + 2 * loss).all()
    least = 4 * np.finfo(np.float32).tiny  # a range below this is constant
    tolerance = float(16 * eps * np.abs(rows).max() + least)
    np.testing.assert_allclose(normaliser.unnormalise(scaled), rows, rtol=0, atol=tolerance)
    tensor = torch.from_numpy(rows)
    np.testing.assert_allclose(normaliser.normalise(tensor).numpy(), scaled, rtol=1e-5, atol=1e-6)
    restored = MinMaxNormaliser.from_dict(json.loads(json.dumps(normaliser.to_dict())))
    np.testing.assert_array_equal(restored.normalise(rows), scaled)


@given(st.floats(-(2.0**100), 2.0**100, width=32), st.floats(-3, 3, width=32))
def test_a_constant_becomes_zero_and_comes_back_exactly(constant: float, guess: float) -> None:
    rows = np.full((4, 1), constant, np.float32)
    normaliser = MinMaxNormaliser.fit(rows)
    for wrap in (np.asarray, torch.from_numpy):
        array: Any = wrap(rows)
        assert (normaliser.normalise(array) == 0).all()
        assert (normaliser.unnormalise(array * 0 + guess) == array).all()  # whatever a policy says for it


def test_the_ends_are_minus_one_and_one() -> None:
    normaliser = MinMaxNormaliser.fit(np.array([[0.0, 5.0, -3.0], [10.0, 5.0, -1.0]]))
    assert normaliser.normalise(np.array([[0.0, 5.0, -3.0], [10.0, 9.0, -2.0], [20.0, 5.0, -1.0]])).tolist() == [
        [-1, 0, -1],
        [1, 0, 0],
        [3, 0, 1],
    ]


def test_noise_below_min_range_is_constant() -> None:
    normaliser = MinMaxNormaliser.fit(np.array([[0.0], [1e-9]]))
    assert normaliser.normalise(np.array([[1e-9]])).tolist() == [[0.0]]
    assert MinMaxNormaliser.fit(np.array([[0.0], [1e-9]]), min_range=0.0).normalise(np.array([[1e-9]])) > 0.99


def test_a_range_whose_inverse_is_not_finite_is_constant() -> None:
    rows = np.array([[0.0], [1.334e-42]], np.float32)
    assert MinMaxNormaliser.fit(rows, min_range=0.0).normalise(rows).tolist() == [[0.0], [0.0]]


def test_dtype_and_device_are_kept() -> None:
    normaliser = MinMaxNormaliser([0.0, 1.0], [1.0, 3.0])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        tensor = torch.rand(2, 5, 2, dtype=dtype, requires_grad=True)
        out = normaliser.unnormalise(tensor)
        assert out.dtype == dtype and out.requires_grad


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: MinMaxNormaliser([1.0], [0.0]), "wanted finite low <= high"),
        (lambda: MinMaxNormaliser([np.nan], [0.0]), "wanted finite low <= high"),
        (lambda: MinMaxNormaliser([0.0, 0.0], [1.0]), r"low \(2,\) and high \(1,\)"),
        (lambda: MinMaxNormaliser.fit(np.zeros((0, 3))), "found 0 rows"),
        (lambda: MinMaxNormaliser.fit(np.array([[np.inf]])), "only finite"),
        (
            lambda: MinMaxNormaliser([0.0], [1.0]).normalise(np.zeros((4, 2))),
            r"found shape \(4, 2\), wanted \[..., 1\]",
        ),
        (lambda: MinMaxNormaliser([0.0], [1.0]).normalise(np.zeros((4, 1), int)), "found int64, wanted a numpy array"),
        (
            lambda: MinMaxNormaliser([0.0], [1.0]).normalise(torch.zeros(4, 1, dtype=torch.int32)),
            "tensor of torch.int32",
        ),
        (lambda: MinMaxNormaliser.from_dict({"low": [0.0]}), "exactly low, high, min_range"),
    ],
)
def test_nonsense_is_refused(act: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        act()


def test_fitted_on_the_chosen_episodes_of_a_store(make_store: Any, make_episode: Any) -> None:
    episodes = [make_episode(i) for i in range(3)]
    normalisers = fit_normalisers(make_store(episodes), [0, 2])
    for name, normaliser in normalisers.items():
        rows = np.concatenate([episodes[i].streams[name].values for i in (0, 2)])
        np.testing.assert_array_equal(normaliser.low, rows.min(0))
        np.testing.assert_array_equal(normaliser.high, rows.max(0))
    assert set(normalisers) == {"proprio", "action"}
