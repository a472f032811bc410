"""The text tokenizer: byte-pair encoding trained on the run's own texts, Chinese split by character."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from string import ascii_lowercase, digits

import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import BertNormalizer, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import BpeTrainer
from torch import Tensor

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[START]", "[END]"
_WORD_END = "\u02d1"  # a letter to the tokenizer; without it no decoded text would know its words
_NO_SPACE = re.compile(r"(?<=[\u3000-\uffef])\s+|\s+(?=[\u3000-\uffef.,:?!])")  # around Chinese, before punctuation


class TextTokenizer:
    """Texts to padded token ids. Every text begins with a start token, so that an empty one is still a text.

    Args:
        tokenizer: a trained `tokenizers.Tokenizer` that knows the three special tokens.
        max_tokens: longest text in tokens, the start token included; longer ones are cut.

    Attributes:
        frames: whether the tokenizer, made elsewhere, frames and cuts texts as its makers did, without our start token.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int) -> None:
        pad, unknown, start = (tokenizer.token_to_id(token) for token in (PAD, UNKNOWN, START))
        missing = [token for token in (PAD, UNKNOWN, START) if tokenizer.token_to_id(token) is None]
        self.frames = tokenizer.truncation is not None
        if pad is None or unknown is None or start is None or missing:
            raise ValueError(f"tokenizer.json: special tokens {missing} are missing; was it written by deixis?")
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._pad, self._unknown, self._start = pad, unknown, start
        self._known: dict[str, list[int]] = {}

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int, max_tokens: int, marks: Sequence[str] = ()) -> TextTokenizer:
        """Train on `texts`; the same texts give the same tokenizer, whatever their order and repetitions.

        marks: further entries that stand for themselves, such as places; they are on top of `vocabulary`.
        """
        tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
        ends = Replace(Regex("(?<=[a-z0-9])(?![a-z0-9])"), _WORD_END)
        plain = BertNormalizer(lowercase=True, handle_chinese_chars=True)
        tokenizer.normalizer = Normalizers([plain, ends])  # pyright: ignore
        tokenizer.pre_tokenizer = BertPreTokenizer()  # pyright: ignore
        letters = [*ascii_lowercase, *digits, *".,:?!", _WORD_END]
        trainer = BpeTrainer(
            vocab_size=vocabulary + len(marks),
            special_tokens=[PAD, UNKNOWN, START, *marks],
            initial_alphabet=letters,
            show_progress=False,
        )
        tokenizer.train_from_iterator(sorted(set(texts)), trainer)
        return cls(tokenizer, max_tokens)

    @classmethod
    def extend(cls, text: str, max_tokens: int, marks: Sequence[str], frames: bool = False) -> TextTokenizer:
        """A tokenizer made elsewhere, as JSON of the tokenizers library, with our special tokens and marks added.

        frames: texts get the tokens before and after that its own encoder was trained with.
        """
        tokenizer = Tokenizer.from_str(text)
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if frames:
            tokenizer.enable_truncation(max_tokens)
        tokenizer.add_special_tokens([PAD, UNKNOWN, START, *marks])
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

    @property
    def start(self) -> int:
        """The token that every text begins with."""
        return self._start

    @property
    def end(self) -> int:
        """The token that ends what is said; ValueError where the tokenizer was made without one."""
        end = self._tokenizer.token_to_id(END)
        if end is None:
            raise ValueError(
                f"tokenizer.json: special token {END} is missing; this one is of a backbone that only reads"
            )
        return end

    @property
    def unknown(self) -> int:
        """The token for what is no known word, or is hidden."""
        return self._unknown

    @property
    def first_word(self) -> int:
        """The first entry after the special tokens of a tokenizer that was trained here."""
        return len(self._tokenizer.get_added_tokens_decoder())

    def words(self, text: str) -> list[int]:
        """Token ids of a text, without a start, and not cut."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, marks included; padding and the tokens of start and end are left out."""
        left_out = {self._pad, self._start, self._tokenizer.token_to_id(END)}
        if self._tokenizer.decoder is not None:  # one made elsewhere
            kept = [int(i) for i in ids if int(i) not in left_out]
            return self._tokenizer.decode(kept, skip_special_tokens=False).strip()
        pieces = [self._tokenizer.id_to_token(int(i)) or "" for i in ids if int(i) not in left_out]
        text = "".join(f" {piece}" if piece.startswith("<") else piece for piece in pieces)
        return _NO_SPACE.sub("", text.replace(_WORD_END, " ").replace("> <", "><")).strip()

    def _ids(self, text: str) -> list[int]:
        ids = self._known.get(text)
        if ids is None:
            framed = self._tokenizer.encode(text).ids if self.frames else [self._start, *self.words(text)]
            ids = framed[: self._max_tokens] or [self._start]
            if len(self._known) < 65536:  # instructions repeat, free text need not: bound the memory
                self._known[text] = ids
        return ids
