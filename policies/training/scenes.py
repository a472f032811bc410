"""Batches of single frames with what the simulator knows of their scenes, for the stages that learn words from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...datasets.sampling import ShuffledOrder
from ..config import StageConfig
from ..policy import Policy


class GroundingItems(Protocol):
    """What these stages need of `datasets.grounding.GroundingDataset`."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> dict[str, Any]: ...


class SceneBatches:
    """What a step draws, a pure function of (seed, step).

    Args:
        dataset: frames with segmentation.
        stage: the stage's options.
        policy: for its normalisers and its tokenizer.
        vocabulary: the kinds of objects (colour, shape) that the demonstrations show. Words for what is absent are
            drawn from these alone: naming a pair that was held out as absent would teach that it does not exist.
        seed: of the order and of every choice of words.
    """

    def __init__(
        self,
        dataset: GroundingItems,
        stage: StageConfig,
        policy: Policy,
        vocabulary: Sequence[Mapping[str, Any]],
        seed: int,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        self.dataset, self.stage, self.policy, self.seed = dataset, stage, policy, seed
        self.vocabulary = list(vocabulary)
        self.order = ShuffledOrder(len(dataset), min(stage.batch_size, len(dataset)), seed)
        self.rank, self.processes = rank, processes

    def draw(self, step: int) -> tuple[dict[str, Any], np.random.Generator]:
        """The frames of a step, and the source of all else that is drawn in it."""
        rng = np.random.default_rng([self.seed, step, self.rank])
        return self.dataset.batch(self.order.indices(step)[self.rank :: self.processes]), rng

    def absent(self, scene: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Kinds of objects that are not in a scene."""
        present = {(item["colour"], item["shape"]) for item in scene}
        return [item for item in self.vocabulary if (item["colour"], item["shape"]) not in present]

    def tensor(self, array: np.ndarray) -> Tensor:
        """On the policy's device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.policy.backbone.device)

    def demonstrated(self, items: Mapping[str, Any]) -> dict[str, Any]:
        """What every such batch has: images, normalised proprioception and actions, padding, instructions."""
        return {
            "images": {camera: self.tensor(items["images"][camera]) for camera in self.policy.cameras},
            "proprio": self.policy.proprio_normaliser.normalise(self.tensor(items["proprio"])),
            "instructions": list(items["instruction"]),
            "actions": self.policy.action_normaliser.normalise(self.tensor(items["actions"])),
            "is_pad": self.tensor(items["is_pad"]),
        }
