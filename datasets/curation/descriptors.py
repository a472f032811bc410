"""What an episode or a frame looks like and does, as one vector: near-duplicates have a cosine near 1.

A descriptor joins groups of equal weight: what the cameras saw, the robot's state, the actions. An image is a thumbnail
of at most 16 x 16 block means, minus its mean and over its standard deviation, so that exposure does not matter; or
whatever an `embed` function makes of it, at length 1. States are in standard deviations of their dimension over the
store, actions in halves of their limits. Each group is scaled to unit root mean square and centred on the store: what
all episodes share, the table and the robot, would otherwise outweigh what tells them apart, a small object in another
place. One constant entry, `FLOOR`, keeps the cosine near 1 where differences from the centre are mere noise: deviations
far below it count as none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..episode import StoreError
from ..motion import newest_rows
from ..spec import ACTION_STREAM, PROPRIO_STREAM
from ..store import TrajectoryStore
from .pieces import Piece, views
from .scores import instants

THUMBNAIL = 16  # pixels a side
INSTANTS = 4  # of an episode, at which its images are compared
BINS = 8  # equal parts of an episode, over which states and actions are averaged
FLOOR = 0.2  # in the units of the groups
_FAINT = 0.01  # a standard deviation of image values in [0, 1] below which there is no contrast to normalise

Embed = Callable[[Mapping[str, np.ndarray]], np.ndarray]
"""embed({camera: uint8 [B, H, W, 3]}) -> float [B, E], such as an aligned backbone's image features."""


def thumbnails(images: np.ndarray, size: int = THUMBNAIL) -> np.ndarray:
    """Block means of uint8 [B, H, W, 3], of at most `size` blocks a side, standardised and of length 1: float32 [B, D].

    An image without contrast is a vector near 0.
    """
    rows, columns = min(size, images.shape[1]), min(size, images.shape[2])
    values = _block_means(_block_means(images.astype(np.float32) / 255, rows, 1), columns, 2).reshape(len(images), -1)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(values.std(axis=1, keepdims=True), _FAINT)
    return values / np.float32(np.sqrt(values.shape[1]))


def episode_descriptors(store: TrajectoryStore, pieces: Sequence[Piece], embed: Embed | None = None) -> np.ndarray:
    """One row of length 1 a piece, float32 [N, D]: images at 4 instants, states and actions over 8 parts of it."""
    seen, states, actions = [], [], []
    for piece in pieces:
        seen.append(_looks(store, piece.episode, instants(piece, INSTANTS), embed).reshape(-1))
        commands = store.read(piece.episode, ACTION_STREAM)
        actions.append(_block_means(_numbers(commands.values[piece.first : piece.stop]), BINS, 0))
        if PROPRIO_STREAM in store.streams:
            at = commands.stamps_ns[piece.first : piece.stop]
            states.append(_block_means(_states(store, piece.episode, at), BINS, 0))
    # The images of all instants together have length 1, as the thumbnails of one have.
    looks = np.stack(seen) / np.float32(np.sqrt(INSTANTS))
    return _joined(looks, np.stack(states) if states else None, np.stack(actions), store)


def frame_descriptors(
    store: TrajectoryStore, pieces: Sequence[Piece], rows: Sequence[np.ndarray], embed: Embed | None = None
) -> np.ndarray:
    """One row of length 1 a frame, float32 [F, D]; a frame is one of the action rows int [K] of each piece."""
    seen, states, actions = [], [], []
    for piece, chosen in zip(pieces, rows, strict=True):
        seen.append(_looks(store, piece.episode, chosen, embed))
        commands = store.read(piece.episode, ACTION_STREAM)
        actions.append(_numbers(commands.values[chosen])[:, None])
        if PROPRIO_STREAM in store.streams:
            states.append(_states(store, piece.episode, commands.stamps_ns[chosen])[:, None])
    looks = np.concatenate(seen)
    return _joined(looks, np.concatenate(states) if states else None, np.concatenate(actions), store)


def _joined(looks: np.ndarray, states: np.ndarray | None, actions: np.ndarray, store: TrajectoryStore) -> np.ndarray:
    """Descriptors from looks [N, E], states [N, K, P] in their own units or None, and actions [N, K, A] in theirs."""
    limits = store.env_spec.action
    low, high = np.array(limits.low, np.float32), np.array(limits.high, np.float32)
    groups = [looks, _unit_size((actions - (low + high) / 2) / ((high - low) / 2))]
    if states is not None:
        deviation = states.reshape(-1, states.shape[-1]).std(axis=0)
        groups.append(_unit_size(states / np.where(deviation > 1e-6, deviation, 1)))
    groups = [group for group in groups if group.shape[1]]  # a store without cameras has no looks
    centred = [(group - group.mean(axis=0)) / np.sqrt(len(groups)) for group in groups]
    floor = np.full((len(looks), 1), FLOOR)
    joined = np.concatenate([*centred, floor], axis=1).astype(np.float32)
    return joined / np.linalg.norm(joined, axis=1, keepdims=True)


def _unit_size(values: np.ndarray) -> np.ndarray:
    """[N, K, D] as rows [N, K * D] whose length is the root mean square of their values."""
    return values.reshape(len(values), -1) / np.sqrt(np.prod(values.shape[1:]))


def _looks(store: TrajectoryStore, episode: int, rows: np.ndarray, embed: Embed | None) -> np.ndarray:
    """What all cameras show at these action rows, at length 1: float32 [K, E]; no columns without cameras."""
    seen = views(store, episode, rows)
    if not seen:
        return np.empty((len(rows), 0), np.float32)
    if embed is None:
        joined = np.concatenate([thumbnails(images) for images in seen.values()], axis=1)
        return joined / np.float32(np.sqrt(len(seen)))
    found = np.asarray(embed(seen), np.float32)
    if found.ndim != 2 or len(found) != len(rows) or not np.isfinite(found).all():
        raise StoreError(f"embed: found {found.shape}, wanted finite numbers [{len(rows)}, E], a row an image")
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)


def _states(store: TrajectoryStore, episode: int, at: np.ndarray) -> np.ndarray:
    proprio = store.read(episode, PROPRIO_STREAM)
    return _numbers(proprio.values[newest_rows(proprio.stamps_ns, at)])


def _numbers(values: np.ndarray) -> np.ndarray:
    """As float32 with 0 for what is not a number: one bad row must not spoil the centre of all others."""
    return np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _block_means(values: np.ndarray, blocks: int, axis: int) -> np.ndarray:
    """Means over `blocks` nearly equal parts of an axis; where that is shorter, entries are repeated."""
    length = values.shape[axis]
    starts = np.arange(blocks) * length // blocks
    counts = np.maximum(np.diff(starts, append=length), 1)
    shape = [1] * values.ndim
    shape[axis] = blocks
    return np.add.reduceat(values, starts, axis=axis) / counts.reshape(shape).astype(values.dtype)
