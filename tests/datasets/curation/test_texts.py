"""N-grams, repetition and resampling by rarity."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.curation.config import RarityConfig, RepetitionConfig
from deixis.datasets.curation.ngrams import ngrams, tokens
from deixis.datasets.curation.pieces import Piece
from deixis.datasets.curation.rarity import keep_probabilities, rarest_ngrams, resample
from deixis.datasets.curation.repetition import compression_ratio, drop_repetitive, repeated_share


def pieces(texts: list[str], **meta: object) -> list[Piece]:
    return [Piece(index, 0, 10, text, dict(meta)) for index, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Lift the RED cube, please!", ["lift", "the", "red", "cube", "please"]),
        ("把红色方块放进碗里。", list("把红色方块放进碗里")),
        ("把cube 2放进bowl里", ["把", "cube", "2", "放", "进", "bowl", "里"]),
        ("ＬＩＦＴ１", ["lift1"]),
        ("つかむ", list("つかむ")),
        ("𠀀𪚥", ["𠀀", "𪚥"]),
        ("", []),
        ("... 。", []),
    ],
)
def test_words_and_single_chinese_characters_are_tokens(text: str, wanted: list[str]) -> None:
    assert tokens(text) == wanted


@given(st.text(), st.integers(1, 4))
def test_there_is_always_an_ngram(text: str, n: int) -> None:
    count = len(tokens(text))
    assert [len(gram) for gram in ngrams(text, n)] == [min(n, count)] * max(1, count - n + 1)


def test_repeated_share_counts_what_repeats() -> None:
    assert repeated_share("lift the red cube", 2) == 0
    assert repeated_share("red red red red red", 1) == pytest.approx(0.8)
    assert repeated_share("拿起拿起拿起", 2) == pytest.approx(1 - 2 / 5)  # 拿起 起拿 拿起 起拿 拿起
    assert repeated_share("", 2) == 0
    text = "the cube " * 50
    assert compression_ratio(text) == len(text) / len(zlib.compress(text.encode(), 9)) > 10
    assert compression_ratio("lift the red cube and put it into the bowl") < 1.2


def test_repetitive_instructions_go_with_their_episode_and_captions_alone() -> None:
    looped = "the cube the cube the cube the cube"
    found = pieces(["lift the cube", looped, "拿起方块拿起方块拿起方块"])
    found.append(
        Piece(3, 0, 10, "push it", {"captions": ["a cube", looped], "caption": looped, "task": looped,
                                    "other_instructions": [{"text": looped}, {"text": "lift"}, {"goal": 1}]})
    )  # fmt: skip
    outcome = drop_repetitive(found, RepetitionConfig(repeated_share=0.5))
    assert [piece.episode for piece in outcome.pieces] == [0, 3]
    assert outcome.pieces[1].meta == {
        "captions": ["a cube"],
        "task": looped,
        "other_instructions": [{"text": "lift"}, {"goal": 1}],
    }
    assert [(drop.episode, drop.rows) for drop in outcome.drops] == [(1, (0, 10)), (2, (0, 10)), *[(3, None)] * 3]
    assert outcome.drops[0].numbers["repeated share"] == pytest.approx(1 - 2 / 7)
    assert found[3].meta["captions"] == ["a cube", looped], "what was handed in is left alone"


def test_compression_finds_a_pattern_longer_than_ngrams() -> None:
    line = "".join(chr(ord("a") + i) for i in np.random.default_rng(0).integers(0, 26, 60)) + " "
    outcome = drop_repetitive(pieces([line, line * 6]), RepetitionConfig(compression_ratio=2.4))
    assert [piece.episode for piece in outcome.pieces] == [0]
    assert outcome.drops[0].numbers["compression ratio limit"] == 2.4


def test_rarest_ngram_decides_with_the_square_root() -> None:
    texts = ["lift the cube"] * 6 + ["lift the ball"] * 3 + ["拿起方块"]
    grams, shares = rarest_ngrams(texts, 2)
    assert [grams[0], grams[6]] == [("the", "cube"), ("the", "ball")]
    np.testing.assert_allclose(shares, [0.6] * 6 + [0.3] * 3 + [0.1])
    expected = [np.sqrt(0.15 / 0.6)] * 6 + [np.sqrt(0.15 / 0.3)] * 3 + [1]
    np.testing.assert_allclose(keep_probabilities(texts, 0.15, 2), expected)


def test_shares_after_resampling_match_the_formula() -> None:
    """12,000 draws: each share within four standard errors of what the formula says."""
    names, counts = ["push the cube", "lift the ball", "触摸方块", "stack them"], np.array([7200, 3600, 1140, 60])
    found = pieces([name for name, count in zip(names, counts.tolist(), strict=True) for _ in range(count)])
    outcome = resample(found, RarityConfig(0.02), seed=3)
    frequencies = counts / counts.sum()
    keep = np.minimum(1, np.sqrt(0.02 / frequencies))
    left = [sum(piece.instruction == name for piece in outcome.pieces) for name in names]
    deviations = (np.array(left) - counts * keep) / np.sqrt(counts * keep * (1 - keep) + 1e-9)
    assert np.abs(deviations).max() < 4
    assert left[3] == 60, "what is rarer than the threshold is never lost"
    # Shares move towards each other: of 120 to 1 there are left about 18 to 1.
    assert left[0] / left[3] == pytest.approx(np.sqrt(0.02 * 0.6) / 0.005, rel=0.1)
    assert outcome.notes == [f"kept {len(outcome.pieces)}, expected {(counts * keep).sum():.1f}"]


def test_draws_are_a_pure_function_of_the_seed() -> None:
    found = pieces(["push the cube"] * 300)
    config = RarityConfig(0.25)
    first, again, other = (resample(found, config, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.pieces != other.pieces
    kept = {piece.episode for piece in first.pieces}
    backwards = resample(found[::-1], config, 1)
    assert {piece.episode for piece in backwards.pieces} == kept, "the order does not matter"
    for drop in first.drops:
        assert float(drop.numbers["draw"]) >= float(drop.numbers["kept with probability"]) == pytest.approx(0.5)
