"""What a camera sees as numbers: where colours are, to a fraction of a cell."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.motion import FrameCache

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
