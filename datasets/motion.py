"""Motion as numbers: what the robot's own state says of it, and what a camera sees of it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .motion_model import Signals
from .spec import ACTION_STREAM, EXECUTED_STREAM, PROPRIO_STREAM
from .trajectories import MemoryTrajectories, Trajectories, episode_clocks

THUMBNAIL = 16  # side in which frames are compared
_COMPONENTS = 64  # principal components of thumbnails
_FLOW = 32  # side in which image motion is measured
_EPISODES_AT_ONCE = 16
_FRAMES_AT_ONCE = 32  # few enough to stay in the processor's cache


@dataclass(frozen=True)
class Frames:
    """What is kept of the frames of one episode.

    thumbnails: float32 [T, 768] in [0, 1]; colours: float32 [T, 24], where each colour is; changes: float32 [T, 28],
    change since the frame before; same: bool [T], True where a frame equals the one before it byte by byte.
    """

    thumbnails: np.ndarray
    colours: np.ndarray
    changes: np.ndarray
    same: np.ndarray


def newest_rows(stamps: np.ndarray, at: np.ndarray) -> np.ndarray:
    """For each stamp of `at` the row of the newest of `stamps` that is not later (the first row if all are)."""
    return np.clip(np.searchsorted(stamps, at, side="right") - 1, 0, len(stamps) - 1)


def stretches(mask: np.ndarray) -> Iterator[tuple[int, int]]:
    """First and stop of each run of True in bool [T]."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def action_signals(data: Trajectories, episodes: Sequence[int], stream: str = ACTION_STREAM) -> list[Signals]:
    """Actions as inputs; the step that the proprioception makes until the next action as target.

    Where the robot is, and the step it made before, are context: a delta, a velocity and an absolute target all become
    linear in them.
    """
    signals = []
    for (action, _), place in zip(_episodes(data, stream, episodes), places(data, stream, episodes), strict=True):
        step = np.diff(place, axis=0)
        before = np.concatenate([np.zeros_like(step[:1]), step[:-1]])
        signals.append(Signals(action[: len(step)], np.concatenate([place[:-1], before], axis=1), step))
    return signals


def wanted_signals(data: Trajectories, episodes: Sequence[int]) -> list[Signals]:
    """Actions that an expert wanted as inputs, those that were executed as target: they differ by what disturbed it."""
    pairs = zip(_episodes(data, ACTION_STREAM, episodes), _episodes(data, EXECUTED_STREAM, episodes), strict=True)
    return [
        Signals(wanted[newest_rows(stamps, at)], np.zeros((len(done), 0)), done)
        for (wanted, stamps), (done, at) in pairs
    ]


def camera_signals(data: Trajectories, stream: str, frames: Sequence[Frames], episodes: Sequence[int]) -> list[Signals]:
    """What a camera shows as inputs; where the robot is, its step and its speed as targets.

    Frames are taken against the mean of their episode: what never moves cancels, so that scenes do not matter, and a
    camera that is late or early has nearly the same mean.
    """
    against_mean = [f.thumbnails - f.thumbnails.mean(0) for f in frames]
    project = _principal(against_mean)
    signals = []
    for thumbnails, shown, place in zip(against_mean, frames, places(data, stream, episodes), strict=True):
        step = np.diff(place, axis=0, prepend=place[:1])
        speed = np.linalg.norm(step / np.maximum(np.abs(step).mean(0), 1e-9), axis=1, keepdims=True)
        targets = np.concatenate([place, step, speed], axis=1)
        seen = np.concatenate([thumbnails[: len(place)] @ project, shown.colours[: len(place)]], axis=1)
        moved = np.diff(seen, axis=0, prepend=seen[:1])
        inputs = np.concatenate([seen, moved, shown.changes[: len(place)]], axis=1)
        signals.append(Signals(inputs, np.zeros((len(inputs), 0)), targets))
    return signals


