"""The human demonstrations of Push-T happen again in gym-pusht, to the last state."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deixis.datasets.episode import Stream
from deixis.datasets.formats import IMPORTERS
from deixis.datasets.formats.options import ImportOptions
from deixis.datasets.store import StoreError, TrajectoryStore
from deixis.envs.collect import collect
from deixis.envs.config import CollectConfig
from deixis.envs.pusht import drawn_start, make_pusht, set_state
from deixis.eval.replay import replay

pytest.importorskip("gym_pusht", reason="needs deixis[pusht]", exc_type=ImportError)
DATA = Path(os.environ.get("DEIXIS_DATA", Path(__file__).parents[3] / "shared" / "data"))
SOURCE = DATA / "pusht_cchi_v7_replay.zarr"
# A rounding of the start, or a push left over from the environment's own reset, leads elsewhere in these.
HARD = [43, 50, 64, 78, 94, 107]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    if not SOURCE.exists():
        pytest.skip(f"{SOURCE} is not here: the Push-T demonstrations of Chi et al. 2023")
    options = ImportOptions(rate_hz=10.0, limit=108)
    return IMPORTERS["replay_buffer"](SOURCE, tmp_path_factory.mktemp("pusht") / "store.zarr", options)


def _copy(store: TrajectoryStore, path: Path, change, episodes: list[int]) -> TrajectoryStore:
    copy = TrajectoryStore.create(path, store.env_spec, list(store.streams.values()), store.meta, store.tolerance)
    with copy.writer(sync=False) as writer:
        for index in episodes:
            writer.append(change(store.episode(index)))
    return copy


def test_demonstrations_replay_exactly(store: TrajectoryStore) -> None:
    report = replay(store, "pusht", episodes=HARD + list(range(8)))
    assert report.ok and report.exact == len(HARD) + 8
    assert max(episode.deviation for episode in report.episodes) < 1e-6


@pytest.mark.slow
def test_all_206_demonstrations_replay_exactly(tmp_path: Path) -> None:
    if not SOURCE.exists():
        pytest.skip(f"{SOURCE} is not here: the Push-T demonstrations of Chi et al. 2023")
    every = IMPORTERS["replay_buffer"](SOURCE, tmp_path / "store.zarr", ImportOptions(rate_hz=10.0))
    report = replay(every, "pusht")
    assert (report.exact, len(report.episodes)) == (206, 206)
    # Only 7 demonstrations cover more than 0.95 of the goal.
    assert sum(episode.success for episode in report.episodes) == 7


def test_part_of_a_store_replays_from_its_own_starts(store: TrajectoryStore, tmp_path: Path) -> None:
    part = _copy(store, tmp_path / "part.zarr", lambda episode: episode, [50, 7])
    assert replay(part, "pusht").exact == 2

    def unknown(episode):  # a recording of nobody's seed starts where it says
        return replace(episode, meta={})

    assert replay(_copy(store, tmp_path / "unknown.zarr", unknown, [43, 64]), "pusht").exact == 2


@pytest.mark.parametrize(
    "wrong",
    [lambda a: a[:, ::-1], lambda a: 512 - a, lambda a: a * 0.9, lambda a: np.roll(a, 1, axis=0)],
    ids=["x and y exchanged", "another frame", "another scale", "one step late"],
)
def test_wrong_actions_lead_elsewhere_at_once(store: TrajectoryStore, tmp_path: Path, wrong) -> None:
    def change(episode):
        action = episode.streams["action"]
        values = np.ascontiguousarray(wrong(action.values))
        return replace(episode, streams={**episode.streams, "action": Stream(values, action.stamps_ns)})

    report = replay(_copy(store, tmp_path / "wrong.zarr", change, [3, 4, 5]), "pusht")
    assert not report.ok and report.exact == 0
    assert all(episode.diverged == 1 and episode.deviation > 0.1 for episode in report.episodes)


def test_a_state_that_is_set_is_the_state_that_is_seen() -> None:
    env = make_pusht(obs_type="state")
    env.reset(seed=0)
    wanted = np.array([100.0, 120.0, 300.0, 280.0, 2.5])
    set_state(env, wanted)
    np.testing.assert_allclose(env.get_obs(), wanted, atol=1e-9)


def test_a_drawn_start_is_as_the_recorder_drew_it() -> None:
    # The first state of demonstrations 43 and 50 in the data set, before the environment moved the block's origin.
    assert drawn_start(43)[:4] == [374, 370, 355, 377] and drawn_start(50)[:4] == [226, 445, 209, 389]


def test_another_store_is_refused(tmp_path: Path) -> None:
    tabletop = collect(CollectConfig(episodes=1, workers=1), tmp_path / "tabletop.zarr")
    with pytest.raises(StoreError, match="wanted Push-T's"):
        replay(tabletop, "pusht")
