"""Cutting stretches that another episode shows nearly frame by frame, such as a copy that was spliced in.

Some frames a second are compared, each episode's with those of all others; frames of one episode are never neighbours
directly, for a slow motion is no duplicate. Of each connected component stay the frames of the episode that comes
first. A row in the middle cannot be taken out without breaking the clock, so only stretches of duplicates that last are
cut, which splits the episode there; shorter ones stay.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..motion import stretches
from ..spec import ACTION_STREAM
from ..store import TrajectoryStore
from .clocks import Clocks
from .components import components, members, same_text
from .config import FramesConfig
from .descriptors import Embed, frame_descriptors
from .pieces import Piece
from .removal import NOT_CUT, begins_in_phase, remove
from .report import Drop, Outcome


def cut_duplicate_frames(
    store: TrajectoryStore, pieces: Sequence[Piece], config: FramesConfig, embed: Embed | None = None
) -> Outcome:
    """Cut stretches of frames that are near-duplicates of an earlier episode's."""
    if config.threshold is None or len(pieces) < 2:
        return Outcome(list(pieces), [])
    step = max(1, round(store.streams[ACTION_STREAM].rate_hz / config.rate_hz))
    rows = [np.arange(piece.first, piece.stop, step) for piece in pieces]
    vectors = frame_descriptors(store, pieces, rows, embed)
    copied_from = _copied_from(vectors, pieces, rows, config)
    kept, drops, notes, left, start = [], [], [], 0, 0
    for piece, chosen in zip(pieces, rows, strict=True):
        source = copied_from[start : start + len(chosen)]
        start += len(chosen)
        clocks = Clocks.of(store, piece.episode)
        copies = []
        for first, stop in stretches(source >= 0) if clocks.ordered else ():
            stretch = int(chosen[first]), int(chosen[stop]) if stop < len(chosen) else piece.stop
            stretch = begins_in_phase(clocks, piece, stretch)
            if stretch is None or clocks.seconds(*stretch) < config.min_seconds:
                left += stop - first
                continue
            numbers = {"seconds": clocks.seconds(*stretch), "kept episode": int(source[first])}
            copies.append(Drop(piece.episode, stretch, "nearly the same as a stretch of another episode", numbers))
        if not clocks.ordered and (source >= 0).any():
            notes.append(f"episode {piece.episode} {NOT_CUT}")
        parts, gone = remove(clocks, piece, copies, config.shortest_seconds)
        kept += parts
        drops += gone
    notes.append(f"{len(vectors)} frames compared; {left} duplicates left, in stretches too short to cut")
    return Outcome(kept, drops, notes)


def _copied_from(
    vectors: np.ndarray, pieces: Sequence[Piece], rows: Sequence[np.ndarray], config: FramesConfig
) -> np.ndarray:
    """For each frame the source episode that keeps it in its stead, or -1: int64 [F]."""
    assert config.threshold is not None
    counts = [len(chosen) for chosen in rows]
    owners = np.repeat([piece.episode for piece in pieces], counts)
    copied = np.full(len(vectors), -1, np.int64)
    comparable = [np.arange(len(vectors))]
    if config.same_instruction:
        comparable = same_text(np.repeat([piece.instruction for piece in pieces], counts).tolist())
    for group in comparable:
        for local in members(components(vectors[group], config.threshold, owners[group])):
            alike = group[local]
            first = owners[alike].min()
            copied[alike] = np.where(owners[alike] == first, -1, first)
    return copied
