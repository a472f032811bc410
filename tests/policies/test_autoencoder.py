"""Autoencoders of chunks: residual codes that are all used, a variational one that draws new chunks, learned tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from deixis.policies.config import AutoencoderConfig, TokenConfig
from deixis.policies.heads.autoencoder import ChunkAutoencoder, GaussianLatent, ResidualCodes, train_autoencoder
from deixis.policies.heads.vq_tokens import VectorCode

from .motions import pusht_chunks, smooth_chunks

HORIZON, DIM = 8, 3
TINY = AutoencoderConfig(vectors=2, levels=2, codes=16, code_width=4, width=32, steps=150)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learned(latents: Tensor, levels: int, codes: int, steps: int = 100) -> ResidualCodes:
    found = ResidualCodes(latents.shape[1], levels, codes, latents.shape[2])
    for _ in range(steps):
        found.learn(latents, generator())
    return found


def test_the_nearest_code_of_every_level_is_taken() -> None:
    codes = ResidualCodes(2, 2, 4, 3)
    codes.codes.copy_(torch.randn(codes.codes.shape, generator=generator()))
    latents = torch.randn(10, 2, 3, generator=generator(1))
    indices = codes.indices(latents)
    for b in range(10):
        for v in range(2):
            left = latents[b, v]
            for level in range(2):
                distance = (codes.codes[v, level] - left).norm(dim=-1)
                assert indices[b, v, level] == distance.argmin()
                left = left - codes.codes[v, level, indices[b, v, level]]
            assert torch.allclose(codes.look_up(indices)[b, v], latents[b, v] - left, atol=1e-6)


def test_codes_move_to_the_clusters_and_each_level_halves_what_is_left() -> None:
    centres = torch.tensor([[-1.0, 0.0], [1.0, 0.5], [0.0, 2.0]])
    latents = centres.repeat(100, 1)[:, None] + 0.01 * torch.randn(300, 1, 2, generator=generator())
    codes = learned(latents, 1, 12)
    assert torch.cdist(centres, codes.codes[0, 0]).min(1).values.max() < 0.02
    spread = torch.randn(500, 2, 4, generator=generator())
    errors = []
    for levels in (1, 2, 3):
        codes = learned(spread, levels, 16)
        errors.append((codes.look_up(codes.indices(spread)) - spread).square().mean().item())
    assert errors[0] < 0.5 and errors[1] < 0.6 * errors[0] and errors[2] < 0.6 * errors[1]


def test_a_code_that_nothing_takes_starts_again_from_a_latent() -> None:
    latents = torch.randn(200, 1, 2, generator=generator())
    codes = learned(latents, 1, 8)
    codes.codes[0, 0, 3] = 1e3
    codes.sums[0, 0, 3] = 1e3 * codes.usage[0, 0, 3]
    for _ in range(400):
        codes.learn(latents, generator())
    assert codes.codes.abs().max() < 5
    assert set(codes.indices(latents).flatten().tolist()) == set(range(8))


def test_gradients_pass_through_the_codes_and_the_price_is_their_distance() -> None:
    codes = learned(torch.randn(50, 2, 4, generator=generator()), 2, 8)
    encoded = torch.randn(50, 2, 4, generator=generator(1), requires_grad=True)
    latents, price = codes.squeeze(encoded, generator())
    pull = torch.randn(50, 2, 4, generator=generator(2))
    (latents * pull).sum().backward()
    assert encoded.grad is not None and torch.equal(encoded.grad, pull)
    assert torch.allclose(price, 0.25 * (encoded - latents).square().mean((1, 2)), atol=1e-6)


def test_the_price_of_a_gaussian_latent_is_its_divergence_from_the_prior() -> None:
    bottleneck, encoded = GaussianLatent(3, 0.5), torch.randn(4, 2, 3, generator=generator())
    _, price = bottleneck.squeeze(encoded, generator())
    divergence = kl_divergence(Normal(encoded[:, 0], encoded[:, 1].exp()), Normal(0.0, 1.0)).sum(1)
    assert torch.allclose(price, 0.5 * divergence, atol=1e-5)


def test_a_variational_autoencoder_knows_its_chunks_and_draws_new_ones() -> None:
    """Waves of normally distributed height, of which a linear one already finds the density (Lucas et al. 2019)."""

    def waves(count: int, seed: int) -> Tensor:
        height = 0.25 * torch.randn(count, 1, generator=generator(seed))
        return (height * torch.sin(torch.linspace(0, torch.pi, HORIZON)))[..., None]

    torch.manual_seed(0)
    autoencoder = ChunkAutoencoder(HORIZON, 1, 32, GaussianLatent(1, 5e-3))
    train_autoencoder(autoencoder, waves(2000, 0), 600, generator())
    seen = waves(500, 1)
    with torch.inference_mode():
        known = autoencoder.decode(autoencoder.encode(seen)[:, 0])
        drawn = autoencoder.decode(torch.randn(500, 1, generator=generator(2)))
    assert (known - seen).square().mean().sqrt() < 0.03
    middle = HORIZON // 2
    assert ks_2samp(drawn[:, middle, 0].numpy(), seen[:, middle, 0].numpy()).pvalue > 0.001  # pyright: ignore
    shape = seen[:1] / seen[:1, middle : middle + 1]
    assert (drawn - drawn[:, middle : middle + 1] * shape).square().mean().sqrt() < 0.03


def make(options: AutoencoderConfig = TINY, **token: object) -> VectorCode:
    code = VectorCode(TokenConfig(code="vq", autoencoder=options, **token), HORIZON, DIM)  # pyright: ignore
    code.fit(smooth_chunks(1000, HORIZON, DIM), torch.zeros(1000, HORIZON, dtype=torch.bool))
    return code


def test_learned_tokens_use_their_codes_and_more_of_them_lose_less() -> None:
    code = make()
    assert (code.perplexity > 8).all() and (code.perplexity <= 16).all()
    tokens = code.encode(smooth_chunks(1000, HORIZON, DIM))
    share = tokens[:, 1, 0].bincount() / 1000
    expected = torch.special.entr(share).sum().exp()
    assert code.perplexity[1, 0].item() == pytest.approx(expected.item(), rel=1e-4)
    assert (tokens // TINY.codes == torch.arange(4).view(2, 2)).all(), "every place has its own codes"
    assert make(replace(TINY, levels=1)).rms_error > code.rms_error
    assert make(replace(TINY, levels=3, codes=32)).rms_error < code.rms_error


def test_another_seed_is_another_code_and_training_does_not_move_it() -> None:
    code, other = make(), make(replace(TINY, seed=1))
    assert not torch.equal(code.autoencoder.encoder.line.weight, other.autoencoder.encoder.line.weight)  # pyright: ignore
    assert not list(code.parameters())
    code.requires_grad_(True)
    assert not any(value.requires_grad for value in code.state_dict(keep_vars=True).values())


def test_a_learned_gripper_has_two_values() -> None:
    code = make(binary=(1,))
    assert set(code.decode(code.encode(smooth_chunks(50, HORIZON, DIM)))[..., 1].flatten().tolist()) <= {-1.0, 1.0}


def test_push_t_in_eight_tokens() -> None:
    chunks, is_pad = pusht_chunks()
    code = VectorCode(TokenConfig(code="vq", autoencoder=AutoencoderConfig(width=64, steps=300)), 16, 2)
    code.fit(chunks, is_pad)
    assert code.units == 8
    assert code.rms_error < 0.06
    assert code.perplexity.min() > 64
