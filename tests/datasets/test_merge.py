"""Shards become one store."""

from pathlib import Path
from typing import Any

import pytest

from deixis.datasets.merge import merge
from deixis.datasets.store import StoreError, TrajectoryStore
from deixis.datasets.tolerance import Tolerance


def test_merge_keeps_episodes_order_and_clocks(
    make_store: Any, make_episode: Any, assert_same: Any, tmp_path: Path
) -> None:
    episodes = [make_episode(i, 5 + i, 10**12 * i) for i in range(5)]
    shards = [make_store(episodes[:2], "a"), make_store([], "b"), make_store(episodes[2:], "c").path]
    merged = merge(shards, tmp_path / "all.zarr")
    assert len(merged) == 5
    for i, episode in enumerate(episodes):
        assert_same(merged.episode(i), episode)
    assert merged.meta == {"suite": "tiny"}
    assert merge(shards, tmp_path / "other.zarr", {"shards": 3}).meta == {"shards": 3}


def test_merge_refuses_what_does_not_fit(make_store: Any, make_episode: Any, tmp_path: Path) -> None:
    first, other = make_store([make_episode(0)], "a"), make_store([], "b", tolerance=Tolerance(jitter=0.5))
    with pytest.raises(StoreError, match=r"merge: tolerance of .*b: found"):
        merge([first, other], tmp_path / "all.zarr")
    with pytest.raises(StoreError, match="found no stores"):
        merge([], tmp_path / "all.zarr")
    with pytest.raises(StoreError, match="found something there"):
        merge([first], other.path)


def test_a_merge_that_fails_leaves_nothing(make_store: Any, make_episode: Any, tmp_path: Path) -> None:
    good, bad = make_store([make_episode(0)], "a"), make_store([make_episode(1)], "b")
    for file in (bad.path / "streams" / "action" / "stamps_ns").glob("c.*"):
        file.unlink()
    with pytest.raises(StoreError, match="wanted the rows of a finished episode"):
        merge([good, TrajectoryStore.open(bad.path)], tmp_path / "all.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
