"""The tokenizer and the text tower."""

from __future__ import annotations

import pytest
import torch

from deixis.policies.backbones.text import TextTower
from deixis.policies.backbones.tokenizer import END, TextTokenizer

TEXTS = ["touch the red cube", "touch the blue cube", "碰红色方块", "把球放到碗里"]


def test_same_texts_give_the_same_tokenizer_in_any_order() -> None:
    first = TextTokenizer.train(TEXTS, 100, 16)
    assert TextTokenizer.train(reversed(TEXTS * 2), 100, 16).to_json() == first.to_json()
    again = TextTokenizer.from_json(first.to_json(), 16)
    assert torch.equal(again(TEXTS)[0], first(TEXTS)[0])


def test_chinese_is_split_by_character_and_empty_text_is_a_text() -> None:
    tokenizer = TextTokenizer.train(TEXTS, 100, 16)
    ids, mask = tokenizer(["碰红色方块", ""])
    assert mask.sum(1).tolist() == [6, 1]
    assert ids.shape == (2, 6)


def test_long_texts_are_cut() -> None:
    tokenizer = TextTokenizer.train(TEXTS, 100, 4)
    assert tokenizer(["touch the red cube " * 5])[0].shape == (1, 4)


def test_padding_does_not_change_a_text() -> None:
    torch.manual_seed(0)
    tokenizer = TextTokenizer.train(TEXTS, 100, 16)
    tower = TextTower(tokenizer.size, 16, 16, 2, 2).eval()
    alone, padded = tower(*tokenizer(["touch"])), tower(*tokenizer(["touch", "touch the blue cube"]))
    assert torch.allclose(alone.roles[0], padded.roles[0], atol=1e-5)
    assert torch.allclose(alone.pooled[0], padded.pooled[0], atol=1e-5)


def test_a_foreign_tokenizer_is_refused() -> None:
    text = TextTokenizer.train(TEXTS, 100, 16).to_json().replace("[START]", "[OTHER]")
    with pytest.raises(ValueError, match="START"):
        TextTokenizer.from_json(text, 16)


def test_marks_stand_for_themselves_and_texts_come_back() -> None:
    marks = [END, "<p01>", "<p40>"]
    tokenizer = TextTokenizer.train(TEXTS, 100, 32, marks)
    assert tokenizer.size == TextTokenizer.train(TEXTS, 100, 32).size + len(marks)
    texts = ["touch the red cube. <p01><p40>", "碰红色方块", "is the blue cube redder?", ""]
    ids, _ = tokenizer(texts)
    assert [tokenizer.decode(row) for row in ids.tolist()] == texts
    assert ids[0].tolist().count(4) == 1, "a place is one token"
