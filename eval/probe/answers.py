"""What a check finds for one target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .scores import Score


@dataclass(frozen=True)
class Curve:
    """A probe's score against what it learned from.

    Attributes:
        samples: frames [L].
        skills: 0 at chance, 1 perfect, at each of them [L].
        bits: saved a label by coding each with what was learned before (see `ridge.Fitted`).
    """

    samples: list[float]
    skills: list[float]
    bits: float

    @property
    def area(self) -> float:
        """Mean of the curve over the logarithm of its samples: how early it rises."""
        if len(self.samples) < 2:
            return self.skills[-1]
        x = np.log(np.maximum(self.samples, 1))
        return float(np.trapezoid(self.skills, x) / max(1e-9, x[-1] - x[0]))


@dataclass(frozen=True)
class Answer:
    """What a check found for one target. Scores are in the metric of its kind; skills are 0 at chance, 1 perfect.

    Attributes:
        reading: where the target is best read, chosen on frames that are not the test's.
        score: with other episodes held out. skill: the same, above chance.
        shuffled: skill of probes that learned from shuffled labels.
        by_reading: skill at every reading, from the pictures to what is handed on.
        baselines: skill of each baseline.
        gain: skill over the best baseline, paired.
        strict: split -> skill where scenes, or tasks, are held out. strict_gain: over the best baseline, of scenes.
        two_layer: skill of a two-layer probe, beside `linear_same`, of the linear one on the same test.
        curves: "backbone" and each baseline -> curve.
        cheap: LogME, kernel alignment and, of classes, H-score.
    """

    target: str
    kind: str
    reading: str
    score: Score
    chance: Score
    skill: Score
    shuffled: Score
    by_reading: Mapping[str, Score]
    baselines: Mapping[str, Score]
    gain: Score
    strict: Mapping[str, Score]
    strict_gain: Score
    two_layer: Score
    linear_same: Score
    curves: Mapping[str, Curve]
    cheap: Mapping[str, float]
