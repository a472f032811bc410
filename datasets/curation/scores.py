"""Dropping episodes whose images do not go with their instruction, judged by a scorer that is handed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..episode import StoreError
from ..store import TrajectoryStore
from .config import ScoreConfig
from .pieces import Piece, cameras, views
from .report import Drop, Outcome

Scorer = Callable[[Mapping[str, np.ndarray], Sequence[str]], np.ndarray]
"""score({camera: uint8 [B, H, W, 3]}, B texts) -> float [B]: how well what the cameras saw goes with the text."""

_BATCH = 64


def of_single_images(score: Callable[[np.ndarray, Sequence[str]], np.ndarray]) -> Scorer:
    """The scorer of all cameras that one of single images makes: the mean of its scores.

    score: (uint8 [B, H, W, 3], B texts) -> float [B], such as the cosine of an image-text model.
    """

    def mean_of_cameras(images: Mapping[str, np.ndarray], texts: Sequence[str]) -> np.ndarray:
        return np.mean([np.asarray(score(seen, texts)) for seen in images.values()], axis=0)

    return mean_of_cameras


def drop_low_scores(store: TrajectoryStore, pieces: Sequence[Piece], config: ScoreConfig, score: Scorer) -> Outcome:
    """Drop pieces that score below the quantile or the minimum; StoreError for a scorer's wrong or infinite answer."""
    scores = piece_scores(store, pieces, config.frames, score)
    limits = {}
    if config.minimum is not None:
        limits["minimum"] = float(config.minimum)
    if config.quantile is not None and len(scores):
        limits["quantile"] = float(np.quantile(scores, config.quantile))
    limit = max(limits.values(), default=-np.inf)
    kept, drops = [], []
    for piece, value in zip(pieces, scores.tolist(), strict=True):
        if value >= limit:
            kept.append(piece)
        else:
            numbers = {"score": value, **limits, "text": piece.instruction}
            why = "the images do not go with the instruction"
            drops.append(Drop(piece.episode, (piece.first, piece.stop), why, numbers))
    shown = np.quantile(scores, [0, 0.5, 1]) if len(scores) else [np.nan] * 3
    return Outcome(kept, drops, ["scores: lowest {:.4g}, median {:.4g}, highest {:.4g}".format(*shown)])


def piece_scores(store: TrajectoryStore, pieces: Sequence[Piece], frames: int, score: Scorer) -> np.ndarray:
    """Mean score of `frames` evenly spaced instants of each piece, the first among them: float64 [N]."""
    if not cameras(store):
        raise StoreError(f"{store.path}: found no camera, wanted one: a score needs images")
    scores = np.empty((len(pieces), frames))
    step = max(1, _BATCH // frames)
    for start in range(0, len(pieces), step):
        batch = pieces[start : start + step]
        seen = [views(store, piece.episode, instants(piece, frames)) for piece in batch]
        images = {camera: np.concatenate([one[camera] for one in seen]) for camera in seen[0]}
        texts = [piece.instruction for piece in batch for _ in range(frames)]
        found = np.asarray(score(images, texts), np.float64)
        if found.shape != (len(texts),) or not np.isfinite(found).all():
            raise StoreError(
                f"score: found {found.shape} with {int((~np.isfinite(found)).sum())} values that are not finite, "
                f"wanted one finite number for each of {len(texts)} texts"
            )
        scores[start : start + step] = found.reshape(len(batch), frames)
    return scores.mean(axis=1)


def instants(piece: Piece, count: int) -> np.ndarray:
    """Evenly spaced action rows of a piece, its first and last among them (one: the first): int64 [count]."""
    return np.round(np.linspace(piece.first, piece.stop - 1, count)).astype(np.int64)
