"""Joining stores that were written side by side, one shard a process, into one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .store import StoreError, TrajectoryStore


def merge(
    stores: Sequence[TrajectoryStore | str | Path], destination: str | Path, meta: dict[str, Any] | None = None
) -> TrajectoryStore:
    """Write all episodes of `stores`, in that order and with their clocks untouched, into a new store at `destination`.

    The destination appears only when it is complete. `meta` describes it; by default that of the first store does.

    Raises StoreError if there are no stores, they differ in EnvSpec, streams or tolerance, or the destination exists.
    """
    sources = [store if isinstance(store, TrajectoryStore) else TrajectoryStore.open(store) for store in stores]
    if not sources:
        raise StoreError("merge: found no stores, wanted at least one")
    first, destination = sources[0], Path(destination)
    for store in sources[1:]:
        for field in ("env_spec", "streams", "tolerance"):
            if getattr(store, field) != getattr(first, field):
                raise StoreError(
                    f"merge: {field} of {store.path}: found {getattr(store, field)}, wanted {getattr(first, field)} "
                    f"as in {first.path}; only stores of one declaration can be merged"
                )
    if destination.exists():
        raise StoreError(f"{destination}: found something there, wanted nothing; remove it or choose another path")
    partial = destination.with_name(f".{destination.name}.merging-{os.getpid()}")
    try:
        streams = list(first.streams.values())
        merged = TrajectoryStore.create(
            partial, first.env_spec, streams, first.meta if meta is None else meta, first.tolerance
        )
        with merged.writer() as writer:
            for store in sources:
                for index in range(len(store)):
                    writer.append(store.episode(index))
        os.rename(partial, destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return TrajectoryStore.open(destination)
