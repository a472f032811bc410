"""A scorer made from an aligned policy tells instructions that fit the picture from those that do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deixis.datasets.curation.config import CurationConfig, ScoreConfig
from deixis.datasets.curation.curate import curate
from deixis.datasets.episode import Episode
from deixis.datasets.normalisation import MinMaxNormaliser
from deixis.datasets.store import TrajectoryStore
from deixis.policies.backbones.modular import ModularBackbone
from deixis.policies.backbones.tokenizer import TextTokenizer
from deixis.policies.objectives.grounding import grounding_loss, mask_targets
from deixis.policies.policy import Policy
from deixis.policies.scoring import grounding_scorer

from .conftest import RGB, SIZE, SPEC, TINY_POLICY, toy_episode, write_store

NOWHERE = 254  # a label that no pixel has


def absent_colour(episode: Episode) -> str:
    """The one of the four colours that a scene of three squares lacks."""
    return next(colour for colour in RGB if colour not in {thing["colour"] for thing in episode.meta["scene"]})


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved policy that was taught, in its first camera, where each named square is and which one is not there."""
    episodes = [toy_episode(seed) for seed in range(200)]
    images = torch.from_numpy(np.stack([episode.streams["camera.front"].values[0] for episode in episodes]))
    masks = torch.from_numpy(np.stack([episode.streams["segmentation.front"].values[0] for episode in episodes]))
    texts = [f"touch the {colour} cube" for colour in RGB]
    places = [{thing["colour"]: 1 + i for i, thing in enumerate(episode.meta["scene"])} for episode in episodes]
    labels = torch.tensor([[place.get(colour, NOWHERE) for colour in RGB] for place in places], dtype=torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rows = {name: np.stack([e.streams[name].values[0] for e in episodes]) for name in ("proprio", "action")}
        policy = Policy(
            TINY_POLICY, SPEC, ["front", "wrist"],
            MinMaxNormaliser.fit(rows["proprio"]), MinMaxNormaliser.fit(rows["action"]),
            TextTokenizer.train(texts, 200, 16),
        )  # fmt: skip
        backbone = policy.backbone
        assert isinstance(backbone, ModularBackbone)
        optimiser = torch.optim.AdamW(backbone.parameters(), lr=3e-3)
        for step in range(150):
            batch = torch.randperm(len(episodes), generator=torch.Generator().manual_seed(step))[:16]
            roles = backbone.encode_text(texts).roles[:, 0].expand(len(batch), -1, -1)
            logits = backbone.grounding.view(0).scores(backbone.image_features(0, images[batch]), roles)
            target = mask_targets(masks[batch], labels[batch], backbone.grids[0])
            loss = grounding_loss(logits, target, torch.ones_like(labels[batch], dtype=torch.bool))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    folder = tmp_path_factory.mktemp("aligned") / "policy"
    policy.save(folder)
    return folder


def test_what_is_not_there_scores_low(aligned: Path) -> None:
    score = grounding_scorer(aligned)
    episodes = [toy_episode(seed) for seed in range(10_000, 10_040)]
    images = {"front": np.stack([episode.streams["camera.front"].values[0] for episode in episodes])}
    there = score(images, [f"touch the {episode.meta['goal']['target']}" for episode in episodes])
    missing = score(images, [f"touch the {absent_colour(episode)} cube" for episode in episodes])
    assert there.shape == (40,) and there.dtype == np.float64
    assert max(there.max(), missing.max()) <= 0, "a logarithm of a probability"
    assert (there[:, None] > missing).mean() > 0.97
    alone = score({"front": images["front"][:1]}, [f"touch the {episodes[0].meta['goal']['target']}"])
    np.testing.assert_allclose(alone, there[:1], atol=1e-4)


def test_curation_drops_instructions_for_what_is_not_there(aligned: Path, tmp_path: Path) -> None:
    source = TrajectoryStore.open(write_store(tmp_path / "a.zarr", 12, first_seed=500))
    mislabelled = TrajectoryStore.create(tmp_path / "b.zarr", source.env_spec, list(source.streams.values()))
    wrong = {2, 7, 9}
    with mislabelled.writer(sync=False) as writer:
        for index in range(len(source)):
            episode = source.episode(index)
            colour = absent_colour(episode) if index in wrong else episode.meta["goal"]["target"].split()[0]
            episode.instruction = f"touch the {colour} cube"
            writer.append(episode)
    config = CurationConfig(score=ScoreConfig(minimum=float(np.log(0.5))))
    report = curate(mislabelled, tmp_path / "c.zarr", config, grounding_scorer(Policy.load(aligned)))
    assert {drop.episode for drop in report.steps[0].drops} == wrong


def test_images_that_do_not_fit_are_refused(aligned: Path) -> None:
    score = grounding_scorer(aligned)
    with pytest.raises(ValueError, match=r"scorer: camera 'front': found \['side'\], wanted uint8 \[1, 32, 32, 3\]"):
        score({"side": np.zeros((1, SIZE, SIZE, 3), np.uint8)}, ["touch"])
    with pytest.raises(ValueError, match=r"found uint8 \[1, 16, 32, 3\]"):
        score({"front": np.zeros((1, 16, SIZE, 3), np.uint8)}, ["touch"])
