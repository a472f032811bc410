"""Language-conditioned fusion as grounding: where in a view is what a phrase names, and how does it look there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import cast

import torch
from torch import Tensor, nn

from ..config import BackboneConfig
from ..objectives.grounding import mask_targets
from .image import cell_centres

_NOTHING = 1e-6  # share of a heat map where a mask has nothing
_known: ContextVar[tuple[GroundedViews, list[Tensor]] | None] = ContextVar("_known", default=None)
"""Heat maps that are given, and to whom: in this thread alone, as others may share the policy."""


class SearchPrior(nn.Module):
    """Where in this view to look, from where the other views found it and from the robot's own state.

    From above and far away a ball looks like a cylinder; a camera that sees the difference knows which is which, and
    the hand's pose says where that one must be in this view. A small network turns both into a Gaussian over positions
    that is added to the heat map's logits.
    """

    def __init__(self, context: int, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(context, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.gaussian = nn.Linear(hidden, 4)  # u, v, log precision, "not visible"
        nn.init.zeros_(self.gaussian.weight)
        nn.init.zeros_(self.gaussian.bias)

    def forward(self, context: Tensor, moments: Tensor, shift: Tensor | None) -> Tensor:
        """Logits [B, Q, S + 1] over positions with `moments` [S, 4] (u, v, u², v²) for context [B, Q, context].

        shift: by how much this view was moved, [B, 2] in the units of (u, v).
        """
        mean, log_precision, missing = self.gaussian(self.hidden(context)).split((2, 1, 1), dim=-1)
        if shift is not None:
            mean = mean - shift[:, None]
        distance = moments[:, 2:].sum(-1) - 2 * mean @ moments[:, :2].T + mean.square().sum(-1, keepdim=True)
        return torch.cat([-0.5 * log_precision.exp() * distance, missing], dim=-1)


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
        context: size of what else says where to look (see `SearchPrior`); 0 if nothing does.
    """

    extra = 5  # u, v, spread u, spread v, visibility

    def __init__(
        self, grid: tuple[int, int], channels: int, text_width: int, width: int, key_points: int, context: int = 0
    ) -> None:
        super().__init__()
        self.query = nn.Linear(text_width, width)
        self.null = nn.Linear(text_width, 1)
        self.points = nn.Linear(channels, key_points, bias=False)
        self.key = nn.Linear(channels, width, bias=False)
        self.prior = SearchPrior(context) if context else None
        centres = cell_centres(*grid)
        self.register_buffer("moments", torch.cat([centres, centres.square()], 1), persistent=False)  # [h * w, 4]
        self.moments: Tensor

    def scores(
        self, features: Tensor, phrases: Tensor, context: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Heat-map logits of phrases [B, Q, Dt] over features [B, h, w, C], "not visible" last: [B, Q, h * w + 1].

        context: [B, Q, context] for the prior, which is left out without it; shift: see `SearchPrior`.
        """
        # <W f, q> = <f, W^T q>: the few phrases are moved into feature space instead of all positions out of it.
        query = (self.query(phrases) * self.query.out_features**-0.5) @ self.key.weight
        scores = query.to(features.dtype) @ features.flatten(1, 2).transpose(1, 2)
        logits = torch.cat([scores.float(), self.null(phrases)], dim=-1)
        if self.prior is None or context is None:
            return logits
        return logits + self.prior(context, self.moments, shift)

    def place(self, logits: Tensor, shift: Tensor | None = None) -> Tensor:
        """Where the heat maps point, as a context for other views: (u, v) scaled by visibility, and it: [B, Q, 3]."""
        mean = logits[..., :-1].softmax(-1) @ self.moments[:, :2]
        visible = 1 - logits.softmax(-1)[..., -1:]
        return torch.cat([(mean if shift is None else mean + shift[:, None]) * visible, visible], -1)

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


class GroundedViews(nn.ModuleList):
    """The grounding of each camera, in their order.

    Args:
        config: sizes.
        grids: (rows, columns) of each camera's features.
        channels: C of the features.
        words: size of a phrase embedding.
        proprio_dim: P.
    """

    def __init__(
        self,
        config: BackboneConfig,
        grids: Sequence[tuple[int, int]],
        channels: int,
        words: int,
        proprio_dim: int,
    ) -> None:
        super().__init__(
            # The first camera searches by the words alone, each next one also by what those before it found.
            Grounding(
                *(grid, channels, words, config.grounding_width),
                *(config.key_points, 3 * i + proprio_dim if i else 0),
            )
            for i, grid in enumerate(grids)
        )
        self._grids = tuple(grids)

    @contextmanager
    def pointing(self, segmentation: Sequence[Tensor], labels: Tensor) -> Iterator[None]:
        """Within it, in the same thread, the heat maps are those of masks, whatever is looked for: the segmentation of
        each camera, uint8 [B, H, W], and the label of each phrase, uint8 [B, Q]."""
        pairs = zip(segmentation, self._grids, strict=True)
        token = _known.set((self, [mask_targets(masks, labels, grid) for masks, grid in pairs]))
        try:
            yield
        finally:
            _known.reset(token)

    @property
    def centres(self) -> list[Tensor]:
        """Of each camera, the middles of the grid's cells as (u, v) in [-1, 1], [S, 2]."""
        return [self.view(i).moments[:, :2] for i in range(len(self))]

    def view(self, camera: int) -> Grounding:
        """The grounding of one camera."""
        return cast(Grounding, self[camera])

    def ground(
        self, grids: Sequence[Tensor], phrases: Tensor, proprio: Tensor, shifts: Sequence[Tensor | None] = ()
    ) -> list[Tensor]:
        """Heat-map logits [B, Q, h * w + 1] of phrases [B, Q, Dt] in each camera's features [B, h, w, C].

        proprio: normalised, of the same instant, [B, P]. shifts: by how much each view was moved, [B, 2] or None.
        """
        known = _known.get()
        if known is not None and known[0] is self:
            return [share.clamp_min(_NOTHING).log() for share in known[1]]
        logits, found = [], []
        own = proprio[:, None].expand(-1, phrases.shape[1], -1)
        for i, grid in enumerate(grids):
            shift = shifts[i] if shifts else None
            context = torch.cat([*found, own], dim=-1) if found else None
            logits.append(self.view(i).scores(grid, phrases, context, shift))
            found.append(self.view(i).place(logits[-1], shift).detach())  # each view learns from its own masks
        return logits

    def read(self, grids: Sequence[Tensor], logits: Sequence[Tensor]) -> Tensor:
        """Encoded instants [B, F] from each camera's features and the heat maps of the role phrases."""
        parts = []
        for i, (grid, scores) in enumerate(zip(grids, logits, strict=True)):
            parts += [self.view(i).read(grid, scores).flatten(1), self.view(i).key_points(grid)]
        return torch.cat(parts, dim=1)
