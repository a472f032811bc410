"""Documents about one picture in one sequence: each sees the picture and itself, so the picture is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Documents one after the other, B rows of at most L tokens.

    Attributes:
        ids: [B, L].
        document: int64 [B, L], the number of the document in its row; -1 at padding.
        position: int64 [B, L], place within the document.
        said: bool [B, L], what is to be predicted; the rest was given.
    """

    ids: Tensor
    document: Tensor
    position: Tensor
    said: Tensor

    def to(self, device: torch.device) -> Packed:
        return Packed(*(part.to(device) for part in (self.ids, self.document, self.position, self.said)))


def pack(rows: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]]) -> Packed:
    """Rows of documents, each the tokens given and the tokens to be said."""
    lengths = [sum(len(given) + len(said) for given, said in row) for row in rows]
    shape = (len(rows), max(lengths, default=0))
    ids, position = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    document, to_say = torch.full(shape, -1), torch.zeros(shape, dtype=torch.bool)
    for i, row in enumerate(rows):
        at = 0
        for number, (given, said) in enumerate(row):
            length = len(given) + len(said)
            span = slice(at, at + length)
            ids[i, span] = torch.tensor([*given, *said], dtype=torch.int64)
            document[i, span], position[i, span] = number, torch.arange(length)
            to_say[i, at + len(given) : at + length] = True
            at += length
    return Packed(ids, document, position, to_say)


def packed_mask(prefix: int, packed: Packed) -> Tensor:
    """Who sees whom, bool [B, P + L, P + L], for a prefix of P tokens before the documents.

    A token sees those before it that are of the prefix or of its own document, and itself.
    """
    batch, length = packed.ids.shape
    same = packed.document[:, :, None] == packed.document[:, None]
    sees = torch.cat([same.new_ones(batch, length, prefix), same], dim=-1)
    before = same.new_ones(batch, prefix, prefix + length)
    return torch.cat([before, sees], dim=1).tril()
