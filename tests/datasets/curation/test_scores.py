"""The score filter, with scorers that look at real pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from deixis.datasets.curation.config import ScoreConfig
from deixis.datasets.curation.pieces import Piece, whole_episodes
from deixis.datasets.curation.scores import drop_low_scores, instants, of_single_images, piece_scores
from deixis.datasets.store import StoreError, TrajectoryStore

from .conftest import moving_episode

MakeStore = Callable[..., TrajectoryStore]


def redness(images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Share of red pixels where the text asks for something red, of others where it asks for none."""
    pixels = images.astype(int)
    share = (pixels[..., 0] > pixels[..., 1] + 100).mean((1, 2))
    return np.where([("red" in text) for text in texts], share, 1 - share)


@pytest.fixture
def store(moving_store: MakeStore) -> TrajectoryStore:
    """Ten episodes; in episodes 3 and 7 the red object that is asked for was painted over."""
    episodes = [moving_episode(seed) for seed in range(10)]
    for index in (3, 7):
        images = episodes[index].streams["camera.front"].values
        images[..., 0] = np.minimum(images[..., 0], 120)
    return moving_store(episodes)


def test_what_does_not_show_the_named_thing_is_dropped(store: TrajectoryStore) -> None:
    pieces = whole_episodes(store)
    score = of_single_images(redness)
    outcome = drop_low_scores(store, pieces, ScoreConfig(minimum=0.01), score)
    assert [piece.episode for piece in outcome.pieces] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert [drop.episode for drop in outcome.drops] == [3, 7]
    assert outcome.drops[0].numbers == {"score": 0.0, "minimum": 0.01, "text": "push the red cube"}
    by_share = drop_low_scores(store, pieces, ScoreConfig(quantile=0.2), score)
    assert by_share.pieces == outcome.pieces
    assert drop_low_scores(store, pieces, ScoreConfig(quantile=0.0), score).drops == [], "nothing is below the lowest"


def test_scores_are_means_over_evenly_spaced_frames(store: TrajectoryStore) -> None:
    piece = whole_episodes(store)[0]
    asked: list[tuple[int, int]] = []

    def mean_pixel(images: Mapping[str, np.ndarray], texts: Sequence[str]) -> np.ndarray:
        asked.append((len(images["front"]), len(texts)))
        return images["front"].mean((1, 2, 3))

    rows = [0, 20, 39]
    assert instants(piece, 3).tolist() == [0, 20, 39]
    assert instants(Piece(0, 5, 6, "", {}), 4).tolist() == [5, 5, 5, 5]
    images = store.read(0, "camera.front")
    seen = np.searchsorted(images.stamps_ns, store.stamps("action", [0])[rows], "right") - 1
    wanted = images.values[seen].mean((1, 2, 3)).mean()
    found = piece_scores(store, [piece] * 50, 3, mean_pixel)
    np.testing.assert_allclose(found, [wanted] * 50)
    assert asked == [(63, 63), (63, 63), (24, 24)], "at most 64 images at a time"


@pytest.mark.parametrize("answer", [np.zeros(3), np.full(10, np.nan)])
def test_a_scorers_wrong_answer_is_refused(store: TrajectoryStore, answer: np.ndarray) -> None:
    with pytest.raises(StoreError, match=r"score: found .* wanted one finite number for each of 10 texts"):
        piece_scores(store, whole_episodes(store), 1, lambda images, texts: answer)
