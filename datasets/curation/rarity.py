"""Resampling by rarity: episodes whose instruction comes often stay with a lower probability.

The formula is that of word2vec's subsampling of frequent words (Mikolov et al. 2013, "Distributed representations of
words and phrases and their compositionality", section 2.3): what comes with frequency f stays with the probability
min(1, sqrt(t / f)), so that shares shrink towards each other and what is rarer than t is never lost. Here f(g) is the
share of episodes whose instruction has the n-gram g, and an episode stays with the probability of its rarest n-gram: it
is as worth keeping as the rarest thing that it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .config import RarityConfig
from .ngrams import ngrams
from .pieces import Piece
from .report import Drop, Outcome


def rarest_ngrams(texts: Sequence[str], n: int) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """The n-gram of each text that the fewest texts have, and the share of texts that have it: float64 [N]."""
    grams = [sorted(set(ngrams(text, n))) for text in texts]
    counts = Counter(gram for of_text in grams for gram in of_text)
    rarest = [min(of_text, key=counts.__getitem__) for of_text in grams]
    return rarest, np.array([counts[gram] for gram in rarest], np.float64) / max(1, len(texts))


def keep_probabilities(texts: Sequence[str], threshold: float, n: int) -> np.ndarray:
    """min(1, sqrt(threshold / share of the rarest n-gram)) of each text, float64 [N]."""
    return np.minimum(1, np.sqrt(threshold / rarest_ngrams(texts, n)[1]))


def resample(pieces: Sequence[Piece], config: RarityConfig, seed: int) -> Outcome:
    """Keep each piece with its probability; the draw of a piece depends on the seed and on where it is from alone."""
    texts = [piece.instruction for piece in pieces]
    threshold = 1.0 if config.threshold is None else config.threshold
    probabilities = keep_probabilities(texts, threshold, config.n)
    grams, shares = rarest_ngrams(texts, config.n)
    kept, drops = [], []
    for piece, probability, gram, share in zip(pieces, probabilities.tolist(), grams, shares.tolist(), strict=True):
        draw = float(np.random.default_rng([seed, piece.episode, piece.first]).random())
        if draw < probability:
            kept.append(piece)
            continue
        numbers = {"rarest n-gram": " ".join(gram), "share": share, "kept with probability": probability, "draw": draw}
        drops.append(Drop(piece.episode, (piece.first, piece.stop), "the instruction comes too often", numbers))
    return Outcome(kept, drops, [f"kept {len(kept)}, expected {probabilities.sum():.1f}"])
