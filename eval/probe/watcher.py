"""The check in mid-training: a short one, on a copy of the weights, at the reading that the head is given."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...datasets.store import TrajectoryStore
from ...policies.policy import Policy
from ...policies.training.watch import Watcher
from .asking import without_levels
from .check import quick_skills
from .config import ProbeConfig
from .features import read_last
from .frames import FrameBatch, Frames
from .labels import Target, make_targets, told_targets
from .sources import PolicySource
from .splits import Split, make_splits

MEAN = "mean"


class _Asked(NamedTuple):
    """What every look has in common, frames in memory included."""

    split: Split
    targets: list[Target]
    told: list[Target]
    batches: list[FrameBatch]


def probe_watcher(every: int, count: int, store: str | Path, best: Path) -> Watcher:
    """Looks at skills of linear probes every so many steps; the policy that has the best mean lies in `best`.

    count: frames of the store's demonstrations that features are extracted of at every look.
    """
    known: list[_Asked] = []
    highest = [-np.inf]

    def look(policy: Policy) -> Mapping[str, float]:
        source = PolicySource(copy.deepcopy(policy), "in training")
        if not known:
            frames = Frames(TrajectoryStore.open(store), tuple(policy.cameras), ProbeConfig(frames=count))
            targets, others = make_targets(frames), told_targets(frames)
            known.append(
                _Asked(without_levels(make_splits(frames)[0]), targets, others, [*frames.batches(bool(others))])
            )
        asked = known[0]
        own, told = read_last(source, asked.batches)
        skills = quick_skills(asked.split, ((asked.targets, own), (asked.told, told)))
        mean = float(np.mean(list(skills.values())))
        if mean > highest[0]:
            highest[0] = mean
            policy.save(best)
        return {MEAN: mean, **skills}

    return Watcher("probe", every, look, guards=MEAN)
