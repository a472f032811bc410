"""Losses of alignment beside grounding and captions: regions, words and patches compared, hidden ones guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.embedding import Temperature
from ..backbones.image import to_unit_range
from ..backbones.modular import ModularBackbone
from ..objectives.masked import mask_patches, mask_text, masked_image_loss, masked_text_loss
from ..objectives.patch_word import patch_word_contrast
from ..objectives.region_phrase import pool_regions, region_phrase_contrast

SIGNALS = ("region_phrase", "patch_word", "masked_text", "masked_image")
MASKED_WORDS, MASKED_CELLS, BLOCK = 0.15, 0.5, 16  # as in BERT and SimMIM; squares of 16 pixels or a cell


class AlignSignals(nn.Module):
    """What a stage gives a weight in its `losses`, in the first camera's view; nothing by default.

    region_phrase: what a mask covers against what it is called, over the whole batch (`objectives.region_phrase`).
    patch_word: every patch finds its word in the caption, every word its patch (`objectives.patch_word`).
    masked_text, masked_image: words and pixels guessed from what is around them (`objectives.masked`).

    Projections and what guesses pixels serve this stage alone.

    Args:
        backbone: its towers are trained.
        size: of the first camera's images, (height, width).
        losses: name -> weight.
    """

    def __init__(self, backbone: ModularBackbone, size: tuple[int, int], losses: Mapping[str, float]) -> None:
        super().__init__()
        self.wanted = [name for name in SIGNALS if losses.get(name, 0)]
        channels, words, width = backbone.channels, backbone.text.width, backbone.embedding.width
        sides = {"region_phrase": (channels, words), "patch_word": (channels, words)}
        self.compared = nn.ModuleDict(
            {
                name: nn.ModuleList([*(nn.Linear(side, width) for side in sides[name]), Temperature()])
                for name in self.wanted
                if name in sides
            }
        )
        if "masked_text" in self.wanted:
            if backbone.tokenizer.frames:
                raise ValueError("align.losses.masked_text: wanted no weight: this text encoder brought its own words")
            self.bias = nn.Parameter(torch.zeros(backbone.tokenizer.size))
        if "masked_image" in self.wanted:
            rows, columns = backbone.grids[0]
            self.side = size[0] // rows
            if (rows * self.side, columns * self.side) != size:
                raise ValueError(
                    f"align.losses.masked_image: found {rows} x {columns} cells for images of {size[0]} x {size[1]}, "
                    "wanted squares of whole pixels; set no policy.backbone.vision.resolution and a patch that divides"
                )
            self.pixels = nn.Linear(channels, 3 * self.side**2)

    def region_phrase(self, grid: Tensor, phrases: Tensor, shares: Tensor, kinds: Tensor) -> Tensor:
        """Features [B, h, w, C], phrases [B, Q, Dt], the share of each cell in what they name [B, Q, h * w + 1], whose
        last entry is "not there", and the kind of thing they name, int64 [B, Q], -1 for none."""
        region, phrase, temperature = self.compared["region_phrase"]  # pyright: ignore
        kept = (kinds >= 0) & (shares[..., -1] == 0)
        if not kept.any():
            return grid.sum() * 0.0
        regions = region(pool_regions(grid.float(), shares[..., :-1])[kept])
        own = kinds[kept]
        return region_phrase_contrast(regions, phrase(phrases[kept].float()), own[:, None] == own, temperature())

    def patch_word(self, grid: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Features [n, h, w, C] against the words [n, L, Dt] of their captions, whose first token is no word."""
        patch, word, temperature = self.compared["patch_word"]  # pyright: ignore
        patches, words = patch(grid.flatten(1, 2).float()), word(states[:, 1:].float())
        return patch_word_contrast(patches, words, mask[:, 1:], temperature())

    def masked_text(self, backbone: ModularBackbone, captions: Sequence[str]) -> Tensor:
        """Captions with hidden words; what is said of a word is compared with the words' own embeddings."""
        tokenizer = backbone.tokenizer
        ids, mask = (x.to(backbone.device) for x in tokenizer(captions))
        mask[:, 0] = False
        hidden = mask_text(
            ids, mask, MASKED_WORDS, tokenizer.unknown, tokenizer.size, tokenizer.first_word, _generator()
        )
        mask[:, 0] = True
        states = backbone.text(hidden.ids, mask).states.float()
        table = backbone.text.embedding.weight
        logits = states @ table.T * table.shape[1] ** -0.5 + self.bias
        return masked_text_loss(logits, hidden)

    def masked_image(self, backbone: ModularBackbone, images: Tensor) -> Tensor:
        """Images [B, H, W, 3] with grey squares, whose pixels are to be guessed."""
        unit = to_unit_range(images)
        side, block = self.side, max(1, BLOCK // self.side)
        chosen = mask_patches(len(unit), backbone.grids[0], block, MASKED_CELLS, _generator()).to(unit.device)
        covered = chosen.repeat_interleave(side, 1).repeat_interleave(side, 2)
        features = backbone.image_features(0, torch.where(covered[..., None], 0.5, unit))
        cells = F.pixel_unshuffle(unit.movedim(-1, 1), side).movedim(1, -1)
        return masked_image_loss(self.pixels(features.float()), cells, chosen)


def _generator() -> torch.Generator:
    """Of the step's own seed, on the CPU."""
    return torch.Generator().manual_seed(int(torch.randint(2**62, ())))
