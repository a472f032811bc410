"""An expert whose actions are disturbed before they are executed: what it wants answers to what has just happened."""

import numpy as np
import pytest

from deixis.datasets.episode import Episode, Stream, StreamSpec
from deixis.datasets.findings import Finding
from deixis.datasets.spec import ActionSpec, EnvSpec, ProprioSpec
from deixis.datasets.timestamps import check_store
from deixis.datasets.trajectories import MemoryTrajectories

SPEC = EnvSpec(
    "deixis/Disturbed-v0",
    (),
    ProprioSpec(("x", "y", "z"), ("metre",) * 3, 10),
    ActionSpec(("dx", "dy", "dz"), ("metre",) * 3, (-9, -9, -9), (9, 9, 9), 10),
)
STREAMS = {
    name: StreamSpec(name, "float32", (3,), 10, kind, "metre")
    for name, kind in (("proprio", "proprio"), ("action", "action"), ("executed", "privileged"))
}


def disturbed(noise: float = 0.03, count: int = 40, seed: int = 0) -> MemoryTrajectories:
    """Ways to a goal. The hand follows a command late and holds on to its speed, as one on springs does."""
    rng, episodes = np.random.default_rng(seed), []
    for _ in range(count):
        place, speed, goal = rng.uniform(-1, 1, 3), np.zeros(3), rng.uniform(-1, 1, 3)
        rows: dict[str, list[np.ndarray]] = {name: [] for name in STREAMS}
        for _ in range(int(rng.integers(40, 60))):
            wanted = 0.5 * (goal - place)
            executed = wanted + rng.normal(0, noise, 3)
            for name, value in (("proprio", place), ("action", wanted), ("executed", executed)):
                rows[name].append(value.astype(np.float32))
            speed = 0.6 * speed + 0.15 * executed
            place = place + speed + rng.normal(0, 1e-4, 3)
        stamps = np.arange(len(rows["action"]), dtype=np.int64) * 100_000_000
        streams = {name: Stream(np.stack(values), stamps.copy()) for name, values in rows.items()}
        episodes.append(Episode(streams, "go", {"success": True}))
    return MemoryTrajectories(episodes, SPEC, STREAMS)


def _errors(trajectories: MemoryTrajectories) -> list[Finding]:
    return check_store(trajectories).errors


def _roll(trajectories: MemoryTrajectories, episode: int, names: tuple[str, ...], rows: int) -> None:
    streams = trajectories.episodes[episode].streams
    for name in names:
        values = np.roll(streams[name].values, rows, axis=0)
        values[slice(0, rows) if rows > 0 else slice(rows, None)] = values[rows if rows > 0 else rows - 1]
        streams[name] = Stream(values, streams[name].stamps_ns)


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.2])
def test_sound_demonstrations_pass_however_much_they_are_disturbed(noise: float) -> None:
    assert _errors(disturbed(noise)) == []


@pytest.mark.parametrize("rows", [-3, -1, 1, 2])
def test_actions_of_another_moment_are_found(rows: int) -> None:
    trajectories = disturbed()
    _roll(trajectories, 7, ("action",), rows)
    found = _errors(trajectories)
    word = f"{abs(rows)} {'row' if abs(rows) == 1 else 'rows'} too {'late' if rows > 0 else 'early'}"
    assert [(error.episode, error.stream, error.check) for error in found] == [(7, "action", "lag")]
    assert word in found[0].found
    lag = check_store(trajectories).lags["action"][7]
    assert lag is not None and lag["rows"] == rows


def test_motion_of_another_moment_is_found() -> None:
    trajectories = disturbed()
    _roll(trajectories, 5, ("proprio",), 2)
    found = _errors(trajectories)
    assert [(error.episode, error.stream, error.check) for error in found] == [(5, "action", "lag")]
    assert "2 rows too early" in found[0].found


def test_actions_of_another_episode_are_found() -> None:
    trajectories = disturbed()
    one, other = (trajectories.episodes[i].streams for i in (3, 11))
    rows = min(len(one["action"].values), len(other["action"].values))
    first, second = one["action"].values[:rows].copy(), other["action"].values[:rows].copy()
    one["action"].values[:rows], other["action"].values[:rows] = second, first
    found = {(error.episode, error.stream, error.check) for error in _errors(trajectories)}
    assert found == {(3, "action", "mismatch"), (11, "action", "mismatch")}