def places(data: Trajectories, stream: str, episodes: Sequence[int]) -> list[np.ndarray]:
    """The newest proprioception at each stamp of a stream, float64 [T, P] for each episode.

    Stamps a period and more after the last reading are left out at the end: nothing is known of them.
    """
    clocks = episode_clocks(data, stream, episodes)
    period = round(data.streams[PROPRIO_STREAM].period_ns)
    found = []
    for (values, stamps), at in zip(_episodes(data, PROPRIO_STREAM, episodes), clocks, strict=True):
        known = at[: np.searchsorted(at, stamps[-1] + max(period, 1), side="left")]
        found.append(continuous(values, data.env_spec.proprio.units)[newest_rows(stamps, known)])
    return found


def continuous(values: np.ndarray, units: Sequence[str]) -> np.ndarray:
    """Proprioception [T, P] without the leaps that are none: angles past half a turn, quaternions that change sign.

    Angles are dimensions whose unit is the radian; quaternions are four in a row whose length is 1 in every row.
    """
    values = values.copy()
    for dimension, unit in enumerate(units[: values.shape[1]]):
        if unit in ("rad", "radian") and np.isfinite(values[:, dimension]).all():
            values[:, dimension] = np.unwrap(values[:, dimension])
    first = 0
    while first + 4 <= values.shape[1]:
        four = values[:, first : first + 4]
        if len(four) > 1 and (np.abs(np.square(four).sum(1) - 1) < 1e-3).all():
            flips = np.where((four[1:] * four[:-1]).sum(1) < 0, -1.0, 1.0)
            four[1:] *= np.cumprod(flips)[:, None]
            first += 4
        else:
            first += 1
    return values


def read_frames(
    data: Trajectories, stream: str, episodes: Sequence[int], cache: FrameCache | None = None
) -> Iterator[Frames]:
    """`Frames` of each episode, read a few episodes at a time; those in memory are looked up in `cache` first."""
    for begin in range(0, len(episodes), _EPISODES_AT_ONCE):
        chosen = list(episodes[begin : begin + _EPISODES_AT_ONCE])
        if cache is not None and isinstance(data, MemoryTrajectories):
            yield from (cache.frames(data.episodes[episode].streams[stream].values) for episode in chosen)
            continue
        images, bounds = data.read_all(stream, chosen).values, data.offsets(stream, chosen)
        for first, stop in pairwise(bounds.tolist()):
            yield _frames(images[first:stop])


class FrameCache:
    """Frames by the identity of their images, for as long as these live: nothing may change them."""

    def __init__(self) -> None:
        self._known: dict[int, Frames] = {}

    def frames(self, images: np.ndarray) -> Frames:
        if id(images) not in self._known:
            self._known[id(images)] = _frames(images)
            weakref.finalize(images, self._known.pop, id(images))
        return self._known[id(images)]


