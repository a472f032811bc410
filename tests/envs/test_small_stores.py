"""A store of some dozens of sound episodes is not accused: the gate's models are weak then, and know it."""

from pathlib import Path

import pytest

from deixis.datasets.timestamps import check_store
from deixis.envs.collect import collect
from deixis.envs.config import CollectConfig


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sixty_demonstrations_pass(tmp_path: Path, seed: int) -> None:
    store = collect(CollectConfig(episodes=60, workers=2), tmp_path / "demonstrations.zarr", seed=seed)
    assert [str(error) for error in check_store(store).errors] == []
