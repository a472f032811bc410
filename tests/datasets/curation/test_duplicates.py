"""Planted near-duplicates are found, and nothing else is; components are those of a slow reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.curation import components as components_module
from deixis.datasets.curation.components import components, members, same_text
from deixis.datasets.curation.config import DuplicatesConfig, FramesConfig
from deixis.datasets.curation.descriptors import episode_descriptors, thumbnails
from deixis.datasets.curation.duplicates import drop_duplicates
from deixis.datasets.curation.frames import cut_duplicate_frames
from deixis.datasets.curation.pieces import whole_episodes
from deixis.datasets.curation.report import Outcome
from deixis.datasets.episode import Episode, StoreError, Stream
from deixis.datasets.store import TrajectoryStore

from .conftest import moving_episode

MakeStore = Callable[..., TrajectoryStore]


def near_copy(episode: Episode, seed: int) -> Episode:
    """The same once more: another day, other noise in pixels, state and actions, and another exposure."""
    rng = np.random.default_rng(seed)
    streams = {}
    for name, stream in episode.streams.items():
        values = stream.values
        if name == "camera.front":
            noisy = 1.1 * values + rng.integers(-3, 4, values.shape)
            values = np.clip(noisy, 0, 255).astype(np.uint8)
        elif name in ("action", "proprio"):
            values = (values + rng.normal(0, 1e-3, values.shape)).clip(-1, 1).astype(np.float32)
        arrivals = None if stream.arrivals_ns is None else stream.arrivals_ns + 10**13
        streams[name] = Stream(values, stream.stamps_ns + 10**13, arrivals)
    return Episode(streams, episode.instruction, dict(episode.meta))


def left(outcome: Outcome) -> list[int]:
    return [piece.episode for piece in outcome.pieces]


def test_planted_copies_are_found_and_no_clean_episode_is_lost(moving_store: MakeStore) -> None:
    clean = [moving_episode(seed, 30 + seed) for seed in range(20)]
    planted = [near_copy(clean[i], 100 + j) for j, i in enumerate((3, 3, 11, 0))]
    store = moving_store([*clean, *planted])
    outcome = drop_duplicates(store, whole_episodes(store), DuplicatesConfig(0.98))
    assert left(outcome) == list(range(20))
    found = {drop.episode: (drop.numbers["kept episode"], drop.numbers["episodes alike"]) for drop in outcome.drops}
    assert found == {20: (3, 3), 21: (3, 3), 22: (11, 2), 23: (0, 2)}
    assert all(float(drop.numbers["its cosine"]) > 0.98 and drop.rows is not None for drop in outcome.drops)


def test_two_copies_alone_are_found_too(moving_store: MakeStore) -> None:
    episode = moving_episode(0)
    store = moving_store([episode, near_copy(episode, 1)])
    assert left(drop_duplicates(store, whole_episodes(store), DuplicatesConfig(0.98))) == [0]


def test_the_same_motion_in_another_scene_is_no_duplicate(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(seed, scene=scene) for seed in range(4) for scene in range(3)])
    assert len(drop_duplicates(store, whole_episodes(store), DuplicatesConfig(0.98)).pieces) == 12


def test_one_that_succeeded_stays_then_the_longer_then_the_first(moving_store: MakeStore) -> None:
    failed, done, other = (moving_episode(5, meta={"success": ok}) for ok in (False, True, True))
    store = moving_store([failed, near_copy(done, 1), near_copy(other, 2), *map(moving_episode, range(4))])
    outcome = drop_duplicates(store, whole_episodes(store), DuplicatesConfig(0.98))
    assert left(outcome) == [1, 3, 4, 5, 6]


def test_other_words_are_other_supervision_unless_asked(moving_store: MakeStore) -> None:
    first, second = moving_episode(0, instruction="push the cube"), moving_episode(0, instruction="推方块")
    store = moving_store([first, near_copy(second, 1), moving_episode(2), moving_episode(3)])
    pieces = whole_episodes(store)
    assert left(drop_duplicates(store, pieces, DuplicatesConfig(0.98))) == [0, 1, 2, 3]
    assert left(drop_duplicates(store, pieces, DuplicatesConfig(0.98, same_instruction=False))) == [0, 2, 3]


def test_exact_copies_are_found_at_a_threshold_of_one(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(0), moving_episode(1), moving_episode(0)])
    assert left(drop_duplicates(store, whole_episodes(store), DuplicatesConfig(1.0))) == [0, 1]


def test_embeddings_take_the_place_of_thumbnails(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(0), near_copy(moving_episode(0), 1), moving_episode(2)])
    asked: list[int] = []

    def brightness(images: Mapping[str, np.ndarray]) -> np.ndarray:
        asked.append(len(images["front"]))
        return np.eye(3)[[len(asked) % 3] * len(images["front"])]  # each episode looks like no other

    pieces = whole_episodes(store)
    assert left(drop_duplicates(store, pieces, DuplicatesConfig(0.98), brightness)) == [0, 1, 2]
    assert asked == [4, 4, 4]
    with pytest.raises(StoreError, match=r"embed: found \(3,\), wanted finite numbers \[4, E\]"):
        drop_duplicates(store, pieces, DuplicatesConfig(0.98), lambda images: np.zeros(3))


def test_descriptors_do_not_depend_on_exposure_or_a_value_that_is_not_a_number(moving_store: MakeStore) -> None:
    images = np.random.default_rng(0).integers(50, 100, (3, 37, 41, 3)).astype(np.uint8)
    np.testing.assert_allclose(thumbnails(images), thumbnails(2 * images + 10), atol=1e-4)
    assert np.abs(thumbnails(np.full((1, 20, 20, 3), 77, np.uint8))).max() < 1e-6
    small = thumbnails(np.random.default_rng(1).integers(0, 256, (2, 4, 3, 3)).astype(np.uint8))
    np.testing.assert_allclose(np.linalg.norm(small, axis=1), 1, atol=1e-5)
    broken = moving_episode(2)
    broken.streams["proprio"].values[7] = np.nan
    store = moving_store([moving_episode(0), moving_episode(1), broken])
    assert np.isfinite(episode_descriptors(store, whole_episodes(store))).all()


def test_a_spliced_stretch_is_cut_and_the_rest_stays(moving_store: MakeStore) -> None:
    episodes = [moving_episode(seed) for seed in range(8)]
    copy = near_copy(episodes[2], 50)
    for name, stream in episodes[5].streams.items():  # its first 20 actions are those of episode 2
        rows = round(20 * len(stream.values) / 40)
        stream.values[:rows] = copy.streams[name].values[:rows]
    store = moving_store(episodes)
    config = FramesConfig(0.98, rate_hz=5.0)
    outcome = cut_duplicate_frames(store, whole_episodes(store), config)
    assert [(p.episode, p.first, p.stop) for p in outcome.pieces if p.rows < 40] == [(5, 20, 40)]
    assert [(drop.episode, drop.rows, drop.numbers["kept episode"]) for drop in outcome.drops] == [(5, (0, 20), 2)]
    assert left(outcome) == list(range(8))
    patient = FramesConfig(0.98, rate_hz=5.0, min_seconds=2.5)
    outcome = cut_duplicate_frames(store, whole_episodes(store), patient)
    assert (len(outcome.drops), outcome.notes) == (
        0,
        ["160 frames compared; 10 duplicates left, in stretches too short to cut"],
    )


def test_a_slow_motion_is_no_duplicate_of_itself(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(0, still=[(10, 40)]), moving_episode(1)])
    outcome = cut_duplicate_frames(store, whole_episodes(store), FramesConfig(0.9, rate_hz=10.0))
    assert outcome.drops == []


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    threshold=st.floats(0.5, 0.99),
    owners=st.integers(1, 8),
    block=st.integers(1, 70),
)
def test_components_are_those_of_a_flood(seed: int, count: int, threshold: float, owners: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(count, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    of = rng.integers(0, owners, count)
    for owned in (None, of):
        near = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
        if np.abs(near - threshold).min() < 1e-5:
            continue  # float32 may decide such a pair either way
        wanted, unseen = [], set(range(count))
        while unseen:
            flood = [unseen.pop()]
            for i in flood:
                met = {j for j in unseen if near[i, j] > threshold and (owned is None or owned[i] != owned[j])}
                unseen -= met
                flood += met
            wanted.append(sorted(flood))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(components_module, "_BLOCK", block)
            found = members(components(vectors, threshold, owned))
        assert sorted(group.tolist() for group in found) == sorted(group for group in wanted if len(group) > 1)


def test_same_texts_are_gathered() -> None:
    groups = same_text(["a", "b", "a", "", "b", "c", "a"])
    assert [group.tolist() for group in groups] == [[0, 2, 6], [1, 4]]
    assert same_text([]) == []