def _episodes(data: Trajectories, stream: str, episodes: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Values as float64 [T, D] and stamps of each episode."""
    rows, bounds = data.read_all(stream, episodes), data.offsets(stream, episodes)
    values = rows.values.reshape(len(rows.values), math.prod(rows.values.shape[1:])).astype(np.float64)
    for first, stop in pairwise(bounds.tolist()):
        yield values[first:stop], rows.stamps_ns[first:stop]


def _frames(images: np.ndarray) -> Frames:
    flat = images.reshape(len(images), -1)
    same = np.concatenate([[False], (flat[1:] == flat[:-1]).all(1)])
    small = _shrink(images, _FLOW)
    thumbnails = small.reshape(len(images), THUMBNAIL, _FLOW // THUMBNAIL, THUMBNAIL, _FLOW // THUMBNAIL, 3).mean(
        (2, 4)
    )
    return Frames(thumbnails.reshape(len(images), -1), _colours(small), _changes(small.mean(-1)), same)


def _shrink(images: np.ndarray, side: int) -> np.ndarray:
    """Mean colour of the cells of a side x side grid: uint8 [T, H, W, 3] to float32 [T, side, side, 3] in [0, 1]."""
    count, height, width, colours = images.shape
    rows, columns = _averages(height, side), _averages(width, side)
    lines = np.matmul(rows, images.reshape(count, height, -1).astype(np.float32))
    cells = np.matmul(columns, lines.reshape(count * side, width, colours))
    return cells.reshape(count, side, side, colours) / 255


def _averages(length: int, cells: int) -> np.ndarray:
    """Matrix [cells, length] that takes the mean of each cell, the pixels on its borders in proportion."""
    edges = np.linspace(0, length, cells + 1)
    pixels = np.arange(length)
    share = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    share = np.maximum(share, 0)
    return (share / share.sum(1, keepdims=True)).astype(np.float32)


def _colours(small: np.ndarray) -> np.ndarray:
    """Where each of 8 colours is in frames [T, S, S, 3]: its centre across and down, its logarithmic amount; [T, 24].

    A part of the scene that has a colour of its own is followed to a fraction of a cell, which no linear view of the
    cells themselves does.
    """
    side = small.shape[1]
    y, x = (np.mgrid[:side, :side] / side - 0.5).reshape(2, -1)
    moments = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.float32)
    sums = np.empty((len(small), 8, 3), np.float32)
    for begin in range(0, len(small), _FRAMES_AT_ONCE):
        block = slice(begin, begin + _FRAMES_AT_ONCE)
        rgb = np.ascontiguousarray(np.moveaxis(small[block], -1, 0)).reshape(3, -1, side * side)
        others = rgb[[1, 2, 0]], rgb[[2, 0, 1]]
        most, least = np.maximum(*others), np.minimum(*others)
        amounts = np.concatenate([
            np.maximum(rgb - most, 0),  # red, green, blue
            np.maximum(least - rgb, 0),  # cyan, magenta, yellow
            np.minimum(rgb[:1], least[:1]),  # white
            1 - np.maximum(rgb[:1], most[:1]),  # black
        ])  # fmt: skip
        sums[block] = (np.square(amounts) @ moments).transpose(1, 0, 2)
    sums[..., 2] += 1e-5 * side**2  # a colour that is not there is in the middle
    sums[..., :2] /= sums[..., 2:]
    sums[..., 2] = np.log(sums[..., 2])
    return sums.reshape(len(small), -1)


def _changes(grey: np.ndarray) -> np.ndarray:
    """Change of each frame [T, S, S] since the one before: flow, its logarithmic amount, and where it is.

    Flow is the similarity (right, down, growth, turn) that explains the change best (Lucas and Kanade 1981). Where it
    gets lighter and where it gets darker tells between which places something moved.
    """
    out = np.zeros((len(grey), 4 + 2 + 16 + 6), np.float32)
    out[:, 4] = np.log(1e-4)
    if len(grey) < 2:
        return out
    centre, change = (grey[1:] + grey[:-1]) / 2, grey[1:] - grey[:-1]
    gy, gx = np.gradient(centre, axis=1), np.gradient(centre, axis=2)
    y, x = (np.mgrid[: grey.shape[1], : grey.shape[2]] / grey.shape[1] - 0.5).astype(np.float32)
    columns = np.stack([gx, gy, gx * x + gy * y, gy * x - gx * y], axis=-1).reshape(len(change), -1, 4)
    flat = change.reshape(len(change), -1, 1)
    turned = columns.transpose(0, 2, 1)
    normal = turned @ columns + 1e-3 * np.eye(4, dtype=np.float32)
    out[1:, :4] = -np.linalg.solve(normal, turned @ flat)[..., 0]
    amount = np.abs(change)
    out[1:, 4] = np.log(amount.mean((1, 2)) + 1e-4)
    out[1:, 5] = amount.mean((1, 2))
    side = grey.shape[1] // 4
    out[1:, 6:22] = np.sqrt(amount.reshape(-1, 4, side, 4, side).mean((2, 4)).reshape(-1, 16))
    for column, part in zip((22, 25), (np.maximum(change, 0), np.maximum(-change, 0)), strict=True):
        weight = part.sum((1, 2)) + 1e-3
        across, down = (part * x).sum((1, 2)) / weight, (part * y).sum((1, 2)) / weight
        out[1:, column : column + 3] = np.stack([across, down, np.log(weight)], axis=1)
    return out


def _principal(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The directions [768, K] in which differences of thumbnails vary most."""
    rows = np.concatenate(parts)
    rows = rows[:: max(1, len(rows) // 8000)].astype(np.float64)
    _, vectors = np.linalg.eigh(rows.T @ rows)
    return vectors[:, -min(_COMPONENTS, max(1, len(rows) // 30)) :]
