"""Which action rows of which episodes stay. Steps of curation pass on a list of pieces.

A piece is a stretch of action rows of one source episode; cutting makes pieces shorter or more, never joins two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..episode import Episode, StreamSpec
from ..motion import newest_rows
from ..spec import ACTION_STREAM, camera_stream
from ..store import TrajectoryStore
from .clocks import Clocks

ORIGIN = "curated_from"  # the key of an episode's meta that says where it came from


@dataclass(frozen=True)
class Piece:
    """Action rows `first` to `stop` (not included) of a source episode, and the words that go with them."""

    episode: int
    first: int
    stop: int
    instruction: str
    meta: dict[str, Any]

    @property
    def rows(self) -> int:
        return self.stop - self.first


def whole_episodes(store: TrajectoryStore) -> list[Piece]:
    """One piece for each episode, all of it."""
    infos = (store.episode_info(index) for index in range(len(store)))
    return [
        Piece(index, 0, info["lengths"][ACTION_STREAM], info["instruction"], info["meta"])
        for index, info in enumerate(infos)
    ]


def cameras(store: TrajectoryStore) -> list[str]:
    """Short names of the cameras that the store has images of."""
    return [name for name in store.env_spec.camera_names if camera_stream(name) in store.streams]


def without(piece: Piece, cuts: Sequence[tuple[int, int]]) -> list[Piece]:
    """What is left of a piece when these stretches of its rows, in order and apart, are taken out.

    Whether the whole succeeded, the last of them alone says: the others end before it was decided.
    """
    firsts, stops = [piece.first, *(stop for _, stop in cuts)], [*(first for first, _ in cuts), piece.stop]
    left = [replace(piece, first=a, stop=b) for a, b in zip(firsts, stops, strict=True) if a < b]
    undecided = {key: value for key, value in piece.meta.items() if key != "success"}
    return [*(replace(part, meta=undecided) for part in left[:-1]), *left[-1:]]


def cut(episode: Episode, streams: Mapping[str, StreamSpec], piece: Piece) -> Episode:
    """The piece of its source episode as an episode. Its meta says where it came from: episode and action rows."""
    clocks = Clocks({name: stream.stamps_ns for name, stream in episode.streams.items()}, streams)
    kept = {name: stream.part(*clocks.span(name, piece.first, piece.stop)) for name, stream in episode.streams.items()}
    origin = {"episode": piece.episode, "rows": [piece.first, piece.stop]}
    return Episode(kept, piece.instruction, {**piece.meta, ORIGIN: origin})


def views(store: TrajectoryStore, episode: int, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What each camera had seen at action rows int [K] of an episode: {camera: uint8 [K, H, W, 3]}."""
    at = store.stamps(ACTION_STREAM, [episode])[rows]
    seen = {}
    for camera in cameras(store):
        stream = store.read(episode, camera_stream(camera))
        seen[camera] = stream.values[newest_rows(stream.stamps_ns, at)]
    return seen
