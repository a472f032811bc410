"""The policy: normaliser, backbone and head. A pure function of its inputs and the noise it is given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.normalisation import MinMaxNormaliser
from ..datasets.spec import EnvSpec
from ..datasets.subgoals import ask, with_subgoal
from .backbones import build_backbone
from .backbones.language import LanguageBackbone
from .backbones.modular import ModularBackbone
from .backbones.tokenizer import TextTokenizer
from .checks import check_batch, check_observation
from .config import PolicyConfig
from .heads import build_head, reads_on
from .interfaces import Batch, Generators, Losses, Marks, Observation, TokenGroup

__all__ = ["Batch", "Losses", "Observation", "Policy", "TokenGroup"]

LONGEST_SUBGOAL = 24  # tokens


class Policy(nn.Module):
    """Observation and instruction to an action chunk.

    Args:
        config: architecture and horizons.
        spec: the environment the policy is for: sizes of images, proprioception and actions, limits of actions.
        cameras: names of the cameras it sees, in order.
        proprio: normaliser of proprioception [.., P].
        action: normaliser of actions [.., A].
        tokenizer: of instructions.
    """

    def __init__(
        self,
        config: PolicyConfig,
        spec: EnvSpec,
        cameras: Sequence[str],
        proprio: MinMaxNormaliser,
        action: MinMaxNormaliser,
        tokenizer: TextTokenizer,
    ) -> None:
        super().__init__()
        self.config, self.spec, self.tokenizer = config, spec, tokenizer
        self.cameras = {name: (spec.camera(name).height, spec.camera(name).width) for name in cameras}
        self.proprio_normaliser, self.action_normaliser = proprio, action
        self.backbone = build_backbone(config.backbone, self.cameras, spec.proprio.dim, config.obs_horizon, tokenizer)
        self.backbone.lends = reads_on(config.head)
        if config.subgoals and not isinstance(self.backbone, LanguageBackbone):
            raise ValueError(
                f"policy.subgoals: found true with policy.backbone.kind {config.backbone.kind!r}, wanted one with a "
                "language model to say them, compositional or fusion"
            )
        self.head = build_head(
            config.head,
            config.action_horizon,
            spec.action.dim,
            self.backbone.num_tokens,
            self.backbone.width,
            self.backbone.reader_width,
        )
        self.register_buffer("action_low", torch.tensor(spec.action.low), persistent=False)
        self.register_buffer("action_high", torch.tensor(spec.action.high), persistent=False)
        self.action_low: Tensor
        self.action_high: Tensor

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The modules a training stage can freeze or train, by name."""
        return {**self.backbone.parts, "head": self.head}

    def context(self, observation: Observation) -> TokenGroup:
        """Tokens [B, N, D] of a checked observation."""
        proprio = self.proprio_normaliser.normalise(observation.proprio)
        return self.backbone(Observation(observation.images, proprio, observation.instruction))

    def loss(self, batch: Batch) -> Losses:
        """Loss of the head on windows in environment units; ValueError where the batch does not fit."""
        self.check(batch.observation)
        check_batch(batch, self.spec.action.dim, self.config.action_horizon)
        return self.head.loss(
            self.context(batch.observation), self.action_normaliser.normalise(batch.actions), batch.is_pad
        )

    def say(self, observation: Observation) -> list[str] | None:
        """The sub-goal of each of B observations in words; None where this policy has none (`subgoals`)."""
        if not (self.config.subgoals and isinstance(self.backbone, LanguageBackbone)):
            return None
        self.check(observation)
        now = {camera: images[:, -1] for camera, images in observation.images.items()}
        return self.backbone.answer(now, [ask(text) for text in observation.instruction], longest=LONGEST_SUBGOAL)

    @torch.inference_mode()
    def act(
        self,
        observation: Observation,
        generators: Generators = None,
        subgoals: Sequence[str] | None = None,
        marks: Marks | None = None,
    ) -> Tensor:
        """An action chunk, float32 [B, Tp, A] in environment units and within the limits of the `ActionSpec`.

        Threads may share a policy: nothing that one call does is seen by another.

        Args:
            observation: the last To steps.
            subgoals: B texts to act on; None takes what the policy says itself (`say`), where it does.
            marks: where what the instructions are about is to be seen, by the simulator's truth; None lets the policy
                look for it. Only for a policy that points (`points`).
            generators: one per batch element; element b draws its noise from `generators[b]` alone, so its chunk does
                not depend on what else is in the batch. None draws from torch's global generator.

        Raises:
            ValueError: the observation does not fit; the message names the field, what was found and what is wanted.
        """
        batch = self.check(observation)
        if generators is not None and len(generators) != batch:
            raise ValueError(f"generators: found {len(generators)}, wanted {batch}, one per batch element")
        said = self.say(observation) if subgoals is None else subgoals
        if said is not None:
            told = [with_subgoal(*pair) for pair in zip(observation.instruction, said, strict=True)]
            observation = replace(observation, instruction=told)
        with self._pointing(marks):
            context = self.context(observation)
        chunk = self.head.sample(context, generators)
        return self.action_normaliser.unnormalise(chunk).clamp(self.action_low, self.action_high)

    @property
    def points(self) -> bool:
        """Whether it has heat maps of what it is told of, at every instant alike, which can be asked and replaced."""
        return isinstance(self.backbone, ModularBackbone)

    @torch.inference_mode()
    def point(self, observation: Observation) -> Tensor:
        """Where it looks now for what each role of the instruction names, see `ModularBackbone.point`.

        Raises ValueError for a policy that does not point.
        """
        self.check(observation)
        if not isinstance(self.backbone, ModularBackbone):
            raise ValueError(f"policy.backbone.kind: found {self.config.backbone.kind!r}, wanted modular, which points")
        now = {camera: images[:, -1] for camera, images in observation.images.items()}
        proprio = self.proprio_normaliser.normalise(observation.proprio[:, -1])
        return self.backbone.point(now, self.backbone.encode_text(observation.instruction), proprio)

    def _pointing(self, marks: Marks | None) -> AbstractContextManager[None]:
        if marks is None:
            return nullcontext()
        if not isinstance(self.backbone, ModularBackbone):
            raise ValueError(f"marks: found with policy.backbone.kind {self.config.backbone.kind!r}, wanted modular")
        steps = self.config.obs_horizon
        seen = [marks.segmentation[camera].flatten(0, 1) for camera in self.cameras]
        return self.backbone.grounding.pointing(seen, marks.labels.repeat_interleave(steps, 0))

    def check(self, observation: Observation) -> int:
        """The batch size of a well-formed observation; ValueError otherwise."""
        return check_observation(observation, self.cameras, self.spec.proprio.dim, self.config.obs_horizon)

    def save(self, folder: str | Path) -> None:
        """Write config.yaml, model.safetensors, spec.json, tokenizer.json; the folder appears whole or not at all."""
        from .serialisation import save_policy

        save_policy(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Policy:
        """Read what `save` wrote, in evaluation mode.

        Raises:
            FileNotFoundError, ValueError: a file is missing or does not fit; the message names file and field.
        """
        from .serialisation import load_policy

        return load_policy(Path(folder)).eval()  # ready to act: dropout is for training
