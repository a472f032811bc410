"""Probes for several targets on several kinds of features, and the controls that their scores are held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from torch import Tensor

from .answers import Answer, Curve
from .labels import Target
from .ridge import Fitted, fit
from .scores import Score, chance, mean_of, score
from .splits import Split
from .transfer import transfer_scores
from .two_layer import fit_two_layer

BACKBONE, GUESS = "backbone", "majority"
SHUFFLES = 4
CURVE_FOLDS = 2  # of five: a curve has many points, and what is compared has the same folds

Kinds = Mapping[str, Mapping[str, Tensor]]
Found = TypeVar("Found")


class Asking:
    """Targets that are known of the same frames, asked of the backbone and of what it is compared with.

    Args:
        kinds: "backbone" and each baseline -> reading -> standardised features [F, D].
        targets: see above.
        splits: the first by episodes, with levels; the second by scenes; perhaps more.
        blocks: of scenes, int64 [F] (`scores.score`).
        seed: of shuffled labels and two-layer probes.

    Attributes:
        best: kind of features -> the reading at which each target is best read, [T].
    """

    def __init__(
        self, kinds: Kinds, targets: Sequence[Target], splits: Sequence[Split], blocks: np.ndarray, seed: int
    ) -> None:
        self.kinds, self.targets, self.splits, self.blocks, self.seed = kinds, list(targets), splits, blocks, seed
        self.usable = targets[0].known
        self.whole = without_levels(splits[0])
        self.chances = [chance(target, blocks) for target in targets]
        self._first = {
            kind: {reading: fit(x, targets, self.whole, self.usable) for reading, x in readings.items()}
            for kind, readings in kinds.items()
        }
        self.best = {
            kind: [min(fits, key=lambda r, p=place: fits[r].chosen[p]) for place in range(len(targets))]
            for kind, fits in self._first.items()
        }

    def answers(self) -> dict[str, Answer]:
        """By target."""
        strict = {split.name: self._held_out(split) for split in self.splits[1:]}
        scenes = strict["scenes"]
        control, curves, hidden, cheap = self._control(), self._curves(), self._two_layer(), self._cheap()
        guess = Score(0.0, np.zeros(int(self.blocks.max()) + 1))
        tested = self.splits[0].folds[0][2] & self.usable
        found = {}
        for place, target in enumerate(self.targets):
            linear = {kind: self._said(fits[self.best[kind][place]], place) for kind, fits in self._first.items()}
            skills = {kind: self._skill(place, predicted) for kind, predicted in linear.items()}
            own = skills.pop(BACKBONE)
            rivals = [of[place] for kind, of in scenes.items() if kind != BACKBONE]
            found[target.name] = Answer(
                target=target.name,
                kind=target.kind,
                reading=self.best[BACKBONE][place],
                score=score(target, linear[BACKBONE], self.blocks),
                chance=self.chances[place],
                skill=own,
                shuffled=control[place],
                by_reading={
                    reading: self._skill(place, self._said(fitted, place))
                    for reading, fitted in self._first[BACKBONE].items()
                },
                baselines={**skills, GUESS: guess},
                gain=own - highest([*skills.values(), guess]),
                strict={name: of[BACKBONE][place] for name, of in strict.items()},
                strict_gain=scenes[BACKBONE][place] - highest([*rivals, guess]),
                two_layer=self._skill(place, hidden[place], tested),
                linear_same=self._skill(place, linear[BACKBONE], tested),
                curves={kind: of[place] for kind, of in curves.items()},
                cheap=cheap[place],
            )
        return found

    def _skill(self, place: int, predicted: np.ndarray, rows: np.ndarray | None = None) -> Score:
        return score(self.targets[place], predicted, self.blocks, rows).over(self.chances[place])

    def _said(self, fitted: Fitted, place: int, level: int = -1) -> np.ndarray:
        """What probes predict for one of the targets [F, K]."""
        return columns(fitted.predicted[level], self.targets, place)

    def _where_best(self, compute: Callable[[Tensor], Found], kind: str = BACKBONE) -> list[Found]:
        """What is computed of the features that each target is best read from, once for each reading, [T]."""
        found = {reading: compute(self.kinds[kind][reading]) for reading in dict.fromkeys(self.best[kind])}
        return [found[reading] for reading in self.best[kind]]

    def _fits(self, kind: str, split: Split, folds: int | None = None) -> list[Fitted]:
        """Probes for all targets where each is best read."""
        return self._where_best(lambda x: fit(x, self.targets, split, self.usable, folds=folds), kind)

    def _held_out(self, split: Split) -> dict[str, list[Score]]:
        """Skills by kind of features and target on a stricter split; beyond that by scenes the backbone's alone."""
        kinds = self.kinds if split is self.splits[1] else (BACKBONE,)
        return {
            kind: [self._skill(place, self._said(x, place)) for place, x in enumerate(self._fits(kind, split))]
            for kind in kinds
        }

    def _control(self) -> list[Score]:
        """Skills of probes that learned the same from shuffled labels, with the penalties of the true ones."""
        rng, count = np.random.default_rng([self.seed, 5]), len(self.targets)
        asked = [*self.targets, *(shuffled(target, rng) for _ in range(SHUFFLES) for target in self.targets)]
        masters = [*range(count)] * (1 + SHUFFLES)
        found = []
        for place, fitted in enumerate(self._where_best(lambda x: fit(x, asked, self.whole, self.usable, masters))):
            drawn = (columns(fitted.predicted[-1], asked, place + n * count) for n in range(1, 1 + SHUFFLES))
            found.append(mean_of([self._skill(place, predicted) for predicted in drawn]))
        return found

    def _curves(self) -> dict[str, list[Curve]]:
        """Of each kind of features and each target its curve, where that target is best read."""
        split, alike = self.splits[0], np.zeros_like(self.blocks)
        tested = np.any([test for _, _, test in split.folds[:CURVE_FOLDS]], axis=0)
        found = {}
        for kind in self.kinds:
            found[kind] = []
            for place, fitted in enumerate(self._fits(kind, split, folds=CURVE_FOLDS)):
                said = [self._said(fitted, place, level) for level in range(len(split.levels))]
                scores = [score(self.targets[place], predicted, alike, tested) for predicted in said]
                skills = [each.over(self.chances[place]).value for each in scores]
                found[kind].append(Curve(fitted.samples.tolist(), skills, float(fitted.bits[place])))
        return found

    def _two_layer(self) -> dict[int, np.ndarray]:
        """Of each target what a two-layer probe says where a linear one reads it best; for the first fold's test."""
        train, choose, test = (rows & self.usable for rows in self.splits[0].folds[0])
        found: dict[int, np.ndarray] = {}
        for reading in dict.fromkeys(self.best[BACKBONE]):
            places = [place for place, best in enumerate(self.best[BACKBONE]) if best == reading]
            of = [self.targets[place] for place in places]
            predicted = fit_two_layer(self.kinds[BACKBONE][reading], of, (train, choose, test), self.seed)
            found |= {place: columns(predicted, of, number) for number, place in enumerate(places)}
        return found

    def _cheap(self) -> list[dict[str, float]]:
        """LogME and the like of each target where it is best read."""
        found = self._where_best(lambda x: transfer_scores(x, self.targets, self.usable))
        return [scores[place] for place, scores in enumerate(found)]


def without_levels(split: Split) -> Split:
    """The same split with all of the training data at once."""
    return replace(split, level=np.zeros_like(split.level), levels=(1.0,))


def together(targets: Sequence[Target]) -> list[list[Target]]:
    """Targets in groups that are known of the same frames."""
    found: dict[bytes, list[Target]] = {}
    for target in targets:
        found.setdefault(np.packbits(target.known).tobytes(), []).append(target)
    return list(found.values())


def columns(predicted: np.ndarray, targets: Sequence[Target], place: int) -> np.ndarray:
    """The columns of one of several targets, of predictions [F, K]."""
    start = sum(target.values.shape[1] for target in targets[:place])
    return predicted[:, start : start + targets[place].values.shape[1]]


def shuffled(target: Target, rng: np.random.Generator) -> Target:
    """The same labels at other frames: nothing is left to learn, and what is found is what a probe makes up."""
    rows = np.flatnonzero(target.known)
    order = np.arange(len(target.known))
    order[rows] = rng.permutation(rows)
    return replace(target, name=f"{target.name} shuffled", values=target.values[order], counts=target.counts[order])


def highest(scores: Iterable[Score]) -> Score:
    """The best of several scores."""
    return max(scores, key=lambda each: each.value)
