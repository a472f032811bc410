"""The learning signals of alignment against numbers worked out by hand, and what they must and must not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deixis.policies.backbones.embedding import Temperature
from deixis.policies.objectives.anchoring import anchor_weights
from deixis.policies.objectives.contrastive import infonce, shared_labels, sigmoid_contrast
from deixis.policies.objectives.distillation import Momentum, distilled_targets
from deixis.policies.objectives.gradient_surgery import backward_without_conflict, project_conflicts
from deixis.policies.objectives.masked import (
    mask_patches,
    mask_text,
    masked_image_loss,
    masked_text_loss,
)
from deixis.policies.objectives.modality_dropout import MODALITIES, drop_modalities
from deixis.policies.objectives.negatives import NegativeQueue, choose_negatives, hard_share
from deixis.policies.objectives.next_token import next_token_loss
from deixis.policies.objectives.patch_word import late_interaction, patch_word_contrast
from deixis.policies.objectives.region_phrase import pool_regions, region_phrase_contrast

RIGHT, UP, LEFT = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_infonce_counts_further_keys_as_negatives_and_leaves_out_those_not_kept() -> None:
    queries, keys = torch.tensor([RIGHT, UP]), torch.tensor([RIGHT, UP, LEFT])
    all_three = -math.log(math.e / (math.e + 1 + math.exp(-1))), -math.log(math.e / (math.e + 2))
    assert infonce(queries, keys, 1.0).tolist() == pytest.approx(all_three)
    keep = torch.tensor([[False, True, False], [False, False, True]])  # its own is kept whatever is said
    assert infonce(queries, keys, 1.0, keep=keep).tolist() == pytest.approx([-math.log(math.e / (math.e + 1))] * 2)


def test_soft_labels_by_hand() -> None:
    share = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])  # the first two show one scene
    targets = shared_labels(share, 0.5)
    assert targets.tolist() == [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]
    vectors = torch.tensor([RIGHT, UP, LEFT])
    total = math.e + 1 + math.exp(-1)
    first = -0.75 * math.log(math.e / total) - 0.25 * math.log(1 / total)
    assert infonce(vectors, vectors, 1.0, targets)[0].item() == pytest.approx(first)
    hard = infonce(vectors, vectors, 1.0)
    torch.testing.assert_close(infonce(vectors, vectors, 1.0, torch.eye(3)), hard)


def test_targets_of_keys_that_are_left_out_do_not_make_the_loss_infinite() -> None:
    vectors = torch.tensor([RIGHT, UP])
    loss = infonce(vectors, vectors, 1.0, torch.eye(2), torch.zeros(2, 2, dtype=torch.bool))
    assert loss.tolist() == [0.0, 0.0], "compared with nothing else, its own is certain"


def test_sigmoid_contrast_by_hand() -> None:
    images, texts = torch.tensor([RIGHT, UP]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])

    def log_sigmoid(x: float) -> float:
        return -math.log(1 + math.exp(-x))

    expected = -(log_sigmoid(2.0 - 1.0) + log_sigmoid(1.0))  # an image: its own at 2 - 1, the other at -(0 - 1)
    assert sigmoid_contrast(images, texts, 2.0, -1.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("start", [0.011, 0.07, 0.099])
def test_the_temperature_starts_where_told_stays_in_bounds_and_comes_back_from_them(start: float) -> None:
    temperature = Temperature(start)
    assert 1 / temperature().item() == pytest.approx(start, rel=1e-4)
    for sign, steps in ((1, 100), (-1, 300)):
        optimiser = torch.optim.Adam(temperature.parameters(), 0.1)
        for _ in range(steps):
            optimiser.zero_grad()
            (sign * temperature()).backward()
            optimiser.step()
        assert 0.01 <= 1 / temperature().item() <= 0.1
    assert 1 / temperature().item() < 0.02, "from the warm limit it must find back to the cold one"


def test_the_share_of_hard_negatives_goes_from_30_to_70_percent() -> None:
    assert [hard_share(p) for p in (0.0, 0.5, 1.0, 2.0)] == pytest.approx([0.3, 0.5, 0.7, 0.7])


@given(st.integers(2, 12), st.integers(0, 6), st.integers(1, 20), st.floats(0, 1), st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_negatives_are_as_many_as_asked_the_hardest_among_them_and_never_the_right_one(
    rows: int, more: int, count: int, hard: float, seed: int
) -> None:
    queries, keys = torch.randn(rows, 3, generator=generator(seed)), torch.randn(rows + more, 3, generator=generator(1))
    chosen = choose_negatives(queries, keys, count, hard, generator(seed))
    wanted = min(count, rows + more - 1)
    assert chosen.sum(1).tolist() == [wanted] * rows
    assert not chosen.diagonal().any()
    cosine = torch.nn.functional.cosine_similarity(queries[:, None], keys[None], dim=-1)
    for row in range(rows):
        others = [j for j in cosine[row].argsort(descending=True).tolist() if j != row]
        assert chosen[row, others[: round(hard * wanted)]].all()


def test_random_negatives_are_spread_evenly() -> None:
    vectors = torch.randn(2, 4, generator=generator())
    keys = torch.cat([vectors, torch.randn(8, 4, generator=generator(1))])
    draws = sum(choose_negatives(vectors, keys, 3, 0.0, generator(seed)).double() for seed in range(3000)) / 3000
    assert isinstance(draws, Tensor)
    off_diagonal = draws[~torch.eye(2, 10, dtype=torch.bool)]
    torch.testing.assert_close(off_diagonal, torch.full_like(off_diagonal, 3 / 9), atol=0.04, rtol=0)


@given(st.lists(st.integers(0, 7), max_size=8), st.integers(1, 5))
def test_the_queue_holds_the_last_embeddings(pushes: list[int], size: int) -> None:
    queue, pushed = NegativeQueue(size, 1), []
    for count in pushes:
        new = [float(len(pushed) + i) for i in range(count)]
        queue.push(torch.tensor(new).view(-1, 1))
        pushed += new
    assert sorted(queue.contents().flatten().tolist()) == pushed[-size:][: len(pushed)]


def test_anchor_weights_by_hand_and_without_a_gradient() -> None:
    images = torch.tensor([RIGHT, UP, LEFT], requires_grad=True)
    texts = torch.tensor([RIGHT, RIGHT, RIGHT])  # collapsed: the anchor is where they are
    weights = anchor_weights(images, texts, 0.5)
    parts = [math.exp(0), math.exp(1 / 0.5), math.exp(2 / 0.5)]
    assert weights.tolist() == pytest.approx([part / sum(parts) for part in parts])
    assert not weights.requires_grad
    flat = anchor_weights(images, texts, 1e6)
    torch.testing.assert_close(flat, torch.full((3,), 1 / 3), atol=1e-5, rtol=0)


def test_late_interaction_by_hand_and_padding_does_not_count() -> None:
    patches = torch.tensor([[RIGHT, UP], [LEFT, LEFT]])
    words = torch.tensor([[RIGHT, RIGHT], [UP, LEFT]])
    mask = torch.tensor([[True, False], [True, True]])
    to_text, to_image = late_interaction(patches, words, mask)
    assert to_text.tolist() == [[0.5, 0.5], [-1.0, 1.0]]  # text 1 has "right" alone
    assert to_image.tolist() == [[1.0, -1.0], [0.5, 0.5]]
    loss = patch_word_contrast(patches, words, mask, 1.0)
    rows = (math.log(2) - math.log(math.e / (math.e + math.exp(-1)))) / 2
    columns = (-math.log(math.e / (math.e + math.exp(-1))) + math.log(2)) / 2
    assert loss.item() == pytest.approx((rows + columns) / 2)
    words[0, 1] = 99.0
    torch.testing.assert_close(late_interaction(patches, words, mask)[0], to_text)


def test_region_phrase_contrast_by_hand_with_two_right_answers() -> None:
    regions, phrases = torch.tensor([RIGHT, UP]), torch.tensor([RIGHT, RIGHT, UP])
    match = torch.tensor([[True, True, False], [False, False, False]])
    row = -math.log(
        2 * math.e / (2 * math.e + 1)
    )  # the second region is named by no phrase, the third phrase names none
    column = -math.log(math.e / (math.e + 1))
    assert region_phrase_contrast(regions, phrases, match, 1.0).item() == pytest.approx((row + column) / 2)
    assert region_phrase_contrast(regions, phrases, match & False, 1.0).item() == 0.0


def test_unmatched_regions_have_finite_gradients() -> None:
    regions = torch.randn(3, 4, generator=generator(), requires_grad=True)
    match = torch.tensor([[True, False], [False, False], [False, False]])
    region_phrase_contrast(regions, torch.randn(2, 4, generator=generator(1)), match, 3.0).backward()
    assert regions.grad is not None
    assert regions.grad.isfinite().all()


def test_pooled_regions_are_means_under_the_mask() -> None:
    features = torch.arange(8.0).view(1, 2, 2, 2)
    shares = torch.tensor([[[0.5, 0.0, 0.0, 0.5], [0.0, 1.0, 0.0, 0.0]]])
    assert pool_regions(features, shares).tolist() == [[[3.0, 4.0], [2.0, 3.0]]]


def test_masked_words_are_chosen_as_bert_does() -> None:
    ids = torch.arange(10, 60).repeat(400, 1)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, 40:] = False
    masked = mask_text(ids, mask, 0.15, mask_id=1, vocabulary=100, first=5, generator=generator())
    assert not masked.chosen[:, 40:].any()
    assert masked.chosen.any(1).all()
    assert masked.chosen[:, :40].double().mean().item() == pytest.approx(0.15, abs=0.01)
    torch.testing.assert_close(masked.ids[~masked.chosen], ids[~masked.chosen])
    torch.testing.assert_close(masked.labels, ids)
    seen, true = masked.ids[masked.chosen], ids[masked.chosen]
    assert (seen == 1).double().mean().item() == pytest.approx(0.8, abs=0.02)
    assert ((seen != 1) & (seen != true)).double().mean().item() == pytest.approx(0.1, abs=0.02)
    assert seen[seen != 1].min() >= 5, "special tokens are no random words"


def test_a_text_of_one_word_is_masked_too_and_one_of_none_is_left() -> None:
    ids = torch.tensor([[7, 8], [7, 8]])
    mask = torch.tensor([[True, False], [False, False]])
    assert mask_text(ids, mask, 0.15, 1, 20, 5, generator()).chosen.tolist() == [[True, False], [False, False]]


def test_masked_text_loss_by_hand() -> None:
    ids = torch.tensor([[2, 3]])
    masked = mask_text(ids, torch.tensor([[True, False]]), 1.0, 1, 4, 2, generator())
    logits = torch.tensor([[[0.0, 0.0, math.log(3.0), 0.0], [9.0, 0.0, 0.0, 0.0]]])
    assert masked_text_loss(logits, masked).item() == pytest.approx(-math.log(3 / 6))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_masked_patches_are_whole_squares(height: int, width: int, block: int, share: float) -> None:
    chosen = mask_patches(2, (height, width), block, share, generator())
    assert chosen.shape == (2, height, width)
    assert chosen.flatten(1).any(1).all()
    for image in chosen:
        for v in range(0, height, block):
            for u in range(0, width, block):
                square = image[v : v + block, u : u + block]
                assert square.all() or not square.any()


def test_masked_image_loss_counts_only_what_was_hidden() -> None:
    pixels = torch.zeros(1, 1, 2, 3)
    predicted = torch.tensor([[[[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]]]])
    assert masked_image_loss(predicted, pixels, torch.tensor([[[True, False]]])).item() == 2.0


def test_next_token_loss_weighs_modalities_and_predicts_the_token_after() -> None:
    weights = {"text": 1.0, "image": 0.5}
    logits = torch.zeros(1, 4, 4)
    logits[0, 0, 2] = math.log(5.0)  # token 1 is 2, with probability 5/8
    ids = torch.tensor([[0, 2, 3, 1]])
    modality = torch.tensor([[0, 0, 1, -1]])  # the last does not count
    losses = next_token_loss(logits, ids, modality, weights)
    text, image = -math.log(5 / 8), math.log(4)
    assert losses.total.item() == pytest.approx((text + 0.5 * image) / 1.5)
    assert {name: part.item() for name, part in losses.parts.items()} == pytest.approx({"text": text, "image": image})
    with_z = next_token_loss(logits, ids, modality, weights, z_loss=0.1)
    z = (math.log(8) ** 2 + math.log(4) ** 2) / 2
    assert with_z.total.item() == pytest.approx(losses.total.item() + 0.1 * z)


def test_next_token_loss_has_no_part_for_a_modality_that_is_not_there() -> None:
    modality = torch.zeros(1, 3, dtype=torch.int64)
    losses = next_token_loss(torch.zeros(1, 3, 4), torch.zeros(1, 3, dtype=torch.int64), modality, {"a": 1.0, "b": 1.0})
    assert list(losses.parts) == ["a"]


def test_momentum_follows_weights_and_takes_over_buffers() -> None:
    module = nn.BatchNorm1d(2)
    momentum = Momentum(module, 0.75)
    with torch.no_grad():
        module.weight.add_(4.0)
        module.running_mean.add_(8.0)  # type: ignore[union-attr]
    momentum.follow(module)
    assert momentum.copy.weight.tolist() == [2.0, 2.0]
    assert momentum.copy.running_mean.tolist() == [8.0, 8.0]  # type: ignore[union-attr]
    assert not any(parameter.requires_grad for parameter in momentum.parameters())


def test_distilled_targets_by_hand() -> None:
    vectors = torch.tensor([RIGHT, UP])
    targets = distilled_targets(vectors, vectors, 1.0, 0.4)
    share = math.e / (math.e + 1)
    assert targets[0].tolist() == pytest.approx([0.6 + 0.4 * share, 0.4 * (1 - share)])
    assert distilled_targets(vectors, vectors, 1.0, 0.0).tolist() == torch.eye(2).tolist()


def test_projection_is_exact_on_gradients_made_by_hand() -> None:
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    total, conflict = project_conflicts([first, second])
    # first + 1/2 second = (1/2, 1/2); second + 1 first = (0, 1)
    assert total.tolist() == [0.5, 1.5]
    assert conflict == 1.0
    agreeing, conflict = project_conflicts([first, torch.tensor([0.0, 2.0])])
    assert (agreeing.tolist(), conflict) == ([1.0, 2.0], 0.0)


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(max_examples=50, deadline=None)
def test_of_two_gradients_what_is_left_opposes_neither(seed: int, size: int) -> None:
    pair = [torch.randn(size, generator=generator(seed + i), dtype=torch.float64) for i in (0, 5000)]
    total, _ = project_conflicts(pair, generator(seed))
    assert all(float(total @ gradient) >= -1e-9 for gradient in pair)


def test_surgery_sets_the_gradients_of_parameters_that_a_loss_does_not_reach_too() -> None:
    shared, own = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([3.0]))
    losses = {"a": shared.sum() + own.sum(), "b": -0.5 * shared.sum()}
    conflict = backward_without_conflict(losses, [shared, own], generator())
    # a = (1, 1), b = (-1/2, 0): a + 2 b = (0, 1); b + 1/4 a = (-1/4, 1/4)
    assert shared.grad is not None
    assert own.grad is not None
    assert (shared.grad.item(), own.grad.item()) == pytest.approx((-0.25, 1.25))
    assert conflict == 1.0


def test_a_sample_lacks_one_modality_at_most_and_as_often_as_told() -> None:
    dropped = drop_modalities(30_000, 0.3, generator())
    assert tuple(dropped) == MODALITIES
    each = torch.stack(list(dropped.values()))
    assert each.sum(0).max() == 1
    assert np.allclose(each.double().mean(1), 0.1, atol=0.01)
    assert not torch.stack(list(drop_modalities(100, 0.0).values())).any()
