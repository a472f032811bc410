"""Frames, targets and features made up for probes, so that what they must find is known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from deixis.eval.probe.answers import Answer
from deixis.eval.probe.asking import Asking
from deixis.eval.probe.config import ProbeConfig
from deixis.eval.probe.labels import Target
from deixis.eval.probe.ridge import standardised
from deixis.eval.probe.splits import blocks_of, make_splits


class MadeFrames(SimpleNamespace):
    """Has of `Frames` what splits and probes need."""

    def __len__(self) -> int:
        return len(self.episode)


def made_frames(episodes: int = 60, length: int = 10, scenes: int | None = None, seed: int = 0) -> Any:
    """Of so many episodes in so many scenes (by default one each)."""
    episode = np.repeat(np.arange(episodes), length)
    return MadeFrames(
        episode=episode,
        scene=episode % (scenes or episodes),
        task=np.zeros(len(episode), np.int64),
        config=ProbeConfig(seed=seed),
        proprio=np.random.default_rng(seed + 9).normal(size=(len(episode), 3)).astype(np.float32),
    )


def regression(values: np.ndarray, name: str = "numbers") -> Target:
    """Every frame of which is known."""
    values = values.reshape(len(values), -1).astype(np.float32)
    whole = np.ones(values.shape, bool)
    return Target(name, "regression", values, whole, whole[:, 0], tuple(f"{i}" for i in range(values.shape[1])))


def classes(values: np.ndarray, count: int, name: str = "classes") -> Target:
    """One of `count`."""
    one_hot = np.eye(count, dtype=np.float32)[values]
    whole = np.ones(one_hot.shape, bool)
    return Target(name, "classes", one_hot, whole, whole[:, 0], tuple(f"{i}" for i in range(count)))


def flags(values: np.ndarray, name: str = "flags") -> Target:
    """Each is there or not."""
    values = values.reshape(len(values), -1).astype(np.float32)
    whole = np.ones(values.shape, bool)
    return Target(name, "flags", values, whole, whole[:, 0], tuple(f"{i}" for i in range(values.shape[1])))


def answers_of(features: np.ndarray, targets: list[Target], frames: Any) -> dict[str, Answer]:
    """Of probes on these features, held against noise as what random weights and raw pixels would give."""
    rng = np.random.default_rng(5)
    kinds = {
        "backbone": one(features),
        "random weights": one(rng.normal(size=(len(frames), 12))),
        "pixels": one(rng.normal(size=(len(frames), 8))),
        "proprioception": one(frames.proprio),
    }
    return Asking(kinds, targets, make_splits(frames), blocks_of(frames), frames.config.seed).answers()


def one(features: np.ndarray) -> dict[str, Tensor]:
    """One reading."""
    return {"made": standardised(features.astype(np.float32))}
