"""The whole path on a toy: alignment finds the named square, imitation points at it in scenes never seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from deixis.policies.backbones.modular import ModularBackbone
from deixis.policies.backbones.text import ROLES
from deixis.policies.config import StageConfig
from deixis.policies.policy import Observation, Policy
from deixis.policies.training.train import train

from .conftest import NOUNS, SIZE, tiny_config, toy_episode, write_store


def test_grounding_finds_the_named_colour_and_the_action_follows_it(tmp_path: Path) -> None:
    config = tiny_config(log_every=100, checkpoint_every=1000)
    align: StageConfig = replace(
        config.align, steps=220, batch_size=32, lr=3e-3, warmup_steps=20, ema_decay=0.98, shift_pixels=2
    )
    imitate: StageConfig = replace(
        config.imitate, steps=250, batch_size=64, lr=3e-3, warmup_steps=20, ema_decay=0.98, betas=(0.9, 0.999)
    )
    store = write_store(tmp_path / "store.zarr", 80)
    policy = Policy.load(train(replace(config, align=align, imitate=imitate), store, tmp_path / "run"))

    episodes = [toy_episode(seed) for seed in range(10_000, 10_040)]
    front = torch.from_numpy(np.stack([episode.streams["camera.front"].values[:2] for episode in episodes]))
    wrist = torch.from_numpy(np.stack([episode.streams["camera.wrist"].values[:2] for episode in episodes]))
    proprio = torch.from_numpy(np.stack([episode.streams["proprio"].values[:2] for episode in episodes]))
    wanted = torch.from_numpy(np.stack([episode.streams["action"].values[0] for episode in episodes]))
    observation = Observation({"front": front, "wrist": wrist}, proprio, [episode.instruction for episode in episodes])

    with torch.inference_mode():
        backbone = policy.backbone
        assert isinstance(backbone, ModularBackbone)
        phrases = [episode.meta["goal"]["target"] for episode in episodes]
        chinese = [NOUNS[text.split()[0]] for text in phrases]
        for texts in (phrases, chinese):
            roles = backbone.encode_text(texts).roles
            grids = [backbone.image_features(i, view[:, 0]) for i, view in enumerate((front, wrist))]
            seen, unseen = backbone.grounding.ground(grids, roles, policy.proprio_normaliser.normalise(proprio[:, 0]))
            found = backbone.grounding.view(0).read(grids[0], seen)
            places = found[:, ROLES.index("target"), -5:-3]
            near = (places - wanted).norm(dim=-1) < 6 / SIZE * 2
            assert near.float().mean() > 0.85, "the heat map must point at the square that the phrase names"
            visible = backbone.grounding.view(1).read(grids[1], unseen)[:, 0, -1]
            assert visible.mean() < 0.2, "the wrist camera sees no square"

    generators = [torch.Generator().manual_seed(seed) for seed in range(len(episodes))]
    error = (policy.act(observation, generators)[:, 0] - wanted).abs().mean()
    of_the_mean = (wanted - wanted.mean(0)).abs().mean()
    assert error < 0.4 * of_the_mean, f"action error {error:.3f}, predicting the mean gives {of_the_mean:.3f}"

    swapped = [e.meta["scene"][1]["name"].split()[0] for e in episodes]  # another square of the same scene
    other = replace(observation, instruction=[f"touch the {colour} cube" for colour in swapped])
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(episodes))]
    moved = (policy.act(other, generators)[:, 0] - wanted).abs().mean()
    assert moved > 2 * error, "another instruction in the same scene must give another action"
