"""The image codebook: a picture as a grid of integers, and back (vector quantisation; diffusers' `VQModel`)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import CodebookConfig
from ..interfaces import Losses
from .image import to_unit_range

BLOCK = 4  # pixels along the side of what enters the convolutions as one position
COMMITMENT = 0.25  # weight of the pull of latents to their codes (van den Oord et al. 2017)
DECAY = 0.99  # of the moving average of how often a code is taken
RARE = 0.03  # share of the average use below which a code is dead


class ImageCodebook(nn.Module):
    """VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937), whose codes that nothing takes start again from latents.

    Args:
        config: sizes.
        size: (height, width) of the images.

    Attributes:
        grid: codes of an image, down and right.
        usage: moving average of each code's share of all positions [codes].
        mean, deviation: of each colour in the first batch of training, by which pictures are standardised [3, 1, 1]; as
            they come, little but their mean is learned for hundreds of steps.

    Raises ValueError where the patch does not divide the images, or is none that halving reaches.
    """

    def __init__(self, config: CodebookConfig, size: tuple[int, int]) -> None:
        from diffusers.models.autoencoders.vq_model import VQModel

        super().__init__()
        halvings = int(math.log2(max(config.patch, 1) / BLOCK)) if config.patch >= BLOCK else -1
        if halvings < 0 or BLOCK * 2**halvings != config.patch or any(side % config.patch for side in size):
            raise ValueError(
                f"policy.backbone.codebook.patch: found {config.patch} for images of {size[0]} x {size[1]}, wanted "
                f"{BLOCK} times a power of two that divides both"
            )
        if config.codes < 2:
            raise ValueError(f"policy.backbone.codebook.codes: found {config.codes}, wanted at least 2")
        self.grid = (size[0] // config.patch, size[1] // config.patch)
        blocks = halvings + 1
        self.vq = VQModel(
            in_channels=3 * BLOCK**2,
            out_channels=3 * BLOCK**2,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            block_out_channels=(config.channels,) * blocks,
            latent_channels=config.width,
            num_vq_embeddings=config.codes,
            norm_num_groups=math.gcd(config.channels, 8),
            mid_block_add_attention=False,
        )
        self.register_buffer("usage", torch.zeros(config.codes))
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("deviation", torch.ones(3, 1, 1))
        self.usage: Tensor
        self.mean: Tensor
        self.deviation: Tensor

    @property
    def perplexity(self) -> Tensor:
        """exp of the entropy of `usage`: as many as there are codes where all are taken alike."""
        share = self.usage / self.usage.sum().clamp_min(1e-12)
        return torch.special.entr(share).sum().exp()

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Codes int64 [B, P] of images [B, H, W, 3], uint8 or float in [0, 1], row after row."""
        return self._nearest(self._latents(self._enter(images))).flatten(1)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Images float32 [B, H, W, 3] in [0, 1] of codes int64 [B, P]."""
        latents = F.embedding(codes.unflatten(1, self.grid), self._codes).movedim(-1, 1)
        return (self._decode(latents) * self.deviation + self.mean).movedim(1, -1).clamp(0, 1)

    @torch.no_grad()
    def vectors(self, codes: Tensor) -> Tensor:
        """Of codes int64 [...]: [..., width], each as the whole codebook is standardised."""
        known = self._codes
        return F.embedding(codes, (known - known.mean(0)) / known.std(0).clamp_min(1e-6))

    def loss(self, images: Tensor) -> Losses:
        """Squared error of the reconstruction, the codes' distance to the latents, and the commitment.

        While training, `usage` follows, and dead codes start again from latents of this batch. Parts: "reconstruction"
        (squared error as a share of the colours' variance), "commitment", "perplexity".
        """
        if self.training and not self.usage.any():
            self._standardise(images)
        pixels = self._enter(images)
        latents = self._latents(pixels)
        if self.training:
            self._revive(latents.detach())
        indices = self._nearest(latents.detach())
        quantised = F.embedding(indices, self._codes).movedim(-1, 1)
        pull, follow = F.mse_loss(latents, quantised.detach()), F.mse_loss(quantised, latents.detach())
        error = F.mse_loss(self._decode(latents + (quantised - latents).detach()), pixels)
        if self.training:
            share = torch.bincount(indices.flatten(), minlength=len(self.usage)) / indices.numel()
            self.usage.lerp_(share.to(self.usage), 1 - DECAY)
        parts = {"reconstruction": error.detach(), "commitment": pull.detach(), "perplexity": self.perplexity}
        return Losses(error + follow + COMMITMENT * pull, parts)

    @property
    def _codes(self) -> Tensor:
        return self.vq.quantize.embedding.weight

    def _enter(self, images: Tensor) -> Tensor:
        """[B, H, W, 3] to standardised colours, float32 [B, 3, H, W]."""
        return (to_unit_range(images).movedim(-1, 1) - self.mean) / self.deviation

    def _standardise(self, images: Tensor) -> None:
        colours = to_unit_range(images).flatten(0, -2)
        self.mean.copy_(colours.mean(0)[:, None, None])
        self.deviation.copy_(colours.std(0).clamp_min(1e-3)[:, None, None])

    def _latents(self, pixels: Tensor) -> Tensor:
        return self.vq.encode(F.pixel_unshuffle(pixels, BLOCK)).latents

    def _decode(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(self.vq.decode(latents, force_not_quantize=True, return_dict=False)[0], BLOCK)

    def _nearest(self, latents: Tensor) -> Tensor:
        """The code nearest to each latent [B, C, h, w]: int64 [B, h, w]."""
        flat = latents.movedim(1, -1)
        distances = self._codes.square().sum(-1) - 2 * flat @ self._codes.T
        return distances.argmin(-1)

    @torch.no_grad()
    def _revive(self, latents: Tensor) -> None:
        """Codes that hardly anything takes become latents of the batch, and count as taken like the others."""
        even = 1 / len(self.usage)
        dead = self.usage < RARE * even
        flat = latents.movedim(1, -1).flatten(0, 2)
        drawn = torch.randint(len(flat), dead.shape, device=flat.device)
        self._codes.copy_(torch.where(dead[:, None], flat[drawn], self._codes))
        self.usage.masked_fill_(dead, even)
