"""Windows against a slow and obvious reference: causal, inside one episode, with true masks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec, SpecError
from deixis.datasets.store import Episode, StoreError, Stream, StreamSpec, TrajectoryStore
from deixis.datasets.windows import AlignmentError, WindowDataset, WindowSpec

PERIOD = 100_000_000
RATES = {"action": 10.0, "proprio": 25.0, "camera.front": 5.0}
SPEC = EnvSpec(
    "deixis/Rates-v0",
    (CameraSpec("front", 1, 1, 5),),
    ProprioSpec(("x",), ("metre",), 25),
    ActionSpec(("dx",), ("metre",), (-1,), (1,), 10),
)
STREAMS = (
    StreamSpec("action", "float64", (1,), 10, "action", "metre"),
    StreamSpec("proprio", "float32", (1,), 25, "proprio", "metre"),
    StreamSpec("camera.front", "uint8", (1, 1, 3), 5, "image", "1"),
)
ROW: dict[str, tuple[int, ...]] = {"action": (1,), "proprio": (1,), "camera.front": (1, 1, 3)}


@st.composite
def _episodes(draw: st.DrawFn) -> list[Episode]:
    """Episodes whose streams have their own rates, jitter and begins, the observations before the first action."""
    episodes = []
    for index in range(draw(st.integers(1, 4))):
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        steps, start = draw(st.integers(1, 12)), int(rng.integers(0, 10**15))
        streams = {}
        for name, rate in RATES.items():
            period = 1e9 / rate
            rows = steps if name == "action" else int(np.ceil(steps * PERIOD / period)) + 1
            times = (np.arange(rows) + rng.uniform(-0.1, 0.1, rows)) * period
            if name != "action":
                times -= rng.uniform(0.5, 0.9) * period
            # Some stamps fall exactly on those of the actions: equal is not later.
            grid = rng.random(rows) < 0.5
            exact = start + np.round(times / PERIOD).astype(np.int64) * PERIOD
            stamps = np.unique(
                np.where(grid & (name != "action") & (times >= 0), exact, start + times.astype(np.int64))
            )
            values = rng.integers(0, 256, (len(stamps), *ROW[name]))
            streams[name] = Stream(values.astype(next(s.dtype for s in STREAMS if s.name == name)), stamps)
        episodes.append(Episode(streams, f"do {index}", {}))
    return episodes


def _reference(episode: Episode, t: int, window: WindowSpec) -> dict[str, Any]:
    """One window by plain loops over the raw episode."""
    actions, rows, masks, controls, early = episode.streams["action"], [], [], [], []
    for k in range(window.action_horizon):
        inside = t + k < len(actions.values)
        rows.append(actions.values[t + k] if inside else actions.values[-1])
        masks.append(not inside)
    for k in reversed(range(window.obs_horizon)):
        controls.append(actions.stamps_ns[max(t - k, 0)])
        early.append(t - k < 0)
    seen = {}
    for name in ("proprio", "camera.front"):
        stream = episode.streams[name]
        seen[name] = []
        for control in controls:
            past = [row for row, stamp in enumerate(stream.stamps_ns) if stamp <= control]
            seen[name].append(stream.values[past[-1]])
    return {
        "actions": np.array(rows, np.float32),
        "is_pad": np.array(masks),
        "obs_is_pad": np.array(early),
        "proprio": np.array(seen["proprio"], np.float32),
        "image": np.array(seen["camera.front"], np.uint8),
    }


@settings(max_examples=15, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking writes too many stores
@given(episodes=_episodes(), obs_horizon=st.integers(1, 4), action_horizon=st.integers(1, 20), data=st.data())
def test_windows_are_those_of_the_reference(
    tmp_path_factory: pytest.TempPathFactory,
    episodes: list[Episode],
    obs_horizon: int,
    action_horizon: int,
    data: st.DataObject,
) -> None:
    store = TrajectoryStore.create(tmp_path_factory.mktemp("w") / "s", SPEC, STREAMS)
    with store.writer() as writer:
        for episode in episodes:
            writer.append(episode)
    chosen = data.draw(st.lists(st.sampled_from(range(len(episodes))), min_size=1, unique=True))
    window = WindowSpec(obs_horizon, action_horizon)
    dataset = WindowDataset(store, window, ("front",), episodes=chosen, tolerance_ns=10 * PERIOD)
    uncached = WindowDataset(store, window, ("front",), cache=False, episodes=chosen, tolerance_ns=10 * PERIOD)
    where = [(e, t) for e in chosen for t in range(len(episodes[e].streams["action"].values))]
    assert len(dataset) == len(where)
    order = np.array(data.draw(st.permutations(range(len(where)))))
    batch, same = dataset.batch(order), uncached.batch(order)
    frames = dataset.frames("front")[dataset.frame_index(order)]
    np.testing.assert_array_equal(frames, batch["images"]["front"])
    np.testing.assert_array_equal(same["images"]["front"], batch["images"]["front"])
    assert batch["actions"].dtype == batch["proprio"].dtype == np.float32
    for b, (e, t) in enumerate(where[i] for i in order):
        wanted = _reference(episodes[e], t, window)
        assert (batch["episode"][b], batch["t"][b], batch["instruction"][b]) == (e, t, f"do {e}")
        for key in ("actions", "is_pad", "obs_is_pad", "proprio"):
            np.testing.assert_array_equal(batch[key][b], wanted[key])
        np.testing.assert_array_equal(batch["images"]["front"][b], wanted["image"])


def test_shapes_and_padding_at_both_ends(make_store: Any, make_episode: Any) -> None:
    episodes = [make_episode(0, 5), make_episode(1, 3)]
    dataset = WindowDataset(make_store(episodes), WindowSpec(2, 4), ("front", "wrist"))
    batch = dataset.batch(np.array([0, 4, 5]))
    assert batch["images"]["wrist"].shape == (3, 2, 8, 6, 3)
    assert (batch["proprio"].shape, batch["actions"].shape) == ((3, 2, 3), (3, 4, 2))
    assert batch["is_pad"].tolist() == [[False] * 4, [False, True, True, True], [False, False, False, True]]
    assert batch["obs_is_pad"].tolist() == [[True, False], [False, False], [True, False]]
    np.testing.assert_array_equal(batch["proprio"][2], episodes[1].streams["proprio"].values[[0, 0]])
    np.testing.assert_array_equal(batch["actions"][1], episodes[0].streams["action"].values[[4, 4, 4, 4]])
    np.testing.assert_array_equal(batch["images"]["front"][1], episodes[0].streams["camera.front"].values[3:5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s + 1, r"at action row 0 .* found its first row only 1e-06 ms later, wanted a row not later"),
        (
            lambda s: s + np.where(np.arange(9) > 4, 3 * PERIOD, 0),
            r"at action row 6 .* newest row 4 already 200 ms old",
        ),
    ],
)
def test_a_stream_without_a_recent_row_is_an_error(
    make_store: Any, make_episode: Any, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    late = make_episode(1)
    late.streams["camera.wrist"].stamps_ns = change(late.streams["camera.wrist"].stamps_ns)
    store = make_store([make_episode(0), late])
    with pytest.raises(AlignmentError, match=r"episode 1, stream 'camera.wrist', " + message):
        WindowDataset(store, WindowSpec(), ("front", "wrist"))
    assert len(WindowDataset(store, WindowSpec(), ("front",))) == 18
    assert len(WindowDataset(store, WindowSpec(), ("wrist",), episodes=[0])) == 9


def test_what_cannot_be_asked(make_store: Any, make_episode: Any) -> None:
    store = make_store([make_episode(0)])
    with pytest.raises(SpecError, match="found no camera 'side'"):
        WindowDataset(store, WindowSpec(), ("side",))
    with pytest.raises(StoreError, match="found no episodes"):
        WindowDataset(store, WindowSpec(), (), episodes=[])
    with pytest.raises(ValueError, match=r"WindowSpec.obs_horizon: found 0"):
        WindowSpec(0, 16)
    dataset = WindowDataset(store, WindowSpec(), ())
    assert dataset.batch(np.arange(9))["images"] == {}
    with pytest.raises(IndexError, match="found indices 0 to 9, wanted 0 to 8"):
        dataset.batch(np.arange(10))
    with pytest.raises(ValueError, match="wanted ints"):
        dataset.batch(np.array([0.5]))
    with pytest.raises(ValueError, match="found camera None"):
        dataset.frame_index(np.arange(2))


def test_cameras_of_different_clocks_have_no_common_frame_index(make_store: Any, make_episode: Any) -> None:
    episode = make_episode(0)
    wrist = episode.streams["camera.wrist"]
    wrist.values, wrist.stamps_ns = np.delete(wrist.values, 4, 0), np.delete(wrist.stamps_ns, 4)
    dataset = WindowDataset(make_store([episode]), WindowSpec(1, 1), ("front", "wrist"))
    with pytest.raises(ValueError, match="have different clocks"):
        dataset.frame_index(np.arange(9))
    assert dataset.frame_index(np.arange(9), "wrist")[:, 0].tolist() == [0, 1, 2, 3, 3, 4, 5, 6, 7]
