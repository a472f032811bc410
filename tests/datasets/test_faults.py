"""Every kind of fault, planted at random places, is found, called by its name, and nothing else is called wrong."""

from dataclasses import replace

import numpy as np
import pytest

from deixis.datasets.episode import Stream
from deixis.datasets.faults import KINDS, Planted, plant
from deixis.datasets.findings import Finding
from deixis.datasets.motion import FrameCache
from deixis.datasets.timestamps import check_store
from deixis.datasets.tolerance import Tolerance
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
        verdict = planted.judge(errors)
        assert verdict.found and verdict.named, f"{planted}: {list(map(str, errors))}"


def test_a_verdict_asks_for_the_right_place_name_and_size() -> None:
    def error(check: str, found: str, episode: int | None = 1, stream: str = "action") -> Finding:
        return Finding("error", episode, stream, None, check, found, "", "")

    planted = Planted("action_shift", (1,), ("action",), "", "lag", 2)
    exact, within = error("lag", "2 rows too late against"), error("lag", "1 to 3 rows too late against")
    for errors, told in (
        ([], (False, False, False)),
        ([exact], (True, True, True)),
        ([within], (True, True, False)),
        ([exact, error("jump", "x", episode=2)], (True, False, True)),
        ([exact, error("jump", "x", stream="proprio")], (True, False, True)),
        ([error("jump", "x")], (True, False, False)),
        ([error("lag", "2 rows too early")], (True, False, False)),
        ([error("lag", "3 rows too late")], (True, False, False)),
        ([error("lag", "3 to 4 rows too late")], (True, False, False)),
        ([error("lag", "1 to 4 rows too late")], (True, False, False)),  # says too little
        ([error("lag", "12 rows too late")], (True, False, False)),
        ([error("lag", "2 rows too late", episode=2)], (False, False, False)),
    ):
        verdict = planted.judge(errors)
        assert (verdict.found, verdict.named, verdict.exact) == told, errors
    everywhere = replace(planted, episodes=())
    assert everywhere.judge([error("lag", "2 rows too late", episode=None)]).named


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


def test_a_declared_delay_is_right_and_an_undeclared_one_is_wrong() -> None:
    data = moving_trajectories()
    for index, episode in enumerate(data.episodes):  # a robot that answers two rows late: commands come before motion
        actions = episode.streams["action"]
        early = actions.values[np.clip(np.arange(len(actions.values)) + 2, 0, len(actions.values) - 1)]
        data.episodes[index] = replace(episode, streams={**episode.streams, "action": Stream(early, actions.stamps_ns)})
    assert [(e.check, e.episode) for e in check_store(data, CACHE).errors] == [("lag", None)]
    data.tolerance = Tolerance(delay=2)
    assert check_store(data, CACHE).errors == []


@pytest.mark.parametrize("rows", [3, -3])
def test_frames_that_fill_up_a_late_camera_are_not_frozen(clean: MemoryTrajectories, rows: int) -> None:
    """It has no frames for one end, and shows the outermost again and again."""
    for episodes in ([5], range(len(clean))):
        late = MemoryTrajectories(list(clean.episodes), clean.env_spec, clean.streams)
        for index in episodes:
            shown = clean.episodes[index].streams["camera.above"]
            values = shown.values[np.clip(np.arange(len(shown.values)) - rows, 0, len(shown.values) - 1)]
            streams = {**clean.episodes[index].streams, "camera.above": Stream(values, shown.stamps_ns)}
            late.episodes[index] = replace(clean.episodes[index], streams=streams)
        errors = check_store(late, CACHE).errors
        assert [(e.check, e.episode) for e in errors] == [("lag", 5 if len(episodes) == 1 else None)]
        assert errors[0].found.startswith(f"3 rows too {'late' if rows > 0 else 'early'}")


