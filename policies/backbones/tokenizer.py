"""The text tokenizer: byte-pair encoding trained on the run's own texts, Chinese split by character."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import BpeTrainer
from torch import Tensor

PAD, UNKNOWN, START = "[PAD]", "[UNK]", "[START]"


class TextTokenizer:
    """Texts to padded token ids. Every text begins with a start token, so that an empty one is still a text.

    Args:
        tokenizer: a trained `tokenizers.Tokenizer` that knows the three special tokens.
        max_tokens: longest text in tokens, the start token included; longer ones are cut.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        pad, start = tokenizer.token_to_id(PAD), tokenizer.token_to_id(START)
        missing = [token for token in (PAD, UNKNOWN, START) if tokenizer.token_to_id(token) is None]
        if pad is None or start is None or missing:
            raise ValueError(f"tokenizer.json: special tokens {missing} are missing; was it written by deixis?")
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._pad, self._start = pad, start
        self._known: dict[str, list[int]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int, max_tokens: int) -> TextTokenizer:
        """Train on `texts`; the same texts give the same tokenizer, whatever their order and repetitions."""
        tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
        tokenizer.normalizer = BertNormalizer(lowercase=True, handle_chinese_chars=True)  # pyright: ignore
        tokenizer.pre_tokenizer = BertPreTokenizer()  # pyright: ignore
        letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
        trainer = BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, UNKNOWN, START],
            initial_alphabet=letters,
            show_progress=False,
        )
        tokenizer.train_from_iterator(sorted(set(texts)), trainer)
        return cls(tokenizer, max_tokens)

    @classmethod
    def from_json(cls, text: str, max_tokens: int) -> TextTokenizer:
        """Rebuild from `to_json`."""
        return cls(Tokenizer.from_str(text), max_tokens)

    def to_json(self) -> str:
        """The whole tokenizer as one JSON text."""
        return self._tokenizer.to_str(pretty=True)

    @property
    def size(self) -> int:
        """Number of entries of the vocabulary."""
        return self._tokenizer.get_vocab_size()

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids int64 [B, L] and mask bool [B, L] (True at real tokens), L the longest of these texts."""
        rows = [self._ids(text) for text in texts]
        length = max(len(row) for row in rows)
        ids = torch.tensor([row + [self._pad] * (length - len(row)) for row in rows], dtype=torch.int64)
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(length) < lengths[:, None]

    def _ids(self, text: str) -> list[int]:
        ids = self._known.get(text)
        if ids is None:
            ids = [self._start, *self._tokenizer.encode(text).ids][: self._max_tokens]
            if len(self._known) < 65536:  # instructions repeat, free text need not: bound the memory
                self._known[text] = ids
        return ids
