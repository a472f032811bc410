"""Tokens and n-grams of instructions and captions: words, and the single characters of scripts without spaces."""

from __future__ import annotations

import re
import unicodedata

# Han (with its extensions and compatibility forms) and kana: no spaces between words, so that a character is a token.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_])+")


def tokens(text: str) -> list[str]:
    """Words and unspaced characters of a text, without punctuation, case, and width of letters (Unicode NFKC)."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """All runs of n tokens, in order; of a text with fewer tokens the one run of all it has (none: the empty run)."""
    found = tokens(text)
    return [tuple(found[i : i + n]) for i in range(max(1, len(found) - n + 1))]
