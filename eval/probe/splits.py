"""Who is held out: by episode, by scene, by task. Both sides of a split never share what it is named after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .frames import Frames

FOLDS = 5
FRACTIONS = (0.01, 0.03, 0.1, 0.25, 0.5, 1.0)
BLOCKS = 20  # of episodes, left out in turn for an interval


@dataclass(frozen=True)
class Split:
    """Every frame's place in a cross-validation, int64 [F] each.

    In turn each value of `outer` is the test. Of the rest, those of one value of `inner` choose the penalty, and the
    others train; a probe with little data learns only from those whose `level` is small.

    Attributes:
        name: "episodes", "scenes" or "tasks".
        levels: share of the training data at each level; the last is 1.
    """

    name: str
    outer: np.ndarray
    inner: np.ndarray
    level: np.ndarray
    levels: tuple[float, ...]

    @property
    def folds(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(train, choose, test) as bool [F], for each fold."""
        found, inner = [], int(self.inner.max()) + 1
        for fold in range(int(self.outer.max()) + 1):
            test, chooses = self.outer == fold, self.inner == (fold + 1) % inner
            found.append((~test & ~chooses, ~test & chooses, test))
        return found


def make_splits(frames: Frames) -> list[Split]:
    """By episodes with a learning curve; by scenes and, where there are two or more, by tasks with all data."""
    seed = frames.config.seed
    whole = np.zeros(len(frames), np.int64)
    episodes, scenes = folds_of(frames.episode, seed), folds_of(frames.scene, seed + 1)
    levels = _levels(frames.episode, episodes, seed)
    found = [Split("episodes", episodes, episodes, levels, FRACTIONS), Split("scenes", scenes, scenes, whole, (1.0,))]
    if frames.task.max() > 0:
        tasks = folds_of(frames.task, seed)
        found.append(Split("tasks", tasks, scenes, whole, (1.0,)))
    return found


def folds_of(groups: np.ndarray, seed: int, folds: int = FOLDS) -> np.ndarray:
    """A fold for each row [F], all rows of a group in the same one; each fold gets about as many rows."""
    names, counts = np.unique(groups, return_counts=True)
    order = np.random.default_rng([seed, 2]).permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    folds = min(folds, len(names))
    filled, of_group = np.zeros(folds, np.int64), np.zeros(len(names), np.int64)
    for group in order.tolist():
        fold = int(filled.argmin())
        of_group[group], filled[fold] = fold, filled[fold] + counts[group]
    return of_group[np.searchsorted(names, groups)]


def _levels(groups: np.ndarray, folds: np.ndarray, seed: int) -> np.ndarray:
    """The first of `FRACTIONS` with which a row is learned from; groups stay together, each fold has one at least."""
    rng, levels = np.random.default_rng([seed, 3]), np.zeros(len(groups), np.int64)
    for fold in range(int(folds.max()) + 1):
        names = rng.permutation(np.unique(groups[folds == fold]))
        rank = {int(name): number for number, name in enumerate(names)}
        share = [rank[int(group)] / len(names) for group in groups[folds == fold]]
        levels[folds == fold] = np.searchsorted(FRACTIONS, share, side="right")
    return levels


def blocks_of(frames: Frames) -> np.ndarray:
    """Blocks of scenes, to be left out in turn (`scores.score`): int64 [F]."""
    return folds_of(frames.scene, frames.config.seed + 2, BLOCKS)
