"""Batches of single frames with what the simulator knows of their scenes, for the stages that learn words from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...datasets.language import LANGUAGES, phrase
from ...datasets.sampling import ShuffledOrder
from ..backbones.text import ROLES
from ..config import StageConfig
from ..policy import Policy

NOT_THERE = 254  # a label that no pixel has: object labels count from 1, the robot is 255
ABSENT_SHARE = 0.2  # phrases that name nothing in the scene, so that "not visible" is learned
EMPTY_SHARE = 0.25  # of those: the empty text, which is the null instruction


class GroundingItems(Protocol):
    """What these stages need of `datasets.grounding.GroundingDataset`."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Asked:
    """What is looked for in B scenes.

    Attributes:
        others: B * J instructions that could be asked in them, J for each.
        phrases: B * K noun phrases, K for each.
        named: the segmentation labels of the K phrases of each scene.
        labels: uint8 [B, J * R + K], the label that each role of each of these instructions and each phrase names.
        valid: bool [B, J * R + K], False where the object of a role is not in the scene's list.
    """

    others: list[str]
    phrases: list[str]
    named: list[list[int]]
    labels: Tensor
    valid: Tensor


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

    def ask(self, items: Mapping[str, Any], rng: np.random.Generator) -> Asked:
        """What is looked for in the scenes of a step.

        The demonstrated instruction is one among those that the scene allows. Grounded every time, it would teach that
        the named object is the one near the gripper: true in demonstrations, false when another is asked for.
        """
        scenes, goals = items["scene"], items["goal"]
        own = [{"text": text, "goal": goal} for text, goal in zip(items["instruction"], goals, strict=True)]
        asked = [[one, *others] for one, others in zip(own, items["other_instructions"], strict=True)]
        others = [[o[rng.integers(len(o))] for _ in range(self.stage.instructions)] for o in asked]
        words = [self._phrases(scene, rng) for scene in scenes]
        labels = torch.tensor(
            [
                [label for other in more for label in _role_labels(scene, other["goal"])] + named
                for scene, more, (_, named) in zip(scenes, others, words, strict=True)
            ],
            dtype=torch.int16,
        )
        return Asked(
            others=[other["text"] for more in others for other in more],
            phrases=[text for texts, _ in words for text in texts],
            named=[named for _, named in words],
            labels=labels.clamp_min(0).to(torch.uint8),
            valid=labels >= 0,
        )

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

    def _phrases(self, scene: Sequence[Mapping[str, Any]], rng: np.random.Generator) -> tuple[list[str], list[int]]:
        """Noun phrases for a scene, and the segmentation label of what each of them names."""
        absent, texts, labels = self.absent(scene), [], []
        order = rng.permutation(len(scene))  # without repeats, so that the kinds of one scene are told apart
        for number in range(self.stage.phrases):
            if number >= len(order) or rng.random() < ABSENT_SHARE:
                empty = not absent or rng.random() < EMPTY_SHARE
                texts.append("" if empty else phrase(absent[rng.integers(len(absent))], rng, a_language(rng)))
                labels.append(NOT_THERE)
            else:
                row = int(order[number])
                texts.append(phrase(scene[row], rng, a_language(rng)))
                labels.append(row + 1)
        return texts, labels


def a_language(rng: np.random.Generator) -> str:
    """One of those there are texts in."""
    return LANGUAGES[int(rng.integers(len(LANGUAGES)))]


def _role_labels(scene: Sequence[Mapping[str, Any]], goal: Mapping[str, Any]) -> list[int]:
    """Segmentation label of each role of a goal.

    A role that the goal leaves out names nothing, so it must point at nothing: the head then reads zeros.
    A role whose object the scene does not list (-1) has no target.
    """
    names = [str(item["name"]) for item in scene]
    asked = [goal.get(role) for role in ROLES]
    return [NOT_THERE if n is None else names.index(n) + 1 if n in names else -1 for n in asked]
