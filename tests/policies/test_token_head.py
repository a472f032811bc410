"""The token head: exact bins, valid tokens only, cached decoding, chunks that belong to one mode; actions as text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from deixis.datasets.bins import ActionBins
from deixis.policies.action_text import FIELDS, ActionVocabulary, actions_to_text, text_to_actions
from deixis.policies.config import HeadConfig, TokenConfig
from deixis.policies.heads.bin_tokens import BinCode
from deixis.policies.heads.regression import RegressionHead
from deixis.policies.heads.token import TokenHead
from deixis.policies.interfaces import ActionHead, TokenGroup

from .head_inputs import TOKENS, WIDTH, context, generators

HORIZON, DIM = 4, 3
TINY = TokenConfig(bins=16, range="limits", width=16, layers=2, heads=2)
DECODINGS = ("autoregressive", "parallel")


def make(horizon: int = HORIZON, dim: int = DIM, **options: Any) -> TokenHead:
    torch.manual_seed(0)
    config = HeadConfig(kind="token", context_width=16, denoiser_width=16, denoiser_blocks=1)
    return TokenHead(replace(config, token=replace(TINY, **options)), horizon, dim, TOKENS, WIDTH)


def make_bins(count: int, dim: int = 1, binary: tuple[int, ...] = (), fit: torch.Tensor | None = None) -> BinCode:
    """Bins between the limits, or between the percentiles of the actions [N, dim] to fit."""
    token = TokenConfig(bins=count, range="limits" if fit is None else "percentile", binary=binary)
    bins = BinCode(token, 1, dim)
    if fit is not None:
        bins.fit(fit[:, None], torch.zeros(len(fit), 1, dtype=torch.bool))
    return bins


def chunks(batch: int = 3) -> torch.Tensor:
    return torch.rand(batch, HORIZON, DIM, generator=torch.Generator().manual_seed(2)) * 2 - 1


def nothing_padded(batch: int = 3) -> torch.Tensor:
    return torch.zeros(batch, HORIZON, dtype=torch.bool)


# Bins


@given(st.integers(2, 5000))
def test_every_bin_has_its_own_value_and_comes_back_from_it(count: int) -> None:
    bins = make_bins(count)
    every = torch.arange(count)[:, None]
    values = bins.decode(every)
    assert torch.equal(bins.encode(values), every)
    assert (values.diff(dim=0) > 0).all() and values.abs().max() < 1


@given(st.lists(st.floats(-3, 3, width=32), min_size=1), st.integers(2, 300))
def test_a_value_errs_by_half_a_bin_at_most_and_values_beyond_are_clipped(values: list[float], count: int) -> None:
    bins = make_bins(count)
    actions = torch.tensor(values)[:, None]
    error = (bins.decode(bins.encode(actions)) - actions.clamp(-1, 1)).abs()
    assert error.max() <= 1 / count + 1e-6


def test_a_binary_dimension_has_two_bins_and_exact_values() -> None:
    bins = make_bins(16, 2, binary=(1,))
    tokens = bins.encode(torch.tensor([[0.9, -1.0], [0.9, -0.2], [0.9, 0.3], [0.9, 1.0]]))
    assert tokens.tolist() == [[15, 0], [15, 0], [15, 15], [15, 15]]
    assert bins.decode(tokens)[:, 1].tolist() == [-1, -1, 1, 1]
    wrong = bins.invalid(torch.tensor([[3, 3], [-1, 0], [16, 15]]))
    assert wrong.tolist() == [[False, True], [True, False], [True, False]]
    with pytest.raises(ValueError, match="found 1 of 2 that are no bin"):
        bins.decode(torch.tensor([[3, 3]]))


def skewed(count: int = 2000) -> torch.Tensor:
    """Actions [count, 4]: around 0.5 with outliers, a gripper, a constant, and one that hardly ever moves."""
    generator = torch.Generator().manual_seed(3)
    actions = torch.stack([0.5 + 0.1 * torch.randn(count, generator=generator), *torch.zeros(3, count)], dim=1)
    actions[0, 0], actions[1, 0] = -1.0, 1.0
    actions[:, 1] = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    actions[:, 2] = 0.3
    actions[:5, 3] = torch.linspace(-1, 1, 5)
    return actions


@given(st.integers(2, 5000))
def test_every_bin_between_percentiles_comes_back_too(count: int) -> None:
    bins = make_bins(count, 4, (1,), skewed())
    every = torch.arange(count)[:, None].expand(-1, 4)
    used = ~bins.invalid(every)
    assert used.sum(0).tolist() == [count, 2, 1, count]
    values = bins.decode(torch.where(used, every, 0))
    assert torch.equal(bins.encode(values)[used], every[used])
    assert (values[:, [0, 3]].diff(dim=0) > 0).all()


def test_percentiles_are_those_of_the_data_and_the_same_as_in_numpy() -> None:
    actions = skewed()
    bins = make_bins(256, 4, (1,), actions)
    low, high = np.quantile(actions[:, 0].double(), [0.01, 0.99])
    assert bins.low[0].item() == pytest.approx(low) and bins.high[0].item() == pytest.approx(high)
    twin = ActionBins(bins.low.numpy(), bins.high.numpy(), 256)
    between = torch.rand(5000, 4) * 3 - 1.5
    alike = [0, 3]
    tokens = bins.encode(between)[:, alike]
    edges = (between.double().numpy() - twin.low) / (twin.high - twin.low + 1e-30) * 256
    clear = (np.abs(edges - np.round(edges)) > 1e-3)[:, alike]
    np.testing.assert_array_equal(tokens.numpy()[clear], twin.encode(between.numpy())[:, alike][clear])
    np.testing.assert_allclose(bins.decode(bins.encode(between))[:, 0], bins.centres[0, tokens[:, 0]])
    np.testing.assert_allclose(bins.centres[0], twin.decode(np.arange(256)[:, None].repeat(4, 1))[:, 0], atol=1e-6)


def test_what_varies_too_seldom_for_percentiles_is_not_lost_and_a_constant_is_exact() -> None:
    actions = skewed()
    bins = make_bins(256, 4, (1,), actions)
    found = bins.decode(bins.encode(actions))
    assert (found - actions).abs()[:, 3].max() <= 1 / 256 + 1e-6
    assert torch.equal(found[:, 1:3], actions[:, 1:3])
    assert bins.rms_error.item() == pytest.approx((found - actions).square().mean().sqrt().item(), rel=1e-4)


def test_padding_does_not_move_the_percentiles() -> None:
    bins, padded = make_bins(16, 4, fit=skewed()), BinCode(TokenConfig(bins=16), 2, 4)
    rows = torch.stack([skewed(), torch.full((2000, 4), 9.0)], dim=1)
    padded.fit(rows, torch.tensor([False, True]).expand(2000, 2))
    assert torch.equal(bins.centres, padded.centres)


# The contract of every head


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_gradients_reach_all_and_samples_do_not_depend_on_the_batch(decoding: str, temperature: float) -> None:
    head = make(decoding=decoding, temperature=temperature, label_smoothing=0.1, z_loss=1e-3, binary=(2,))
    losses = head.loss(context(), chunks(), nothing_padded())
    losses.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in head.parameters())
    assert set(losses.parts) == {"token", "accuracy", "l1"}
    assert all(not part.requires_grad for part in losses.parts.values())

    head.eval()
    whole = context()
    together = head.sample(whole, generators(5, 6, 7))
    alone = head.sample(TokenGroup(whole.tokens[1:2], whole.mask[1:2]), generators(6))
    assert together.shape == (3, HORIZON, DIM) and together.dtype == torch.float32
    assert together.abs().max() <= 1
    assert torch.equal(together[1:2], alone)
    assert torch.equal(together, head.sample(whole, generators(5, 6, 7)))
    assert torch.equal(together, head.sample(whole, generators(5, 6, 8))) == (temperature == 0)
    assert head.sample(whole).shape == together.shape


@pytest.mark.parametrize("decoding", DECODINGS)
def test_padded_actions_are_not_even_read(decoding: str) -> None:
    head = make(decoding=decoding, label_smoothing=0.1, z_loss=1e-3)
    is_pad = nothing_padded()
    is_pad[:, 2:], is_pad[0, 0] = True, True
    changed = chunks().masked_fill(is_pad[..., None], float("nan"))
    first, second = (head.loss(context(), actions, is_pad) for actions in (chunks(), changed))
    assert first.total.item() == second.total.item()
    assert first.parts == second.parts
    real = chunks()
    real[1, 0] *= -1
    assert head.loss(context(), real, is_pad).total.item() != first.total.item()
    assert head.loss(context(), chunks(), torch.ones_like(is_pad)).total.item() == 0


@pytest.mark.parametrize("decoding", DECODINGS)
def test_the_context_reaches_every_token_and_masked_tokens_reach_none(decoding: str) -> None:
    head = make(decoding=decoding).eval()
    tokens = head.code.encode(chunks(1))
    mask = torch.ones(1, TOKENS, dtype=torch.bool)
    seen = context(1).tokens
    other = seen.clone()
    other[0, 2] = 9.0
    with torch.inference_mode():
        moved = (head.logits(TokenGroup(seen, mask), tokens) - head.logits(TokenGroup(other, mask), tokens)).abs()
        assert (moved.amax(-1) > 1e-4).all()
        mask[0, 2] = False
        other[0, 2] = float("nan")
        assert torch.equal(head.sample(TokenGroup(seen, mask)), head.sample(TokenGroup(other, mask)))
        assert torch.equal(*(head.logits(TokenGroup(x, mask), tokens) for x in (seen, other)))
        before = head.logits(TokenGroup(seen, mask), tokens)
        head.context_place[2] += 1.0  # not even the place of a masked token takes attention from the others
        assert torch.equal(head.logits(TokenGroup(seen, mask), tokens), before)
        assert head.logits(TokenGroup(seen, torch.zeros_like(mask)), tokens).isfinite().all()
        turned = head.logits(TokenGroup(seen.flip(1), torch.ones_like(mask)), tokens)
        assert not torch.allclose(turned, head.logits(TokenGroup(seen, torch.ones_like(mask)), tokens))


@pytest.mark.parametrize("decoding", DECODINGS)
def test_works_under_bf16_autocast(decoding: str) -> None:
    head = make(decoding=decoding, temperature=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.loss(context(), chunks(), nothing_padded())
        sampled = head.sample(context(), generators(5, 6, 7))
    losses.total.backward()
    assert losses.total.dtype == sampled.dtype == torch.float32
    exact = head.loss(context(), chunks(), nothing_padded())
    assert losses.total.item() == pytest.approx(exact.total.item(), rel=0.02)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("decoding", DECODINGS)
def test_learns_different_chunks_for_different_contexts(decoding: str) -> None:
    head = make(decoding=decoding, binary=(2,))
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    actions = chunks()
    for _ in range(100):
        losses = head.loss(context(), actions, nothing_padded())
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert losses.parts["accuracy"].item() == 1
    head.eval()
    assert (head.sample(context()) - actions)[..., :2].abs().max() <= 1 / TINY.bins + 1e-6
    assert torch.equal(head.sample(context())[..., 2], actions[..., 2].sign())


# The loss


def test_the_loss_is_cross_entropy_with_smoothing_and_z_loss() -> None:
    head = make(label_smoothing=0.2, z_loss=0.01)
    is_pad = nothing_padded()
    is_pad[1, 3:] = True
    tokens = head.code.encode(chunks())
    losses = head.loss(context(), chunks(), is_pad)
    logits, target = head.logits(context(), tokens)[~is_pad].flatten(0, 1), tokens[~is_pad].flatten()
    smoothed = torch.nn.functional.cross_entropy(logits, target, label_smoothing=0.2)
    expected = smoothed + 0.01 * logits.logsumexp(-1).square().mean()
    assert losses.total.item() == pytest.approx(expected.item(), rel=1e-5)
    plain = torch.nn.functional.cross_entropy(logits, target)
    assert losses.parts["token"].item() == pytest.approx(plain.item(), rel=1e-5)
    assert losses.parts["accuracy"].item() == pytest.approx((logits.argmax(-1) == target).float().mean().item())


def test_neighbouring_bins_share_in_the_target() -> None:
    head = make(spread=1.5, binary=(1,))
    tokens = head.code.encode(chunks())
    losses = head.loss(context(), chunks(), nothing_padded())
    logits = head.logits(context(), tokens)
    expected = []
    for row, target in zip(logits.flatten(0, 2), tokens.flatten(), strict=True):
        weight = torch.exp(-0.5 * ((torch.arange(16) - target) / 1.5) ** 2) * row.isfinite()
        weight = weight / weight.sum()
        kept = row.isfinite()
        expected.append(-(weight[kept] * row.log_softmax(-1)[kept]).sum())
    assert losses.total.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


# Decoding


@pytest.mark.parametrize("binary", [(), (1,)])
def test_cached_decoding_equals_decoding_the_whole_sequence_again(binary: tuple[int, ...]) -> None:
    head = make(binary=binary).eval()
    with torch.inference_mode():
        cached = head.sample_tokens(context())
        tokens = torch.zeros_like(cached)
        for i in range(HORIZON * DIM):
            step = divmod(i, DIM)
            tokens[:, *step] = head.logits(context(), tokens)[:, *step].argmax(-1)
            assert torch.equal(tokens[:, *step], cached[:, *step])
    assert len(cached.unique()) > 2


def test_a_token_sees_those_before_it_only() -> None:
    head = make().eval()
    tokens = head.code.encode(chunks())
    changed = tokens.clone()
    changed[:, 1, 1] = (changed[:, 1, 1] + 5) % TINY.bins
    with torch.inference_mode():
        moved = (head.logits(context(), tokens) - head.logits(context(), changed)).abs().amax((0, 3)).flatten()
    at = 1 * DIM + 1
    assert (moved[: at + 1] == 0).all() and (moved[at + 1 :] > 0).all()


@pytest.mark.parametrize("decoding", DECODINGS)
@given(temperature=st.sampled_from([0.0, 0.5, 1.0, 20.0]), seed=st.integers(0, 10_000))
def test_no_token_is_ever_invalid(decoding: str, temperature: float, seed: int) -> None:
    head = make(decoding=decoding, temperature=temperature, binary=(0,)).eval()
    tokens = head.sample_tokens(context(2), generators(seed, seed + 1))
    assert isinstance(head.code, BinCode)
    assert head.code.invalid(tokens).sum() == 0
    assert set(head.code.decode(tokens)[..., 0].unique().tolist()) <= {-1.0, 1.0}


def test_draws_follow_the_distribution_of_the_logits() -> None:
    head = make(temperature=2.0, bins=4)
    logits = torch.tensor([0.0, 1.0, float("-inf"), 2.0])
    uniform = torch.linspace(0, 1, 10_001)[:-1]
    drawn = head._choose(logits.expand(10_000, 4), uniform)
    shares = drawn.bincount(minlength=4) / 10_000
    assert torch.allclose(shares, (logits / 2).softmax(-1), atol=2e-4)
    assert shares[2] == 0


@pytest.mark.parametrize("decoding", DECODINGS)
def test_logits_that_are_not_finite_are_an_error_and_not_a_chunk(decoding: str) -> None:
    head = make(decoding=decoding).eval()
    broken = context()
    broken.tokens[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="logits that are not finite"):
        head.sample(broken)


# Theory: two modes, and chunks that must not mix them


def bimodal(n: int, seed: int) -> tuple[TokenGroup, torch.Tensor]:
    """y = +-0.6 or, in the other context, +-0.3, with equal chances; the second step repeats the first."""
    generator = torch.Generator().manual_seed(seed)
    which = torch.arange(n) % 2
    tokens = torch.nn.functional.one_hot(which, WIDTH).float()[:, None].repeat(1, TOKENS, 1)
    sign = torch.randint(0, 2, (n,), generator=generator) * 2.0 - 1
    y = sign * torch.where(which == 0, 0.6, 0.3)
    return TokenGroup(tokens, torch.ones(n, TOKENS, dtype=torch.bool)), y[:, None, None].expand(n, 2, 1)


def train(head: ActionHead, steps: int = 200) -> ActionHead:
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)  # averages out the last batches' coin tosses
    for step in range(steps):
        seen, actions = bimodal(64, step)
        optimizer.zero_grad()
        head.loss(seen, actions, torch.zeros(64, 2, dtype=torch.bool)).total.backward()
        optimizer.step()
        decay.step()
    return head.eval()


def p_values(samples: torch.Tensor, truth: torch.Tensor) -> list[float]:
    """Two-sample tests of each step's value in each context."""
    return [
        float(ks_2samp(samples[which::2, step, 0].numpy(), truth[which::2, step, 0].numpy()).pvalue)  # pyright: ignore
        for which in (0, 1)
        for step in (0, 1)
    ]


