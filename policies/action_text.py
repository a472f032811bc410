"""Actions as text and as entries of a language model's vocabulary (RT-2, arXiv:2307.15818)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from operator import index

import numpy as np

FIELDS = ("terminate", "dx", "dy", "dz", "rx", "ry", "rz", "gripper")


def actions_to_text(tokens: Sequence[int] | np.ndarray, bins: int = 256) -> str:
    """The 8 integers of an action, in the order of `FIELDS`, as "0 128 91 241 5 101 127 255".

    terminate is 0 or 1, the others are bins in [0, bins). Raises ValueError naming the field that is not, TypeError for
    floats.
    """
    if len(tokens) != len(FIELDS):
        raise ValueError(f"action: found {len(tokens)} integers, wanted {len(FIELDS)}: {' '.join(FIELDS)}")
    return " ".join(str(_in_range(name, index(token), bins)) for name, token in zip(FIELDS, tokens, strict=True))


def text_to_actions(text: str, bins: int = 256) -> list[int]:
    """Exact inverse of `actions_to_text`: plain integers, one space between two.

    Raises ValueError naming the first field that is missing, superfluous, no integer or out of range.
    """
    words = text.split(" ") if text else []
    for name, word in zip(FIELDS, words, strict=False):
        if not re.fullmatch("0|[1-9][0-9]{0,8}", word):
            raise ValueError(f"action text, {name}: found {word[:40]!r}, wanted an integer such as 128")
    if len(words) < len(FIELDS):
        raise ValueError(f"action text, {FIELDS[len(words)]}: found nothing, wanted an integer after {text[:80]!r}")
    if len(words) > len(FIELDS):
        raise ValueError(f"action text, {FIELDS[-1]}: found {words[len(FIELDS)][:40]!r} after it, wanted the end")
    return [_in_range(name, int(word), bins) for name, word in zip(FIELDS, words, strict=True)]


def _in_range(name: str, token: int, bins: int) -> int:
    count = 2 if name == "terminate" else bins
    if not 0 <= token < count:
        raise ValueError(f"action, {name}: found {token}, wanted 0 to {count - 1}")
    return token


class ActionVocabulary:
    """Bins 0..count-1 as the `count` least-used entries of a vocabulary, in rising order of their ids.

    Args:
        usage: how often each entry occurs in a corpus, int [V]; of equally rare entries the one with larger id is used.
        count: bins.
        reserved: ids that are never used, such as padding and end of text.

    Raises ValueError if there are fewer than `count` entries to choose from, or usage is not a list of counts.
    """

    def __init__(self, usage: np.ndarray, count: int = 256, reserved: Collection[int] = ()) -> None:
        usage = np.asarray(usage)
        if usage.ndim != 1 or usage.dtype.kind not in "iu" or (usage < 0).any():
            raise ValueError(f"usage: found {usage.dtype} {list(usage.shape)}, wanted counts, int [V] and not negative")
        rarest_first = np.lexsort((-np.arange(len(usage)), usage))
        free = rarest_first[~np.isin(rarest_first, list(reserved))]
        if not 1 <= count <= len(free):
            raise ValueError(f"count: found {count}, wanted 1 to {len(free)}, the entries that are not reserved")
        self.ids = np.sort(free[:count])

    def encode(self, tokens: np.ndarray) -> np.ndarray:
        """Bins int [...] to ids int64 [...]. Raises ValueError for an integer that is no bin."""
        tokens = np.asarray(tokens)
        if tokens.dtype.kind not in "iu" or ((tokens < 0) | (tokens >= len(self.ids))).any():
            raise ValueError(f"action tokens: found {tokens.dtype} outside 0 to {len(self.ids) - 1}, wanted bins")
        return self.ids[tokens]

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Ids int [...] to bins int64 [...]. Raises ValueError for an id that stands for no bin."""
        ids = np.asarray(ids)
        tokens = np.searchsorted(self.ids, ids).clip(0, len(self.ids) - 1)
        if (wrong := self.ids[tokens] != ids).any():
            raise ValueError(f"vocabulary ids: found {ids[wrong].flat[0]}, wanted one that stands for an action token")
        return tokens
