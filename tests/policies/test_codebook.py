"""The image codebook: pictures to integers and back, with all of its codes in use."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from deixis.policies.backbones.codebook import DECAY, ImageCodebook
from deixis.policies.config import CodebookConfig

TINY = CodebookConfig(codes=16, patch=8, width=4, channels=16)


def make(config: CodebookConfig = TINY, size: tuple[int, int] = (32, 24)) -> ImageCodebook:
    torch.manual_seed(0)
    return ImageCodebook(config, size)


def pictures(count: int, seed: int = 0) -> Tensor:
    """A bright square of one of three colours on a dark ground, uint8 [count, 32, 24, 3]."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.full((count, 32, 24, 3), 40, dtype=torch.uint8)
    for image in images:
        row, column, channel = (int(torch.randint(n, (), generator=rng)) for n in (4, 3, 3))
        image[8 * row : 8 * row + 8, 8 * column : 8 * column + 8, channel] = 250
    return images


@cache
def trained(steps: int = 150) -> ImageCodebook:
    codebook = make()
    optimiser = torch.optim.Adam(codebook.parameters(), 2e-3)
    for step in range(steps):
        optimiser.zero_grad()
        codebook.loss(pictures(32, step)).total.backward()
        optimiser.step()
    return codebook.eval()


def test_it_draws_again_what_it_has_coded() -> None:
    codebook, unseen = trained(), pictures(64, 12345)
    codes = codebook.encode(unseen)
    assert codes.shape == (64, 12) and codes.dtype == torch.int64
    assert codebook.grid == (4, 3)
    again = codebook.decode(codes)
    assert again.shape == (64, 32, 24, 3)
    error = (again - unseen.float() / 255).square().mean()
    blank = (unseen.float() / 255).var(0).mean()
    assert error < 0.1 * blank, "nine tenths of what varies are told by the codes"
    assert codebook.perplexity > 2, "ground and three colours"


def test_a_patch_has_its_own_code_in_the_order_of_rows() -> None:
    codebook = trained()
    ground = torch.full((1, 32, 24, 3), 40, dtype=torch.uint8)
    moved = ground.clone()
    moved[:, 24:32, 8:16, 0] = 250
    changed = (codebook.encode(moved) != codebook.encode(ground))[0]
    assert changed[3 * 3 + 1], "row 3, column 1"


@torch.no_grad()
def test_the_code_of_a_latent_is_the_nearest() -> None:
    codebook = make().eval()
    codebook._codes.copy_(torch.randn_like(codebook._codes))  # pyright: ignore
    images = torch.rand(2, 32, 24, 3)
    latents = codebook._latents(codebook._enter(images)).movedim(1, -1).flatten(1, 2)  # pyright: ignore
    expected = torch.cdist(latents, codebook._codes.expand(2, -1, -1)).argmin(-1)  # pyright: ignore
    assert torch.equal(codebook.encode(images), expected)


def test_usage_is_a_moving_average_and_perplexity_its_entropy() -> None:
    codebook = make().train()
    codebook.usage.fill_(1 / 16)
    images = pictures(4)
    codes = codebook.encode(images)  # no code is dead, so none is replaced before they are counted
    codebook.loss(images)
    share = torch.bincount(codes.flatten(), minlength=16) / codes.numel()
    expected = DECAY / 16 + (1 - DECAY) * share
    torch.testing.assert_close(codebook.usage, expected)
    part = expected / expected.sum()
    torch.testing.assert_close(codebook.perplexity, (-(part * part.log()).sum()).exp())
    codebook.usage.fill_(0).index_fill_(0, torch.tensor([3, 7]), 0.5)
    assert codebook.perplexity.item() == pytest.approx(2.0)


def test_codes_that_nothing_takes_start_again_and_used_ones_stay() -> None:
    codebook = make().train()
    codebook.usage.fill_(1 / 16)
    codebook.usage[5] = 0.0
    before = codebook._codes.detach().clone()  # pyright: ignore
    images = pictures(8)
    latents = codebook._latents(codebook._enter(images)).movedim(1, -1).flatten(0, 2)  # pyright: ignore
    codebook.loss(images)
    after = codebook._codes.detach()  # pyright: ignore
    kept = torch.arange(16) != 5
    assert torch.equal(after[kept], before[kept])
    assert (latents - after[5]).abs().sum(-1).min() < 1e-5, "it is a latent of the batch"
    codebook.eval()
    used = codebook.usage.clone()
    codebook.loss(images)
    assert torch.equal(codebook.usage, used), "evaluation changes nothing"


def test_gradients_pass_straight_through_to_the_encoder() -> None:
    codebook = make().train()
    codebook.loss(pictures(4)).total.backward()
    for name, parameter in codebook.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0 or "bias" in name, name


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (replace(TINY, patch=6), (32, 24), r"codebook\.patch: found 6 for images of 32 x 24"),
        (replace(TINY, patch=2), (32, 24), "found 2"),
        (replace(TINY, patch=0), (32, 24), "found 0"),
        (replace(TINY, patch=16), (32, 24), "found 16"),
        (replace(TINY, codes=1), (32, 24), r"codebook\.codes: found 1"),
    ],
)
def test_what_does_not_fit_is_refused(config: CodebookConfig, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(config, size)
