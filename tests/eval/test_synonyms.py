"""Near-synonyms: distances by hand in a space that knows them, and in one that has collapsed."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from deixis.datasets.language import caption_in_two_ways
from deixis.eval.scenes import Scenes
from deixis.eval.synonyms import judge_synonyms

COLOURS = ("red", "green", "blue")


def scenes() -> Scenes:
    """Three pictures, each all of one number, of a cube each."""
    objects = [[{"colour": colour, "shape": "cube", "position": (0.0, 0.0, 0.0)}] for colour in COLOURS]
    pictures = torch.arange(3, dtype=torch.uint8)[:, None, None, None].expand(3, 2, 2, 3)
    return Scenes({"front": pictures}, cast(Any, objects))


class Space:
    """Images are the axes; a text is the axis of its colour, the second names turned towards the next by `turn`."""

    def __init__(self, turn: float) -> None:
        self.turn = turn

    def embed_images(self, images: Mapping[str, Tensor]) -> Tensor:
        return torch.eye(3)[images["front"][:, 0, 0, 0].long()]

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:
            own = next(i for i, word in enumerate(("红色", "绿色", "蓝色")) if word in text)
            angle = self.turn * ("的" in text)
            rows.append(np.cos(angle) * np.eye(3)[own] + np.sin(angle) * np.eye(3)[(own + 1) % 3])
        return torch.tensor(np.stack(rows), dtype=torch.float32)


def test_a_small_turn_is_a_small_distance_and_finds_the_same_image() -> None:
    found = judge_synonyms(cast(Any, Space(0.3)), scenes(), "zh")
    assert found["text_distance"] == pytest.approx(1 - np.cos(0.3), abs=1e-6)
    assert found["text_distance_others"] == pytest.approx(1.0) and found["image_distance_others"] == pytest.approx(1.0)
    assert found["image_distance"] == 0.0 and found["same_image"] == 1.0
    assert found["first_at_1"] == found["second_at_1"] == 1.0


def test_a_large_turn_finds_another_image() -> None:
    found = judge_synonyms(cast(Any, Space(1.2)), scenes(), "zh")
    assert found["same_image"] == 0.0 and found["image_distance"] == pytest.approx(1.0)
    assert (found["first_at_1"], found["second_at_1"]) == (1.0, 0.0)


def test_the_two_captions_differ_in_the_names_alone() -> None:
    objects = [{"colour": "red", "shape": "ball", "position": (0.0, 0.0, 0.0)}, {**scenes().objects[1][0]}]
    for seed in range(20):
        first, second = caption_in_two_ways(objects, np.random.default_rng(seed), "zh")
        assert first != second and second.replace("色的", "色") == first
        first, second = caption_in_two_ways(objects, np.random.default_rng(seed), "en")
        assert second.replace("sphere", "ball").replace("block", "cube") == first
