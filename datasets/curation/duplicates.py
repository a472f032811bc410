"""Keeping one of the episodes that are nearly the same.

Neighbours are episodes whose descriptors have a cosine above the threshold; components of neighbours are the sets of
near-duplicates (as SemDeDup, Abbas et al. 2023, does with cosines of embeddings). Of each stays one: one that succeeded
before one that did not (`meta["success"]`), then the one with more actions, then the one that comes first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..store import TrajectoryStore
from .components import components, members, same_text
from .config import DuplicatesConfig
from .descriptors import Embed, episode_descriptors
from .pieces import Piece
from .report import Drop, Outcome


def drop_duplicates(
    store: TrajectoryStore, pieces: Sequence[Piece], config: DuplicatesConfig, embed: Embed | None = None
) -> Outcome:
    """Keep one piece of each component of near-duplicates."""
    if config.threshold is None or len(pieces) < 2:
        return Outcome(list(pieces), [])
    vectors = episode_descriptors(store, pieces, embed)
    comparable = (
        same_text([piece.instruction for piece in pieces]) if config.same_instruction else [np.arange(len(pieces))]
    )
    dropped: dict[int, Drop] = {}
    for group in comparable:
        for local in members(components(vectors[group], config.threshold)):
            alike = group[local].tolist()
            best = min(alike, key=lambda index: (*_rank(pieces[index]), index))
            for index in alike:
                if index != best:
                    dropped[index] = _drop(
                        pieces[index], pieces[best], float(vectors[index] @ vectors[best]), len(alike)
                    )
    kept = [piece for index, piece in enumerate(pieces) if index not in dropped]
    return Outcome(kept, [dropped[index] for index in sorted(dropped)])


def _rank(piece: Piece) -> tuple[bool, int]:
    return piece.meta.get("success") is False, -piece.rows


def _drop(piece: Piece, best: Piece, cosine: float, alike: int) -> Drop:
    numbers = {"kept episode": best.episode, "its cosine": cosine, "episodes alike": alike}
    return Drop(piece.episode, (piece.first, piece.stop), "nearly the same as another episode", numbers)
