"""What a camera sees as numbers, to a fraction of a cell; what the robot says of itself, without false leaps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.motion import FrameCache, continuous

RED, GREEN, BLUE, CYAN, MAGENTA, YELLOW, WHITE, BLACK = range(8)


def _colours(images: np.ndarray) -> np.ndarray:
    """[T, 8, 3]: across, down, logarithmic amount."""
    return FrameCache().frames(images).colours.reshape(len(images), 8, 3)


@given(st.integers(0, 54), st.integers(0, 54), st.integers(0, 255))
def test_a_coloured_square_is_where_it_was_drawn(left: int, top: int, grey: int) -> None:
    image = np.full((1, 64, 64, 3), grey, np.uint8)
    image[0, top : top + 10, left : left + 10] = (230, 20, 20)
    across, down, _ = _colours(image)[0, RED]
    cell = 1 / 32  # frames are compared as 32 x 32 cells, each at its upper left corner
    assert abs(across - ((left + 5) / 64 - 0.5 - cell / 2)) < 0.1 * cell
    assert abs(down - ((top + 5) / 64 - 0.5 - cell / 2)) < 0.1 * cell


def test_every_colour_is_seen_as_itself() -> None:
    shown = {
        RED: (255, 0, 0), GREEN: (0, 255, 0), BLUE: (0, 0, 255), CYAN: (0, 255, 255), MAGENTA: (255, 0, 255),
        YELLOW: (255, 255, 0), WHITE: (255, 255, 255), BLACK: (0, 0, 0),
    }  # fmt: skip
    for colour, rgb in shown.items():
        amounts = _colours(np.full((1, 32, 32, 3), rgb, np.uint8))[0, :, 2]
        assert amounts.argmax() == colour
        assert np.delete(amounts, colour).max() < amounts[colour] - 5


def test_an_absent_colour_is_in_the_middle_and_few_frames_are_as_many() -> None:
    rng = np.random.default_rng(0)
    grey = np.full((1, 40, 48, 3), 128, np.uint8)
    np.testing.assert_allclose(_colours(grey)[0, :6, :2], 0, atol=1e-6)
    images = rng.integers(0, 256, (70, 40, 48, 3)).astype(np.uint8)  # more than are worked on at once
    np.testing.assert_allclose(_colours(images)[[3, 40, 69]], _colours(images[[3, 40, 69]]), rtol=1e-4, atol=1e-5)


@given(st.integers(0, 2**31))
def test_angles_and_quaternions_have_no_false_leaps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn = np.cumsum(rng.uniform(-1, 1, 50))
    place = np.cumsum(rng.normal(0, 5, 50))  # metres may leap as they like
    half = 0.5 * np.cumsum(rng.uniform(-0.5, 0.5, 50))
    axis = rng.normal(size=3)
    quaternion = np.concatenate([np.cos(half)[:, None], np.sin(half)[:, None] * axis / np.linalg.norm(axis)], axis=1)
    shown = quaternion * rng.choice([-1, 1], 50)[:, None]
    values = np.concatenate([place[:, None], (turn % (2 * np.pi))[:, None], shown], axis=1)
    found = continuous(values, ("m", "rad", "1", "1", "1", "1"))
    np.testing.assert_array_equal(found[:, 0], place)
    np.testing.assert_allclose(np.diff(found[:, 1]), np.diff(turn), atol=1e-9)
    np.testing.assert_allclose(np.abs(np.diff(found[:, 2:], axis=0)), np.abs(np.diff(quaternion, axis=0)), atol=1e-9)
    assert (values[:, 2:] == shown).all(), "what was given is left as it was"
