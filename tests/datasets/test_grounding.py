"""Grounding items join rows of exactly the same instant."""

from typing import Any

import numpy as np
import pytest

from deixis.datasets.grounding import GroundingDataset
from deixis.datasets.spec import SpecError
from deixis.datasets.store import StoreError


def test_items_are_rows_of_one_instant(make_store: Any, make_episode: Any) -> None:
    episodes = [make_episode(i, steps, 10**12) for i, steps in enumerate((9, 2, 14))]
    dataset = GroundingDataset(make_store(episodes), ("front", "wrist"), action_horizon=6, episodes=[2, 0])
    where = [(e, t) for e in (2, 0) for t in range(0, len(episodes[e].streams["action"].values), 4)]
    assert len(dataset) == len(where) == 7
    assert list(zip(dataset.episode, dataset.t, strict=True)) == where
    order = np.array([6, 0, 3, 3, 1])
    batch = dataset.batch(order)
    assert batch["proprio"].dtype == batch["actions"].dtype == np.float32
    for b, (e, t) in enumerate(where[i] for i in order):
        streams = episodes[e].streams
        for camera in ("front", "wrist"):
            np.testing.assert_array_equal(batch["images"][camera][b], streams[f"camera.{camera}"].values[t])
            np.testing.assert_array_equal(
                batch["segmentation"][camera][b], streams[f"segmentation.{camera}"].values[t // 4]
            )
        np.testing.assert_array_equal(batch["proprio"][b], streams["proprio"].values[t])
        actions = streams["action"].values
        rows = np.arange(t, t + 6)
        np.testing.assert_array_equal(batch["is_pad"][b], rows >= len(actions))
        np.testing.assert_array_equal(batch["actions"][b], actions[np.minimum(rows, len(actions) - 1)])
        assert batch["scene"][b] == episodes[e].meta["scene"]
        assert batch["goal"][b] == episodes[e].meta["goal"]
        assert batch["instruction"][b] == episodes[e].instruction


@pytest.mark.parametrize("stream", ["camera.front", "segmentation.wrist", "proprio", "action"])
def test_a_row_of_another_instant_is_refused(make_store: Any, make_episode: Any, stream: str) -> None:
    shifted = make_episode(1)
    shifted.streams[stream].stamps_ns = shifted.streams[stream].stamps_ns + 1
    store = make_store([make_episode(0), shifted])
    with pytest.raises(StoreError, match=rf"episode 1, stream '{stream}': found no row at 0 ns"):
        GroundingDataset(store, ("front", "wrist"))
    assert len(GroundingDataset(store, ("front", "wrist"), episodes=[0])) == 3


def test_what_cannot_be_asked(make_store: Any, make_episode: Any) -> None:
    bare = make_episode(1)
    del bare.meta["goal"]
    store = make_store([make_episode(0), bare])
    with pytest.raises(StoreError, match=r"episode 1: meta lacks \['goal'\]"):
        GroundingDataset(store, ("front",))
    with pytest.raises(StoreError, match="found 0 cameras"):
        GroundingDataset(store, ())
    with pytest.raises(SpecError, match="found no camera 'side'"):
        GroundingDataset(store, ("side",))
    dataset = GroundingDataset(store, ("front",), episodes=[0])
    with pytest.raises(IndexError, match="wanted 0 to 2"):
        dataset.batch(np.array([3]))
    with pytest.raises(ValueError, match="wanted ints"):
        dataset.batch(np.array([True]))
