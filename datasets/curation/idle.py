"""Trimming stretches in which nothing moves: at the begin, at the end and, if asked for, inside.

Motion is judged on the control clock. Action row k moves if the robot's state at the next action differs from the state
at this one, or if the action differs from the one before (a gripper that is told to close), by more than the slowest
speed of some dimension. Action dimensions that command a displacement each step move where they are not zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..episode import StoreError
from ..motion import newest_rows, stretches
from ..spec import ACTION_STREAM, PROPRIO_STREAM
from ..store import TrajectoryStore
from .clocks import Clocks
from .config import IdleConfig
from .pieces import Piece
from .removal import NOT_CUT, begins_in_phase, remove
from .report import Drop, Outcome


def trim_idle(store: TrajectoryStore, pieces: Sequence[Piece], config: IdleConfig) -> Outcome:
    """Cut idle stretches out of the pieces; StoreError if the config names a dimension that the store lacks."""
    _check_names(store, config)
    kept, drops, notes = [], [], []
    for piece in pieces:
        clocks = Clocks.of(store, piece.episode)
        if not clocks.ordered:
            notes.append(f"episode {piece.episode} {NOT_CUT}")
            kept.append(piece)
            continue
        speeds = relative_speeds(store, piece.episode, config)
        idle = []
        for first, stop in stretches(speeds[piece.first : piece.stop] <= 1):
            rows = _to_cut(clocks, piece, piece.first + first, piece.first + stop, config)
            if rows is None:
                continue
            numbers = {
                "seconds": clocks.seconds(*rows),
                "fastest, in shares of the slowest motion": float(speeds[slice(*rows)].max()),
            }
            idle.append(Drop(piece.episode, rows, "neither actions nor proprioception move", numbers))
        parts, gone = remove(clocks, piece, idle, config.shortest_seconds)
        kept += parts
        drops += gone
    return Outcome(kept, drops, notes)


def relative_speeds(store: TrajectoryStore, episode: int, config: IdleConfig) -> np.ndarray:
    """How fast each action row's fastest dimension moves, in shares of its slowest motion: float64 [C].

    Up to 1 it is idle. What is not a number moves.
    """
    action = store.read(episode, ACTION_STREAM)
    period = round(store.streams[ACTION_STREAM].period_ns)
    bounds = np.append(action.stamps_ns, action.stamps_ns[-1] + period)
    seconds = np.diff(bounds)[:, None] / 1e9
    commands = action.values.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        changes = np.abs(np.diff(commands, axis=0, prepend=commands[:1]))
        changes[1:] /= seconds[:-1]
        names = store.env_spec.action.names
        deltas = [names.index(name) for name in config.deltas]
        changes[:, deltas] = np.abs(commands[:, deltas]) / seconds
        fastest = _fastest(changes, names, config)
        if PROPRIO_STREAM in store.streams:
            proprio = store.read(episode, PROPRIO_STREAM)
            rows = newest_rows(proprio.stamps_ns, bounds)
            steps = np.abs(np.diff(proprio.values.astype(np.float64)[rows], axis=0)) / seconds
            if len(steps) > 1 and rows[-1] == rows[-2]:
                steps[-1] = steps[-2]  # nothing was read after the last action: it moves as the one before
            fastest = np.maximum(fastest, _fastest(steps, store.env_spec.proprio.names, config))
    return np.where(np.isnan(fastest), np.inf, fastest)


def _fastest(speeds: np.ndarray, names: Sequence[str], config: IdleConfig) -> np.ndarray:
    """[T] from speeds [T, D] in units a second. With a slowest motion of 0 every change is motion."""
    limits = np.array([config.speeds.get(name, config.speed) for name in names], np.float64)
    shares = np.divide(speeds, limits, out=np.where(speeds > 0, np.inf, 0.0), where=(limits > 0) | np.isnan(speeds))
    return shares.max(axis=1, initial=0.0)


def _to_cut(clocks: Clocks, piece: Piece, first: int, stop: int, config: IdleConfig) -> tuple[int, int] | None:
    """The rows to cut of an idle stretch `first` to `stop`, which leaves the margin where motion is next to it."""
    bounds = clocks.bounds
    at_begin, at_end = first == piece.first, stop == piece.stop
    wanted = config.min_seconds if at_begin or at_end else config.inner_seconds
    if wanted is None or bounds[stop] - bounds[first] < round(wanted * 1e9):
        return None
    margin = round(config.margin_seconds * 1e9)
    if not at_begin:
        first = int(np.searchsorted(bounds, bounds[first] + margin, "left"))
    if not at_end:
        stop = int(np.searchsorted(bounds, bounds[stop] - margin, "right")) - 1
    return begins_in_phase(clocks, piece, (first, stop)) if first < stop else None


def _check_names(store: TrajectoryStore, config: IdleConfig) -> None:
    actions, proprio = store.env_spec.action.names, store.env_spec.proprio.names
    wanted: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
        "deltas": (config.deltas, actions),
        "speeds": (tuple(config.speeds), (*actions, *proprio)),
    }
    for field, (found, known) in wanted.items():
        if unknown := [name for name in found if name not in known]:
            raise StoreError(f"idle.{field}: found {unknown}, wanted dimensions of {store.path}: {list(known)}")
