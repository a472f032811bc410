"""What the signals themselves say: delays behind perfect stamps, frozen sensors, jumps, and streams of another episode.

Every judgement compares an episode with the rest of its store, so that nothing need be known of the robot. Where too
little moves to tell, a note says so and the episode passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .findings import Finding
from .lag import Delay, Delays, Signals, estimate_delays, late
from .motion import FrameCache, Frames, action_signals, camera_signals, newest_rows, places, read_frames, stretches
from .spec import ACTION_STREAM, PROPRIO_STREAM
from .tolerance import Tolerance
from .trajectories import Trajectories

_ACTION_RIDGE, _CAMERA_RIDGE = 1e-6, 1e-3  # actions are few and exact numbers, what a camera shows is many and noisy
_JUMP = 7.0  # times the largest usual deviation of a step from its prediction
_SURPRISE = 11.0  # nats against sound data from which a run of equal frames is called frozen
_NEIGHBOURS = 40  # rows of other episodes with which a frozen frame is compared


@dataclass
class Content:
    """Findings, and by stream the delay of each episode (None where the signal cannot tell)."""

    findings: list[Finding] = field(default_factory=list)
    lags: dict[str, list[Mapping[str, Any] | None]] = field(default_factory=dict)


def check_content(
    data: Trajectories, names: Sequence[str], spoiled: Mapping[str, set[int]], cache: FrameCache | None = None
) -> Content:
    """Judge streams `names` by their content.

    spoiled: stream -> episodes whose clock or values are known to be wrong: they are left out here.
    Checks: frozen, jump, lag, mismatch; and the note untold.
    """
    content = Content()
    if ACTION_STREAM not in names or PROPRIO_STREAM not in names:
        found, wanted = "no proprioception and actions that can be read together", "both"
        advice = "delays, jumps and frozen sensors are not judged"
        content.findings.append(Finding("note", None, PROPRIO_STREAM, None, "untold", found, wanted, advice))
        return content
    bad = spoiled.get(ACTION_STREAM, set()) | spoiled.get(PROPRIO_STREAM, set())
    sound = [episode for episode in range(len(data)) if episode not in bad]
    if not sound:
        return content
    signals = dict(zip(sound, action_signals(data, sound), strict=True))
    signals = {e: s for e, s in signals.items() if np.isfinite(s.inputs).all() and np.isfinite(s.targets).all()}
    stopped = _frozen_proprio(data, signals, content)
    jumped = _jumps(data, {e: s for e, s in signals.items() if e not in stopped}, content)
    broken = stopped | jumped
    usable = [signals.get(e) if e not in broken else None for e in range(len(data))]
    _judge(data, ACTION_STREAM, usable, content)
    wrong = broken | {f.episode for f in content.findings if f.check == "mismatch" and f.episode is not None}
    for name in names:
        if data.streams[name].kind == "image":
            _check_camera(data, name, wrong | bad | spoiled.get(name, set()), content, cache)
    return content


def _judge(data: Trajectories, stream: str, signals: Sequence[Signals | None], content: Content) -> None:
    """Delays of one stream against the robot's motion, as findings and as `content.lags`."""
    tolerance = data.tolerance
    ridge = _CAMERA_RIDGE if data.streams[stream].kind == "image" else _ACTION_RIDGE
    longest = max(int(tolerance.longest_delay), int(tolerance.delay))
    delays = estimate_delays(signals, longest, tolerance.delay_confidence, ridge)
    if delays is None:
        found = f"{sum(s is not None for s in signals)} usable episodes"
        content.findings.append(
            Finding("note", None, stream, None, "untold", found, "enough motion to learn from",
                    "its delay is not judged: record more episodes")
        )  # fmt: skip
        return
    content.lags[stream] = [asdict(delay) if delay else None for delay in delays.episodes]
    content.findings += _delay_findings(stream, delays, tolerance)
    content.findings += _mismatches(stream, delays.episodes)


