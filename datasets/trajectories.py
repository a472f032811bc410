"""What the gate reads of trajectories, and trajectories that live in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .episode import Episode, Stream, StreamSpec
from .spec import EnvSpec
from .tolerance import Tolerance


class Trajectories(Protocol):
    """Episodes that can be read and checked; `TrajectoryStore` is one. See there for what each part means."""

    @property
    def path(self) -> Any: ...
    @property
    def env_spec(self) -> EnvSpec: ...
    @property
    def streams(self) -> Mapping[str, StreamSpec]: ...
    @property
    def tolerance(self) -> Tolerance: ...
    def __len__(self) -> int: ...
    def held_types(self, stream: str) -> tuple[np.dtype, tuple[int, ...], np.dtype]: ...
    def missing_rows(self, stream: str) -> np.ndarray: ...
    def offsets(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray: ...
    def stamps(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray: ...
    def read_all(self, stream: str, episodes: Sequence[int] | None = None) -> Stream: ...


def episode_clocks(data: Trajectories, stream: str, episodes: Sequence[int] | None = None) -> list[np.ndarray]:
    """The stamps of a stream in each of the episodes (default all), int64 [T] ns."""
    return np.split(data.stamps(stream, episodes), data.offsets(stream, episodes)[1:-1])


class MemoryTrajectories:
    """Episodes held in memory, taken as they are: nothing is checked, that is the gate's work."""

    def __init__(
        self,
        episodes: Sequence[Episode],
        env_spec: EnvSpec,
        streams: Mapping[str, StreamSpec],
        tolerance: Tolerance | None = None,
        path: str | Path = "memory",
    ) -> None:
        self.episodes, self.env_spec, self.streams = list(episodes), env_spec, dict(streams)
        self.tolerance, self.path = tolerance or Tolerance(), path

    def __len__(self) -> int:
        return len(self.episodes)

    def held_types(self, stream: str) -> tuple[np.dtype, tuple[int, ...], np.dtype]:
        rows = [episode.streams[stream] for episode in self.episodes]
        clock = next((row.stamps_ns.dtype for row in rows if row.stamps_ns.dtype != np.int64), np.dtype(np.int64))
        return rows[0].values.dtype, rows[0].values.shape[1:], clock

    def missing_rows(self, stream: str) -> np.ndarray:
        lengths = [(len(row.values), len(row.stamps_ns)) for row in self._rows(stream, None)]
        return np.array([(max(0, stamps - rows), max(0, rows - stamps)) for rows, stamps in lengths]).reshape(-1, 2)

    def offsets(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray:
        return np.cumsum([0, *(len(row.stamps_ns) for row in self._rows(stream, episodes))], dtype=np.int64)

    def stamps(self, stream: str, episodes: Sequence[int] | None = None) -> np.ndarray:
        return np.concatenate([np.empty(0, np.int64), *(row.stamps_ns for row in self._rows(stream, episodes))])

    def read_all(self, stream: str, episodes: Sequence[int] | None = None) -> Stream:
        rows = self._rows(stream, episodes)
        return Stream(np.concatenate([row.values for row in rows]), self.stamps(stream, episodes))

    def _rows(self, stream: str, episodes: Sequence[int] | None) -> list[Stream]:
        chosen = self.episodes if episodes is None else [self.episodes[index] for index in episodes]
        return [episode.streams[stream] for episode in chosen]
