"""Windows a second from a store, frames a second into one, memory while streaming, and what each codec costs.

Measured as LeRobot 0.6.1 was: 96-pixel frames, 20 episodes of 120 steps, a window of 2 observations and 16 actions; one
core, files in the page cache. The frames are the tabletop's, with the expert at work.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...datasets.chunks import write_rows
from ...datasets.loader import WindowBatches, window_batches
from ...datasets.sampling import ShuffledOrder
from ...datasets.spec import EnvSpec, camera_stream
from ...datasets.store import Episode, Stream, StreamSpec, TrajectoryStore
from ...datasets.windows import WindowDataset, WindowSpec

# Windows and frames a second of LeRobot 0.6.1 on two shared cores, images with its best video decoder.
LEROBOT = {
    "state_windows_per_s": 257,
    "image96_cached_windows_per_s": 379,
    "image96_streaming_windows_per_s": 379,
    "write_frames_per_s": 186,
}
EPISODES, STEPS, BATCH = 20, 120, 128
CACHE = 128 << 20  # bytes of decoded images; the streamed store holds five times as much
LARGE_EPISODES, LARGE_STEPS, LARGE_BATCH, LARGE_CACHE = 10, 60, 32, CACHE // 2
SECONDS = 1.0  # of each turn, at least
CODECS = ("raw", "lz4", "zstd", "png", "jpeg:95")
_WINDOW = WindowSpec(2, 16)


def run() -> dict[str, float]:
    """Each speed is the median of three turns of at least a second.

    Metrics: `state_windows_per_s`; `image96_cached_windows_per_s` (decoded chunks fit the cache) and
    `image96_streaming_windows_per_s` (a whole epoch of a store five times the cache) with one camera;
    `image256x2_windows_per_s` (streamed) and `image256x2_cached_windows_per_s`; `write_frames_per_s`;
    `stream_rss_growth_mb`, from before the store is opened to the highest while it streams;
    `codec_NAME_SIZE_bytes_per_frame`, `..._encode_frames_per_s`, `..._decode_frames_per_s`; `*_vs_lerobot`.
    """
    from ...envs.rendering_backend import select_backend

    select_backend()
    with TemporaryDirectory(prefix="deixis-bench-") as folder:
        root = Path(folder)
        spec, episodes = _demonstrations(96, ("front",), EPISODES, STEPS)
        metrics = {"write_frames_per_s": _writing_speed(root, spec, episodes)}
        store = _store(root / "small", spec, episodes)
        metrics["state_windows_per_s"] = _speed(_in_memory(store, BATCH))
        metrics["image96_cached_windows_per_s"] = _speed(window_batches(store, _WINDOW, ("front",), BATCH, 0))
        frames = episodes[0].streams[camera_stream("front")].values
        streamed = list(islice(cycle(episodes), -(-5 * CACHE // frames.nbytes)))
        large = _store(root / "large", spec, streamed)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
            speed, growth = fresh.submit(_stream, large.path, CACHE).result()
        metrics |= {"image96_streaming_windows_per_s": speed, "stream_rss_growth_mb": growth}
        metrics |= _codec_trade(root, spec, episodes[0])

        spec, episodes = _demonstrations(256, ("front", "wrist"), LARGE_EPISODES, LARGE_STEPS)
        store = _store(root / "two-cameras", spec, episodes)
        for name, cache in (("image256x2", LARGE_CACHE), ("image256x2_cached", 1 << 30)):
            batches = window_batches(store, _WINDOW, ("front", "wrist"), LARGE_BATCH, 0, cache)
            metrics[f"{name}_windows_per_s"] = _speed(batches)
        metrics |= _codec_trade(root, spec, episodes[0])
    for name, theirs in LEROBOT.items():
        metrics[f"{name.removesuffix('_per_s')}_vs_lerobot"] = metrics[name] / theirs
    return metrics


def _demonstrations(size: int, cameras: tuple[str, ...], count: int, steps: int) -> tuple[EnvSpec, list[Episode]]:
    """Episodes of `steps` rows: the expert does one task after another."""
    from ...envs.suites import SUITES
    from ...envs.tabletop.env import TabletopEnv
    from ...envs.tabletop.expert import expert_action

    suite = SUITES["tabletop"]
    env = suite.make(image_size=size, disable_env_checker=True).unwrapped
    if not isinstance(env, TabletopEnv):
        raise TypeError(f"suite 'tabletop' made {type(env).__name__}, wanted TabletopEnv")
    spec = replace(env.env_spec, cameras=tuple(env.env_spec.camera(name) for name in cameras))
    names = [*map(camera_stream, cameras), "proprio"]

    def rows() -> Iterator[dict[str, Any]]:
        for number, task in enumerate(cycle(suite.tasks)):
            observation, _ = env.reset(seed=suite.episode_seed(task, number), options={"task": task})
            done, step = False, 0
            while not done and step < suite.max_steps:
                action = expert_action(env)
                yield {name: observation[name] for name in names} | {"action": action.astype(np.float32)}
                observation, _, done, _, _ = env.step(action)
                step += 1

    source, stamps = rows(), np.arange(steps) * round(1e9 / spec.action.rate_hz)
    episodes = []
    for _ in range(count):
        seen = list(islice(source, steps))
        streams = {name: Stream(np.stack([row[name] for row in seen]), stamps) for name in (*names, "action")}
        episodes.append(Episode(streams, "tidy the table", {}))
    env.close()
    return spec, episodes


def _store(path: Path, spec: EnvSpec, episodes: list[Episode], codec: str = "lz4") -> TrajectoryStore:
    rate = spec.action.rate_hz
    streams = [
        StreamSpec(c.stream, "uint8", (c.height, c.width, 3), c.rate_hz, "image", "1", codec=codec)
        for c in spec.cameras
    ]
    streams.append(StreamSpec("proprio", "float32", (spec.proprio.dim,), spec.proprio.rate_hz, "proprio", "mixed"))
    streams.append(StreamSpec("action", "float32", (spec.action.dim,), rate, "action", "mixed"))
    store = TrajectoryStore.create(path, spec, streams)
    with store.writer(sync=False) as writer:
        for episode in episodes:
            writer.append(episode)
    return store


def _writing_speed(root: Path, spec: EnvSpec, episodes: list[Episode]) -> float:
    frames, turns = sum(len(episode.streams["action"].values) for episode in episodes), []
    for turn in range(3):
        begin = time.perf_counter()
        _store(root / f"written-{turn}", spec, episodes)
        turns.append(frames / (time.perf_counter() - begin))
    return float(np.median(turns))


def _in_memory(store: TrajectoryStore, batch_size: int) -> WindowBatches:
    windows = WindowDataset(store, _WINDOW, ())
    return WindowBatches(windows, ShuffledOrder(len(windows), batch_size, 0))


def _speed(batches: WindowBatches) -> float:
    """Windows a second after a warm epoch: median of three turns, each a second or an epoch, whichever is longer."""
    epoch, size = -(-batches.order.n // batches.order.batch_size), batches.order.batch_size
    for step in range(epoch):
        batches.batch(step)
    step, turns = epoch, []
    for _ in range(3):
        begin, first = time.perf_counter(), step
        while (elapsed := time.perf_counter() - begin) < SECONDS or step - first < epoch:
            batches.batch(step)
            step += 1
        turns.append((step - first) * size / elapsed)
    return float(np.median(turns))


def _stream(path: Path, cache: int) -> tuple[float, float]:
    """Windows a second of an epoch from disk, and growth of this process's memory in MB. Runs in a fresh process."""
    start = _resident_bytes()
    batches = window_batches(TrajectoryStore.open(path), _WINDOW, ("front",), BATCH, 0, cache)
    highest, steps = start, batches.order.n // BATCH
    begin = time.perf_counter()
    for step in range(steps):
        batches.batch(step)
        highest = max(highest, _resident_bytes())
    return steps * BATCH / (time.perf_counter() - begin), (highest - start) / 1e6


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _codec_trade(root: Path, spec: EnvSpec, episode: Episode) -> dict[str, float]:
    """Bytes a frame of the first camera, and frames a second written to and read from files, for each codec."""
    metrics: dict[str, float] = {}
    stream = spec.cameras[0].stream
    frames = episode.streams[stream].values
    for codec in CODECS:
        name = f"{codec.partition(':')[0]}_{spec.cameras[0].height}"
        store = _store(root / name, spec, [episode], codec)
        array, folder = store.chunks(stream), store.path / "streams" / stream / "values"
        encode, decode = partial(write_rows, folder, array.layout, 0, frames), partial(array.read, 0, len(frames))
        metrics[f"codec_{name}_encode_frames_per_s"] = _per_second(encode, len(frames))
        metrics[f"codec_{name}_decode_frames_per_s"] = _per_second(decode, len(frames))
        stored = sum(file.stat().st_size for file in folder.glob("c.*"))
        metrics[f"codec_{name}_bytes_per_frame"] = stored / len(frames)
    return metrics


def _per_second(work: Callable[[], Any], frames: int) -> float:
    """Frames a second: the best of what fits into half a turn, three times at least."""
    turns, end = [], time.perf_counter() + SECONDS / 2
    while len(turns) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        work()
        turns.append(frames / (time.perf_counter() - begin))
    return max(turns)
