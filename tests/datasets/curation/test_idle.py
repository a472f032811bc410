"""Idle stretches are trimmed to the row, and nothing that moves is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from deixis.datasets.curation.config import IdleConfig
from deixis.datasets.curation.idle import relative_speeds, trim_idle
from deixis.datasets.curation.pieces import whole_episodes
from deixis.datasets.curation.report import Outcome
from deixis.datasets.episode import Episode
from deixis.datasets.motion import stretches
from deixis.datasets.store import StoreError, TrajectoryStore

from .conftest import SPEC, STREAMS, moving_episode

MakeStore = Callable[..., TrajectoryStore]


def trim(store: TrajectoryStore, **settings_of_idle: object) -> Outcome:
    return trim_idle(store, whole_episodes(store), IdleConfig(**settings_of_idle))  # type: ignore[arg-type]


def spans(outcome: Outcome) -> list[tuple[int, int, int]]:
    return [(piece.episode, piece.first, piece.stop) for piece in outcome.pieces]


def test_planted_stretches_are_trimmed_exactly(moving_store: MakeStore) -> None:
    still = [[(0, 8)], [(31, 40)], [(0, 12), (29, 40)], [], [(0, 3)], [(14, 26)]]
    store = moving_store([moving_episode(seed, still=rows) for seed, rows in enumerate(still)])
    outcome = trim(store, min_seconds=0.8, margin_seconds=0.0)
    # Three rows at the begin of episode 4 are too few to count, and the middle of episode 5 is not asked for.
    assert spans(outcome) == [(0, 8, 40), (1, 0, 31), (2, 12, 29), (3, 0, 40), (4, 0, 40), (5, 0, 40)]
    assert [(drop.episode, drop.rows) for drop in outcome.drops] == [
        (0, (0, 8)),
        (1, (31, 40)),
        (2, (0, 12)),
        (2, (29, 40)),
    ]
    assert outcome.drops[0].numbers["seconds"] == pytest.approx(0.8)


def test_an_episode_begins_where_all_its_streams_do(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(0, still=[(0, 11)])])
    outcome = trim(store, min_seconds=0.5, margin_seconds=0.0)
    assert spans(outcome) == [(0, 8, 40)], "segmentations are taken at every fourth action"


def test_a_margin_stays_beside_the_motion(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(0, still=[(0, 10), (15, 30), (34, 40)])])
    outcome = trim(store, min_seconds=0.5, inner_seconds=1.0, margin_seconds=0.2, shortest_seconds=0.0)
    assert spans(outcome) == [(0, 8, 17), (0, 28, 36)]


def test_inner_stretches_split_and_short_rests_are_dropped(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(0, still=[(10, 24), (27, 40)])])
    outcome = trim(store, min_seconds=0.5, inner_seconds=1.0, margin_seconds=0.0, shortest_seconds=0.5)
    assert spans(outcome) == [(0, 0, 10)]
    assert {drop.rows: drop.why for drop in outcome.drops} == {
        (10, 24): "neither actions nor proprioception move",
        (24, 27): "what was left here is too short",
        (27, 40): "neither actions nor proprioception move",
    }


def test_a_whole_idle_episode_goes(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(0, still=[(0, 40)]), moving_episode(1)])
    assert spans(trim(store, min_seconds=1.0)) == [(1, 0, 40)]


def test_a_gripper_that_closes_is_motion(moving_store: MakeStore) -> None:
    episode = moving_episode(0, still=[(0, 40)])
    episode.streams["action"].values[12:, 2] *= -1  # told to close, and the hand is slow to: its state stays
    outcome = trim(moving_store([episode]), min_seconds=0.5, margin_seconds=0.0, shortest_seconds=0.0)
    assert spans(outcome) == [(0, 12, 13)]


def test_proprioception_alone_is_motion(moving_store: MakeStore) -> None:
    episode = moving_episode(0, still=[(0, 40)])
    episode.streams["proprio"].values[42:, 0] += 0.05  # pushed between row 20 and row 21
    outcome = trim(moving_store([episode]), min_seconds=0.5, margin_seconds=0.0, shortest_seconds=0.0)
    assert spans(outcome) == [(0, 20, 21)]
    ignored = trim(moving_store([episode], "other.zarr"), min_seconds=0.5, speeds={"x": 1.0})
    assert spans(ignored) == []


def test_commanded_displacements_move_where_they_are_not_zero(moving_store: MakeStore) -> None:
    episode = moving_episode(0, still=[(0, 40)])
    episode.streams["action"].values[:, 0] = 0
    episode.streams["action"].values[16:24, 0] = 0.02  # the same push in each of eight steps, against a wall
    store = moving_store([episode])
    common = {"min_seconds": 0.5, "margin_seconds": 0.0, "shortest_seconds": 0.0}
    assert spans(trim(store, **common, deltas=("x_target",))) == [(0, 16, 24)]
    assert spans(trim(store, **common)) == [(0, 16, 25)], "as a position it changes only where the push begins and ends"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_is_never_trimmed(moving_store: MakeStore, value: float) -> None:
    episode = moving_episode(0, still=[(0, 40)])
    episode.streams["proprio"].values[20] = value
    outcome = trim(moving_store([episode]), min_seconds=0.5, margin_seconds=0.0, shortest_seconds=0.0)
    assert spans(outcome) == [(0, 8, 11)], "rows 9 and 10 end and begin there"


def test_a_clock_out_of_order_is_left_alone_and_named(moving_store: MakeStore) -> None:
    episode = moving_episode(0, still=[(0, 20)])
    stamps = episode.streams["camera.front"].stamps_ns
    stamps[[3, 4]] = stamps[[4, 3]]
    outcome = trim(moving_store([episode]), min_seconds=0.5)
    assert spans(outcome) == [(0, 0, 40)]
    assert "episode 0 left as it is" in outcome.notes[0]


def test_unknown_dimensions_are_refused(moving_store: MakeStore) -> None:
    store = moving_store([moving_episode(0)])
    with pytest.raises(StoreError, match=r"idle.deltas: found \['dx'\], wanted dimensions of .*\['x_target'"):
        trim(store, min_seconds=0.5, deltas=("dx",))
    with pytest.raises(StoreError, match=r"idle.speeds: found \['z'\]"):
        trim(store, min_seconds=0.5, speeds={"z": 1.0})


@settings(max_examples=8, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking writes too many stores
@given(
    stills=st.lists(st.lists(st.booleans(), min_size=3, max_size=30), min_size=1, max_size=3),
    inner=st.booleans(),
    margin=st.sampled_from([0.0, 0.1, 0.3]),
)
def test_no_moving_row_is_cut_and_rows_add_up(
    tmp_path_factory: pytest.TempPathFactory, stills: list[list[bool]], inner: bool, margin: float
) -> None:
    episodes: list[Episode] = [
        moving_episode(seed, len(mask), list(stretches(np.array(mask)))) for seed, mask in enumerate(stills)
    ]
    store = TrajectoryStore.create(tmp_path_factory.mktemp("idle") / "s", SPEC, STREAMS)
    with store.writer(sync=False) as writer:
        for episode in episodes:
            writer.append(episode)
    config = IdleConfig(0.3, 0.3 if inner else None, margin, shortest_seconds=0.0)
    outcome = trim_idle(store, whole_episodes(store), config)
    for index, mask in enumerate(stills):
        kept = [row for piece in outcome.pieces if piece.episode == index for row in range(piece.first, piece.stop)]
        gone = [row for drop in outcome.drops if drop.episode == index and drop.rows for row in range(*drop.rows)]
        assert sorted(kept + gone) == list(range(len(mask)))
        idle = [drop for drop in outcome.drops if drop.episode == index and drop.why.startswith("neither")]
        moving = relative_speeds(store, index, config) > 1
        assert not any(moving[slice(*drop.rows)].any() for drop in idle if drop.rows)
        assert moving[~np.array(mask)].all(), "the world moves where it is not still"
        if inner and margin == 0:
            runs = [run for run in stretches(~moving[kept]) if run[1] - run[0] > 3] if kept else []
            assert not runs, "no idle stretch is left but what the segmentations' rate costs"
