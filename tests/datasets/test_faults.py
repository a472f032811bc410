"""Every kind of fault, planted at random places, is found, called by its name, and nothing else is called wrong."""

import numpy as np
import pytest

from deixis.datasets.faults import KINDS, plant
from deixis.datasets.motion import FrameCache
from deixis.datasets.timestamps import check_store
from deixis.datasets.trajectories import MemoryTrajectories

from .moving import moving_trajectories

CACHE = FrameCache()
TRIALS = 4


@pytest.fixture(scope="module")
def clean() -> MemoryTrajectories:
    return moving_trajectories()


def test_clean_trajectories_have_no_error(clean: MemoryTrajectories) -> None:
    for seed in (1, 2):
        report = check_store(moving_trajectories(seed=seed))
        assert report.errors == []
        assert set(report.lags) == {"action", "camera.above", "camera.beside"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_fault_is_found_and_named(clean: MemoryTrajectories, kind: str) -> None:
    for trial in range(TRIALS):
        faulty, planted = plant(kind, clean, np.random.default_rng((trial, len(kind))))
        errors = check_store(faulty, CACHE).errors
        right = [
            e for e in errors if e.check == planted.check and e.stream in planted.streams and planted.says in e.found
        ]
        assert right, f"{planted}: {list(map(str, errors))}"
        elsewhere = [e for e in errors if planted.episodes and e.episode not in planted.episodes]
        assert not elsewhere, f"{planted}: {list(map(str, elsewhere))}"


def test_planting_leaves_the_clean_episodes_alone(clean: MemoryTrajectories) -> None:
    before = [
        (name, stream.values.copy(), stream.stamps_ns.copy())
        for episode in clean.episodes
        for name, stream in episode.streams.items()
    ]
    for kind in KINDS:
        plant(kind, clean, np.random.default_rng(7))
    after = [(name, stream) for episode in clean.episodes for name, stream in episode.streams.items()]
    for (name, values, stamps), (same_name, stream) in zip(before, after, strict=True):
        assert name == same_name
        np.testing.assert_array_equal(values, stream.values)
        np.testing.assert_array_equal(stamps, stream.stamps_ns)
