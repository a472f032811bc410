"""Dropping texts that say the same over and over.

Two measures, for the two ways in which text degenerates. The share of repeated n-grams, 1 - distinct / all (seq-rep-n
of Welleck et al. 2020, "Neural text generation with unlikelihood training"), sees repeated words. The compression
ratio, bytes of the text over bytes of what zlib makes of it (as Radford et al. 2023, "Robust speech recognition via
large-scale weak supervision", with 2.4 as their limit), sees any pattern, but only in texts of some length: zlib's
header and tables keep it near 1 for a sentence.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .config import RepetitionConfig
from .ngrams import ngrams
from .pieces import Piece
from .report import Drop, Outcome


def repeated_share(text: str, n: int) -> float:
    """Share of a text's n-grams that repeat another, 1 - distinct / all: 0 for a text without repetition."""
    grams = ngrams(text, n)
    return 1 - len(set(grams)) / len(grams)


def compression_ratio(text: str) -> float:
    """UTF-8 bytes of a text over the bytes that zlib (level 9) makes of them."""
    raw = text.encode("utf-8")
    return len(raw) / len(zlib.compress(raw, 9))


def drop_repetitive(pieces: Sequence[Piece], config: RepetitionConfig) -> Outcome:
    """Drop episodes whose instruction repeats itself, and captions that do from those that stay."""
    kept, drops = [], []
    for piece in pieces:
        if numbers := _excess(piece.instruction, config):
            why = "the instruction repeats itself"
            drops.append(Drop(piece.episode, (piece.first, piece.stop), why, {**numbers, "text": piece.instruction}))
            continue
        meta = dict(piece.meta)
        for key in config.captions:
            if key not in meta:
                continue
            several = isinstance(meta[key], list)
            items = meta[key] if several else [meta[key]]
            judged = [(item, _excess(_text(item), config)) for item in items]
            for item, numbers in judged:
                if numbers:
                    why = f"a text of meta[{key!r}] repeats itself"
                    drops.append(Drop(piece.episode, None, why, {**numbers, "text": _text(item)}))
            fine = [item for item, numbers in judged if not numbers]
            if several:
                meta[key] = fine
            elif not fine:
                del meta[key]
        kept.append(replace(piece, meta=meta))
    return Outcome(kept, drops)


def _excess(text: str, config: RepetitionConfig) -> dict[str, float | int | str]:
    """The measures that are over their limits, each with its limit."""
    measures = (
        ("repeated share", repeated_share(text, config.n), config.repeated_share),
        ("compression ratio", compression_ratio(text), config.compression_ratio),
    )
    over: dict[str, float | int | str] = {}
    for name, value, limit in measures:
        if limit is not None and value > limit:
            over |= {name: value, f"{name} limit": limit}
    return over


def _text(item: Any) -> str:
    """The text of an entry: itself, or what stands under "text"; empty, which never repeats, for anything else."""
    text = item.get("text") if isinstance(item, Mapping) else item
    return text if isinstance(text, str) else ""
