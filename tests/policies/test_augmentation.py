"""Augmentation keeps masks on their objects and colours within their names."""

from __future__ import annotations

import colorsys

import torch

from deixis.policies.training.augmentation import colour_jitter, random_shift

NAMED = {
    "red": (0.86, 0.10, 0.10),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.10, 0.22, 0.88),
    "yellow": (0.95, 0.87, 0.10),
    "purple": (0.52, 0.12, 0.66),
    "orange": (0.97, 0.48, 0.06),
}


def test_image_and_mask_move_together() -> None:
    torch.manual_seed(0)
    masks = torch.zeros(16, 32, 32, dtype=torch.uint8)
    masks[:, 10:15, 20:23] = 1
    images = masks[..., None].repeat(1, 1, 1, 3) * 200
    shifted, moved, shift = random_shift(images, masks, 4)
    assert torch.equal(shifted[..., 0], moved * 200)
    assert not torch.equal(moved, masks)
    assert (moved.flatten(1).sum(1) == 15).all(), "an object away from the border keeps its area"
    assert shift is not None
    rows, columns = torch.arange(32.0)[:, None], torch.arange(32.0)
    for mask, offset in zip(moved, shift, strict=True):
        place = torch.stack([(mask * columns).sum() / 15, (mask * rows).sum() / 15])
        before = place + offset * 16  # a view is 2 units and 32 pixels wide
        torch.testing.assert_close(before, torch.tensor([21.0, 12.0]))


def test_jitter_keeps_every_named_colour_nearest_to_its_own_hue() -> None:
    torch.manual_seed(0)
    hues = {name: colorsys.rgb_to_hsv(*rgb)[0] for name, rgb in NAMED.items()}
    for name, rgb in NAMED.items():
        image = (torch.tensor(rgb) * 255).to(torch.uint8).expand(500, 1, 1, 3)
        for pixel in colour_jitter(image, 0.3).reshape(-1, 3).tolist():
            hue = colorsys.rgb_to_hsv(*pixel)[0]
            nearest = min(hues, key=lambda other: abs((hues[other] - hue + 0.5) % 1 - 0.5))
            assert nearest == name, f"{name} became {nearest}: {pixel}"
