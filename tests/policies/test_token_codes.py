"""What all codes of the token head share: valid tokens from any chunk, a chunk from any valid tokens, one fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from deixis.datasets.normalisation import MinMaxNormaliser
from deixis.policies.backbones.tokenizer import TextTokenizer
from deixis.policies.config import AutoencoderConfig, CompressionConfig, HeadConfig, TokenConfig
from deixis.policies.heads.token import CODES, TokenHead
from deixis.policies.interfaces import TokenGroup
from deixis.policies.policy import Observation, Policy

from .conftest import SPEC, TINY_HEAD, TINY_POLICY
from .head_inputs import TOKENS, WIDTH, context, generators
from .motions import smooth_chunks

HORIZON, DIM = 8, 3
TINY = TokenConfig(
    bins=16,
    width=16,
    layers=2,
    heads=2,
    compression=CompressionConfig(scale=10.0, vocabulary=128),
    autoencoder=AutoencoderConfig(vectors=4, levels=2, codes=32, code_width=4, width=32, steps=150),
)
WAYS = [(code, decoding) for code in CODES for decoding in ("autoregressive", "parallel") if code != "dct_bpe"] + [
    ("dct_bpe", "autoregressive")
]
ANY_CHUNK = arrays(np.float32, (HORIZON, DIM), elements=st.floats(-2, 2, width=32) | st.just(np.float32(1e30)))


def make(code: str, horizon: int = HORIZON, dim: int = DIM, **options: Any) -> TokenHead:
    """An untrained head that has not been fitted."""
    torch.manual_seed(0)
    return TokenHead(HeadConfig(kind="token", token=replace(TINY, code=code, **options)), horizon, dim, TOKENS, WIDTH)


@cache
def fitted_state(code: str, binary: tuple[int, ...]) -> dict[str, Tensor]:
    head = make(code, binary=binary)
    head.fit(chunks(500), nothing_padded(500))
    return head.code.state_dict()


def fitted(code: str, binary: tuple[int, ...] = (), **options: Any) -> TokenHead:
    """The same, fitted on smooth chunks."""
    head = make(code, binary=binary, **options)
    head.code.load_state_dict(fitted_state(code, binary))
    return head


def chunks(batch: int = 3, seed: int = 0) -> Tensor:
    return smooth_chunks(batch, HORIZON, DIM, seed)


def nothing_padded(batch: int = 3) -> Tensor:
    return torch.zeros(batch, HORIZON, dtype=torch.bool)


# Chunks to tokens and back


@pytest.mark.parametrize("code", CODES)
@given(chunk=ANY_CHUNK)
def test_any_finite_chunk_becomes_tokens_that_are_a_chunk(code: str, chunk: np.ndarray) -> None:
    of = fitted(code, binary=(2,)).code
    tokens = of.encode(torch.from_numpy(chunk)[None])
    flat = tokens.flatten(1)
    allowed = of.allowed_next(of.starts(flat))
    assert allowed.gather(-1, flat[..., None]).all() and of.spans(flat).sum() == of.units
    found = of.decode(tokens)
    assert found.shape == (1, HORIZON, DIM) and found.dtype == torch.float32 and found.abs().max() <= 1
    assert found[..., 2].abs().eq(1).all()
    assert torch.equal(of.decode(of.encode(torch.from_numpy(chunk).clamp(-1, 1)[None])), found)


@pytest.mark.parametrize("code", CODES)
def test_coding_loses_no_more_than_fit_says(code: str) -> None:
    of = fitted(code).code
    seen = chunks(500)
    lost = (of.decode(of.encode(seen)) - seen).square().mean().sqrt()
    assert lost.item() == pytest.approx(of.rms_error.item(), rel=1e-4)
    assert 0 < lost < 0.1 < seen.square().mean().sqrt()


@pytest.mark.parametrize("code", CODES)
@given(seed=st.integers(0, 10_000))
def test_any_walk_over_allowed_tokens_ends_in_a_chunk(code: str, seed: int) -> None:
    of, generator = fitted(code, binary=(2,)).code, torch.Generator().manual_seed(seed)
    done, walk = torch.zeros(1, dtype=torch.int64), []
    while done < of.units:
        allowed = of.allowed_next(done)[0]
        assert allowed.any() and (of.end is None or not allowed[of.end])
        walk.append(torch.multinomial(allowed.float(), 1, generator=generator))
        done = done + of.spans(walk[-1])
    assert done == of.units >= len(walk)
    if of.end is not None:
        assert of.allowed_next(done)[0].nonzero().flatten().tolist() == [of.end]
    assert of.decode(torch.stack(walk, dim=1).unflatten(1, of.shape)).isfinite().all()


@pytest.mark.parametrize("code", CODES)
def test_tokens_that_are_no_chunk_are_refused(code: str) -> None:
    of = fitted(code).code
    tokens = of.encode(chunks())
    for wrong in (-1, of.entries):
        broken = tokens.clone(memory_format=torch.contiguous_format)
        broken.view(-1)[0] = wrong
        with pytest.raises(ValueError, match=f"action tokens: found .* that are no {of.name}"):
            of.decode(broken)


# Fitting


@pytest.mark.parametrize("code", CODES)
def test_fitting_twice_gives_the_same_and_draws_nothing_from_others(code: str) -> None:
    state = torch.get_rng_state()
    again = make(code)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again.fit(chunks(500), nothing_padded(500))
    assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)
    first = fitted_state(code, ())
    assert all(torch.equal(value, first[name]) for name, value in again.code.state_dict().items())


@pytest.mark.parametrize("code", CODES)
def test_fit_does_not_read_padding(code: str) -> None:
    is_pad = nothing_padded(500)
    is_pad[:250, 5:], is_pad[0] = True, True
    states = []
    for stand_in in (float("nan"), 0.5):
        head = make(code)
        head.fit(chunks(500).masked_fill(is_pad[..., None], stand_in), is_pad)
        states.append(head.code.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("code", CODES)
def test_a_constant_dimension_breaks_nothing(code: str) -> None:
    head = make(code)
    still = chunks(500)
    still[..., 1] = 0.0
    head.fit(still, nothing_padded(500))
    found = head.code.decode(head.code.encode(still))
    assert (found - still)[..., 1].square().mean().sqrt() < (0.05 if code == "vq" else 1e-6)
    assert head.loss(context(), still[:3], nothing_padded()).total.isfinite()
    assert head.eval().sample(context()).isfinite().all()


@pytest.mark.parametrize("code", CODES)
def test_without_fit_nothing_goes(code: str) -> None:
    head = make(code)
    with pytest.raises(ValueError, match=f"found code '{code}' without data, wanted `fit`"):
        head.loss(context(), chunks(), nothing_padded())
    with pytest.raises(ValueError, match="wanted `fit`"):
        head.sample(context())
    for actions, is_pad in (
        (chunks()[:, :4], nothing_padded()[:, :4]),
        (chunks(), nothing_padded(2)),
        (chunks(), ~nothing_padded()),
        (chunks() * float("nan"), nothing_padded()),
    ):
        with pytest.raises(ValueError, match="token head, fit: found"):
            head.fit(actions, is_pad)
    assert not head.code.fitted


# The contract of every head


@pytest.mark.parametrize(("code", "decoding"), WAYS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_gradients_reach_the_decoder_alone_and_samples_do_not_depend_on_the_batch(
    code: str, decoding: str, temperature: float
) -> None:
    head = fitted(code, (2,), decoding=decoding, temperature=temperature, label_smoothing=0.1, z_loss=1e-3)
    losses = head.loss(context(), chunks(), nothing_padded())
    losses.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in head.parameters())
    assert not list(head.code.parameters())
    assert set(losses.parts) > {"token", "accuracy"}
    assert all(not part.requires_grad and part.isfinite() for part in losses.parts.values())

    head.eval()
    whole = context()
    together = head.sample(whole, generators(5, 6, 7))
    alone = head.sample(TokenGroup(whole.tokens[1:2], whole.mask[1:2]), generators(6))
    assert together.shape == (3, HORIZON, DIM) and together.dtype == torch.float32 and together.abs().max() <= 1
    assert torch.allclose(together[1:2], alone, atol=1e-6)
    assert torch.equal(together, head.sample(whole, generators(5, 6, 8))) == (temperature == 0)


@pytest.mark.parametrize(("code", "decoding"), WAYS)
@given(temperature=st.sampled_from([0.0, 1.0, 20.0]), seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_whatever_the_logits_a_whole_chunk_is_decoded(code: str, decoding: str, temperature: float, seed: int) -> None:
    head = fitted(code, decoding=decoding, temperature=temperature).eval()
    with torch.no_grad():
        head.out.weight.normal_(0, 3, generator=torch.Generator().manual_seed(seed))
    tokens = head.sample_tokens(context(2), generators(seed, seed + 1))
    flat = tokens.flatten(1)
    assert (head.code.spans(flat).sum(1) == head.code.units).all()
    assert head.code.decode(tokens).abs().max() <= 1


@pytest.mark.parametrize("code", CODES)
def test_padding_is_not_even_read(code: str) -> None:
    head = fitted(code)
    is_pad = nothing_padded()
    is_pad[:, 5:] = True
    changed = chunks().masked_fill(is_pad[..., None], float("nan"))
    first, second = (head.loss(context(), actions, is_pad) for actions in (chunks(), changed))
    assert first.total.item() == second.total.item() and first.parts == second.parts
    real = chunks()
    real[1, 0] *= -1
    assert head.loss(context(), real, is_pad).total.item() != first.total.item()
    is_pad[0] = True
    changed[0] = float("nan")
    others = TokenGroup(context().tokens[1:], context().mask[1:])
    without, rest = head.loss(context(), changed, is_pad), head.loss(others, changed[1:], is_pad[1:])
    assert without.total.item() == pytest.approx(rest.total.item(), rel=1e-5)
    assert all(part.item() == pytest.approx(rest.parts[name].item(), rel=1e-4) for name, part in without.parts.items())
    assert head.loss(context(), chunks(), torch.ones_like(is_pad)).total.item() == 0


@pytest.mark.parametrize("code", CODES)
def test_works_under_bf16_autocast(code: str) -> None:
    head = fitted(code, temperature=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.loss(context(), chunks(), nothing_padded())
        sampled = head.sample(context(), generators(5, 6, 7))
    losses.total.backward()
    assert losses.total.dtype == sampled.dtype == torch.float32
    exact = head.loss(context(), chunks(), nothing_padded())
    assert losses.total.item() == pytest.approx(exact.total.item(), rel=0.02)


@pytest.mark.parametrize(("code", "decoding"), WAYS)
def test_learns_different_chunks_for_different_contexts(code: str, decoding: str) -> None:
    head = fitted(code, decoding=decoding)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    for _ in range(60):
        losses = head.loss(context(), chunks(), nothing_padded())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert losses.parts["accuracy"].item() == 1
    wanted = head.code.decode(head.code.encode(chunks()))
    assert torch.allclose(head.eval().sample(context()), wanted, atol=1e-6)


@pytest.mark.parametrize("code", ["dct_bpe", "vq"])
def test_cached_decoding_equals_decoding_the_whole_sequence_again(code: str) -> None:
    head = fitted(code).eval()
    with torch.inference_mode():
        cached = head.sample_tokens(context()).flatten(1)
        for i in range(cached.shape[1]):
            tokens = head.logits(context(), cached[:, : i + 1])[:, i].argmax(-1)
            assert torch.equal(tokens, cached[:, i])


@pytest.mark.parametrize("code", CODES)
def test_a_saved_policy_has_the_same_code(
    code: str, tmp_path: Path, tokenizer: TextTokenizer, observe: Callable[..., Observation]
) -> None:
    torch.manual_seed(0)
    config = replace(TINY_POLICY, head=replace(TINY_HEAD, kind="token", token=replace(TINY, code=code)))
    proprio = MinMaxNormaliser.fit(np.array([[-1.0, -2.0, 1.0], [1.0, 2.0, 1.0]], np.float32))
    policy = Policy(config, SPEC, ["front", "wrist"], proprio, MinMaxNormaliser([-1, -1], [1, 1]), tokenizer).eval()
    actions = chunks(500)[:, :4, :2]
    policy.head.fit(actions, nothing_padded(500)[:, :4])
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    assert torch.equal(loaded.act(observe(), generators(1, 2)), policy.act(observe(), generators(1, 2)))
    assert isinstance(loaded.head, TokenHead) and isinstance(policy.head, TokenHead)
    other = chunks(50, seed=1)[:, :4, :2]
    assert torch.equal(loaded.head.code.encode(other), policy.head.code.encode(other))


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"code": "words"}, "token.code: found 'words', wanted one of"),
        ({"range": "sometimes"}, "token.range: found 'sometimes'"),
        ({"code": "dct_bpe", "decoding": "parallel"}, "token.decoding: found 'parallel', wanted 'autoregressive'"),
        ({"code": "dct_bpe", "compression": CompressionConfig(scale=0.0)}, "token.compression: found scale 0.0"),
        ({"code": "dct_bpe", "compression": CompressionConfig(vocabulary=1)}, "vocabulary 1, wanted"),
        ({"code": "vq", "autoencoder": AutoencoderConfig(codes=1)}, "token.autoencoder: found .*codes=1"),
        ({"code": "vq", "autoencoder": AutoencoderConfig(levels=0)}, "token.autoencoder: found .*levels=0"),
        ({"code": "vq", "binary": (3,)}, r"token.binary: found \[3\], wanted action dimensions 0 to 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"code": "bins", **options})