def test_a_robot_at_rest_is_not_a_frozen_sensor(clean: MemoryTrajectories) -> None:
    """Its commands stop with it, and go on when it does; where only the reading stops, the sensor is broken."""
    resting, broken = (MemoryTrajectories(list(clean.episodes), clean.env_spec, clean.streams) for _ in range(2))
    for index, episode in enumerate(clean.episodes):
        place, action = episode.streams["proprio"], episode.streams["action"]
        count = len(place.values)
        held = np.where(np.arange(count) < 10, np.arange(count), np.maximum(10, np.arange(count) - 6))
        still = {"proprio": Stream(place.values[held], place.stamps_ns), "action": action}
        if index == 3:
            broken.episodes[index] = replace(episode, streams={**episode.streams, **still})
        still["action"] = Stream(np.where((held == 10)[:, None], 0, action.values[held]), action.stamps_ns)
        pictures = {n: Stream(s.values[held], s.stamps_ns) for n, s in episode.streams.items() if "camera" in n}
        resting.episodes[index] = replace(episode, streams={**episode.streams, **still, **pictures})
    assert [e for e in check_store(resting).errors if e.check == "frozen"] == []
    assert [(e.episode, e.stream) for e in check_store(broken, CACHE).errors] == [(3, "proprio")]


def test_a_touch_is_not_a_jump(clean: MemoryTrajectories) -> None:
    """One dimension of many that moves as it never does: a contact. All of them: another episode."""
    wide = [
        replace(e, streams={**e.streams, "proprio": Stream(np.tile(p.values, (1, 4)), p.stamps_ns)})
        for e in clean.episodes
        for p in [e.streams["proprio"]]
    ]
    streams = {**clean.streams, "proprio": replace(clean.streams["proprio"], shape=(12,))}
    for dimensions, checks in ((1, set()), (12, {"jump"})):
        data = MemoryTrajectories(list(wide), clean.env_spec, streams)
        place = wide[2].streams["proprio"]
        values = place.values.copy()
        values[12:, :dimensions] += 0.08
        data.episodes[2] = replace(wide[2], streams={**wide[2].streams, "proprio": Stream(values, place.stamps_ns)})
        assert {e.check for e in check_store(data, CACHE).errors if e.check == "jump"} == checks


def test_a_slow_sensor_is_not_a_frozen_one() -> None:
    data = moving_trajectories()
    data.streams["proprio"] = replace(data.streams["proprio"], rate_hz=2.0)
    for index, episode in enumerate(data.episodes):
        slow = episode.streams["proprio"]
        data.episodes[index] = replace(
            episode, streams={**episode.streams, "proprio": Stream(slow.values[::5], slow.stamps_ns[::5])}
        )
    assert [e for e in check_store(data, CACHE).errors if e.check == "frozen"] == []


def test_nothing_to_judge_is_said_and_harms_nothing(clean: MemoryTrajectories) -> None:
    still = MemoryTrajectories(
        [
            replace(
                e, streams={n: Stream(s.values[:1].repeat(len(s.values), 0), s.stamps_ns) for n, s in e.streams.items()}
            )
            for e in clean.episodes
        ],
        clean.env_spec,
        clean.streams,
    )
    single = MemoryTrajectories(
        [
            replace(e, streams={n: Stream(s.values[:1], s.stamps_ns[:1]) for n, s in e.streams.items()})
            for e in clean.episodes
        ],
        clean.env_spec,
        clean.streams,
    )
    off = MemoryTrajectories(clean.episodes, clean.env_spec, clean.streams, Tolerance(longest_delay=0))
    for data in (still, single, off):
        report = check_store(data)
        assert report.ok and "untold" in {f.check for f in report.findings}
        assert "NaN" not in report.to_json()


def test_rows_that_are_missing_are_found_in_memory_too(clean: MemoryTrajectories) -> None:
    for cut in (0, 5):
        episodes = list(clean.episodes)
        stream = episodes[2].streams["proprio"]
        short = Stream(stream.values[:cut], stream.stamps_ns[: cut and len(stream.stamps_ns)])
        episodes[2] = replace(episodes[2], streams={**episodes[2].streams, "proprio": short})
        errors = check_store(MemoryTrajectories(episodes, clean.env_spec, clean.streams), CACHE).errors
        assert ("rows", 2, "proprio") in {(e.check, e.episode, e.stream) for e in errors}
