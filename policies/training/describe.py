"""Alignment of a route with a language model: it says what is in the picture, answers, and points at what is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.documents import KINDS, KINDS_WITH_SUBGOALS, PLACE_TOKENS, write_documents
from ...datasets.language import language_of
from ...datasets.subgoals import PHASES, subgoal
from ..backbones.language import POINTERS, READOUTS, STATE, LanguageBackbone
from ..backbones.packing import Packed, pack
from ..config import HeadConfig, StageConfig
from ..heads.regression import RegressionHead
from ..interfaces import Losses, TokenGroup
from ..objectives.grounding import mask_targets, views_loss
from ..objectives.next_token import next_token_loss
from ..policy import Policy
from .augmentation import colour_jitter, random_shift
from .scenes import SceneBatches

TEXT, PLACE, IMAGE, GROUNDING, ACTION = "text", "place", "image", "grounding", "action"


@dataclass(frozen=True)
class DescribeBatch:
    """Single instants and documents about them.

    Attributes:
        images: camera -> uint8 [B, H, W, 3].
        proprio: normalised, float32 [B, P].
        instructions: B texts.
        documents: of each image, those to be said, what is looked for in it, and the demonstrated instruction as it is
            read to act on.
        modality: int64 [B, L], 0 for words to be said, 1 for places, -1 for what is given.
        segmentation: camera -> uint8 [B, H, W].
        shifts: of each camera, by how much the picture was moved, [B, 2]; None where it was not.
        labels: uint8 [B, Q], the segmentation label that each pointer but those of the demonstrated instruction looks
            for; Q is 0 where nothing is looked for.
        valid: bool [B, Q].
        actions: normalised, float32 [B, Tp, A]; is_pad bool [B, Tp].
    """

    images: dict[str, Tensor]
    proprio: Tensor
    instructions: list[str]
    documents: Packed
    modality: Tensor
    segmentation: dict[str, Tensor]
    shifts: list[Tensor | None]
    labels: Tensor
    valid: Tensor
    actions: Tensor
    is_pad: Tensor


class DescribeBatches(SceneBatches):
    """Batch of a step, a pure function of (seed, step)."""

    @cached_property
    def places(self) -> Tensor:
        """Tokens of places, int64."""
        return torch.tensor([self.policy.tokenizer.words(token)[0] for token in PLACE_TOKENS])

    def __call__(self, step: int) -> DescribeBatch:
        items, rng = self.draw(step)
        shifts = self._shift(items, rng)
        rows = [self._documents(items, row, rng) for row in range(len(items["scene"]))]
        labels = valid = torch.zeros(len(rows), 0, dtype=torch.bool)
        if self.stage.losses.get(GROUNDING, 0):
            asked = self.ask(items, rng)
            labels, valid = asked.labels, asked.valid
            pointing = (
                self._asks(asked.others, len(rows), POINTERS),
                self._asks(asked.phrases, len(rows), POINTERS[:1]),
            )
            rows = [[*said, *asks, *more] for said, asks, more in zip(rows, *pointing, strict=True)]
        if self.stage.losses.get(ACTION, 0):
            asks = cast(LanguageBackbone, self.policy.backbone).asks
            own = self._asks(items["instruction"], len(rows), asks, [STATE])
            rows = [[*row, *instruction] for row, instruction in zip(rows, own, strict=True)]
        documents = pack(rows)
        place = torch.isin(documents.ids, self.places)
        modality = torch.where(documents.said, place.long(), -1)
        device = self.policy.backbone.device
        return DescribeBatch(
            **self.demonstrated(items),
            documents=documents.to(device),
            modality=modality.to(device),
            segmentation={camera: self.tensor(items["segmentation"][camera]) for camera in self.policy.cameras},
            shifts=[None if shift is None else shift.to(device) for shift in shifts],
            labels=labels.to(device),
            valid=valid.to(device),
        )

    def _shift(self, items: dict[str, Any], rng: np.random.Generator) -> list[Tensor | None]:
        """Move pictures with what is known of their pixels, so that documents are about what is shown; by how much."""
        luck, shifts = torch.Generator().manual_seed(int(rng.integers(2**63))), []
        for camera in self.policy.cameras:
            images, masks = (torch.from_numpy(items[name][camera]) for name in ("images", "segmentation"))
            moved = random_shift(images, masks, self.stage.shift_pixels, luck)
            items["images"][camera], items["segmentation"][camera] = moved.images.numpy(), moved.masks.numpy()
            shifts.append(moved.shift)
        return shifts

    def _asks(
        self, texts: Sequence[str], images: int, after: Sequence[int], before: Sequence[int] = ()
    ) -> list[list[tuple[list[int], list[int]]]]:
        """Of each image its share of the texts as instructions are read, with what comes before and after them."""
        if not texts:
            return [[]] * images
        ids, mask = self.policy.tokenizer(texts)
        documents = [([*before, *row[kept].tolist(), *after], []) for row, kept in zip(ids, mask, strict=True)]
        share = len(documents) // images
        return [documents[i * share : (i + 1) * share] for i in range(images)]

    def _documents(
        self, items: Mapping[str, Any], row: int, rng: np.random.Generator
    ) -> list[tuple[list[int], list[int]]]:
        scene, objects = items["scene"][row], items["objects"]
        if objects is not None:
            places = objects[row].tolist()
            scene = [{**item, "position": place} for item, place in zip(scene, places, strict=False)]
        names = [str(item["name"]) for item in scene]
        asked = [{"text": items["instruction"][row], "goal": items["goal"][row]}, *items["other_instructions"][row]]
        targets = [(str(one["text"]), one["goal"].get("target")) for one in asked]
        requests = [(text, names.index(target) + 1) for text, target in targets if target in names]
        absent = self.absent(scene)
        segmentation = items["segmentation"][next(iter(self.policy.cameras))][row]
        doing = None
        if self.policy.config.subgoals:
            text, phase = str(asked[0]["text"]), PHASES[items["phase"][row]]
            doing = text, subgoal(phase, asked[0]["goal"], scene, language_of(text))
        still, mixture = objects is not None, self.stage.mixture or (KINDS_WITH_SUBGOALS if doing else KINDS)
        written = write_documents(
            scene, segmentation, requests, absent, still, self.stage.documents, rng, mixture, doing
        )
        words, ends = self.policy.tokenizer.words, (self.policy.tokenizer.start, self.policy.tokenizer.end)
        return [([ends[0], *words(one.prompt)], [*words(one.answer), ends[1]]) for one in written]


class DescribeObjective(nn.Module):
    """Next-token prediction of documents and, where pictures are words, of pictures; beside it the demonstrated action
    from the same frame.

    `action` (a side head) serves this stage alone and is thrown away after it.
    """

    def __init__(self, policy: Policy, stage: StageConfig) -> None:
        super().__init__()
        self.policy, self.stage = policy, stage
        config, backbone = policy.config, policy.backbone
        side = HeadConfig(kind="regression", context_width=128, denoiser_width=256)
        self.action = RegressionHead(
            side, config.action_horizon, policy.spec.action.dim, backbone.num_tokens, backbone.width
        )

    @property
    def _backbone(self) -> LanguageBackbone:
        return cast(LanguageBackbone, self.policy.backbone)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Modules by the name a stage calls them."""
        return {**self.policy.parts, "action": self.action}

    def forward(self, batch: DescribeBatch) -> Losses:
        backbone, stage = self._backbone, self.stage
        images = {camera: colour_jitter(x, stage.colour_jitter) for camera, x in batch.images.items()}
        seen = backbone.look(images)
        weights = {TEXT: stage.losses.get(TEXT, 1.0), PLACE: stage.losses.get(PLACE, 1.0)}
        ids, modality = batch.documents.ids, batch.modality
        pictured, states = backbone.read(seen, batch.documents, batch.proprio)
        queries, read = _chosen(states, (ids < STATE) & (ids > READOUTS)).float(), _chosen(states, ids <= READOUTS)
        views = backbone.views(seen, pictured)
        if stage.losses.get(IMAGE, 0) and (shown := backbone.spell(seen)):
            weights[IMAGE] = stage.losses[IMAGE]
            ids = torch.cat([shown[0], ids], dim=1)
            modality = torch.cat([torch.where(shown[1], len(weights) - 1, -1), modality], dim=1)
            states = torch.cat([pictured, states], dim=1)
        said = next_token_loss(backbone.logits(states), ids, modality, weights, stage.losses.get("z", 0.0))
        parts, terms = dict(said.parts), {"said": said.total}
        logits = backbone.grounding.ground(views, queries, batch.proprio, batch.shifts)
        if looked_for := batch.labels.shape[1]:
            masks = zip(batch.segmentation.values(), backbone.grids, strict=True)
            targets = [mask_targets(segmentation, batch.labels, grid) for segmentation, grid in masks]
            asked, centres = [x[:, :looked_for] for x in logits], backbone.grounding.centres
            pointed, parts["place_error"] = views_loss(asked, targets, batch.valid, centres)
            terms[GROUNDING], parts[GROUNDING] = stage.losses[GROUNDING] * pointed, pointed.detach()
        if read.shape[1]:
            known = backbone.found(views, [x[:, looked_for:] for x in logits], read)
            horizon = self.policy.config.obs_horizon
            tokens = backbone.projector(*(x[:, None].expand(-1, horizon, -1) for x in (known, batch.proprio)))
            context = TokenGroup(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))
            action = self.action.loss(context, batch.actions, batch.is_pad).total
            terms[ACTION], parts[ACTION] = stage.losses[ACTION] * action, action.detach()
        return Losses(torch.stack(list(terms.values())).sum(), parts, terms)


def _chosen(states: Tensor, which: Tensor) -> Tensor:
    """States [B, L, W] where `which`, bool [B, L], equally often in every row: [B, n, W]."""
    return states[which].reshape(len(states), int(which[0].sum()), states.shape[-1])
