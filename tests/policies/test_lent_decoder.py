"""The token head on the backbone's language model: it reads on where the context ends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deixis.datasets.normalisation import MinMaxNormaliser
from deixis.policies.backbones.decoder import Decoder, DecoderReader
from deixis.policies.config import BackboneConfig, BridgeConfig, HeadConfig, PolicyConfig, TokenConfig
from deixis.policies.heads.token import TokenHead
from deixis.policies.interfaces import Batch
from deixis.policies.policy import Policy

from .conftest import SPEC
from .test_compositional import BACKBONE, DECODER, SPEC_CAMERAS, bridged, observation, open_gates, tokenizer

TOKEN = TokenConfig(bins=16, decoder="backbone")


def make(token: TokenConfig = TOKEN, backbone: BackboneConfig = BACKBONE, kind: Any = "token") -> Policy:
    torch.manual_seed(0)
    head = HeadConfig(kind=kind, context_width=16, denoiser_width=16, denoiser_blocks=1, train_timesteps=20)
    head = replace(head, token=token)
    config = PolicyConfig(backbone, head, obs_horizon=2, action_horizon=4, exec_horizon=2)
    proprio, action = MinMaxNormaliser(np.zeros(3), np.ones(3)), MinMaxNormaliser(-np.ones(2), np.ones(2))
    policy = Policy(config, SPEC, SPEC_CAMERAS, proprio, action, tokenizer())
    policy.head.fit(torch.rand(200, 4, 2) * 2 - 1, torch.zeros(200, 4, dtype=torch.bool))
    return policy


def batch(rows: list[int] | None = None) -> Batch:
    seen = observation(rows)
    actions = torch.rand(3, 4, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch(seen, actions[rows or [0, 1, 2]], torch.zeros(len(seen.instruction), 4, dtype=torch.bool))


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("bridge", ["mlp", "cross_attention"])
@torch.no_grad()
def test_reading_on_is_reading_the_whole_sequence(bridge: Any, prefix: int) -> None:
    torch.manual_seed(0)
    decoder = Decoder(replace(DECODER, prefix=prefix), 50, BridgeConfig(kind=bridge, every=2)).eval()
    open_gates(decoder)
    looked = torch.randn(2, 5, DECODER.width) if bridge == "cross_attention" else None
    embedded, mask = torch.randn(2, 9, DECODER.width), torch.ones(2, 9, dtype=torch.bool)
    mask[1, 2:4] = False  # padding in between
    whole = decoder(embedded, mask, looked)
    cache = decoder.new_cache(2)
    first = decoder(embedded[:, :6], mask[:, :6], looked, cache=cache)
    torch.testing.assert_close(first, whole[:, :6], atol=1e-5, rtol=1e-4)
    reader = DecoderReader(decoder, cache, mask[:, :6], looked)
    for _ in range(2):  # asked again, a reader says the same
        at_once, _ = reader.read_on(embedded[:, 6:], causal=True)
        torch.testing.assert_close(at_once, whole[:, 6:], atol=1e-5, rtol=1e-4)
        further = reader
        for at in range(6, 9):
            state, further = further.read_on(embedded[:, at : at + 1], causal=True)
            torch.testing.assert_close(state, whole[:, at : at + 1], atol=1e-5, rtol=1e-4)
    other = embedded[:, 6:].clone()
    other[:, -1] += 1.0
    for causal in (True, False):
        first, after = (reader.read_on(x, causal)[0][:, 0] for x in (embedded[:, 6:], other))
        assert torch.equal(first, after) == causal, "not causal, the first sees the last"


@pytest.mark.parametrize("decoding", ["autoregressive", "parallel"])
@torch.no_grad()
def test_a_chunk_does_not_depend_on_the_batch_and_cached_decoding_is_that_of_the_whole(decoding: Any) -> None:
    policy = make(replace(TOKEN, decoding=decoding)).eval()
    head = policy.head
    assert isinstance(head, TokenHead)
    context = policy.context(observation())
    tokens = head.sample_tokens(context)
    assert torch.equal(head.logits(context, tokens).argmax(-1), tokens)
    for row in range(3):
        alone = policy.context(observation([row]))
        torch.testing.assert_close(
            head.logits(alone, tokens[row : row + 1])[0], head.logits(context, tokens)[row], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("bridge", ["mlp", "qformer", "perceiver", "cross_attention"])
@pytest.mark.parametrize("kind", ["token", "hybrid"])
def test_it_trains_what_it_reads_with_is_saved_loaded_and_acts(tmp_path: Path, bridge: Any, kind: Any) -> None:
    policy = make(backbone=bridged(bridge), kind=kind)
    policy.loss(batch()).total.backward()
    reached = [name for name, module in policy.parts.items() if any(p.grad is not None for p in module.parameters())]
    assert set(reached) >= {"bridge", "decoder", "joints", "head"}
    policy.eval().save(tmp_path / "policy")
    again = Policy.load(tmp_path / "policy")

    def act(of: Policy) -> Tensor:
        return of.act(observation(), [torch.Generator().manual_seed(row) for row in range(3)])

    assert torch.equal(act(policy), act(again))


@pytest.mark.parametrize("decoding", ["autoregressive", "parallel"])
def test_it_learns_a_chunk_for_each_instruction(decoding: Any) -> None:
    policy = make(replace(TOKEN, decoding=decoding))
    optimiser = torch.optim.AdamW(policy.parameters(), 3e-3)
    lesson = batch()
    for _ in range(80):
        optimiser.zero_grad()
        losses = policy.loss(lesson)
        losses.total.backward()
        optimiser.step()
    assert losses.parts["accuracy"] == 1.0
    error = (policy.eval().act(lesson.observation) - lesson.actions).abs().max()
    assert error <= 0.13, "half a bin of 16 and what lies beyond the percentiles"


def test_it_reads_under_bf16_as_the_backbone_does() -> None:
    policy = make()
    policy.backbone.bf16 = True
    losses = policy.loss(batch())
    losses.total.backward()
    assert losses.total.dtype == torch.float32 and losses.total.isfinite()


def test_without_a_language_model_it_is_refused() -> None:
    with pytest.raises(ValueError, match=r"token\.decoder: found 'backbone', wanted own, or backbone where"):
        make(backbone=BackboneConfig(width=24))
    with pytest.raises(ValueError, match=r"token\.decoder: found 'mine'"):
        make(replace(TOKEN, decoder="mine"))  # pyright: ignore
    policy = make()
    policy.backbone.lends = False
    with pytest.raises(ValueError, match="found no reader"):
        policy.act(observation())


def test_heads_with_decoders_of_their_own_borrow_none() -> None:
    assert make().context(observation()).reader is not None
    own = make(replace(TOKEN, decoder="own"))
    assert own.context(observation()).reader is None
    assert make(TokenConfig(decoder="backbone"), kind="diffusion").context(observation()).reader is None
