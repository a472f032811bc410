"""A small policy on a frozen backbone: three layers of 256 on its features and proprioception, judged in closed loop.

The protocol of R3M (Nair et al. 2022, arXiv:2203.12601) and VC-1 (Majumdar et al. 2023, arXiv:2303.18240): behavioural
cloning from a few demonstrations, the backbone as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...datasets.atomic import write_text
from ...datasets.normalisation import MinMaxNormaliser
from ...datasets.store import TrajectoryStore
from ...envs.suites import suite_named
from ...policies.config import PolicyConfig
from ...policies.interfaces import Generators, Observation
from ..rollout import Player, make_env
from ..statistics import Proportion, proportion
from .config import ProbeConfig
from .features import Advance, extract
from .frames import FrameBatch, Frames
from .sources import Source

HIDDEN, LAYERS, CHUNK, EXECUTED = 256, 3, 8, 4
STEPS, BATCH, RATE, DECAY = 3000, 256, 1e-3, 1e-4
_LEAST = 1e-6


class FrozenPolicy(nn.Module):
    """Has of a `Policy` what `rollout.Player` needs.

    Args:
        source: the backbone. reading: which of its readings is seen.
        frames: that it learns from. seen: their features and proprioception, float32 [F, D + P].
    """

    def __init__(self, source: Source, reading: str, frames: Frames, seen: Tensor) -> None:
        super().__init__()
        spec = frames.store.env_spec
        self.source, self.reading, self.spec = source, reading, spec
        self.cameras = {name: (spec.camera(name).height, spec.camera(name).width) for name in frames.cameras}
        self.config = PolicyConfig(obs_horizon=1, action_horizon=CHUNK, exec_horizon=EXECUTED)
        self.register_buffer("mean", seen.mean(0))
        self.register_buffer("scale", seen.std(0).clamp_min(_LEAST))
        self.mean: Tensor
        self.scale: Tensor
        widths = [seen.shape[1], *[HIDDEN] * LAYERS]
        layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.network = nn.Sequential(*layers, nn.Linear(HIDDEN, CHUNK * spec.action.dim))
        self.actions = MinMaxNormaliser(np.asarray(spec.action.low), np.asarray(spec.action.high))

    def predict(self, seen: Tensor) -> Tensor:
        """Chunks [B, Tp, A] in [-1, 1] of features and proprioception [B, D + P]."""
        return self.network((seen - self.mean) / self.scale).unflatten(1, (CHUNK, -1))

    @torch.inference_mode()
    def act(
        self, observation: Observation, generators: Generators = None, subgoals: Sequence[str] | None = None
    ) -> Tensor:
        """As `Policy.act`; draws no noise."""
        images = {camera: images[:, -1].numpy() for camera, images in observation.images.items()}
        proprio = observation.proprio[:, -1]
        read = self.source.read(FrameBatch(images, proprio.numpy(), list(observation.instruction)))[self.reading]
        return self.actions.unnormalise(self.predict(torch.cat([read, proprio], 1)).clamp(-1, 1))

    def say(self, observation: Observation) -> None:
        """It has no sub-goals."""


def train_frozen(source: Source, frames: Frames, folder: Path, seed: int) -> FrozenPolicy:
    """A policy that learned from all these frames by L1. folder: where features are kept."""
    features = extract(source, frames, folder)
    reading = features.names[-1]
    torch.manual_seed(seed)
    seen = torch.from_numpy(np.concatenate([features.read(reading), frames.proprio], 1))
    policy = FrozenPolicy(source, reading, frames, seen)
    actions, is_pad = chunks(frames)
    wanted, kept = policy.actions.normalise(torch.from_numpy(actions)), torch.from_numpy(~is_pad)[..., None].float()
    optimizer = torch.optim.AdamW(policy.network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = torch.randint(len(seen), (BATCH,), generator=generator)
        loss = (F.l1_loss(policy.predict(seen[rows]), wanted[rows], reduction="none") * kept[rows]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    return policy.eval()


def chunks(frames: Frames) -> tuple[np.ndarray, np.ndarray]:
    """The next actions of each frame, float32 [F, Tp, A], and which lie behind the episode's end, bool [F, Tp]."""
    if frames.config.every != 1:
        raise ValueError(f"probe.every: found {frames.config.every}, wanted 1 for a policy's frames")
    rows = np.arange(len(frames))[:, None] + np.arange(CHUNK)
    last = np.arange(len(frames)) + frames.length - 1 - frames.t
    return frames.actions[np.minimum(rows, last[:, None])], rows > last[:, None]


def judge_frozen(
    source: Source,
    store: TrajectoryStore,
    cameras: tuple[str, ...],
    config: ProbeConfig,
    folder: Path,
    advance: Advance | None = None,
) -> Proportion:
    """Success of a policy on a frozen backbone, over `config.rollouts` episodes; known again from `folder`.

    folder: where features are kept. advance: called with (done, wanted).
    """
    first = range(len(store))[: config.demonstrations]
    frames = Frames(store, cameras, config, first)
    protocol = (HIDDEN, LAYERS, CHUNK, EXECUTED, STEPS, BATCH, RATE, DECAY)
    decides = (source.digest(), frames.digest, frames.texts, config.suite, config.rollouts, config.seed, protocol)
    known = folder / f"frozen-{hashlib.sha256(repr(decides).encode()).hexdigest()[:24]}.json"
    if known.is_file():
        return proportion(int(json.loads(known.read_text("utf-8"))["successes"]), config.rollouts)
    policy = train_frozen(source, frames, folder, config.seed)
    suite, successes = suite_named(config.suite), 0
    env = make_env(suite, policy)
    try:
        for number in range(config.rollouts):
            player = Player(env, policy, suite)
            player.begin_episode(*suite.turn(number), "correct")
            player.follow()
            successes += bool(player.info["success"])
            if advance:
                advance(number + 1, config.rollouts)
    finally:
        env.close()
    write_text(known, json.dumps({"backbone": source.name, "successes": successes, "episodes": config.rollouts}) + "\n")
    return proportion(successes, config.rollouts)
