"""What a language model says about pictures it reads once: what it would say had it read all again for each word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from deixis.policies.backbones.compositional import CompositionalBackbone
from deixis.policies.backbones.fusion import FusionBackbone
from deixis.policies.backbones.language import LanguageBackbone
from deixis.policies.backbones.packing import pack
from deixis.policies.backbones.tokenizer import END, TextTokenizer

from .conftest import SIZE
from .test_compositional import SPEC_CAMERAS, TEXTS, bridged, observation, open_gates
from .test_fusion import BACKBONE as FUSION

PROMPTS = ["what?", "", "touch the red cube and the other one, too"]


def make(route: Any) -> LanguageBackbone:
    torch.manual_seed(0)
    tokenizer = TextTokenizer.train([*TEXTS, *PROMPTS], 200, 16, [END])
    cameras = dict.fromkeys(SPEC_CAMERAS, (SIZE, SIZE))
    if route == "fusion":
        config = replace(FUSION, decoder=replace(FUSION.decoder, prefix=2))
        backbone: LanguageBackbone = FusionBackbone(config, cameras, 3, 2, tokenizer)
    else:
        backbone = CompositionalBackbone(bridged(route), cameras, 3, 2, tokenizer)
    open_gates(backbone)
    for parameter in backbone.decoder.parameters():
        parameter.data.mul_(3)  # so that words do not come out alike
    return backbone.eval()


@torch.no_grad()
def again_and_again(backbone: LanguageBackbone, images: dict[str, torch.Tensor], longest: int) -> list[str]:
    tokenizer, said = backbone.tokenizer, []
    for row, prompt in enumerate(PROMPTS):
        frames = backbone.look({camera: x[row : row + 1] for camera, x in images.items()})
        ids = [tokenizer.start, *tokenizer.words(prompt)]
        given = len(ids)
        while len(ids) < given + longest:
            state = backbone.read(frames, pack([[(ids, [])]]))[1][0, -1]
            word = int(backbone.logits(state)[: tokenizer.size].argmax())
            if word == tokenizer.end:
                break
            ids.append(word)
        said.append(tokenizer.decode(ids[given:]))
    return said


@pytest.mark.parametrize("route", ["mlp", "cross_attention", "fusion"])
def test_an_answer_is_the_likeliest_word_after_all_before(route: str) -> None:
    backbone = make(route)
    images = {camera: x[:, -1] for camera, x in observation().images.items()}
    said = backbone.answer(images, PROMPTS, 6)
    assert said == again_and_again(backbone, images, 6)
    assert any(said)


def test_an_answer_ends_where_the_end_is_said_while_others_go_on() -> None:
    backbone = make("mlp")
    images = {camera: x[:, -1] for camera, x in observation().images.items()}
    free = backbone.answer(images, PROMPTS, 8)
    tokenizer, embedding = backbone.tokenizer, backbone.decoder.model.get_input_embeddings().weight
    which = next(i for i, text in enumerate(free) if text)
    chosen = tokenizer.words(free[which])[0]
    with torch.no_grad():  # the end now looks like the first word of that answer, only a little more so
        embedding[tokenizer.end] = 1.01 * embedding[chosen]
    stopped = backbone.answer(images, PROMPTS, 8)
    assert stopped[which] == ""
    assert stopped == again_and_again(backbone, images, 8)


@pytest.mark.parametrize("route", ["mlp", "cross_attention", "fusion"])
@torch.no_grad()
def test_a_text_is_compared_by_what_the_picture_adds_to_its_likelihood(route: str) -> None:
    backbone = make(route)
    images = {camera: x[:, -1] for camera, x in observation().images.items()}
    texts = ["red cube", "碰红色方块", "the other one", "red cube"] * 8  # more than are read at once
    scores = backbone.compare(images, texts)
    assert scores.shape == (3, 32)
    torch.testing.assert_close(scores[:, 0], scores[:, 3])
    torch.testing.assert_close(scores[:, 1], scores[:, 29])
    torch.testing.assert_close(scores.logsumexp(0), torch.full((32,), float(np.log(3))), atol=1e-4, rtol=0)
    tokenizer = backbone.tokenizer
    expected = []
    for row in range(3):
        frames = backbone.look({camera: x[row : row + 1] for camera, x in images.items()})
        given = [tokenizer.start, *tokenizer.words("描述这个场景。")]
        said = [*tokenizer.words(texts[1]), tokenizer.end]
        states = backbone.read(frames, pack([[(given, said)]]))[1][0, len(given) - 1 : -1]
        logits = backbone.logits(states).log_softmax(-1)
        expected.append(logits[torch.arange(len(said)), torch.tensor(said)].sum())
    column = torch.stack(expected)
    torch.testing.assert_close(scores[:, 1], column - (column.logsumexp(0) - np.log(3)), atol=1e-4, rtol=1e-4)
