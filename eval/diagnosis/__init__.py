"""When the loss falls and nothing succeeds: a ladder from the recordings to unseen scenes, and its first broken rung.

Each rung adds one thing to those below it, so what breaks on it is what it adds:

    replay           the recorded actions, through the policy's normaliser, in the world they were recorded in
    views            what the world shows meanwhile, against what was recorded
    teacher-forced   what the policy would do in each recorded moment, against what was done
    exact start      the policy itself, from where a recording begins; with each stream as recorded, where it fails
    training scenes  scenes such as those of the recordings
    unseen scenes    those of the evaluation

On the first three, faults that nobody notices (`suspects`) are undone one at a time: what then agrees names the fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from ...datasets.spec import ACTION_STREAM, camera_stream
from ...datasets.store import TrajectoryStore
from ...envs.rendering_backend import select_backend
from ...envs.suites import Suite
from ...policies.policy import Policy
from ..rollout import make_env
from .closed_loop import exact_start, training_scenes, unseen_scenes
from .rung import Case, Patient, Rung
from .teacher_forcing import teacher_forced
from .tracks import read_recording
from .world import replay, views

MEMORY = 2**30  # bytes of pictures that are held at once; of larger ones fewer episodes are looked at
RUNGS = ("replay", "views", "teacher-forced", "exact start", "training scenes", "unseen scenes")


@dataclass(frozen=True)
class Diagnosis:
    rungs: tuple[Rung, ...]

    @property
    def broken(self) -> Rung | None:
        """The first rung that does not hold."""
        return next((rung for rung in self.rungs if rung.holds is False), None)

    def to_dict(self) -> dict[str, Any]:
        first = self.broken
        return {"broken": first.name if first else None, "rungs": [asdict(rung) for rung in self.rungs]}


def diagnose(
    policy: Patient,
    store: TrajectoryStore,
    suite: Suite,
    make: Callable[..., gymnasium.Env],
    episodes: int = 20,
    exec_horizon: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, wanted: None,
) -> Diagnosis:
    """Climb the ladder up to its first broken rung.

    Args:
        store: what the policy learned from.
        make: an environment of the suite; takes `split` where the store names one.
        episodes: of each rung; of recordings fewer where their pictures are large (`MEMORY`).
        exec_horizon: actions of each chunk to carry out; None takes the policy's own.
        progress: called with what is done, how often it was, and how often it will be.

    Raises StoreError or AlignmentError where the store cannot be read.
    """
    cameras, horizon = tuple(policy.cameras), policy.config.action_horizon
    chosen = _chosen(store, cameras, episodes)
    case = Case(
        policy=policy,
        store=store,
        recordings=[read_recording(store, episode, cameras, horizon) for episode in chosen],
        suite=suite,
        env=make(**({"split": store.meta["split"]} if "split" in store.meta else {})),
        exec_horizon=exec_horizon or policy.config.exec_horizon,
        progress=progress,
    )
    climbs: dict[str, Callable[[float], Rung]] = {
        "replay": lambda below: replay(case),
        "views": lambda below: views(case),
        "teacher-forced": lambda below: teacher_forced(case),
        "exact start": lambda below: exact_start(case),
        "training scenes": lambda below: training_scenes(case, below, episodes),
        "unseen scenes": lambda below: unseen_scenes(case, below, episodes, make()),
    }
    rungs: list[Rung] = []
    below = 1.0
    for name in RUNGS:
        if any(rung.holds is False for rung in rungs):
            rungs.append(Rung(name, None, "not climbed: one below it is broken"))
            continue
        rungs.append(climbs[name](below))
        below = rungs[-1].numbers.get("success_rate", below)
    return Diagnosis(tuple(rungs))


def _chosen(store: TrajectoryStore, cameras: tuple[str, ...], episodes: int) -> list[int]:
    """Episodes evenly over the store, no more than memory holds twice: as they were recorded and as they look now."""
    pixels = sum(math.prod(store.streams[camera_stream(camera)].shape) for camera in cameras)
    rows = len(store.stamps(ACTION_STREAM)) / len(store)
    count = int(min(episodes, len(store), max(1, MEMORY // max(1, 2 * pixels * rows))))
    return np.unique(np.linspace(0, len(store) - 1, count).astype(int)).tolist()


def diagnose_saved(
    folder: Path,
    store: TrajectoryStore,
    suite: Suite,
    episodes: int,
    exec_horizon: int | None,
    progress: Callable[[str, int, int], None],
) -> Diagnosis:
    """`diagnose` of a policy in a folder, on one thread, as policies are evaluated."""
    torch.set_num_threads(1)
    select_backend()
    policy = Policy.load(folder)
    return diagnose(policy, store, suite, lambda **k: make_env(suite, policy, **k), episodes, exec_horizon, progress)
