"""Parts of stores as stores: whole episodes, or whole rows of one episode. No clock is touched, no border crossed.

Rows are copied as they are stored: what a lossy codec has lost is not lost a second time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from .episode import Episode, Stream
from .files import local_path
from .store import StoreError, TrajectoryStore


def take(store: TrajectoryStore, episodes: Sequence[int], destination: str | Path) -> TrajectoryStore:
    """A new store at `destination` with these episodes, in this order.

    Raises IndexError for an episode that is not there, StoreError if something is at `destination`.
    """
    return split(store, [episodes], [destination])[0]


def split(
    store: TrajectoryStore, groups: Sequence[Sequence[int]], destinations: Sequence[str | Path]
) -> list[TrajectoryStore]:
    """New stores, one for each group of episodes: a training and a validation set, for example.

    The destinations appear when all of them are complete. Episodes in no group are in no new store.

    Raises IndexError for an episode that is not there; StoreError if an episode is in two groups, a group has no
    destination of its own, or something is there.
    """
    places = [local_path(destination) for destination in destinations]
    if len(places) != len(groups) or len({place.absolute() for place in places}) != len(places):
        raise StoreError(f"split: found {len(groups)} groups and the destinations {places}, wanted one for each group")
    chosen = [index for group in groups for index in group]
    twice = sorted({index for index in chosen if chosen.count(index) > 1}) if len(set(chosen)) < len(chosen) else []
    if twice:
        raise StoreError(f"split: found the episodes {twice} more than once, wanted each in one group at most")
    for index in chosen:
        store.episode_info(index)
    with new_places(places) as partials:
        for group, partial in zip(groups, partials, strict=True):
            copy_episodes(((store, index) for index in group), store, partial)
    return [TrajectoryStore.open(place) for place in places]


def cut(store: TrajectoryStore, episode: int, start_ns: int, stop_ns: int) -> Episode:
    """The rows of an episode with start_ns <= stamp < stop_ns, in every stream, with the stamps they have.

    Append it to a store of the same declaration. Its meta is the episode's: what it says of the whole (success, goal)
    may not hold of the part.

    Raises StoreError if a stream has no such row, or has them not in one piece (its clock runs backward).
    """
    whole = store.episode(episode)
    streams: dict[str, Stream] = {}
    for name, stream in whole.streams.items():
        rows = np.flatnonzero((stream.stamps_ns >= start_ns) & (stream.stamps_ns < stop_ns))
        if len(rows) == 0 or rows[-1] - rows[0] + 1 != len(rows):
            raise StoreError(
                f"{store.path}, episode {episode}, stream {name!r}: found {len(rows)} rows from {start_ns} to "
                f"{stop_ns} ns, wanted one piece of at least one; its clock goes from {stream.stamps_ns[0]} to "
                f"{stream.stamps_ns[-1]} ns"
            )
        streams[name] = stream.part(int(rows[0]), int(rows[-1]) + 1)
    return replace(whole, streams=streams)


def copy_episodes(
    episodes: Iterable[tuple[TrajectoryStore, int]],
    like: TrajectoryStore,
    destination: Path,
    meta: dict[str, Any] | None = None,
) -> None:
    """Write episodes of stores of one declaration, that of `like`, into a new store at `destination`."""
    streams = list(like.streams.values())
    copy = TrajectoryStore.create(
        destination, like.env_spec, streams, like.meta if meta is None else meta, like.tolerance
    )
    with copy.writer(ordered=False) as writer:  # a copy keeps every clock as it is, wrong ones too
        for store, index in episodes:
            writer.append(store.episode(index))


@contextmanager
def new_places(destinations: Sequence[Path]) -> Iterator[list[Path]]:
    """Hidden places beside the destinations, which become the destinations when the block ends well, or vanish.

    Raises StoreError if something is at a destination.
    """
    for destination in destinations:
        if destination.exists():
            raise StoreError(f"{destination}: found something there, wanted nothing; remove it or choose another path")
    partials = [place.with_name(f".{place.name}.partial-{os.getpid()}-copy") for place in destinations]
    moved: list[Path] = []
    try:
        yield partials
        for partial, destination in zip(partials, destinations, strict=True):
            os.rename(partial, destination)
            moved.append(destination)
    except BaseException:
        for path in (*partials, *moved):
            shutil.rmtree(path, ignore_errors=True)
        raise
