"""Training windows: what had been seen at t, and the actions from t on.

The control clock is that of the actions. A window at action row t has the observations of the last `obs_horizon`
control stamps up to t, each row the newest that is not later than its control stamp, and the actions from t to
t + action_horizon - 1. Nothing later than t is ever an input, and no window reaches over an episode's border: before
its begin the first observation is repeated, after its end the last action is, and masks say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .chunk_cache import ChunkCache
from .episode import StreamSpec
from .spec import ACTION_STREAM, PROPRIO_STREAM, camera_stream
from .store import StoreError, TrajectoryStore


class AlignmentError(ValueError):
    """At a control stamp a stream has no row that is recent enough. The message names the episode, stream and row."""


@dataclass(frozen=True)
class WindowSpec:
    """obs_horizon: observations up to t; action_horizon: actions from t on. Both in control steps, at least 1."""

    obs_horizon: int = 2
    action_horizon: int = 16

    def __post_init__(self) -> None:
        for name in ("obs_horizon", "action_horizon"):
            if getattr(self, name) < 1:
                raise ValueError(f"WindowSpec.{name}: found {getattr(self, name)}, wanted 1 or more")


class WindowDataset:
    """One window for each action row of the chosen episodes (default all): item i is action row `t[i]` of `episode[i]`.

    cameras: short names ("front"). cache: keep the images in memory; without it each batch reads from the store the
    chunks that its images lie in, and keeps up to `cache_bytes` of them, the last ones used, for the next.
    tolerance_ns: how old an observation may be at its control stamp; by default the store's `tolerance.align` periods
    of the stream. Attributes: episode, t int64 [N].

    Raises AlignmentError if a stream has no row in tolerance, StoreError if a stream is missing or there is no episode.
    """

    def __init__(
        self,
        store: TrajectoryStore,
        window: WindowSpec,
        cameras: Sequence[str],
        cache: bool = True,
        episodes: Sequence[int] | None = None,
        tolerance_ns: int | None = None,
        cache_bytes: int = 0,
    ) -> None:
        self.store, self.window, self.cameras = store, window, tuple(cameras)
        self.episodes = np.arange(len(store)) if episodes is None else np.asarray(episodes, np.int64)
        if len(self.episodes) == 0:
            raise StoreError(f"{store.path}: found no episodes to make windows of, wanted at least one")
        chosen = self.episodes.tolist()
        for camera in self.cameras:
            store.env_spec.camera(camera)
        controls = store.stamps(ACTION_STREAM, chosen)
        self._offsets = store.offsets(ACTION_STREAM, chosen)
        lengths = np.diff(self._offsets)
        local = np.repeat(np.arange(len(chosen)), lengths)
        self.episode = self.episodes[local]
        self.t = np.arange(len(controls)) - self._offsets[local]
        self._first, self._stop = self._offsets[local], self._offsets[local + 1]
        self._actions = store.read_all(ACTION_STREAM, chosen).values.astype(np.float32)
        self._proprio = store.read_all(PROPRIO_STREAM, chosen).values.astype(np.float32)
        self._clock, self._tolerance_ns = controls, tolerance_ns
        self._aligned: dict[str, np.ndarray] = {}  # stream -> for each control row, the row seen then
        for name in (PROPRIO_STREAM, *map(camera_stream, self.cameras)):
            self._aligned[name] = self._align(name)
        self._frames: dict[str, np.ndarray] = {}
        self._stored: dict[
            str, np.ndarray
        ] = {}  # camera -> for each control row, the row of the store's array seen then
        self._cache = ChunkCache(cache_bytes)
        if cache:
            self._frames = {camera: self.frames(camera) for camera in self.cameras}
        else:
            for camera, name in zip(self.cameras, map(camera_stream, self.cameras), strict=True):
                shift = store.first_rows(name, chosen) - store.offsets(name, chosen)[:-1]
                self._stored[camera] = self._aligned[name] + shift[local]
        texts = [store.episode_info(index)["instruction"] for index in chosen]
        self._instructions = np.array(texts, dtype=object)[local]

    def __len__(self) -> int:
        return len(self.t)

    @property
    def image_bytes(self) -> int:
        """What all images of the chosen episodes take in memory."""
        chosen, total = self.episodes.tolist(), 0
        for name in map(camera_stream, self.cameras):
            total += int(self.store.offsets(name, chosen)[-1]) * math.prod(self.store.streams[name].shape)
        return total

    def blocks(self, size: int) -> np.ndarray:
        """Bounds of runs of at most `size` neighbouring windows, none over an episode's border: int64 [K + 1]."""
        if size < 1:
            raise ValueError(f"blocks: found size {size}, wanted 1 or more windows")
        bounds = [np.zeros(1, np.int64)]
        for first, stop in zip(self._offsets[:-1].tolist(), self._offsets[1:].tolist(), strict=True):
            pieces = -(-(stop - first) // size)
            bounds.append(first + (stop - first) * np.arange(1, pieces + 1) // pieces)
        return np.concatenate(bounds)

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        """Windows `indices` int64 [B] (To, Tp: the two horizons).

        images {camera: uint8 [B, To, H, W, 3]}, proprio float32 [B, To, P], obs_is_pad bool [B, To] (before the
        episode's begin), actions float32 [B, Tp, A], is_pad bool [B, Tp] (after its end), instruction list[str] of
        length B, episode int64 [B], t int64 [B].
        """
        controls, _ = self._controls(self._checked(indices))
        return {"images": {camera: self._images(camera, controls) for camera in self.cameras}, **self.numbers(indices)}

    def numbers(self, indices: np.ndarray) -> dict[str, Any]:
        """As `batch`, without the images."""
        indices = self._checked(indices)
        rows = indices[:, None] + np.arange(self.window.action_horizon)
        last = self._stop[indices, None] - 1
        controls, obs_is_pad = self._controls(indices)
        return {
            "proprio": self._proprio.take(self._aligned[PROPRIO_STREAM].take(controls), axis=0),
            "obs_is_pad": obs_is_pad,
            "actions": self._actions.take(np.minimum(rows, last), axis=0),
            "is_pad": rows > last,
            "instruction": self._instructions[indices].tolist(),
            "episode": self.episode[indices],
            "t": self.t[indices],
        }

    def at_controls(self, stream: str) -> np.ndarray:
        """What a stream said at t of every window: [N, *shape of a row]. Raises as the constructor does."""
        return self.store.read_all(stream, self.episodes.tolist()).values[self._align(stream)]

    def tell(self, texts: Sequence[str]) -> None:
        """Put a text [N] in the place of each window's instruction."""
        if len(texts) != len(self):
            raise ValueError(f"windows: found {len(texts)} texts, wanted {len(self)}")
        self._instructions = np.array(texts, dtype=object)

    def frames(self, camera: str) -> np.ndarray:
        """All frames of a camera, episodes joined: uint8 [F, H, W, 3]. For features that are computed once a frame."""
        if camera in self._frames:
            return self._frames[camera]
        return self.store.read_all(camera_stream(camera), self.episodes.tolist()).values

    def frame_index(self, indices: np.ndarray, camera: str | None = None) -> np.ndarray:
        """Rows of `frames(camera)` that windows `indices` see: int64 [B, To].

        Without `camera`: the rows of all cameras, which must then have the same ones (ValueError otherwise).
        """
        cameras = self.cameras if camera is None else (camera,)
        if not cameras or any(name not in self.cameras for name in cameras):
            raise ValueError(f"frame_index: found camera {camera!r}, wanted one of {list(self.cameras)}")
        aligned = [self._aligned[camera_stream(name)] for name in cameras]
        if any(not np.array_equal(rows, aligned[0]) for rows in aligned[1:]):
            raise ValueError(f"frame_index: the cameras {list(cameras)} have different clocks; name the one you mean")
        return aligned[0].take(self._controls(self._checked(indices))[0])

    def _checked(self, indices: np.ndarray) -> np.ndarray:
        indices = np.asarray(indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise ValueError(f"windows: found indices of {indices.dtype} {indices.shape}, wanted ints [B]")
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(f"windows: found indices {indices.min()} to {indices.max()}, wanted 0 to {len(self) - 1}")
        return indices.astype(np.int64)

    def _controls(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Control rows whose observations a window has, and where they repeat the first: int64 and bool [B, To]."""
        rows = indices[:, None] + np.arange(1 - self.window.obs_horizon, 1)
        first = self._first[indices, None]
        return np.maximum(rows, first), rows < first

    def _align(self, name: str) -> np.ndarray:
        chosen, controls, tolerance_ns = self.episodes.tolist(), self._clock, self._tolerance_ns
        stamps, offsets = self.store.stamps(name, chosen), self.store.offsets(name, chosen)
        spec = self.store.streams[name]
        limit = self.store.tolerance.align * spec.period_ns if tolerance_ns is None else tolerance_ns
        aligned = np.empty(len(controls), np.int64)
        for i in range(len(chosen)):
            wanted = controls[self._offsets[i] : self._offsets[i + 1]]
            seen = stamps[offsets[i] : offsets[i + 1]]
            rows = np.searchsorted(seen, wanted, side="right") - 1
            age = wanted - seen[np.maximum(rows, 0)]  # below 0 where the first row is later, or the clock is unsorted
            stale = np.flatnonzero((age < 0) | (age > limit))
            if len(stale):
                raise AlignmentError(_stale_message(chosen[i], spec, int(stale[0]), wanted, seen, rows, limit))
            aligned[self._offsets[i] : self._offsets[i + 1]] = rows + offsets[i]
        return aligned

    def _images(self, camera: str, controls: np.ndarray) -> np.ndarray:
        if camera in self._frames:
            return self._frames[camera].take(self._aligned[camera_stream(camera)].take(controls), axis=0)
        array = self.store.chunks(camera_stream(camera))
        images = np.empty((*controls.shape, *array.shape[1:]), np.uint8)
        self._cache.rows(array, self._stored[camera].take(controls).reshape(-1), images.reshape(-1, *array.shape[1:]))
        return images


def _stale_message(
    episode: int, spec: StreamSpec, row: int, wanted: np.ndarray, seen: np.ndarray, rows: np.ndarray, limit: float
) -> str:
    if rows[row] < 0:
        found = f"its first row only {(seen[0] - wanted[row]) / 1e6:.6g} ms later"
    else:
        found = f"its newest row {rows[row]} already {(wanted[row] - seen[rows[row]]) / 1e6:.6g} ms old"
    return (
        f"episode {episode}, stream {spec.name!r}, at action row {row} (stamp {wanted[row]} ns): found {found}, wanted "
        f"a row not later and at most {limit / 1e6:.6g} ms old; run the gate on this store, or raise tolerance_ns"
    )
