"""Language-conditioned fusion as grounding: where in a view is what a phrase names, and how does it look there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .image import cell_centres


class Grounding(nn.Module):
    """Compares phrases with every position of one camera's feature grid.

    The score of position p for phrase q is <key(f_p), query(q)> / sqrt(G). A softmax over all positions and a learned
    "not visible" slot gives the heat map; its conditional mean over positions (soft-argmax, Levine et al. 2016) gives a
    place finer than the grid, its spread the apparent size. Text-free key points by spatial softmax see what no phrase
    names, such as the gripper.

    Args:
        grid: (h, w) of the feature grid.
        channels: C of the feature grid.
        text_width: size of a phrase embedding.
        width: G, size of the space of comparison.
        key_points: number of text-free key points.
    """

    extra = 5  # u, v, spread u, spread v, visibility

    def __init__(self, grid: tuple[int, int], channels: int, text_width: int, width: int, key_points: int) -> None:
        super().__init__()
        self.query = nn.Linear(text_width, width)
        self.null = nn.Linear(text_width, 1)
        self.points = nn.Linear(channels, key_points, bias=False)
        self.key = nn.Linear(channels, width, bias=False)
        centres = cell_centres(*grid)
        self.register_buffer("moments", torch.cat([centres, centres.square()], 1), persistent=False)  # [h * w, 4]
        self.moments: Tensor

    def scores(self, features: Tensor, phrases: Tensor) -> Tensor:
        """Heat-map logits of phrases [B, Q, Dt] over features [B, h, w, C], "not visible" last: [B, Q, h * w + 1]."""
        # <W f, q> = <f, W^T q>: the few phrases are moved into feature space instead of all positions out of it.
        query = (self.query(phrases) * self.query.out_features**-0.5) @ self.key.weight
        scores = query.to(features.dtype) @ features.flatten(1, 2).transpose(1, 2)
        return torch.cat([scores.float(), self.null(phrases)], dim=-1)

    def read(self, features: Tensor, logits: Tensor) -> Tensor:
        """What features [B, h, w, C] hold where the heat maps [B, Q, h * w + 1] point: float32 [B, Q, C + 5].

        The local features, then u, v (right, down, in [-1, 1]), the spread in u and in v, all scaled by the visibility,
        then the visibility in [0, 1] itself.
        """
        place = logits[..., :-1].softmax(-1)
        visible = 1 - logits.softmax(-1)[..., -1:]
        moments = place @ self.moments
        mean = moments[..., :2]
        spread = (moments[..., 2:] - mean.square()).clamp_min(1e-6).sqrt()
        local = (place.to(features.dtype) @ features.flatten(1, 2)).float()
        return torch.cat([torch.cat([local, mean, spread], -1) * visible, visible], -1)

    def key_points(self, features: Tensor) -> Tensor:
        """Text-free key points of features [B, h, w, C]: (u, v) each, [B, 2 * K]."""
        scores = features.flatten(1, 2) @ self.points.weight.T.to(features.dtype)
        place = scores.float().softmax(1)
        return (place.transpose(1, 2) @ self.moments[:, :2]).flatten(1)
