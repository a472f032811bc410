"""The hybrid head: a plan in few tokens, and an executor that follows it and adds what the plan leaves open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from deixis.datasets.normalisation import MinMaxNormaliser
from deixis.policies.backbones.tokenizer import TextTokenizer
from deixis.policies.config import HeadConfig, HybridConfig, TokenConfig
from deixis.policies.heads.hybrid import EXECUTORS, HybridHead
from deixis.policies.interfaces import Observation, TokenGroup
from deixis.policies.policy import Policy

from .conftest import SPEC, TINY_HEAD, TINY_POLICY
from .head_inputs import TOKENS, WIDTH, context, generators

HORIZON, DIM = 8, 3
TINY = HeadConfig(
    kind="hybrid", context_width=16, denoiser_width=16, denoiser_blocks=1, unet_channels=(8, 16), noise_samples=8,
    token=TokenConfig(width=16, layers=1, heads=2), hybrid=HybridConfig(bins=16),
)  # fmt: skip


def make(config: HeadConfig = TINY, **options: object) -> HybridHead:
    torch.manual_seed(0)
    return HybridHead(
        replace(config, hybrid=replace(config.hybrid, **options)),  # pyright: ignore
        HORIZON, DIM, TOKENS, WIDTH,
    )  # fmt: skip


def chunks(batch: int = 3) -> Tensor:
    return torch.rand(batch, HORIZON, DIM, generator=torch.Generator().manual_seed(2)) * 2 - 1


def nothing_padded(batch: int = 3) -> Tensor:
    return torch.zeros(batch, HORIZON, dtype=torch.bool)


def fitted(head: HybridHead, actions: Tensor, is_pad: Tensor) -> HybridHead:
    head.fit(actions, is_pad)
    return head


# The contract of every head


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("denoiser", ["mlp", "unet", "transformer"])
def test_gradients_reach_all_and_samples_do_not_depend_on_the_batch(denoiser: str, executor: str) -> None:
    head = fitted(make(replace(TINY, denoiser=denoiser), executor=executor), chunks(), nothing_padded())
    losses = head.loss(context(), chunks(), nothing_padded())
    losses.total.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert head.embed.weight.grad is not None and head.embed.weight.grad.any()
    assert {"plan_token", "plan_accuracy", "plan_l1"} < set(losses.parts)
    assert all(not part.requires_grad for part in losses.parts.values())
    head.eval()
    whole = context()
    with torch.inference_mode():
        together = head.sample(whole, generators(5, 6, 7))
        alone = head.sample(TokenGroup(whole.tokens[1:2], whole.mask[1:2]), generators(6))
        assert head.sample(whole).shape == together.shape == (3, HORIZON, DIM)
    assert together.abs().max() <= 1
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_padded_actions_are_not_even_read(executor: str) -> None:
    head = fitted(make(executor=executor), chunks(), nothing_padded())
    is_pad = nothing_padded()
    is_pad[:, 5:], is_pad[0, 0], is_pad[2] = True, True, True
    losses = []
    for actions in (chunks(), chunks().masked_fill(is_pad[..., None], float("nan"))):
        torch.manual_seed(3)
        losses.append(head.loss(context(), actions, is_pad).total.item())
    assert losses[0] == losses[1] > 0
    assert head.loss(context(), chunks(), torch.ones_like(is_pad)).total.item() == 0


def test_works_under_bf16_autocast() -> None:
    head = make()
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.loss(context(), chunks(), nothing_padded())
        drawn = head.sample(context(), generators(1, 2, 3))
    losses.total.backward()
    assert losses.total.dtype == drawn.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_a_chunk_is_drawn_around_the_plan_that_is_shown() -> None:
    head = fitted(make(), chunks(), nothing_padded()).eval()
    with torch.inference_mode():
        shared = generators(1, 2, 3)
        plan = head.plan(context(), shared)
        assert plan.shape == (3, 2, DIM) and plan.abs().max() <= 1
        assert torch.equal(plan, head.plan(context(), generators(1, 2, 3)))
        assert not torch.equal(plan, head.plan(context(), generators(1, 2, 4)))
        drawn = head.sample(context(), generators(1, 2, 3))
        assert torch.equal(head.execute(context(), plan, shared), drawn)
        assert not torch.allclose(head.execute(context(), -plan, generators(1, 2, 3)), drawn)
        likeliest = fitted(make(temperature=0.0), chunks(), nothing_padded()).eval()
        assert torch.equal(*(likeliest.plan(context(), generators(*seeds)) for seeds in ((1, 2, 3), (4, 5, 6))))


@pytest.mark.parametrize(("stride", "rows"), [(1, [*range(8)]), (3, [1, 4, 7]), (4, [3, 7]), (20, [7])])
def test_a_plan_ends_where_the_chunk_ends(stride: int, rows: list[int]) -> None:
    assert make(stride=stride).rows.tolist() == rows


def test_options_that_do_not_fit_are_refused() -> None:
    wrong: dict[str, Any]
    for wrong in ({"stride": 0}, {"noise": -1.0}, {"plan_weight": 0.0}):
        with pytest.raises(ValueError, match=r"policy.head.hybrid: found stride .*, wanted at least 1"):
            make(**wrong)
    with pytest.raises(ValueError, match=r"hybrid.executor: found 'token', wanted diffusion, flow, shortcut"):
        make(executor="token")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_saved_policy_plans_and_acts_as_before(
    tmp_path: Path, tokenizer: TextTokenizer, observe: Callable[..., Observation], executor: str
) -> None:
    head = replace(TINY_HEAD, kind="hybrid", hybrid=replace(TINY.hybrid, executor=executor, stride=2), token=TINY.token)
    torch.manual_seed(0)
    proprio = MinMaxNormaliser.fit(np.array([[-1.0, -2.0, 1.0], [1.0, 2.0, 1.0]], np.float32))
    action = MinMaxNormaliser.fit(np.array([[-0.9, -1.0], [0.5, 1.0]], np.float32))
    policy = Policy(replace(TINY_POLICY, head=head), SPEC, ["front", "wrist"], proprio, action, tokenizer).eval()
    policy.head.fit(chunks(50)[:, :4, :2], nothing_padded(50)[:, :4])
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy")
    assert torch.equal(loaded.act(observe(), generators(1, 2)), policy.act(observe(), generators(1, 2)))
    assert isinstance(policy.head, HybridHead) and isinstance(loaded.head, HybridHead)
    seen = policy.context(observe())
    assert torch.equal(*(each.head.plan(seen, generators(1, 2)) for each in (policy, loaded)))  # pyright: ignore


# What it learns


def bimodal(number: int) -> tuple[Tensor, Tensor]:
    """A path of 8 actions to either side of x, either as likely."""
    x, side = torch.rand(number, 1) * 0.6 - 0.3, torch.randint(0, 2, (number, 1)) - 0.5
    way = torch.linspace(0.125, 1, HORIZON)
    return x, (x + side * way + 0.06 * torch.randn(number, 1))[..., None]


def jump(number: int) -> tuple[Tensor, Tensor]:
    """8 like actions whose value jumps where x changes sign."""
    x = torch.rand(number, 1) * 2 - 1
    return x, (0.6 * x.sign() + 0.06 * torch.randn(number, 1))[..., None].expand(-1, HORIZON, -1)


PROBLEMS: dict[str, Callable[[int], tuple[Tensor, Tensor]]] = {"bimodal": bimodal, "jump": jump}
CENTRES: dict[str, Callable[[Tensor], Tensor]] = {"bimodal": lambda x: x, "jump": lambda x: 0.6 * x.sign()}
LEARNED: dict[str, HybridHead] = {}


def as_context(x: Tensor) -> TokenGroup:
    return TokenGroup(torch.cat([x, torch.ones_like(x)], dim=1)[:, None], torch.ones(len(x), 1, dtype=torch.bool))


def learned(problem: str, steps: int = 400) -> HybridHead:
    """A head trained on a problem, once for all tests."""
    if problem not in LEARNED:
        torch.manual_seed(0)
        config = replace(
            TINY, context_width=64, denoiser_width=64, denoiser_blocks=2, noise_samples=1, inference_steps=50,
            prediction_type="v_prediction", token=replace(TINY.token, width=32),
        )  # fmt: skip
        head = HybridHead(config, HORIZON, 1, 1, 2)
        optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            x, y = PROBLEMS[problem](256)
            head.loss(as_context(x), y, torch.zeros(256, HORIZON, dtype=torch.bool)).total.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        LEARNED[problem] = head.eval()
    return LEARNED[problem]


def alike(found: Tensor, truth: Tensor) -> float:
    """p of a two-sample Kolmogorov-Smirnov test on numbers."""
    return float(ks_2samp(found.numpy(), truth.numpy()).pvalue)  # pyright: ignore


@pytest.mark.parametrize("problem", PROBLEMS)
def test_draws_pass_the_two_sample_test(problem: str) -> None:
    """Around what is seen; the plan of 16 bins on its own does not pass where it is not blurred by x."""
    head = learned(problem)
    torch.manual_seed(1)
    (x, true), (again, _) = PROBLEMS[problem](600), PROBLEMS[problem](600)
    with torch.inference_mode():
        plan = head.plan(as_context(again))
        drawn = head.execute(as_context(again), plan)
    truth, drawn, plan = (
        part[..., 0] - CENTRES[problem](seen) for part, seen in ((true, x), (drawn, again), (plan, again))
    )
    assert min(alike(drawn[:, row], truth[:, row]) for row in range(HORIZON)) > 0.001
    if problem == "jump":
        assert alike(plan[:, -1], truth[:, -1]) < 1e-6


def test_the_executor_goes_the_way_of_the_plan_and_corrects_its_rounding() -> None:
    head = learned("bimodal")
    torch.manual_seed(1)
    x, _ = bimodal(400)
    with torch.inference_mode():
        plan = head.plan(as_context(x))
        assert 0.35 < (plan[:, -1] > x).float().mean() < 0.65
        for given in (plan, 2 * x[:, None] - plan):  # and the same to the other side
            drawn = head.execute(as_context(x), given)
            same_way = (drawn[:, -1] > x) == (given[:, -1] > x)
            assert same_way.float().mean() > 0.98
            spread = [((values[:, -1] - x).abs() - 0.5).std().item() for values in (drawn, given)]
            assert spread[0] < spread[1]


def test_chunks_belong_to_one_side() -> None:
    """Every action is on the side of the last, as in the demonstrations."""
    head = learned("bimodal")
    torch.manual_seed(1)
    x, _ = bimodal(400)
    with torch.inference_mode():
        off = head.sample(as_context(x))[..., 0] - x
    assert ((off[:, 3:] > 0) == (off[:, -1:] > 0)).all(1).float().mean() > 0.97
