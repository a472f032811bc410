"""Image augmentation for alignment: small shifts of image and mask alike, and mild colour jitter."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CHANNEL_SHARE = 0.25  # channels may differ by a quarter of the jitter: more could turn orange into yellow or red


class Shifted(NamedTuple):
    """Images [B, H, W, 3] and masks [B, H, W] after a shift: what is now at (u, v) was at (u, v) + shift [B, 2]."""

    images: Tensor
    masks: Tensor
    shift: Tensor | None


def random_shift(images: Tensor, masks: Tensor, pixels: int, generator: torch.Generator | None = None) -> Shifted:
    """Shift each image [B, H, W, 3] and its mask [B, H, W] by up to `pixels` left and up, repeating the border.

    (u, v) points right and down and goes from -1 to 1 over the image. Without a shift, `shift` is None.
    generator: of the moves; None takes torch's global one.
    """
    if pixels == 0:
        return Shifted(images, masks, None)
    batch, height, width = masks.shape
    dy, dx = torch.randint(-pixels, pixels + 1, (2, batch, 1), generator=generator)
    rows = (torch.arange(height) + dy).clamp(0, height - 1)[:, :, None].to(images.device)
    columns = (torch.arange(width) + dx).clamp(0, width - 1)[:, None, :].to(images.device)
    index = torch.arange(batch, device=images.device)[:, None, None]
    shift = torch.cat([2 * dx / width, 2 * dy / height], dim=1).to(images.device)
    return Shifted(images[index, rows, columns], masks[index, rows, columns], shift)


def colour_jitter(images: Tensor, strength: float) -> Tensor:
    """Jitter uint8 images [B, H, W, 3] to float32 in [0, 1].

    Brightness of an image changes by up to `strength`, each channel by up to a quarter of it. With strength up to 0.3
    every one of red, green, blue, yellow, purple and orange stays nearest to itself in hue.
    """
    batch = images.shape[0]
    brightness = 1 + strength * (2 * torch.rand(batch, 1, 1, 1) - 1)
    channels = 1 + CHANNEL_SHARE * strength * (2 * torch.rand(batch, 1, 1, 3) - 1)
    return (images * (brightness * channels / 255).to(images.device)).clamp_(0, 1)