def _delay_findings(stream: str, delays: Delays, tolerance: Tolerance) -> Iterator[Finding]:
    declared = -int(tolerance.delay) if stream == ACTION_STREAM else 0  # commands come before the motion they cause
    wanted = f"{late(declared)}, as declared" if declared else "no delay"
    advice = "shift the stream back in its source, or declare the real delay as tolerance.delay"
    if delays.store != declared and delays.store_confidence >= tolerance.delay_confidence:
        found = f"{late(delays.store - declared)} in the store as a whole ({delays.store_confidence:.0f} nats)"
        yield Finding("error", None, stream, None, "lag", found, wanted, advice)
    untold = 0
    for episode, delay in enumerate(delays.episodes):
        untold += delay is None or delay.rows is None
        if delay is not None and delay.rows:
            found = f"{late(delay.rows)} against the motion it should go with ({delay.confidence:.0f} nats)"
            yield Finding("error", episode, stream, None, "lag", found, wanted, advice)
    if untold:
        found = f"{untold} of {len(delays.episodes)} episodes in which its delay cannot be told"
        yield Finding("note", None, stream, None, "untold", found, "motion to tell it from", "they pass unjudged")


def _mismatches(stream: str, delays: Sequence[Delay | None]) -> Iterator[Finding]:
    """Episodes whose motion the stream explains worse than nothing would, and than other episodes' streams do."""
    for episode, delay in enumerate(delays):
        if delay is not None and delay.foreign:
            found = f"{-delay.evidence:.0f} nats less likely to go with the robot's motion than no stream at all"
            yield Finding(
                "error", episode, stream, None, "mismatch", found, "what goes better with it than another episode's",
                "the stream belongs to another episode, frame or unit: pair it anew or drop the episode",
            )  # fmt: skip


def _frozen_proprio(data: Trajectories, signals: Mapping[int, Signals], content: Content) -> set[int]:
    """Runs of equal proprioception through which the actions went on changing."""
    stopped = set()
    # A reading slower than the actions is held for some of them.
    held = max(1.0, data.streams[ACTION_STREAM].rate_hz / data.streams[PROPRIO_STREAM].rate_hz)
    for episode, signal in signals.items():
        still = (signal.targets == 0).all(1)
        changing = np.concatenate([[False], (np.diff(signal.inputs, axis=0) != 0).any(1)])
        for first, stop in stretches(still):
            if stop - first + 1 >= data.tolerance.frozen * held and changing[first:stop].mean() > 0.5:
                stopped.add(episode)
                begin, end = (_proprio_row(data, episode, row) for row in (first, stop))
                content.findings.append(_frozen(episode, PROPRIO_STREAM, begin, end, "actions went on changing"))
                break
    return stopped


def _proprio_row(data: Trajectories, episode: int, row: int) -> int:
    """The row of proprioception that action row `row` sees."""
    at = data.stamps(ACTION_STREAM, [episode])[row : row + 1]
    return int(newest_rows(data.stamps(PROPRIO_STREAM, [episode]), at)[0])


def _frozen(episode: int, stream: str, first: int, stop: int, meanwhile: str) -> Finding:
    found = f"{stop - first + 1} equal rows while the {meanwhile}"
    return Finding(
        "error", episode, stream, int(first) + 1, "frozen", found, "a sensor that follows the motion",
        "the sensor or its driver stood still: cut the episode here or record it again",
    )  # fmt: skip


