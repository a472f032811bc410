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
from ...datasets.store import StoreError, TrajectoryStore
from ...envs.rendering_backend import select_backend
from ...envs.replaying import restart
from ...envs.suites import Suite
from ...policies.policy import Policy
from ..rollout import make_env
from .closed_loop import exact_start, training_scenes, unseen_scenes
from .rung import Case, Patient, Rung, untestable
from .teacher_forcing import teacher_forced
from .tracks import Recording, read_recording
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


Make = Callable[..., gymnasium.Env]


def diagnose(
    policy: Patient,
    store: TrajectoryStore,
    suite: Suite | None,
    make: Make,
    episodes: int = 20,
    exec_horizon: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, wanted: None,
    evaluated: Suite | None = None,
) -> Diagnosis:
    """Climb the ladder up to its first broken rung.

    Args:
        store: what the policy learned from.
        suite: of the recordings; None where nobody knows their world, and then only `teacher-forced` is climbed.
        make: an environment of a suite; takes what the store says of its world (`split`, `languages`).
        episodes: of each rung; of recordings fewer where their pictures are large (`MEMORY`).
        exec_horizon: actions of each chunk to carry out; None takes the policy's own.
        progress: called with what is done, how often it was, and how often it will be.
        evaluated: suite of the unseen scenes; None takes that of the recordings.

    Raises StoreError or AlignmentError where the store cannot be read, or does not fit the policy.
    """
    _check_fits(policy, store)
    cameras, horizon = tuple(policy.cameras), policy.config.action_horizon
    recordings = [read_recording(store, number, cameras, horizon) for number in _chosen(store, cameras, episodes)]
    world = {name: store.meta[name] for name in ("split", "languages") if name in store.meta}
    env = make(suite, **world) if suite else None
    again, excuse = _startable(env, store, recordings)
    case = Case(
        policy=policy,
        store=store,
        recordings=recordings,
        suite=suite,
        env=env,
        exec_horizon=exec_horizon or policy.config.exec_horizon,
        progress=progress,
        again=again,
        excuse=excuse,
    )
    other = evaluated or suite
    climbs: dict[str, Callable[[float], Rung]] = {
        "replay": lambda below: replay(case),
        "views": lambda below: views(case),
        "teacher-forced": lambda below: teacher_forced(case),
        "exact start": lambda below: exact_start(case),
        "training scenes": lambda below: (
            training_scenes(case, below, episodes) if suite else untestable("training scenes", excuse)
        ),
        "unseen scenes": lambda below: (
            unseen_scenes(case, below, episodes, other, make(other)) if other else untestable("unseen scenes", excuse)
        ),
    }
    rungs: list[Rung] = []
    below = 1.0
    for name in RUNGS:
        if any(rung.holds is False for rung in rungs):
            rungs.append(Rung(name, None, "not climbed: one below it is broken"))
            continue
        rungs.append(climbs[name](below))
        if rungs[-1].holds:
            below = rungs[-1].numbers.get("success_rate", below)
    return Diagnosis(tuple(rungs))


def _check_fits(policy: Patient, store: TrajectoryStore) -> None:
    """Raises StoreError unless the store has what the policy sees and does, by the same names."""
    found, wanted = store.env_spec, policy.spec
    missing = [camera for camera in policy.cameras if camera not in found.camera_names]
    if missing:
        raise StoreError(f"{store.path}: found cameras {list(found.camera_names)}, wanted {list(policy.cameras)}")
    for what, has, needs in (
        ("proprio", found.proprio.names, wanted.proprio.names),
        ("action", found.action.names, wanted.action.names),
    ):
        if has != needs:
            raise StoreError(
                f"{store.path}: {what}: found {list(has)}, the policy has {list(needs)}; "
                "name the store that it learned from with --store"
            )


def _startable(
    env: gymnasium.Env | None, store: TrajectoryStore, recordings: list[Recording]
) -> tuple[list[Recording], str]:
    """The recordings that can be started again, and why the first of the others cannot."""
    if env is None:
        return [], "the store does not say which suite it is from"
    again, excuses = [], []
    for recording in recordings:
        try:
            restart(env, store, recording.episode)
            again.append(recording)
        except StoreError as error:
            excuses.append(str(error))
    return again, excuses[0] if excuses else ""


def _chosen(store: TrajectoryStore, cameras: tuple[str, ...], episodes: int) -> list[int]:
    """Episodes evenly over the store, no more than memory holds twice: as they were recorded and as they look now."""
    pixels = sum(math.prod(store.streams[camera_stream(camera)].shape) for camera in cameras)
    rows = len(store.stamps(ACTION_STREAM)) / len(store)
    count = int(min(episodes, len(store), max(1, MEMORY // max(1, 2 * pixels * rows))))
    return np.unique(np.linspace(0, len(store) - 1, count).astype(int)).tolist()


def diagnose_saved(
    folder: Path,
    store: TrajectoryStore,
    suites: tuple[Suite | None, Suite | None],
    episodes: int,
    exec_horizon: int | None,
    progress: Callable[[str, int, int], None],
) -> Diagnosis:
    """`diagnose` of a policy in a folder, on one thread, as policies are evaluated.

    suites: of the recordings, and of the evaluation.
    """
    torch.set_num_threads(1)
    select_backend()
    policy = Policy.load(folder)

    def make(suite: Suite, **world: Any) -> gymnasium.Env:
        return make_env(suite, policy, **world)

    return diagnose(policy, store, suites[0], make, episodes, exec_horizon, progress, suites[1])
