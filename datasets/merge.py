"""Joining stores that were written side by side, one shard a process, into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .files import local_path
from .slicing import copy_episodes, new_places
from .store import StoreError, StreamSpec, TrajectoryStore


def merge(
    stores: Sequence[TrajectoryStore | str | Path], destination: str | Path, meta: dict[str, Any] | None = None
) -> TrajectoryStore:
    """Write all episodes of `stores`, in that order and with their clocks untouched, into a new store at `destination`.

    The destination appears only when it is complete. `meta` describes it; by default that of the first store does.
    Streams may differ in how they are stored, as long as nothing is lost: the first store's codecs are taken.

    Raises StoreError if there are no stores, they differ in EnvSpec, streams or tolerance, or the destination exists.
    """
    sources = [store if isinstance(store, TrajectoryStore) else TrajectoryStore.open(store) for store in stores]
    if not sources:
        raise StoreError("merge: found no stores, wanted at least one")
    first = sources[0]
    for store in sources[1:]:
        for field, found, wanted in (
            ("env_spec", store.env_spec, first.env_spec),
            ("streams", _declared(store), _declared(first)),
            ("tolerance", store.tolerance, first.tolerance),
        ):
            if found != wanted:
                raise StoreError(
                    f"merge: {field} of {store.path}: found {found}, wanted {wanted} "
                    f"as in {first.path}; only stores of one declaration can be merged"
                )
    with new_places([local_path(destination)]) as (partial,):
        copy_episodes(((store, index) for store in sources for index in range(len(store))), first, partial, meta)
    return TrajectoryStore.open(destination)


def _declared(store: TrajectoryStore) -> dict[str, StreamSpec]:
    """What must agree: everything but the choice among codecs that lose nothing."""
    return {name: spec if spec.lossy else replace(spec, codec="raw") for name, spec in store.streams.items()}
