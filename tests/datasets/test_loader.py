"""The loader gives what a slow and obvious reference gives, in an order that depends on (seed, step) alone."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from deixis.datasets.chunk_cache import ChunkCache
from deixis.datasets.loader import Loader, WindowBatches, window_batches
from deixis.datasets.sampling import BlockShuffledOrder, ShuffledOrder
from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec
from deixis.datasets.store import Episode, Stream, StreamSpec, TrajectoryStore
from deixis.datasets.windows import WindowDataset, WindowSpec

SIDE = 96  # large enough that frames are stored in shards of several chunks
FRAME = SIDE * SIDE * 3
RATES = {"camera.front": 30.0, "camera.wrist": 15.0, "proprio": 200.0, "action": 20.0}
SPEC = EnvSpec(
    "deixis/Loader-v0",
    (CameraSpec("front", SIDE, SIDE, 30), CameraSpec("wrist", 2, 2, 15)),
    ProprioSpec(("episode", "stamp"), ("1", "ns"), 200),
    ActionSpec(("episode", "row"), ("1", "1"), (-1e9, -1e9), (1e9, 1e9), 20),
)
STREAMS = (
    StreamSpec("camera.front", "uint8", (SIDE, SIDE, 3), 30, "image", "1"),
    StreamSpec("camera.wrist", "uint8", (2, 2, 3), 15, "image", "1"),
    StreamSpec("proprio", "float64", (2,), 200, "proprio", "mixed"),
    StreamSpec("action", "float32", (2,), 20, "action", "mixed"),
)


def _episode(seed: int, number: int, steps: int, start: int = 10**15) -> Episode:
    """Streams on jittered clocks of their own; each row tells its episode and its number."""
    rng = np.random.default_rng(seed)
    seconds = steps / RATES["action"]
    streams = {}
    for spec in STREAMS:
        period = spec.period_ns
        rows = steps if spec.name == "action" else int(np.ceil(seconds * spec.rate_hz)) + 1
        times = (np.arange(rows) + rng.uniform(0, 0.3, rows)) * period
        if spec.name != "action":
            times -= rng.uniform(0.4, 0.9) * period
        stamps = start + np.sort(times.astype(np.int64))
        tells = np.stack([np.full(rows, number), np.arange(rows)], 1)
        if spec.kind == "image":
            values = np.zeros((rows, *spec.shape), np.uint8)
            values[:, 0, 0, 0], values[:, 0, 0, 1], values[:, 0, 0, 2] = (
                number,
                np.arange(rows) // 256,
                np.arange(rows) % 256,
            )
            values[:, -1] = rng.integers(0, 256, (rows, *spec.shape[1:]), dtype=np.uint8)
        else:
            values = tells.astype(spec.dtype)
        streams[spec.name] = Stream(values, stamps)
    shared = rng.integers(0, steps, max(1, steps // 3))  # equal is not later
    proprio = streams["proprio"].stamps_ns
    proprio[np.searchsorted(proprio, streams["action"].stamps_ns[shared])] = streams["action"].stamps_ns[shared]
    return Episode(streams, f"do {number}", {})


def _write(path: Path, episodes: list[Episode], specs: tuple[StreamSpec, ...] = STREAMS) -> TrajectoryStore:
    store = TrajectoryStore.create(path, SPEC, specs)
    with store.writer(sync=False, ordered=False) as writer:
        for episode in episodes:
            writer.append(episode)
    return TrajectoryStore.open(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    """Twelve episodes of 1 to 120 steps: about 900 frames of 27 kB."""
    lengths = (1, 30, 7, 120, 64, 2, 90, 45, 13, 100, 60, 70)
    return _write(tmp_path_factory.mktemp("loader") / "s", [_episode(i, i, n) for i, n in enumerate(lengths)])


def _reference(episode: Episode, t: int, window: WindowSpec) -> dict[str, np.ndarray]:
    """One window by plain loops over the raw rows."""
    actions = episode.streams["action"]
    last = len(actions.values) - 1
    controls = [int(actions.stamps_ns[max(0, t - back)]) for back in reversed(range(window.obs_horizon))]
    wanted = {
        "actions": np.stack([actions.values[min(t + k, last)] for k in range(window.action_horizon)]),
        "is_pad": np.array([t + k > last for k in range(window.action_horizon)]),
        "obs_is_pad": np.array([t - back < 0 for back in reversed(range(window.obs_horizon))]),
    }
    for name in ("camera.front", "camera.wrist", "proprio"):
        stream, seen = episode.streams[name], []
        for control in controls:
            newest = None
            for row, stamp in enumerate(stream.stamps_ns.tolist()):
                if stamp <= control:
                    newest = row
            assert newest is not None
            seen.append(stream.values[newest])
        wanted[name] = np.stack(seen)
    return wanted


def _check(batch: dict[str, Any], b: int, episode: Episode, number: int, window: WindowSpec) -> None:
    t = int(batch["t"][b])
    wanted = _reference(episode, t, window)
    assert batch["episode"][b] == number and batch["instruction"][b] == f"do {number}"
    for key in ("actions", "is_pad", "obs_is_pad"):
        np.testing.assert_array_equal(batch[key][b], wanted[key])
    np.testing.assert_array_equal(batch["proprio"][b], wanted["proprio"].astype(np.float32))
    for camera in ("front", "wrist"):
        np.testing.assert_array_equal(batch["images"][camera][b], wanted[f"camera.{camera}"])
    # And said outright: nothing of another episode, nothing that was not yet there at t.
    now = episode.streams["action"].stamps_ns[t]
    assert {*batch["actions"][b][:, 0], *batch["proprio"][b][:, 0]} == {number}
    for stream, rows in (
        ("proprio", batch["proprio"][b][:, 1]),
        ("camera.front", batch["images"]["front"][b][:, 0, 0, 1:].astype(int) @ (256, 1)),
    ):
        assert (episode.streams[stream].stamps_ns[rows.astype(int)] <= now).all()
    assert set(batch["images"]["front"][b][:, 0, 0, 0]) == {number}


@settings(max_examples=12, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking writes too many stores
@given(
    seeds=st.lists(st.integers(0, 2**32), min_size=1, max_size=3),
    steps=st.lists(st.integers(1, 40), min_size=3, max_size=3),
    horizons=st.tuples(st.integers(1, 4), st.integers(1, 20)),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 2**32),
    codec=st.sampled_from(["raw", "lz4", "zstd", "png"]),
    cache_frames=st.sampled_from([0, 40, 10**6]),
)
def test_an_epoch_holds_each_window_of_the_reference_once(
    tmp_path_factory: pytest.TempPathFactory,
    seeds: list[int],
    steps: list[int],
    horizons: tuple[int, int],
    batch_size: int,
    seed: int,
    codec: str,
    cache_frames: int,
) -> None:
    episodes = [_episode(s, number, steps[number], 10**15 * number) for number, s in enumerate(seeds)]
    specs = tuple(replace(spec, codec=codec) if spec.kind == "image" else spec for spec in STREAMS)
    store = _write(tmp_path_factory.mktemp("w") / "s", episodes, specs)
    window = WindowSpec(*horizons)
    windows = WindowDataset(
        store, window, ("front", "wrist"), cache=False, tolerance_ns=10**9, cache_bytes=cache_frames * FRAME
    )
    order = BlockShuffledOrder(windows.blocks(5), 3, batch_size, seed)
    batches = WindowBatches(windows, order)
    seen = []
    for step in range(-(-len(windows) // batch_size)):
        batch = batches[step]
        for b, number in enumerate(batch["episode"].tolist()):
            _check(batch, b, episodes[number], number, window)
            seen.append((number, int(batch["t"][b])))
    every = [(number, t) for number in range(len(seeds)) for t in range(steps[number])]
    assert sorted(seen[: len(every)]) == every


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    buffer=st.integers(1, 25),
    batch_size=st.integers(1, 30),
    seed=st.integers(0, 2**64),
    epochs=st.integers(1, 3),
)
def test_block_order_is_a_permutation_an_epoch_and_local(
    sizes: list[int], buffer: int, batch_size: int, seed: int, epochs: int
) -> None:
    bounds = np.cumsum([0, *sizes])
    order, n = BlockShuffledOrder(bounds, buffer, batch_size, seed), int(bounds[-1])
    steps = -(-n * epochs // batch_size)
    items = np.concatenate([order.indices(step) for step in range(steps)])[: n * epochs]
    assert items.dtype == np.int64
    for epoch in items.reshape(epochs, n):
        assert sorted(epoch) == list(range(n))
        # Blocks come in groups: at most `buffer` of them are begun and unfinished.
        left = dict(enumerate(sizes))
        begun: set[int] = set()
        for item in epoch:
            block = int(np.searchsorted(bounds, item, side="right")) - 1
            begun.add(block)
            left[block] -= 1
            begun -= {block for block in begun if left[block] == 0}
            assert len(begun) <= buffer


@given(
    steps=st.lists(st.integers(0, 10**6), min_size=1, max_size=6),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    buffer=st.integers(1, 25),
    batch_size=st.integers(1, 30),
    seed=st.integers(0, 2**64),
)
def test_a_step_of_block_order_does_not_depend_on_those_before(
    steps: list[int], sizes: list[int], buffer: int, batch_size: int, seed: int
) -> None:
    bounds = np.cumsum([0, *sizes])
    used = BlockShuffledOrder(bounds, buffer, batch_size, seed)
    for step in steps:
        fresh = BlockShuffledOrder(bounds, buffer, batch_size, seed)
        np.testing.assert_array_equal(used.indices(step), fresh.indices(step))
        start = step * batch_size
        np.testing.assert_array_equal(fresh.span(start, start + batch_size), used.indices(step))


def test_block_order_shuffles_blocks_and_items() -> None:
    order = BlockShuffledOrder(np.arange(0, 1001, 10), 10, 1000, 0)
    first, second = order.indices(0), order.indices(1)
    assert not np.array_equal(first, second)
    group = first[:100]
    assert len(set(group // 10)) == 10 and not np.array_equal(group, np.sort(group))
    assert np.abs(np.diff(np.unique(group // 10))).max() > 1  # blocks that are no neighbours
    assert not np.array_equal(first, BlockShuffledOrder(np.arange(0, 1001, 10), 10, 1000, 1).indices(0))


@pytest.mark.parametrize(
    ("bounds", "buffer", "message"),
    [
        ([0], 1, "wanted them ascending from 0"),
        ([1, 2], 1, "wanted them ascending from 0"),
        ([0, 2, 2], 1, "wanted them ascending from 0"),
        ([0, 2], 0, "found buffer 0"),
    ],
)
def test_block_order_refuses_nonsense(bounds: list[int], buffer: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BlockShuffledOrder(np.array(bounds), buffer, 1, 0)


def _equal(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left["instruction"] == right["instruction"]
    for key in ("actions", "proprio", "is_pad", "obs_is_pad", "episode", "t"):
        np.testing.assert_array_equal(left[key], right[key])
    for camera in left["images"]:
        np.testing.assert_array_equal(left["images"][camera], right["images"][camera])


def _streaming(store: TrajectoryStore, frames: int = 150) -> WindowBatches:
    return window_batches(store, WindowSpec(2, 16), ("front",), 32, 7, frames * FRAME, tolerance_ns=10**9)


@pytest.mark.parametrize("workers", [0, 1, 3, 8])
def test_any_number_of_threads_gives_the_same_batches(store: TrajectoryStore, workers: int) -> None:
    batches = _streaming(store)
    assert isinstance(batches.order, BlockShuffledOrder)
    plain = _streaming(store)
    loader, steps = Loader(batches, workers), 45  # two epochs and a half
    for step, batch in enumerate(loader.steps(0, steps)):
        _equal(batch, plain.batch(step))
        assert step < steps
    # Resumed anywhere, and left early.
    for step, batch in zip((31, 32, 33), loader.steps(31), strict=False):
        _equal(batch, plain.batch(step))


def test_processes_give_the_same_batches(store: TrajectoryStore) -> None:
    batches = _streaming(store)
    batches.batch(0)
    assert batches.windows._cache.__getstate__() == {"limit": 150 * FRAME}  # what it holds is not sent
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for step, batch in zip(range(4, 8), pool.map(batches.batch, range(4, 8)), strict=True):
            _equal(batch, batches[step])


def test_an_order_shared_by_threads_is_not_confused(store: TrajectoryStore) -> None:
    for order in (ShuffledOrder(50, 8, 0), BlockShuffledOrder(np.arange(0, 51, 5), 3, 8, 0)):
        wanted = [order.indices(step) for step in range(200)]
        with ThreadPoolExecutor(8) as pool:
            scattered = [step * 37 % 200 for step in range(200)]
            for step, found in zip(scattered, pool.map(order.indices, scattered), strict=True):
                np.testing.assert_array_equal(found, wanted[step])


def test_an_error_comes_at_its_step(store: TrajectoryStore) -> None:
    class Failing:
        def batch(self, step: int) -> int:
            if step == 5:
                raise KeyError("five")
            return step

    for workers in (0, 2):
        steps = Loader(Failing(), workers).steps()
        assert list(islice(steps, 5)) == [0, 1, 2, 3, 4]
        with pytest.raises(KeyError, match="five"):
            next(steps)


@pytest.mark.parametrize("frames", [150, 400])
def test_streaming_unpacks_a_chunk_about_once_an_epoch_within_its_cache(store: TrajectoryStore, frames: int) -> None:
    batches = _streaming(store, frames)
    cache, array = batches.windows._cache, store.chunks("camera.front")
    chunks = sum(-(-rows // array.layout.chunk_rows) for rows in np.diff(store.offsets("camera.front")).tolist())
    for step in range(len(batches.windows) // 32):
        batches.batch(step)
        assert cache.held <= cache.limit
    # Neighbouring blocks of a long episode share a chunk, and a batch may lie across two groups.
    assert cache.loads < 2.2 * chunks


def test_what_fits_the_cache_is_unpacked_once(store: TrajectoryStore) -> None:
    batches = _streaming(store, 2000)
    assert isinstance(batches.order, ShuffledOrder)
    for step in range(40):
        batches.batch(step)
    assert batches.windows._cache.held == batches.windows._cache.loads * store.chunks("camera.front").chunk(0).nbytes
    loads = batches.windows._cache.loads
    for step in range(40, 60):
        batches.batch(step)
    assert batches.windows._cache.loads == loads


def test_a_cache_too_small_to_shuffle_in_is_refused(store: TrajectoryStore) -> None:
    with pytest.raises(ValueError, match=rf"found cache_bytes {3 * FRAME}, wanted \d+ or more to shuffle in") as error:
        _streaming(store, 3)
    wanted = int(str(error.value).split("wanted ")[1].split()[0])
    assert window_batches(store, WindowSpec(), ("front",), 4, 0, wanted + 10 * FRAME, tolerance_ns=10**9).order.n == 602


def test_nonsense_is_refused(store: TrajectoryStore) -> None:
    windows = WindowDataset(store, WindowSpec(), (), tolerance_ns=10**9)
    with pytest.raises(ValueError, match="found an order of 5 items, wanted 602"):
        WindowBatches(windows, ShuffledOrder(5, 1, 0))
    with pytest.raises(ValueError, match="found workers -1"):
        Loader(WindowBatches(windows, ShuffledOrder(602, 1, 0)), -1)
    with pytest.raises(ValueError, match="found size 0"):
        windows.blocks(0)


def test_blocks_are_runs_inside_episodes(store: TrajectoryStore) -> None:
    windows = WindowDataset(store, WindowSpec(), (), tolerance_ns=10**9)
    for size in (1, 16, 1000):
        bounds = windows.blocks(size)
        assert bounds[0] == 0 and bounds[-1] == len(windows) and (np.diff(bounds) > 0).all()
        assert np.diff(bounds).max() <= size
        for first, stop in pairwise(bounds):
            assert len(set(windows.episode[first:stop])) == 1


@settings(max_examples=50)
@given(
    limit=st.integers(0, 400),
    sizes=st.lists(st.integers(1, 120), min_size=8, max_size=8),
    keys=st.lists(st.integers(0, 7)),
)
def test_the_cache_drops_what_was_used_longest_ago(limit: int, sizes: list[int], keys: list[int]) -> None:
    cache, held = ChunkCache(limit), []  # reference: a list of keys, the last used one last
    for key in keys:
        cached, loads = key in held, cache.loads
        found = cache.get(key, lambda key=key: np.full(sizes[key], key, np.uint8))
        assert len(found) == sizes[key] and (found == key).all()
        assert (cache.loads == loads) == cached
        held = [other for other in held if other != key]
        if sizes[key] <= limit:
            held.append(key)
            while sum(sizes[other] for other in held) > limit:
                held.pop(0)
        assert cache.held == sum(sizes[other] for other in held) <= limit


def test_a_chunk_that_several_threads_want_is_loaded_once() -> None:
    cache, together = ChunkCache(1 << 20), threading.Barrier(6)

    def load() -> np.ndarray:
        time.sleep(0.05)
        return np.arange(5)

    def want(_: int) -> np.ndarray:
        together.wait()
        return cache.get("chunk", load)

    with ThreadPoolExecutor(6) as pool:
        assert all(found is cache.get("chunk", load) for found in pool.map(want, range(6)))
    assert cache.loads == 1


def test_a_load_that_fails_may_be_tried_again() -> None:
    cache, fail = ChunkCache(100), True

    def load() -> np.ndarray:
        if fail:
            raise OSError("gone")
        return np.arange(3)

    with pytest.raises(OSError, match="gone"):
        cache.get(0, load)
    fail = False
    assert cache.get(0, load).tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_torchs_own_loader_walks_the_same_steps(store: TrajectoryStore) -> None:
    data: Any = pytest.importorskip("torch.utils.data")
    batches = _streaming(store)
    identity: Callable[[Any], Any] = _itself
    walked = data.DataLoader(batches, sampler=range(3, 9), batch_size=None, num_workers=2, collate_fn=identity)
    for step, batch in zip(range(3, 9), walked, strict=True):
        _equal(batch, batches[step])


def _itself(batch: Any) -> Any:
    return batch
