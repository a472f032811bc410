"""Losses against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from deixis.policies.backbones.grounding import Grounding
from deixis.policies.backbones.image import cell_centres
from deixis.policies.objectives.contrastive import symmetric_infonce
from deixis.policies.objectives.grounding import grounding_loss, mask_targets, place_error


def test_symmetric_infonce_by_hand() -> None:
    images = torch.tensor([[2.0, 0.0], [0.0, 3.0]])  # lengths do not matter
    texts = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    half = math.sqrt(0.5)  # s = 2 * [[1, half], [0, half]]
    rows = (math.log(1 + math.exp(2 * half - 2)) + math.log(1 + math.exp(-2 * half))) / 2
    columns = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    loss = symmetric_infonce(images, texts, 2.0)
    assert loss.item() == pytest.approx((rows + columns) / 2, abs=1e-6)


def test_mask_targets_are_area_shares_or_the_last_slot() -> None:
    segmentation = torch.zeros(1, 8, 8, dtype=torch.uint8)
    segmentation[0, 2:4, 3:7] = 1  # columns 3 | 4 5 6 of rows 2 3: a quarter left, three quarters right
    labels = torch.tensor([[1, 2]], dtype=torch.uint8)
    target = mask_targets(segmentation, labels, grid=(2, 2))
    assert target.tolist() == [[[0.25, 0.75, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]]


def test_a_pixel_at_the_side_of_two_cells_counts_for_both() -> None:
    segmentation = torch.zeros(1, 5, 6, dtype=torch.uint8)
    segmentation[0, 2, 0] = 1  # the middle row of five, of two rows of cells
    target = mask_targets(segmentation, torch.tensor([[1, 2]], dtype=torch.uint8), grid=(2, 2))
    assert target.tolist() == [[[0.5, 0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]]]


def test_grounding_loss_by_hand_leaves_out_phrases_that_name_no_role() -> None:
    logits = torch.tensor([[[0.0, 0.0, math.log(2.0)], [5.0, 1.0, 0.0]]])
    target = torch.tensor([[[0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]])
    valid = torch.tensor([[True, False]])
    expected = -(0.5 * math.log(0.25) + 0.5 * math.log(0.5))
    assert grounding_loss(logits, target, valid).item() == pytest.approx(expected, abs=1e-6)


def test_place_error_is_the_distance_between_mean_places() -> None:
    centres = cell_centres(1, 2)
    target = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    distance, visible = place_error(torch.zeros(1, 2, 3), target, centres)
    assert distance[0, 0].item() == pytest.approx(0.5)
    assert visible.tolist() == [[True, False]]


def test_grounding_reads_place_spread_and_visibility_from_a_heat_map() -> None:
    grounding = Grounding((2, 2), channels=3, text_width=4, width=5, key_points=2)
    features = torch.arange(12.0).view(1, 2, 2, 3)
    sure, not_there = 50.0, -50.0
    logits = torch.tensor([[[0.0, sure, 0.0, 0.0, not_there], [0.0, 0.0, 0.0, 0.0, sure]]])
    read = grounding.read(features, logits)[0]
    assert torch.allclose(read[0], torch.tensor([3.0, 4.0, 5.0, 0.5, -0.5, 1e-3, 1e-3, 1.0]), atol=1e-4)
    assert torch.allclose(read[1], torch.zeros(8), atol=1e-4), "what is not visible must not leak a place"


def test_a_second_view_looks_where_the_first_one_found_it() -> None:
    """Two squares look alike in the second view; which of them is meant can be told from the first view alone."""
    torch.manual_seed(0)
    grounding = Grounding((8, 8), channels=2, text_width=4, width=5, key_points=2, context=4)
    centres = cell_centres(8, 8)
    phrases = torch.zeros(64, 1, 4)
    optimiser = torch.optim.Adam(grounding.parameters(), 1e-2)
    for _ in range(300):
        cells = torch.stack([torch.randperm(64)[:2] for _row in range(64)])
        features = torch.zeros(64, 64, 2).scatter(1, cells[..., None].expand(-1, -1, 2), 1.0).view(64, 8, 8, 2)
        target = torch.nn.functional.one_hot(cells[:, :1], 65).float()
        # The first view is mirrored, and moved by the hand's pose, the last entry of the context.
        pose = torch.rand(64, 1) - 0.5
        first = centres[cells[:, 0]] * torch.tensor([-1.0, 1.0]) + torch.cat([pose, 0 * pose], 1)
        context = torch.cat([first, torch.ones(64, 1), pose], dim=1)[:, None]
        logits = grounding.scores(features, phrases, context)
        loss = grounding_loss(logits, target, torch.ones(64, 1, dtype=torch.bool))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    right = (logits[:, 0].argmax(-1) == cells[:, 0]).float().mean()
    assert right > 0.9, f"{right:.0%} right; without the first view it is a coin's throw"

    moved = torch.full((64, 2), 0.25)
    prior, centre = grounding.prior, centres.mean(0)
    assert prior is not None

    def peak(shift: torch.Tensor | None) -> torch.Tensor:
        return prior(context, grounding.moments, shift)[:, 0, :-1].softmax(-1) @ centres - centre

    assert (peak(moved) - peak(None)).mean() < -0.1, (
        "a view moved to the right and down shows things further left and up"
    )
