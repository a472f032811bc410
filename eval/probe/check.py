"""The check of a backbone: what is extracted from it and from its baselines, and the answers of probes on both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ...datasets.store import TrajectoryStore
from .answers import Answer
from .asking import BACKBONE, Asking, columns, together
from .features import Features, Pixels, extract, narrowed
from .frames import Frames
from .labels import Target, make_targets, told_targets
from .ridge import fit, standardised
from .scores import chance, score
from .sources import Source
from .splits import Split, blocks_of, make_splits

RANDOM_WEIGHTS = "random weights"
POSSIBLE = (
    *("object_position", "named_position", "identity", "colour", "shape", "relation", "grasped", "progress"),
    *("success_ahead", "next_action", "match"),
)
"""What can be asked of a store of the tabletop."""

Advance = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Check:
    """What a check found of one backbone.

    Attributes:
        name: of it. frames, episodes: how many it was asked about.
        layer: the reading that answers best on the whole.
        answers: by target.
        left_out: target -> why it was not asked.
        seconds: of extraction (None where the features were there) and of probing.
    """

    name: str
    frames: int
    episodes: int
    layer: str
    answers: dict[str, Answer]
    left_out: dict[str, str]
    seconds: dict[str, float | None]


class Probing:
    """Probes on the frames of one store: splits, targets, and the baselines that do not depend on the backbone.

    Args:
        frames: of the store.
        folder: where features are kept.
    """

    def __init__(self, frames: Frames, folder: Path) -> None:
        self.frames, self.folder = frames, folder
        self.splits, self.blocks = make_splits(frames), blocks_of(frames)
        self.targets, self.told = make_targets(frames), told_targets(frames)
        self._fixed = {
            "pixels": readings_of(extract(Pixels(), frames, folder)),
            "proprioception": {"proprioception": standardised(frames.proprio)},
        }

    def check(self, source: Source, advance: Advance | None = None) -> Check:
        """Everything about one backbone. advance: called with (what, done, wanted)."""

        def progress(what: str) -> Callable[[int, int], None]:
            return lambda done, wanted: advance(what, done, wanted) if advance else None

        frames, seed = self.frames, self.frames.config.seed
        pair = ((BACKBONE, source), (RANDOM_WEIGHTS, source.untrained(seed)))
        found = {n: extract(each, frames, self.folder, bool(self.told), progress(n)) for n, each in pair}
        began = time.perf_counter()
        answers = self.ask(found, self.targets)
        left_out = {}
        if self.told and found[BACKBONE].told:
            answers |= self.ask(found, self.told, told=True)
        else:
            left_out |= {target.name: "no words enter this backbone" for target in self.told}
        asked = {target.name for target in (*self.targets, *self.told)}
        left_out |= {name: "the store has no labels for it" for name in POSSIBLE if name not in asked}
        seconds = {"extract": found[BACKBONE].seconds, "probe": time.perf_counter() - began}
        return Check(source.name, len(frames), len(frames.episodes), best_layer(answers), answers, left_out, seconds)

    def ask(self, features: Mapping[str, Features], targets: Sequence[Target], told: bool = False) -> dict[str, Answer]:
        """Answers for targets from features of the "backbone" and of the same with "random weights".

        told: from what was read with the texts `Frames.told`.
        """
        kinds = {kind: readings_of(each, told) for kind, each in features.items()} | self._fixed
        answers: dict[str, Answer] = {}
        for group in together(targets):
            answers |= Asking(kinds, group, self.splits, self.blocks, self.frames.config.seed).answers()
        return answers


def readings_of(features: Features, told: bool = False) -> dict[str, Tensor]:
    """All readings, or those with other texts, each on its principal components and standardised, [F, D]."""
    names = features.told if told else features.names
    return {name: standardised(narrowed(features.read(name, told))) for name in names}


def quick_skills(split: Split, asked: Sequence[tuple[Sequence[Target], Tensor | None]]) -> dict[str, float]:
    """The skill of a linear probe for each target, without baselines or intervals.

    asked: targets, and the features [F, D] that they are read from; None asks nothing.
    """
    alike, skills = np.zeros_like(split.outer), {}
    for targets, features in asked:
        if features is None:
            continue
        values = standardised(narrowed(features.numpy()))
        for group in together(targets):
            predicted = fit(values, group, split, group[0].known).predicted[-1]
            for place, target in enumerate(group):
                found = score(target, columns(predicted, group, place), alike)
                skills[target.name] = found.over(chance(target, alike)).value
    return skills


def cameras_for(sources: Sequence[Source], store: TrajectoryStore) -> tuple[str, ...]:
    """The cameras that all these backbones look through.

    Raises:
        ValueError: one looks through cameras that the store has not, or each through others.
    """
    has = store.env_spec.camera_names
    for source in sources:
        missing = [camera for camera in source.cameras or () if camera not in has]
        if missing:
            raise ValueError(
                f"{source.name}: found no camera {missing[0]!r} in {store.path}, wanted one of {list(has)}"
            )
    named = {source.cameras for source in sources if source.cameras}
    if len(named) > 1:
        raise ValueError(
            f"checkpoints: found cameras {sorted(named)}, wanted the same ones for all; check these one by one"
        )
    return named.pop() if named else tuple(has)


def best_layer(answers: Mapping[str, Answer]) -> str:
    """The reading with the highest mean skill; one that no words enter has none where words are asked about."""

    def total(reading: str) -> float:
        skills = [answer.by_reading[reading].value for answer in answers.values() if reading in answer.by_reading]
        return sum(max(0.0, skill) for skill in skills)

    return max(dict.fromkeys(reading for answer in answers.values() for reading in answer.by_reading), key=total)
