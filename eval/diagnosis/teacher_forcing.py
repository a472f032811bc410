"""What the policy would do in each recorded moment, against what was done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ...datasets.normalisation import fit_normalisers
from .rung import TELLS, Case, Rung, named, percent
from .suspects import Suspect, of_normalisers, of_views, shifts, signs
from .tracks import Recording, Track

EXPLAINED = 0.5  # of the variance of actions that a policy has to get right, on average over dimensions
SURE = 3.0  # standard errors by which actions of another moment have to fit better than those of this one
_BETTER = 0.95  # and the error that has to be left at most
_MOMENTS = 128
_DRAWS = 4  # per moment: the mean of several is judged, as one of a policy that draws rightly is off by twice as much
_BATCH = 32


def teacher_forced(case: Case) -> Rung:
    """Faults in what the policy says are looked for in any case, those in what it sees where it is wrong."""
    moments = _Moments.of(case)
    predicted = _predict(case, "teacher-forced", lambda track: track)
    dims = case.policy.spec.action.names
    table = moments.error(predicted)
    by_dim, by_step = table[: case.exec_horizon].mean(0), table[:, moments.moving].mean(1)
    missed = float(by_dim[moments.moving].clip(max=1).mean()) if moments.moving.any() else 0.0
    numbers = {
        "unexplained": missed,
        "by_dimension": dict(zip(dims, by_dim.tolist(), strict=True)),
        "by_step": by_step.tolist(),
    }
    found = f"{percent(1 - missed)} of the variance of actions is predicted from recorded observations"
    fault = _fault(case, moments, predicted, missed)
    if fault:
        return Rung("teacher-forced", False, found, (named(fault, "policy"),), numbers)
    if missed <= 1 - EXPLAINED:
        return Rung("teacher-forced", True, found, numbers=numbers)
    worst = " and ".join(dims[dim] for dim in np.argsort(-by_dim)[:2])
    unknown = f"it has not learned what was recorded (worst: {worst}): train longer, or let it see what it depends on"
    return Rung("teacher-forced", False, found, (unknown,), numbers)


def _fault(case: Case, moments: _Moments, predicted: np.ndarray, missed: float) -> Suspect | None:
    """What explains most of the error, if anything does, or else a shift in time with which the policy would hold.

    A shift never explains much, for actions change slowly; and standing still fits other moments better, too.
    """
    trials = [(moments.left(predicted, suspect, case.exec_horizon), suspect) for suspect in _said(case)]
    after, shift = _other_moment(case, predicted)
    if shift:
        trials.append((after, shift))
    if missed > 1 - EXPLAINED and min(trials, key=_share)[0] > 1 - TELLS:
        before = moments.missed(predicted, case.exec_horizon)
        for suspect in _seen(case):
            again = _predict(case, str(suspect), suspect.seen)
            trials.append((moments.missed(again, case.exec_horizon) / before, suspect))
    share, likeliest = min(trials, key=_share)
    if share <= 1 - TELLS:
        return likeliest
    return shift if after * missed <= 1 - EXPLAINED else None


def _share(trial: tuple[float, Suspect]) -> float:
    return trial[0]


def _said(case: Case) -> Iterator[Suspect]:
    """Faults in what the policy says, but for its timing."""
    yield from (suspect for suspect in (*signs(case.policy.spec), *_normalisers(case)) if suspect.done)


def _seen(case: Case) -> Iterator[Suspect]:
    """Faults in what it sees."""
    yield from (suspect for suspect in (*of_views(case.policy.spec, case.cameras), *_normalisers(case)) if suspect.seen)


def _normalisers(case: Case) -> Iterator[Suspect]:
    own = {"proprio": case.policy.proprio_normaliser, "action": case.policy.action_normaliser}
    return of_normalisers(own, fit_normalisers(case.store), case.policy.spec)


@dataclass(frozen=True)
class _Moments:
    """What was done in the moments that are asked about.

    Attributes:
        chunks: [N, Tp, A]; counted: bool [N, Tp], where the episode went on.
        variance: [A]; moving: bool [A], dimensions that have any.
    """

    chunks: np.ndarray
    counted: np.ndarray
    variance: np.ndarray
    moving: np.ndarray

    @classmethod
    def of(cls, case: Case) -> _Moments:
        asked = list(_rows(case))
        variance = np.concatenate([recording.chunks[:, 0] for recording in case.recordings]).var(0)
        return cls(
            chunks=np.concatenate([recording.chunks[rows] for recording, rows in asked]),
            counted=~np.concatenate([recording.is_pad[rows] for recording, rows in asked]),
            variance=variance,
            moving=variance > 1e-12,
        )

    def error(self, chunks: np.ndarray) -> np.ndarray:
        """Mean squared error [T, A] in variances of each dimension; 0 of one that never moves.

        T: the steps of a chunk that any recording is long enough for.
        """
        squared = ((chunks - self.chunks) ** 2 * self.counted[..., None]).sum(0)
        counts = self.counted.sum(0)
        mean = squared[counts > 0] / counts[counts > 0, None]
        return np.where(self.moving, mean / np.where(self.moving, self.variance, 1.0), 0.0)

    def missed(self, chunks: np.ndarray, horizon: int) -> float:
        """Mean error of the steps that are carried out."""
        return float(self.error(chunks)[:horizon, self.moving].mean())

    def left(self, chunks: np.ndarray, suspect: Suspect, horizon: int) -> float:
        """Share of the error of these chunks that is left with a fault of theirs undone, in dimensions that have it."""
        if suspect.done is None:
            return 1.0
        undone = suspect.done(chunks)
        concerned = self.moving & (undone != chunks).any((0, 1))
        had = float(self.error(chunks)[:horizon, concerned].sum())
        return float(self.error(undone)[:horizon, concerned].sum()) / had if had > 0 else 1.0


def _other_moment(case: Case, chunks: np.ndarray) -> tuple[float, Suspect | None]:
    """A shift in time, if what the policy says fits actions before or after the present ones better than these, and
    the share of the error that it leaves.

    Actions change slowly, so a policy that is late by a step is not far off: what tells is that another step fits
    better, in the same moments, surely.
    """
    suspects = list(shifts())
    reach = max(abs(steps) for steps, _ in suspects)
    errors: list[list[float]] = []
    for chunk, (recording, row) in zip(chunks, ((r, row) for r, rows in _rows(case) for row in rows), strict=True):
        actions, last = recording.chunks[:, 0], row + case.exec_horizon + reach
        if row < reach or last > len(actions):
            continue
        spread = np.maximum(actions.var(0), 1e-12)
        said = chunk[: case.exec_horizon]
        there = [actions[row + steps : row + steps + len(said)] for steps in (0, *(steps for steps, _ in suspects))]
        errors.append([float((((said - done) ** 2) / spread)[:, actions.std(0) > 1e-6].mean()) for done in there])
    if len(errors) < 2:
        return 1.0, None
    table = np.array(errors)
    gain = table[:, :1] - table[:, 1:]
    sure = gain.mean(0) / (gain.std(0) / len(table) ** 0.5 + 1e-12)
    share = table[:, 1:].mean(0) / max(table[:, 0].mean(), 1e-12)
    best = int(share.argmin())
    if share[best] > _BETTER or sure[best] < SURE:
        return 1.0, None
    return float(share[best]), suspects[best][1]


def _rows(case: Case) -> Iterator[tuple[Recording, np.ndarray]]:
    """The moments, evenly over the recordings."""
    each = max(1, _MOMENTS // len(case.recordings))
    for recording in case.recordings:
        yield recording, np.unique(np.linspace(0, len(recording.track) - 1, each).astype(int))


@torch.inference_mode()
def _predict(case: Case, what: str, seen: Callable[[Track], Track] | None) -> np.ndarray:
    """What the policy would do in these moments, shown them so, mean of its draws: [N, Tp, A]. The noise stays."""
    chunks: list[np.ndarray] = []
    for recording, rows in case.each(what, list(_rows(case))):
        track = seen(recording.track) if seen else recording.track
        for part in np.array_split(rows, -(-len(rows) * _DRAWS // _BATCH)):
            drawn = np.repeat(part, _DRAWS)
            seeds = [1000 * recording.episode + int(row) + draw * 2**40 for row in part for draw in range(_DRAWS)]
            noise = [torch.Generator().manual_seed(seed) for seed in seeds]
            said = case.policy.act(track.observation(drawn, case.policy.config.obs_horizon), noise).cpu().numpy()
            chunks.append(said.reshape(len(part), _DRAWS, *said.shape[1:]).mean(1))
    return np.concatenate(chunks)
