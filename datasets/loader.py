"""Batches of windows in a reproducible order, from memory or streamed from disk with bounded memory.

A batch is a pure function of its step: nothing depends on which thread or process makes it, or on what was made before.
So training resumes at any step, with any number of workers. A data set that is larger than the cache is read in an
order that shuffles blocks of neighbouring windows, and then all windows of as many blocks as the cache holds: each
frame is unpacked about once an epoch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any, Protocol

from .sampling import BlockShuffledOrder, Order, ShuffledOrder
from .spec import camera_stream
from .store import TrajectoryStore
from .windows import WindowDataset, WindowSpec

_FILL = 0.75  # of the cache is what a group of blocks may need: the last of one group and the first of the next overlap
_BLOCKS = 32  # in a group, where episodes are long enough to be divided
_CHUNKS = 2  # in a block, at least: chunks at its ends are unpacked for its neighbours too
_FEWEST_BLOCKS = 4  # in a group: fewer would hardly be shuffled


class Batches(Protocol):
    """Something whose batch at a step is a pure function of the step: `WindowBatches`, or `mixture.Mixture`."""

    def batch(self, step: int) -> Any: ...


class WindowBatches:
    """`windows.batch(order.indices(step))` for each step; `batches[step]` too, which is how torch's DataLoader asks.

    Raises ValueError if the order is not over as many items as there are windows.
    """

    def __init__(self, windows: WindowDataset, order: Order) -> None:
        if order.n != len(windows):
            raise ValueError(f"WindowBatches: found an order of {order.n} items, wanted {len(windows)}, one a window")
        self.windows, self.order = windows, order

    def batch(self, step: int) -> dict[str, Any]:
        """Batch `step` (0, 1, 2, ...), as `WindowDataset.batch` describes it."""
        return self.windows.batch(self.order.indices(step))

    def __getitem__(self, step: int) -> dict[str, Any]:
        return self.batch(step)


def window_batches(
    store: TrajectoryStore,
    window: WindowSpec,
    cameras: Sequence[str],
    batch_size: int,
    seed: int,
    cache_bytes: int = 1 << 30,
    episodes: Sequence[int] | None = None,
    tolerance_ns: int | None = None,
) -> WindowBatches:
    """Batches from a store that keep at most `cache_bytes` of decoded images.

    Where all images fit, the order is that of `ShuffledOrder`; where not, that of `BlockShuffledOrder`, a function of
    `cache_bytes` too. Clocks, actions and proprioception are kept in memory whole.

    Raises ValueError if the cache is too small to shuffle in; what `WindowDataset` raises.
    """
    windows = WindowDataset(
        store, window, cameras, cache=False, episodes=episodes, tolerance_ns=tolerance_ns, cache_bytes=cache_bytes
    )
    chunks = _bytes_of_a_chunk(windows)
    if windows.image_bytes + len(windows.episodes) * chunks <= cache_bytes:
        return WindowBatches(windows, ShuffledOrder(len(windows), batch_size, seed))
    a_window = windows.image_bytes / len(windows)
    bounds = windows.blocks(math.ceil(max(_FILL * cache_bytes / _BLOCKS, _CHUNKS * chunks) / a_window))
    a_block = windows.image_bytes / (len(bounds) - 1) + chunks  # it begins or ends within a chunk
    buffer = int(_FILL * cache_bytes / a_block)
    if buffer < _FEWEST_BLOCKS:
        wanted = int(_FEWEST_BLOCKS * a_block / _FILL) + 1
        raise ValueError(f"{store.path}: found cache_bytes {cache_bytes}, wanted {wanted} or more to shuffle in")
    return WindowBatches(windows, BlockShuffledOrder(bounds, buffer, batch_size, seed))


def _bytes_of_a_chunk(windows: WindowDataset) -> int:
    """Decoded bytes of one chunk of each camera."""
    arrays = [windows.store.chunks(camera_stream(camera)) for camera in windows.cameras]
    return sum(array.layout.chunk_rows * math.prod(array.shape[1:]) for array in arrays)


class Loader:
    """Walks through batches, `workers` threads making those that come next.

    workers: 0 makes each batch when it is asked for. ahead: finished batches that may wait, which bounds the memory.
    For processes, hand the batches themselves to torch's DataLoader:
    `DataLoader(batches, sampler=range(start, stop), batch_size=None, num_workers=4)`.
    """

    def __init__(self, batches: Batches, workers: int = 0, ahead: int = 2) -> None:
        if workers < 0 or ahead < 1:
            raise ValueError(f"Loader: found workers {workers}, ahead {ahead}, wanted at least 0 and 1")
        self.batches, self.workers, self.ahead = batches, workers, ahead

    def steps(self, start: int = 0, stop: int | None = None) -> Iterator[Any]:
        """The batches of steps `start` to `stop` (default: without end), in order."""
        steps = iter(count(start) if stop is None else range(start, stop))
        if self.workers == 0:
            yield from map(self.batches.batch, steps)
            return
        pending: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self.workers, "loader")
        try:
            for step in steps:
                pending.append(pool.submit(self.batches.batch, step))
                if len(pending) >= self.workers + self.ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
