"""How images are contrasted with captions: each option does what it says, and a training with all of them resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deixis.policies.backbones.embedding import JointEmbedding
from deixis.policies.config import ContrastConfig, TrainConfig
from deixis.policies.objectives.contrastive import Contrastive, infonce, sigmoid_contrast, symmetric_infonce
from deixis.policies.policy import Policy
from deixis.policies.training.log import StageProgress
from deixis.policies.training.train import train

from .conftest import tiny_config

COUNT, WIDTH = 6, 5
ALL = ContrastConfig(soft_labels=0.2, negatives=3, queue=16, anchor_temperature=0.5, distillation=0.4, momentum=0.9)


def pairs(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(COUNT, 7, generator=generator), torch.randn(COUNT, 4, generator=generator)


def make(**options: object) -> Contrastive:
    torch.manual_seed(0)
    return Contrastive(JointEmbedding(7, 4, WIDTH), ContrastConfig(**options))  # type: ignore[arg-type]


def projected(of: Contrastive, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
    return of.embedding.image(images), of.embedding.text(texts)


@pytest.mark.parametrize(
    "options",
    [{}, {"negatives": COUNT - 1}, {"negatives": 100}, {"anchor_temperature": 1e6}, {"queue": 8}],
    ids=["plain", "all negatives", "more than there are", "flat anchor", "empty queue"],
)
def test_options_that_leave_nothing_out_are_plain_infonce(options: dict) -> None:
    contrastive, (images, texts) = make(**options), pairs()
    expected = symmetric_infonce(*projected(contrastive, images, texts), contrastive.embedding.temperature())
    torch.testing.assert_close(contrastive(images, texts, torch.eye(COUNT)), expected)


def test_soft_labels_without_shared_objects_and_a_copy_that_is_sure_change_nothing() -> None:
    images, texts = pairs()
    plain = make()(images, texts)
    torch.testing.assert_close(make(soft_labels=0.5)(images, texts, torch.eye(COUNT)), plain)
    sure = torch.eye(COUNT, WIDTH + 1) * 1.0
    distilled = make(distillation=0.5)(images, texts, slow=(sure, sure))
    assert abs(float(distilled.detach() - plain.detach())) < 1e-3, "its softmax at this temperature is all but one-hot"


def test_negatives_of_batches_gone_by_make_it_harder() -> None:
    contrastive = make(queue=COUNT)
    first, second = pairs(1), pairs(2)
    before = contrastive(*first)
    plain = make()(*second)
    after = contrastive(*second)
    torch.testing.assert_close(before, make()(*first))
    assert after > plain
    seen, said = projected(contrastive, *second)
    old_seen, old_said = projected(contrastive, *first)
    scale = contrastive.embedding.temperature()
    expected = (
        infonce(seen, torch.cat([said, old_said]), scale).mean()
        + infonce(said, torch.cat([seen, old_seen]), scale).mean()
    ) / 2
    torch.testing.assert_close(after, expected)
    contrastive.eval()
    kept = contrastive(*second)
    assert torch.equal(contrastive(*second), kept), "only training fills the queue"


def test_the_sigmoid_has_a_bias_of_its_own() -> None:
    contrastive, (images, texts) = make(kind="sigmoid"), pairs()
    assert contrastive.bias is not None
    expected = sigmoid_contrast(
        *projected(contrastive, images, texts), contrastive.embedding.temperature(), contrastive.bias
    )
    torch.testing.assert_close(contrastive(images, texts), expected)


@pytest.mark.parametrize("options", [{}, {"kind": "sigmoid"}, {"negatives": 2}, ALL.__dict__])
def test_training_brings_pairs_together(options: dict) -> None:
    contrastive, (images, texts) = make(**options), pairs()
    optimiser = torch.optim.Adam(contrastive.parameters(), 0.05)
    for step in range(150):
        slow = projected(contrastive, images, texts) if options.get("distillation") else None
        loss = contrastive(images, texts, torch.eye(COUNT), step / 150, slow and (slow[0].detach(), slow[1].detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seen, said = (torch.nn.functional.normalize(x, dim=-1) for x in projected(contrastive, images, texts))
    assert ((seen @ said.T).argmax(1) == torch.arange(COUNT)).all()


def contrasted(contrast: ContrastConfig) -> TrainConfig:
    align = tiny_config().align
    return tiny_config(
        align=replace(align, losses={**align.losses, "contrastive": 1.0}, contrast=contrast), log_every=1
    )


def test_a_killed_run_with_queue_and_copy_ends_with_the_same_weights(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Policy.load(train(contrasted(ALL), toy_store, tmp_path / "whole"))

    def kill(self: StageProgress, done: int, loss: dict[str, float], speed: float) -> None:
        if (self.stage, done) == ("align", 4):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "update", kill)
        with pytest.raises(KeyboardInterrupt):
            train(contrasted(ALL), toy_store, tmp_path / "killed")
    again = Policy.load(train(contrasted(ALL), toy_store, tmp_path / "killed"))
    plain = Policy.load(train(contrasted(ContrastConfig()), toy_store, tmp_path / "plain"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not all(torch.equal(value, plain.state_dict()[name]) for name, value in whole.state_dict().items())
