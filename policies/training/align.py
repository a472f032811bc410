"""The alignment stage: phrases are grounded in each view, captions matched with images, actions predicted beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.language import caption
from ..backbones.modular import ModularBackbone
from ..backbones.text import ROLES, TextFeatures
from ..config import HeadConfig, StageConfig
from ..heads.regression import RegressionHead
from ..interfaces import Losses
from ..objectives.contrastive import Contrastive
from ..objectives.distillation import Momentum
from ..objectives.grounding import mask_targets, views_loss
from ..policy import Policy
from .augmentation import colour_jitter, random_shift
from .scenes import NOT_THERE, SceneBatches, a_language
from .signals import AlignSignals


@dataclass(frozen=True)
class AlignBatch:
    """A batch of single frames with their texts.

    Attributes:
        images: camera -> uint8 [B, H, W, 3].
        segmentation: camera -> uint8 [B, H, W].
        proprio: normalised, float32 [B, P].
        instructions: B texts.
        others: B * J instructions that could be asked in the same scenes, J per image.
        phrases: B * K noun phrases, K per image.
        kinds: int64 [B, K], which thing of the vocabulary each of them names; -1 for none that is there.
        labels: uint8 [B, J * R + K], the segmentation label that each role of each of these and each phrase names.
        valid: bool [B, J * R + K], False where the object of a role is not in the scene's list.
        captions: captions of the first images of the batch.
        overlap: how far these images show the same objects, float32 [C, C] in [0, 1].
        progress: of the stage, in [0, 1].
        actions: normalised, float32 [B, Tp, A]; is_pad bool [B, Tp].
    """

    images: dict[str, Tensor]
    segmentation: dict[str, Tensor]
    proprio: Tensor
    instructions: list[str]
    others: list[str]
    phrases: list[str]
    kinds: Tensor
    labels: Tensor
    valid: Tensor
    captions: list[str]
    overlap: Tensor
    progress: float
    actions: Tensor
    is_pad: Tensor


class AlignBatches(SceneBatches):
    """Batch of a step, a pure function of (seed, step)."""

    def __call__(self, step: int) -> AlignBatch:
        items, rng = self.draw(step)
        scenes, asked = items["scene"], self.ask(items, rng)
        device = self.policy.backbone.device
        return AlignBatch(
            **self.demonstrated(items),
            segmentation={camera: self.tensor(items["segmentation"][camera]) for camera in self.policy.cameras},
            others=asked.others,
            phrases=asked.phrases,
            kinds=self.tensor(np.array([self._kinds(s, named) for s, named in zip(scenes, asked.named, strict=True)])),
            labels=asked.labels.to(device),
            valid=asked.valid.to(device),
            captions=[
                caption(scene, rng, a_language(rng), max_relations=0) for scene in items["scene"][: self.stage.captions]
            ],
            overlap=self.tensor(_overlap(scenes[: self.stage.captions])),
            progress=step / max(1, self.stage.steps),
        )

    def _kinds(self, scene: Sequence[Mapping[str, Any]], labels: Sequence[int]) -> list[int]:
        """The place in the vocabulary of what each label is; -1 for what is not there."""
        known = {(item["colour"], item["shape"]): i for i, item in enumerate(self.vocabulary)}
        kinds = [known.get((item["colour"], item["shape"]), -1) for item in scene]
        return [-1 if label == NOT_THERE else kinds[label - 1] for label in labels]


class AlignObjective(nn.Module):
    """All losses of the stage. Images are encoded once, the texts about them are many.

    `action` (a side head) and what the contrast remembers of batches gone by serve this stage alone.
    """

    def __init__(self, policy: Policy, stage: StageConfig) -> None:
        super().__init__()
        if not stage.instructions + stage.phrases:
            raise ValueError("align.instructions and align.phrases: both are 0, wanted something to ground; raise one")
        self.policy, self.stage = policy, stage
        config, backbone = policy.config, self._backbone
        side = HeadConfig(kind="regression", context_width=128, denoiser_width=256)
        if not 0 <= stage.contrast.drop < 1:
            raise ValueError(f"align.contrast.drop: found {stage.contrast.drop}, wanted 0 to less than 1")
        self.contrastive = Contrastive(backbone.embedding, stage.contrast)
        self.slow: Momentum[ModularBackbone] | None = None
        if stage.losses.get("contrastive", 0) and stage.contrast.distillation:
            self.slow = Momentum(backbone, stage.contrast.momentum)
        self.signals = AlignSignals(backbone, next(iter(policy.cameras.values())), stage.losses)
        self.action = RegressionHead(
            side, config.action_horizon, policy.spec.action.dim, backbone.num_tokens, backbone.width
        )

    @property
    def _backbone(self) -> ModularBackbone:
        return cast(ModularBackbone, self.policy.backbone)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Modules by the name a stage calls them."""
        own = {"contrastive": self.contrastive, "action": self.action}
        return {**self.policy.parts, **own, "signals": self.signals}

    def forward(self, batch: AlignBatch) -> Losses:
        backbone, stage = self._backbone, self.stage
        size, phrases = len(batch.instructions), stage.phrases
        # Instructions, phrases and captions apart: each is padded only to the longest of its kind.
        text = backbone.encode_text(batch.instructions)
        queries = text.roles  # of the demonstrated instruction: they serve the action loss, not the grounding loss
        grounded = bool(stage.losses.get("grounding", 0))
        pointed = grounded or "region_phrase" in self.signals.wanted  # phrases and where they are, are needed
        if batch.others and grounded:
            others = backbone.encode_text(batch.others).roles
            queries = torch.cat([queries, others.reshape(size, -1, others.shape[-1])], dim=1)
        named = queries[:, :0]
        if phrases and pointed:
            named = backbone.encode_text(batch.phrases).roles[:, 0].unflatten(0, (size, phrases))
            queries = torch.cat([queries, named], dim=1)
        grids, summaries, targets, shifts, seen_images = [], [], [], [], []
        for i, camera in enumerate(self.policy.cameras):
            moved = random_shift(batch.images[camera], batch.segmentation[camera], stage.shift_pixels)
            seen_images.append(colour_jitter(moved.images, stage.colour_jitter))
            seen = backbone.see(i, seen_images[-1])
            grids.append(seen.tokens)
            summaries.append(seen.summary)
            if pointed:
                targets.append(mask_targets(moved.masks, batch.labels, backbone.grids[i]))
            shifts.append(moved.shift)
        logits = backbone.grounding.ground(grids, queries, batch.proprio, shifts)
        parts: dict[str, Tensor] = {}
        told: dict[str, Tensor] = {}
        if grounded:
            asked, centres = [scores[:, len(ROLES) :] for scores in logits], backbone.grounding.centres
            parts["grounding"], told["place_error"] = views_loss(asked, targets, batch.valid, centres)
        if stage.losses.get("contrastive", 0) and len(batch.captions) > 1:
            pooled = backbone.encode_text(batch.captions).pooled
            captioned = [x[: len(batch.captions)] for x in seen_images]
            if stage.contrast.drop:
                summaries = [backbone.glimpse(x, stage.contrast.drop) for x in captioned]
            shown = torch.cat([summary[: len(batch.captions)] for summary in summaries], dim=-1)
            slow = self._slow_pair(captioned, batch.captions) if self.slow is not None else None
            parts["contrastive"] = self.contrastive(shown, pooled, batch.overlap, batch.progress, slow)
        parts |= self._signals(batch, grids[0], seen_images[0], named, targets)
        if stage.losses.get("action", 0):
            encoded = backbone.grounding.read(grids, [scores[:, : len(ROLES)] for scores in logits])
            parts["action"] = self._action_loss(encoded, text, batch)
        terms = {name: stage.losses.get(name, 0.0) * part for name, part in parts.items()}
        total = torch.stack(list(terms.values())).sum()
        return Losses(total, {name: part.detach() for name, part in (parts | told).items()}, terms)

    def _signals(
        self, batch: AlignBatch, grid: Tensor, images: Tensor, named: Tensor, targets: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Further losses that the stage gives a weight, in the first camera's view."""
        signals, backbone, parts = self.signals, self._backbone, {}
        if "region_phrase" in signals.wanted and named.shape[1]:
            parts["region_phrase"] = signals.region_phrase(grid, named, targets[0][:, -named.shape[1] :], batch.kinds)
        if "patch_word" in signals.wanted:
            text = backbone.encode_text(batch.captions)
            parts["patch_word"] = signals.patch_word(grid[: len(batch.captions)], text.states, text.mask)
        if "masked_text" in signals.wanted:
            parts["masked_text"] = signals.masked_text(backbone, batch.captions)
        if "masked_image" in signals.wanted:
            parts["masked_image"] = signals.masked_image(backbone, images)
        return parts

    @torch.no_grad()
    def _slow_pair(self, images: Sequence[Tensor], captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Images and captions as the slowly moving copy projects them."""
        assert self.slow is not None
        if self.training:
            self.slow.follow(self._backbone)
        slow = self.slow.copy
        shown = torch.cat([slow.see(i, x).summary for i, x in enumerate(images)], dim=-1)
        pooled = slow.encode_text(captions).pooled
        return slow.embedding.image(shown.float()), slow.embedding.text(pooled.float())

    def _action_loss(self, frames: Tensor, text: TextFeatures, batch: AlignBatch) -> Tensor:
        """L1 of the side head, which sees the single frame as its whole history."""
        horizon = self.policy.config.obs_horizon
        frames = frames[:, None].expand(-1, horizon, -1)
        proprio = batch.proprio[:, None].expand(-1, horizon, -1)
        context = self._backbone.assemble(frames, proprio, text)
        return self.action.loss(context, batch.actions, batch.is_pad).total


def _overlap(scenes: Sequence[Sequence[Mapping[str, Any]]]) -> np.ndarray:
    """Of each two scenes the objects they share over those either has (Jaccard), float32 [C, C]."""
    kinds = [{(item["colour"], item["shape"]) for item in scene} for scene in scenes]
    shared = [[len(a & b) / max(1, len(a | b)) for b in kinds] for a in kinds]
    return np.array(shared, np.float32).reshape(len(kinds), len(kinds))
