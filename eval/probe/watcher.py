"""The check in mid-training: a short one, on a copy of the weights, at the reading that the head is given."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...datasets.store import TrajectoryStore
from ...policies.policy import Policy
from ...policies.training.watch import Watcher
from .check import quick_skills
from .config import ProbeConfig
from .features import read_last
from .frames import Frames
from .labels import Target, make_targets, told_targets
from .sources import PolicySource

MEAN = "mean"


def probe_watcher(every: int, count: int, store: str | Path, best: Path) -> Watcher:
    """Looks at skills of linear probes every so many steps; the policy that has the best mean lies in `best`.

    count: frames of the store's demonstrations that features are extracted of at every look.
    """
    known: list[tuple[Frames, list[Target], list[Target]]] = []
    highest = [-np.inf]

    def look(policy: Policy) -> Mapping[str, float]:
        source = PolicySource(copy.deepcopy(policy), "in training")
        if not known:
            frames = Frames(TrajectoryStore.open(store), tuple(policy.cameras), ProbeConfig(frames=count))
            known.append((frames, make_targets(frames), told_targets(frames)))
        frames, targets, others = known[0]
        own, told = read_last(source, frames, bool(others))
        skills = quick_skills(frames, ((targets, own), (others, told)))
        mean = float(np.mean(list(skills.values())))
        if mean > highest[0]:
            highest[0] = mean
            policy.save(best)
        return {MEAN: mean, **skills}

    return Watcher("probe", every, look, guards=MEAN)
