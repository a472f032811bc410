"""The early-fusion backbone: pictures are words of the same vocabulary, and one language model reads them all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import BackboneConfig
from .codebook import ImageCodebook
from .image import GridPlaces
from .language import LanguageBackbone
from .tokenizer import TextTokenizer

IMAGE_MARKS = 2  # entries before the codes: where a picture begins and where it ends


class CodedPictures(nn.Module):
    """What the language model is told of a code beside which entry of the vocabulary it is, and what is made of its
    states.

    Args:
        code_width: size of a code's vector.
        grid: (rows, columns) of a picture's codes.
        width: of the language model.

    Attributes:
        places: where in the picture a code is.
        likeness: codes that look alike have vectors that are near each other, which their entries would have to learn.
        around: a state has read what comes before its code, and this adds what comes after and below.
    """

    def __init__(self, code_width: int, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        self.places = GridPlaces(grid, width)
        self.likeness = nn.Linear(code_width, width)
        self.around = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, vectors: Tensor) -> Tensor:
        """What is added to the entries of codes with these vectors [..., P, code_width]: [..., P, width]."""
        return self.likeness(vectors) + self.places()

    def views(self, states: Tensor) -> Tensor:
        """Features of pictures whose codes have these states: both [N, cameras, h, w, width]."""
        grids = states.flatten(0, 1).movedim(-1, 1)
        return (grids + F.gelu(self.around(grids))).movedim(1, -1).unflatten(0, states.shape[:2])


class FusionBackbone(LanguageBackbone):
    """A picture is `<img> code code ... </img>`, as in Chameleon (arXiv:2405.09818): each code of `ImageCodebook` is an
    entry of the vocabulary, after those of the tokenizer. Arguments as `ModularBackbone`.

    The language model also predicts pictures, where a stage asks for it. Actions are further entries, where the token
    head reads on (`policy.head.token.decoder backbone`).
    """

    eyes = "codebook"

    def __init__(
        self,
        config: BackboneConfig,
        cameras: Mapping[str, tuple[int, int]],
        proprio_dim: int,
        obs_horizon: int,
        tokenizer: TextTokenizer,
    ) -> None:
        sizes = set(cameras.values())
        if len(sizes) != 1:
            raise ValueError(
                f"policy.backbone.kind {config.kind!r}: found cameras {dict(cameras)}, wanted at least one, all of one "
                "size"
            )
        entries = tokenizer.size + IMAGE_MARKS + config.codebook.codes
        codebook = ImageCodebook(config.codebook, sizes.pop())
        super().__init__(config, cameras, proprio_dim, obs_horizon, tokenizer, entries, codebook.grid)
        self.codebook = codebook
        self.pictures = CodedPictures(config.codebook.width, codebook.grid, self.decoder.width)

    @property
    def parts(self) -> dict[str, nn.Module]:
        return {"codebook": self.codebook, "pictures": self.pictures, **super().parts}

    def look(self, images: Mapping[str, Tensor]) -> Tensor:
        """Codes of each camera's picture, int64 [F, cameras, P]."""
        return torch.stack([self.codebook.encode(images[camera]) for camera in self.cameras], dim=1)

    def views(self, seen: Tensor, states: Tensor) -> list[Tensor]:
        """As the decoder reads them: a code alone says little of what it is a part of."""
        pictures = states.unflatten(1, (len(self.cameras), -1))[:, :, 1:-1]
        return list(self.pictures.views(pictures.unflatten(2, self.grid)).unbind(1))

    def enter(self, seen: Tensor) -> Tensor:
        pictures = self.pictures(self.codebook.vectors(seen))
        return self.decoder.embed(self._entries(seen)) + F.pad(pictures, (0, 0, 1, 1))  # the marks are none

    def spell(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        entries = self._entries(seen)
        return entries.flatten(1), (entries >= self.tokenizer.size + IMAGE_MARKS).flatten(1)

    def draw(self, entries: Tensor) -> Tensor:
        """Pictures [B, H, W, 3] in [0, 1] of their entries [B, P], the marks left out."""
        return self.codebook.decode(entries - self.tokenizer.size - IMAGE_MARKS)

    def unseen(self, frames: Tensor) -> Tensor:
        """Of all pictures as codes [F, cameras, P], at each place the one that is there most often."""
        return super().unseen(frames) if self.reads_ahead else frames.mode(0).values

    def _entries(self, codes: Tensor) -> Tensor:
        """Codes [..., P] as entries of the vocabulary between their marks [..., P + 2]."""
        first = self.tokenizer.size
        begin, end = (codes.new_full((*codes.shape[:-1], 1), first + mark) for mark in range(IMAGE_MARKS))
        return torch.cat([begin, codes + first + IMAGE_MARKS, end], dim=-1)
