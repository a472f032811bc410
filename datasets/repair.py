"""Repairs that cannot invent data: drop an episode, trim it, re-declare a rate. Always into a new store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from .clocks import measured_period
from .curation.clocks import Clocks
from .curation.pieces import Piece, cut
from .episode import Episode, StreamSpec
from .findings import Finding, GateReport
from .slicing import new_places
from .spec import ACTION_STREAM, PROPRIO_STREAM, EnvSpec, camera_stream
from .store import StoreError, TrajectoryStore
from .trajectories import episode_clocks

_TRIMMED = ("stall", "dropped", "frozen", "jump")  # faults with a place: what lies before or after them is sound
_REDECLARED = ("rate",)
_LEAST_ROWS = 16  # control steps that must be left of a trimmed episode


class NoRepairError(StoreError):
    """What is wrong cannot be mended without inventing data."""


def repair(store: TrajectoryStore, report: GateReport, destination: str | Path) -> list[str]:
    """Write what is sound of `store`, according to `report`, to a new store, and say what was done, in sentences.

    A wrong declared rate becomes the measured one. An episode with a stall, dropped rows, a frozen sensor or a jump
    keeps its longer sound side if at least 16 control steps are left; with any other error it is dropped. No stamp and
    no value is changed; what lost its end no longer counts as a success.

    Raises NoRepairError where an error concerns the whole store and is no wrong rate, or nothing would be left;
    StoreError if the destination exists.
    """
    destination = Path(destination)
    if destination.exists():
        raise StoreError(f"{destination}: found something there, wanted nothing; remove it or choose another path")
    hopeless = [f for f in report.errors if f.episode is None and f.check not in _REDECLARED]
    if hopeless:
        raise NoRepairError(f"{store.path}: no repair without inventing data for: {hopeless[0]}")
    env_spec, streams, done = _redeclared(store, [f.stream for f in report.errors if f.check in _REDECLARED])
    kept = 0
    with new_places([destination]) as (partial,):
        mended = TrajectoryStore.create(partial, env_spec, streams, store.meta, store.tolerance)
        with mended.writer(ordered=False) as writer:
            for index in range(len(store)):
                faults = [f for f in report.errors if f.episode == index]
                episode, what = _mended(store, index, faults)
                done += [what] if what else []
                if episode is not None:
                    writer.append(episode)
                    kept += 1
        if not kept:
            raise NoRepairError(f"{store.path}: every episode has an error that only dropping it removes")
    return done


def _redeclared(store: TrajectoryStore, names: Iterable[str]) -> tuple[EnvSpec, list[StreamSpec], list[str]]:
    specs, env_spec, done = dict(store.streams), store.env_spec, []
    for name in dict.fromkeys(names):
        period = measured_period(episode_clocks(store, name))
        rate = float(f"{1e9 / period:.6g}")
        done.append(f"stream {name!r}: declared {specs[name].rate_hz:g} Hz, now {rate:g} Hz as measured")
        specs[name] = replace(specs[name], rate_hz=rate)
        if name == ACTION_STREAM:
            env_spec = replace(env_spec, action=replace(env_spec.action, rate_hz=rate))
        elif name == PROPRIO_STREAM:
            env_spec = replace(env_spec, proprio=replace(env_spec.proprio, rate_hz=rate))
        cameras = [replace(c, rate_hz=rate) if camera_stream(c.name) == name else c for c in env_spec.cameras]
        env_spec = replace(env_spec, cameras=tuple(cameras))
    return env_spec, list(specs.values()), done


def _mended(store: TrajectoryStore, index: int, faults: list[Finding]) -> tuple[Episode | None, str]:
    """The episode, or what is left of it, or None; and what was done to it."""
    if not faults:
        return store.episode(index), ""
    names = ", ".join(dict.fromkeys(f.check for f in faults))
    if any(f.check not in _TRIMMED or f.row is None for f in faults):
        return None, f"episode {index}: dropped ({names})"
    episode = store.episode(index)
    clocks = Clocks({name: stream.stamps_ns for name, stream in episode.streams.items()}, store.streams)
    action = episode.streams[ACTION_STREAM].stamps_ns
    at = [(episode.streams[f.stream].stamps_ns, f.row or 0) for f in faults]
    stop = int(np.searchsorted(action, min(int(stamps[max(row - 1, 0)]) for stamps, row in at), "right"))
    first = clocks.begin_after(int(np.searchsorted(action, max(int(stamps[row]) for stamps, row in at))))
    # What a frozen sensor shows later is wrong as far as anybody knows; so is a clock that stood still alone.
    stalled = {f.stream for f in faults if f.check == "stall"}
    lost = any(f.check == "frozen" for f in faults) or (bool(stalled) and stalled != set(store.streams))
    sides = [(0, stop)] + ([] if lost else [(first, len(action))])
    begin, end = max(sides, key=lambda side: side[1] - side[0])
    if end - begin < _LEAST_ROWS or clocks.empty_stream(begin, end):
        return None, f"episode {index}: dropped ({names}; {max(0, end - begin)} control steps would be left)"
    meta = {key: value for key, value in episode.meta.items() if key != "success" or end == len(action)}
    piece = Piece(index, begin, end, episode.instruction, meta)
    return cut(episode, store.streams, piece), f"episode {index}: trimmed to {end - begin} control steps ({names})"
