"""Whether an image-text space takes one thing said in two ways for one thing, and two things for two."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..datasets.language import caption_in_two_ways
from ..policies.backbones.modular import ModularBackbone
from .scenes import Scenes


def judge_synonyms(backbone: ModularBackbone, scenes: Scenes, language: str, seed: int = 0) -> dict[str, float]:
    """Distances (1 - cosine, of embeddings) around near-synonyms, on captions that differ in the objects' names alone.

    `text_distance`: between the two captions of a scene; `text_distance_others`: between captions of different scenes.
    `image_distance`: between the images that the two captions find first; `image_distance_others`: between images of
    different scenes. A space that has collapsed has all of them small; one that knows near-synonyms has the first of
    each pair far below the second. `same_image`: how often both find the same one. `first_at_1`, `second_at_1`: how
    often a caption with the first, or second, names finds its own scene.
    """
    rng = np.random.default_rng(seed)
    first, second = zip(*(caption_in_two_ways(objects, rng, language) for objects in scenes.objects), strict=True)
    images, one, other = backbone.embed_images(scenes.images), backbone.embed_texts(first), backbone.embed_texts(second)
    found_by_one, found_by_other = ((images @ texts.T).argmax(0) for texts in (one, other))
    own = torch.arange(len(images), device=images.device)
    return {
        "text_distance": _between(one, other),
        "text_distance_others": _among(one),
        "image_distance": _between(images[found_by_one], images[found_by_other]),
        "image_distance_others": _among(images),
        "same_image": float((found_by_one == found_by_other).float().mean()),
        "first_at_1": float((found_by_one == own).float().mean()),
        "second_at_1": float((found_by_other == own).float().mean()),
    }


def _between(ones: Tensor, others: Tensor) -> float:
    return float((1 - (ones * others).sum(-1)).mean())


def _among(directions: Tensor) -> float:
    """The mean over all pairs of different rows."""
    count = len(directions)
    return float((1 - directions @ directions.T).sum() / (count * (count - 1)))