def _jumps(data: Trajectories, signals: Mapping[int, Signals], content: Content) -> set[int]:
    """Steps of the proprioception that are far from what the action and the step before call for: two episodes in one.

    Far is against the largest deviations that the store usually has from a linear prediction.
    """
    if not sum(len(s.targets) for s in signals.values()):
        return set()
    design = np.concatenate([np.concatenate([s.inputs, s.context], axis=1) for s in signals.values()])
    design = np.concatenate([design, np.ones((len(design), 1))], axis=1)
    steps = np.concatenate([s.targets for s in signals.values()])
    scale = np.maximum(np.abs(design).max(0), 1e-12)
    left = np.abs(steps - design @ (np.linalg.lstsq(design / scale, steps, rcond=1e-9)[0] / scale[:, None]))
    usual = np.maximum(np.quantile(left, 0.995, axis=0), 1e-9)
    far = np.split((left / usual).max(1), np.cumsum([len(s.targets) for s in signals.values()])[:-1])
    jumped = set()
    for episode, size in zip(signals, far, strict=True):
        if len(size) and size.max() > _JUMP:
            row = _proprio_row(data, episode, int(size.argmax()) + 1)
            jumped.add(episode)
            found = f"a step {size.max():.1f} times further from what the action calls for than is usual at most"
            content.findings.append(
                Finding("error", episode, PROPRIO_STREAM, row, "jump", found, "continuous motion",
                        "rows of another episode begin or end here: set the episode's border there")
            )  # fmt: skip
    return jumped


def _check_camera(
    data: Trajectories, stream: str, unusable: set[int], content: Content, cache: FrameCache | None
) -> None:
    episodes = [episode for episode in range(len(data)) if episode not in unusable]
    if not episodes:
        return
    frames = dict(zip(episodes, read_frames(data, stream, episodes, cache), strict=True))
    frozen = _frozen_camera(data, stream, frames, content)
    moving = [episode for episode in episodes if episode not in frozen]
    signals: list[Signals | None] = [None] * len(data)
    if moving:
        read = camera_signals(data, stream, [frames[episode] for episode in moving], moving)
        for episode, signal in zip(moving, read, strict=True):
            signals[episode] = signal
    _judge(data, stream, signals, content)


def _frozen_camera(data: Trajectories, stream: str, frames: Mapping[int, Frames], content: Content) -> set[int]:
    """Runs of equal frames through which the robot moved, where it usually sees a change when it moves so.

    A hand that rises from a bare table sees the same for a while. So each row of a run is compared with the rows of
    other episodes at which the robot was most nearly in the same place with the same step: the share of them that saw
    no change either is how likely that row is in sound data.
    """
    least = data.tolerance.frozen - 1  # a run of n frames equal to the one before is n + 1 equal frames
    runs = {e: [(a, b) for a, b in stretches(f.same) if b - a >= least] for e, f in frames.items()}
    if not any(runs.values()):
        return set()
    order = list(frames)
    at = places(data, stream, order)
    steps = [np.diff(place, axis=0, prepend=place[:1]) for place in at]
    states = np.concatenate([np.concatenate(at), np.concatenate(steps)], axis=1)
    states /= np.maximum(states.std(0), 1e-9)
    owner = np.repeat(order, [len(place) for place in at])
    same = np.concatenate([frames[episode].same[: len(place)] for episode, place in zip(order, at, strict=True)])
    first_row = dict(zip(order, np.cumsum([0, *map(len, at)])[:-1].tolist(), strict=True))
    moves = np.linalg.norm(states[:, states.shape[1] // 2 :], axis=1) > 0.25
    frozen = set()
    for episode, place in zip(order, at, strict=True):
        for first, stop in runs[episode]:
            rows = np.arange(first, min(stop, len(place))) + first_row[episode]
            rows = rows[moves[rows]]
            if len(rows) and _surprise(rows, states, same, owner) >= _SURPRISE:
                frozen.add(episode)
                content.findings.append(_frozen(episode, stream, first - 1, stop - 1, "robot moved on"))
                break
    return frozen


def _surprise(rows: np.ndarray, states: np.ndarray, same: np.ndarray, owner: np.ndarray) -> float:
    """Nats against sound data in which frames `rows` of one episode see no change."""
    others = np.flatnonzero(owner != owner[rows[0]])
    if not len(others):
        return 0.0
    nats = 0.0
    for row in rows:
        away = np.square(states[others] - states[row]).sum(1)
        near = others[np.argpartition(away, min(_NEIGHBOURS, len(others) - 1))[:_NEIGHBOURS]]
        nats -= float(np.log((same[near].sum() + 1) / (len(near) + 2)))
    return nats
