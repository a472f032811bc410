"""Byte pair encoding of sequences of integers (Sennrich et al. 2016, arXiv:1508.07909), by `tokenizers`."""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

Pair = tuple[int, int]
_FIRST = 0x10000  # the character of letter 0: from here on, every character is one of the same size


class PairEncoding:
    """Letters 0..letters-1 are the first tokens; every pair of tokens, in the order given, makes a further one.

    Two pairs that spell the same make one token. Encoding joins the pairs that come first, first.

    Attributes:
        pieces: the letters of every token.

    Raises ValueError without letters, or for a pair of tokens that are not there yet.
    """

    def __init__(self, letters: int, pairs: Iterable[Pair]) -> None:
        if letters < 1:
            raise ValueError(f"pair encoding: found {letters} letters, wanted at least 1")
        self.pieces: list[tuple[int, ...]] = [(letter,) for letter in range(letters)]
        ids = {_text(piece): token for token, piece in enumerate(self.pieces)}
        merges = []
        for left, right in pairs:
            if not (0 <= left < len(self.pieces) and 0 <= right < len(self.pieces)):
                raise ValueError(f"pair encoding: found a pair ({left}, {right}) after {len(self.pieces)} tokens")
            both = self.pieces[left] + self.pieces[right]
            merges.append((_text(self.pieces[left]), _text(self.pieces[right])))
            if _text(both) not in ids:
                ids[_text(both)] = len(self.pieces)
                self.pieces.append(both)
        self._tokenizer = Tokenizer(BPE(vocab=ids, merges=merges))

    @staticmethod
    def learn(sequences: np.ndarray, letters: int, vocabulary: int) -> list[Pair]:
        """The pairs to join so that letters int [N, L] take few tokens, with at most `vocabulary` tokens in all.

        The same sequences give the same pairs.
        """
        tokenizer = Tokenizer(BPE())
        alphabet = [chr(_FIRST + letter) for letter in range(letters)]
        trainer = BpeTrainer(vocab_size=vocabulary, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(_texts(sequences), trainer)
        ids, pairs = {letter: token for token, letter in enumerate(alphabet)}, []
        for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
            pairs.append((ids[left], ids[right]))
            ids.setdefault(left + right, len(ids))
        return pairs

    def encode(self, sequences: np.ndarray) -> list[list[int]]:
        """Letters int [N, L] to N lists of tokens whose pieces, one after the other, are the letters again."""
        return [found.ids for found in self._tokenizer.encode_batch_fast(_texts(sequences), add_special_tokens=False)]


def _text(letters: Iterable[int]) -> str:
    return "".join(chr(_FIRST + letter) for letter in letters)


def _texts(sequences: np.ndarray) -> list[str]:
    """Every row as a text of one character a letter."""
    return [row.tobytes().decode("utf-32-le") for row in (sequences + _FIRST).astype("<u4")]