def test_autoregressive_chunks_keep_to_one_of_both_modes_and_parallel_ones_mix_them() -> None:
    seen, truth = bimodal(800, 1000)
    consistent, apart = {}, {}
    for decoding in DECODINGS:
        head = train(make(2, 1, bins=32, decoding=decoding, temperature=1.0))
        assert isinstance(head, TokenHead)
        torch.manual_seed(4)
        samples = head.sample(seen)
        apart[decoding] = min(p_values(samples, head.code.decode(head.code.encode(truth))))
        consistent[decoding] = (samples[:, 0] == samples[:, 1]).float().mean().item()
    assert apart["autoregressive"] > 0.001 and apart["parallel"] > 0.001, "both know the distribution of a single step"
    assert consistent["autoregressive"] > 0.97
    assert 0.35 < consistent["parallel"] < 0.65

    torch.manual_seed(0)
    regression = train(RegressionHead(HeadConfig(context_width=16, denoiser_width=16), 2, 1, TOKENS, WIDTH))
    with torch.inference_mode():
        assert max(p_values(regression.sample(seen), truth)) < 1e-6


# Refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 1}, "token.bins: found 1"),
        ({"heads": 3}, "token.heads: found 3"),
        ({"layers": 0}, "token.layers: found 0"),
        ({"decoding": "beam"}, "token.decoding: found 'beam'"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"label_smoothing": 1.0}, "label_smoothing 1.0"),
        ({"spread": -1.0}, r"token\.spread: found -1.0"),
        ({"spread": 1.0, "code": "vq"}, r"token\.spread: found 1.0 with code 'vq'"),
        ({"binary": (3,)}, r"token.binary: found \[3\], wanted action dimensions 0 to 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_a_context_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"wanted \[B, 5, 8\]"):
        make().sample(TokenGroup(torch.zeros(1, 4, WIDTH), torch.ones(1, 4, dtype=torch.bool)))


# Text and vocabularies


@given(st.integers(0, 1), st.lists(st.integers(0, 255), min_size=7, max_size=7))
def test_text_comes_back_exactly(terminate: int, bins: list[int]) -> None:
    text = actions_to_text([terminate, *bins])
    assert text_to_actions(text) == [terminate, *bins]
    assert re.fullmatch(r"[01]( \d{1,3}){7}", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "terminate: found nothing"),
        ("0 1 2 3 4 5 6", "gripper: found nothing"),
        ("0 1 2 3 4 5 6 7 8", "gripper: found '8' after it"),
        ("0 1 2 x 4 5 6 7", "dz: found 'x'"),
        ("0 1 2 3 4.0 5 6 7", "rx: found '4.0'"),
        ("0 1 -2 3 4 5 6 7", "dy: found '-2'"),
        ("0 1 ٢ 3 4 5 6 7", "dy: found '٢'"),
        ("0 1  2 3 4 5 6 7", "dy: found ''"),
        ("0 007 2 3 4 5 6 7", "dx: found '007'"),
        ("0 1 2 3 4 5 6 7\n", "gripper: found '7"),
        ("2 1 2 3 4 5 6 7", "terminate: found 2, wanted 0 to 1"),
        ("0 1 2 3 4 5 256 7", "rz: found 256, wanted 0 to 255"),
        ("0 " + "9" * 100_000, "dx: found '9{40}',"),
    ],
)
def test_text_that_is_no_action_is_refused_with_the_field(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_to_actions(text)


def test_integers_that_are_no_action_are_not_written() -> None:
    with pytest.raises(ValueError, match="found 7 integers, wanted 8"):
        actions_to_text([0] * 7)
    with pytest.raises(ValueError, match="gripper: found 256"):
        actions_to_text([0] * 7 + [256])
    with pytest.raises(TypeError, match="float"):
        actions_to_text(np.full(8, 0.5))
    assert len(FIELDS) == 8


@given(st.lists(st.integers(0, 3), min_size=4, max_size=50), st.integers(1, 4))
def test_the_least_used_entries_stand_for_bins_and_come_back(usage: list[int], count: int) -> None:
    vocabulary = ActionVocabulary(np.array(usage), count)
    ids = vocabulary.encode(np.arange(count))
    assert len(set(ids.tolist())) == count
    assert vocabulary.decode(ids).tolist() == list(range(count))
    chosen = {(usage[i], -i) for i in ids}
    assert chosen == set(sorted((n, -i) for i, n in enumerate(usage))[:count])


def test_reserved_entries_and_ids_without_a_bin() -> None:
    vocabulary = ActionVocabulary(np.array([0, 5, 0, 0, 9]), 2, reserved=[3])
    assert vocabulary.ids.tolist() == [0, 2]
    assert vocabulary.decode(np.array([[2, 0], [0, 0]])).tolist() == [[1, 0], [0, 0]]
    for wrong in (3, -1, 99):
        with pytest.raises(ValueError, match=f"found {wrong}, wanted one that stands for an action token"):
            vocabulary.decode(np.array([0, wrong]))
    with pytest.raises(ValueError, match="wanted bins"):
        vocabulary.encode(np.array([2]))
    with pytest.raises(ValueError, match="found 5, wanted 1 to 4"):
        ActionVocabulary(np.arange(5), 5, reserved=[0])
    with pytest.raises(ValueError, match="not negative"):
        ActionVocabulary(np.array([1, -1]), 1)
