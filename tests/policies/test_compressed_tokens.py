"""Compressed tokens: the cosine transform of the textbook, lossless byte pairs, and fewer tokens on real motions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.fft import dct

from deixis.policies.config import CompressionConfig, TokenConfig
from deixis.policies.heads.compressed_tokens import CosineCode, cosine_transform
from deixis.policies.heads.pair_encoding import PairEncoding

from .motions import pusht_chunks, smooth_chunks

HORIZON, DIM = 8, 3
OPTIONS = TokenConfig(code="dct_bpe", compression=CompressionConfig(scale=10.0, vocabulary=200))


def make(count: int = 500, options: TokenConfig = OPTIONS) -> CosineCode:
    code = CosineCode(options, HORIZON, DIM)
    code.fit(smooth_chunks(count, HORIZON, DIM), torch.zeros(count, HORIZON, dtype=torch.bool))
    return code


CODE = make()


@pytest.mark.parametrize("length", [1, 2, 7, 16])
def test_the_transform_is_the_orthonormal_dct(length: int) -> None:
    x = np.random.default_rng(0).normal(size=(length, 3)).astype(np.float32)
    np.testing.assert_allclose(
        cosine_transform(length).numpy() @ x, np.asarray(dct(x, axis=0, norm="ortho")), atol=1e-5
    )


def test_slow_waves_come_first_the_dimensions_in_turn() -> None:
    chunk = torch.zeros(1, HORIZON, DIM)
    chunk[..., 1] = 0.5
    integers = CODE.integers(chunk)[0]
    assert integers.tolist() == [0, round(0.5 * HORIZON**0.5 * 10), 0] + [0] * (HORIZON - 1) * DIM


@given(chunk=arrays(np.float32, (HORIZON, DIM), elements=st.floats(-2, 2, width=32)))
def test_integers_come_back_exactly_and_values_within_half_an_integer(chunk: np.ndarray) -> None:
    chunks = torch.from_numpy(chunk)[None]
    integers = CODE.integers(chunks)
    assert torch.equal(CODE.spelled(CODE.encode(chunks)), integers)
    if torch.equal(integers, CODE.waves(chunks).round().long()):  # all of them letters
        rms = (CODE.values(integers) - chunks.clamp(-1, 1)).square().mean(1).sqrt()
        assert rms.max() <= 0.5 / 10 + 1e-5


@given(st.integers(0, 10_000))
def test_a_gripper_comes_back_exactly(seed: int) -> None:
    torch.manual_seed(seed)
    code = CosineCode(replace(OPTIONS, binary=(0, 2)), HORIZON, DIM)
    chunks = torch.rand(20, HORIZON, DIM) * 2 - 1
    chunks[..., [0, 2]] = torch.where(torch.rand(20, HORIZON, 2) < 0.5, -1.0, 1.0)
    code.fit(chunks, torch.zeros(20, HORIZON, dtype=torch.bool))
    assert torch.equal(code.decode(code.encode(chunks))[..., [0, 2]], chunks[..., [0, 2]])


def test_integers_without_a_letter_are_clipped_and_counted() -> None:
    none_padded = torch.zeros(2, HORIZON, dtype=torch.bool)
    seen = smooth_chunks(2, HORIZON, DIM)
    assert CODE.measure(seen, none_padded, seen)["clipped"] == 0
    wild = seen.clone()
    wild[0] = torch.tensor([1.0, -1.0]).repeat(HORIZON // 2)[:, None]
    lost = CODE.measure(wild, none_padded, wild)
    beyond = (CODE.waves(wild).round() != CODE.integers(wild)).float().mean()
    assert lost["clipped"] == beyond > 0
    least, count = CODE.letters.tolist()
    assert least <= CODE.spelled(CODE.encode(wild)).min() and CODE.spelled(CODE.encode(wild)).max() < least + count


def test_the_end_comes_last_and_nothing_else_does() -> None:
    tokens = CODE.encode(smooth_chunks(50, HORIZON, DIM, seed=3))
    ended = tokens == CODE.end
    assert ended.any() and not ended.all(0).any(), "some chunks are shorter than others"
    assert torch.equal(ended, ended.cummax(1).values)
    longest = int((~ended).sum(1).argmax())
    for broken in (
        tokens[longest : longest + 1, :-1],  # too short
        torch.cat([tokens[longest : longest + 1], torch.zeros(1, 1, dtype=torch.int64)], dim=1),  # too long
        torch.cat([torch.full((1, 1), CODE.end), tokens[longest : longest + 1]], dim=1),  # ended at once
    ):
        with pytest.raises(ValueError, match="that are no part of a chunk"):
            CODE.decode(broken)
    after = torch.cat([tokens, torch.full((50, 2), CODE.end)], dim=1)
    assert torch.equal(CODE.decode(after), CODE.decode(tokens))


def test_more_integers_than_the_vocabulary_holds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"found \d+ integers at scale 1000.0 in a vocabulary of 200; lower the scale"):
        make(options=replace(OPTIONS, compression=CompressionConfig(1000.0, 200)))


def test_a_vocabulary_that_was_tampered_with_is_refused() -> None:
    state = {name: value.clone() for name, value in CODE.state_dict().items()}
    state["pairs"][0] = torch.tensor([150, 151])
    with pytest.raises(ValueError, match=r"found a pair \(150, 151\) after"):
        CosineCode(OPTIONS, HORIZON, DIM).load_state_dict(state)
    state["pairs"][:6] = torch.tensor([[0, 0], *[[int(state["letters"][1]) + i] * 2 for i in range(5)]])
    with pytest.raises(ValueError, match=r"found \d+ of up to \d+ integers, wanted at most 200 of at most 24"):
        CosineCode(OPTIONS, HORIZON, DIM).load_state_dict(state)


@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=30))
def test_byte_pairs_lose_nothing_and_are_never_longer(rows: list[list[int]]) -> None:
    letters = np.array(rows)
    pairs = PairEncoding.learn(letters, 5, 20)
    encoding = PairEncoding(5, pairs)
    assert len(encoding.pieces) <= 20 and len(set(encoding.pieces)) == len(encoding.pieces)
    for row, tokens in zip(rows, encoding.encode(letters), strict=True):
        assert [letter for token in tokens for letter in encoding.pieces[token]] == row
        assert len(tokens) <= 6


def test_frequent_runs_become_one_token() -> None:
    runs = np.array([[0, 1, 2, 3]] * 10 + [[3, 3, 3, 3]])
    encoding = PairEncoding(4, PairEncoding.learn(runs, 4, 7))
    assert [len(tokens) for tokens in encoding.encode(runs)] == [1] * 10 + [4]
    with pytest.raises(ValueError, match="found 0 letters"):
        PairEncoding(0, [])


def test_push_t_takes_far_fewer_tokens_than_values() -> None:
    chunks, is_pad = pusht_chunks()
    code = CosineCode(TokenConfig(code="dct_bpe"), 16, 2)
    code.fit(chunks[::5], is_pad[::5])
    tokens = code.encode(chunks[1::50])
    length = (tokens != code.end).sum(1).float().mean()
    assert length < 32 / 2
    assert code.rms_error < 0.5 / TokenConfig().compression.scale
