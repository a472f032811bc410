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
from .lag import Delays, estimate_delays, late
from .motion import (
    FrameCache,
    Frames,
    action_signals,
    camera_signals,
    newest_rows,
    places,
    read_frames,
    stretches,
    wanted_signals,
)
from .motion_model import Signals
from .spec import ACTION_STREAM, EXECUTED_STREAM, PROPRIO_STREAM
from .tolerance import Tolerance
from .trajectories import Trajectories

_ACTION, _CAMERA = (1e-6, np.inf), (1e-3, 3.0)  # ridge, reach: actions are few and exact, what is seen many and noisy
_DISTURBED = 3.0  # times the confidence: what disturbs an expert hides what it wants, and chance then finds delays
_SURPRISE = 9.0  # nats against sound data from which a run of equal frames is called frozen
_NEIGHBOURS = 80  # rows of other episodes with which a frozen frame is compared
_STILL = 0.03  # standard deviations of a step below which nothing moves


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
    # What was executed moves the robot. What an expert wants answers to a motion that was disturbed, and so goes with
    # the one before it, too.
    moving = EXECUTED_STREAM if EXECUTED_STREAM in names else ACTION_STREAM
    bad = set().union(*(spoiled.get(name, set()) for name in (ACTION_STREAM, PROPRIO_STREAM, moving)))
    sound = [episode for episode in range(len(data)) if episode not in bad]
    if not sound:
        return content
    signals = dict(zip(sound, action_signals(data, sound, moving), strict=True))
    signals = {e: s for e, s in signals.items() if np.isfinite(s.inputs).all() and np.isfinite(s.targets).all()}
    stopped = _frozen_proprio(data, signals, content)
    running = [signals.get(e) if e not in stopped else None for e in range(len(data))]
    _report(data, ACTION_STREAM, _delays(data, ACTION_STREAM, running), len(signals) - len(stopped), content)
    if moving == EXECUTED_STREAM:
        _check_wanted(data, sound, content)
    explained = _named(content, "frozen", "lag", "mismatch")  # actions of another moment call for other motion too
    _jumps(data, {e: s for e, s in signals.items() if e not in explained}, content)
    wrong = bad | _named(content, "frozen", "mismatch", "jump")
    for name in names:
        if data.streams[name].kind == "image":
            _check_camera(data, name, wrong | spoiled.get(name, set()), content, cache)
    return content


def _named(content: Content, *checks: str) -> set[int]:
    return {f.episode for f in content.findings if f.check in checks and f.episode is not None}


def _delays(data: Trajectories, stream: str, signals: Sequence[Signals | None]) -> Delays | None:
    tolerance = data.tolerance
    ridge, reach = _CAMERA if data.streams[stream].kind == "image" else _ACTION
    longest = max(int(tolerance.longest_delay), int(tolerance.delay))
    return estimate_delays(signals, longest, tolerance.delay_confidence, ridge, reach, _declared(stream, tolerance))


def _declared(stream: str, tolerance: Tolerance) -> int:
    """Rows by which the store says that a stream is late: commands come before the motion that they cause."""
    return -int(tolerance.delay) if stream == ACTION_STREAM else 0


def _report(data: Trajectories, stream: str, delays: Delays | None, usable: int, content: Content) -> None:
    """What the delays of one stream say, as findings and as `content.lags`."""
    if delays is None:
        content.findings.append(
            Finding("note", None, stream, None, "untold", f"{usable} usable episodes", "enough motion to learn from",
                    "its delay is not judged: record more episodes")
        )  # fmt: skip
        return
    content.lags[stream] = [asdict(delay) if delay else None for delay in delays.episodes]
    declared = _declared(stream, data.tolerance)
    content.findings += _delay_findings(stream, delays, declared, data.tolerance.delay_confidence)
    untold = usable - sum(delay is not None and delay.rows is not None for delay in delays.episodes)
    if untold:
        found = f"{untold} of {usable} episodes in which its delay cannot be told"
        content.findings.append(
            Finding("note", None, stream, None, "untold", found, "motion to tell it from", "they pass unjudged")
        )
    content.findings += _mismatches(stream, delays)


def _check_wanted(data: Trajectories, episodes: Sequence[int], content: Content) -> None:
    """The actions of an expert against those that were executed, which it wanted but for what disturbed them."""
    signals: list[Signals | None] = [None] * len(data)
    for episode, signal in zip(episodes, wanted_signals(data, episodes), strict=True):
        if not np.array_equal(signal.inputs, signal.targets):
            signals[episode] = signal
    confidence = _DISTURBED * data.tolerance.delay_confidence
    delays = estimate_delays(signals, int(data.tolerance.longest_delay), confidence, *_ACTION)
    if delays is None:
        return
    of_motion = content.lags.get(ACTION_STREAM) or [None] * len(data)
    content.lags[ACTION_STREAM] = [
        asdict(wanted) if wanted is not None and (wanted.rows or wanted.foreign) else known
        for wanted, known in zip(delays.episodes, of_motion, strict=True)
    ]
    content.findings += _delay_findings(ACTION_STREAM, delays, 0, confidence, "what was executed")
    content.findings += _mismatches(ACTION_STREAM, delays, "what was executed")


def _delay_findings(
    stream: str, delays: Delays, declared: int, confidence: float, against: str = "the motion"
) -> Iterator[Finding]:
    """against: what the stream is compared with."""
    wanted = f"{late(declared)}, as declared" if declared else "no delay"
    advice = "shift the stream back in its source, or declare the real delay as tolerance.delay"
    if delays.store != declared and delays.store_confidence >= confidence:
        found = f"{late(delays.store - declared)} in the store as a whole ({delays.store_confidence:.0f} nats)"
        yield Finding("error", None, stream, None, "lag", found, wanted, advice)
    exchanged = {episode for pair in delays.exchanged for episode in (pair.first, pair.second)}
    for episode, delay in enumerate(delays.episodes):
        if delay is not None and delay.rows and episode not in exchanged:
            likeliest = "" if delay.least == delay.most else f", {abs(delay.rows)} is likeliest"
            by = late(delay.least, delay.most)
            found = f"{by} against {against} that it should go with ({delay.confidence:.0f} nats{likeliest})"
            yield Finding("error", episode, stream, None, "lag", found, wanted, advice)


def _mismatches(stream: str, delays: Delays, against: str = "the motion") -> Iterator[Finding]:
    """Episodes that go with another's stream; or for which the stream is worse than nothing would be.

    against: what the stream is compared with.
    """
    exchanged = {}
    for pair in delays.exchanged:
        exchanged |= {pair.first: (pair.second, pair.nats), pair.second: (pair.first, pair.nats)}
    for episode, (other, nats) in sorted(exchanged.items()):
        found = f"what goes with {against} of episode {other}, whose own goes with this one ({nats:.0f} nats)"
        yield Finding(
            "error", episode, stream, None, "mismatch", found, f"what goes with {against} of this episode",
            "exchange the streams of the two episodes in the source",
        )  # fmt: skip
    for episode, delay in enumerate(delays.episodes):
        if delay is not None and delay.foreign and episode not in exchanged:
            found = f"{-delay.evidence:.0f} nats less likely to go with {against} than no stream at all"
            yield Finding(
                "error", episode, stream, None, "mismatch", found, "what goes better with it than another episode's",
                "the stream belongs to another episode, frame or unit: pair it anew or drop the episode",
            )  # fmt: skip


def _frozen_proprio(data: Trajectories, signals: Mapping[int, Signals], content: Content) -> set[int]:
    """Runs of equal proprioception such as the rest of the store, moved in the same way, does not have.

    How likely it is that a reading equals the one before is counted over the other episodes, apart for readings that
    follow an equal one, and for actions that changed: a robot at rest, or moved by a hand at rest, is no broken sensor.
    """
    # A reading slower than the actions is held for some of them.
    held = max(1.0, data.streams[ACTION_STREAM].rate_hz / data.streams[PROPRIO_STREAM].rate_hz)
    kinds, stills = {}, {}
    for episode, signal in signals.items():
        still = (signal.targets == 0).all(1)
        changing = np.concatenate([[False], (np.diff(signal.inputs, axis=0) != 0).any(1)])
        kinds[episode] = 2 * changing + np.concatenate([[False], still[:-1]])
        stills[episode] = still
    rows = {e: np.bincount(kind, minlength=4) for e, kind in kinds.items()}
    equal = {e: np.bincount(kind[stills[e]], minlength=4) for e, kind in kinds.items()}
    all_rows, all_equal = sum(rows.values()), sum(equal.values())
    stopped = set()
    for episode, still in stills.items():
        others, equals = all_rows - rows[episode], all_equal - equal[episode]
        usual = (equals.sum() + 1) / (others.sum() + 2)
        nats = -np.log((equals + usual) / (others + 1))[kinds[episode]]
        for first, stop in stretches(still):
            if stop - first + 1 >= data.tolerance.frozen * held and nats[first:stop].sum() >= _SURPRISE:
                stopped.add(episode)
                begin, end = (_proprio_row(data, episode, row) for row in (first, stop))
                content.findings.append(_frozen(episode, PROPRIO_STREAM, begin, end, "robot was to move"))
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


def _jumps(data: Trajectories, signals: Mapping[int, Signals], content: Content) -> None:
    """Steps of the proprioception that are far from what the action and the step before call for: two episodes in one.

    Far is against the largest deviations that the store usually has from a linear prediction.
    """
    if not sum(len(s.targets) for s in signals.values()):
        return
    design = np.concatenate([np.concatenate([s.inputs, s.context], axis=1) for s in signals.values()])
    design = np.concatenate([design, np.ones((len(design), 1))], axis=1)
    steps = np.concatenate([s.targets for s in signals.values()])
    scale = np.maximum(np.abs(design).max(0), 1e-12)
    left = np.abs(steps - design @ (np.linalg.lstsq(design / scale, steps, rcond=1e-9)[0] / scale[:, None]))
    usual = np.maximum(np.quantile(left, 0.995, axis=0), 1e-9)
    # All dimensions count: a touch bends a few velocities, another episode is elsewhere altogether. What came before
    # the first step of an episode is not known.
    sizes = np.sqrt(np.square(left / usual).mean(1))
    far = [size[1:] for size in np.split(sizes, np.cumsum([len(s.targets) for s in signals.values()])[:-1])]
    for episode, size in zip(signals, far, strict=True):
        if len(size) and size.max() > data.tolerance.jump:
            row = _proprio_row(data, episode, int(size.argmax()) + 2)
            found = f"a step {size.max():.1f} times further from what the action calls for than is usual at most"
            content.findings.append(
                Finding("error", episode, PROPRIO_STREAM, row, "jump", found, "continuous motion",
                        "rows of another episode begin or end here: set the episode's border there, or declare what "
                        "the robot does as tolerance.jump")
            )  # fmt: skip


def _check_camera(
    data: Trajectories, stream: str, unusable: set[int], content: Content, cache: FrameCache | None
) -> None:
    episodes = [episode for episode in range(len(data)) if episode not in unusable]
    if not episodes:
        return
    frames = dict(zip(episodes, read_frames(data, stream, episodes, cache), strict=True))
    signals: list[Signals | None] = [None] * len(data)
    for episode, signal in zip(episodes, camera_signals(data, stream, list(frames.values()), episodes), strict=True):
        signals[episode] = signal
    delays, frozen = _delays(data, stream, signals), set()
    for episode, runs in _frozen_camera(data, stream, frames).items():
        rows = len(frames[episode].same)
        stopped = [run for run in runs if not (delays and _fills_up(delays, episode, run, rows))]
        if stopped:
            first, stop = stopped[0]
            content.findings.append(_frozen(episode, stream, first - 1, stop - 1, "robot moved on"))
            frozen.add(episode)
    if frozen:
        delays = _delays(data, stream, [None if e in frozen else signal for e, signal in enumerate(signals)])
    _report(data, stream, delays, len(episodes) - len(frozen), content)


def _fills_up(delays: Delays, episode: int, run: tuple[int, int], rows: int) -> bool:
    """Whether a run of equal frames is what a late or early stream fills the end with that it has no frames for."""
    delay = delays.episodes[episode]
    late_by = delays.store + (delay.rows or 0 if delay else 0)
    return run[1] - run[0] <= abs(late_by) and (run[0] == 1 if late_by > 0 else run[1] == rows)


def _frozen_camera(data: Trajectories, stream: str, frames: Mapping[int, Frames]) -> dict[int, list[tuple[int, int]]]:
    """By episode: runs [first, stop) of frames equal to the one before while the robot moved, where that is unusual.

    A hand that rises from a bare table sees the same for a while. So each row of a run is compared with the rows of
    other episodes at which the robot was most nearly in the same place with the same step.
    """
    least = data.tolerance.frozen - 1  # a run of n frames equal to the one before is n + 1 equal frames
    runs = {e: [(a, b) for a, b in stretches(f.same) if b - a >= least] for e, f in frames.items()}
    if not any(runs.values()):
        return {}
    views = _Views.of(places(data, stream, list(frames)), [f.same for f in frames.values()])
    frozen: dict[int, list[tuple[int, int]]] = {}
    for place, episode in enumerate(frames):
        for run in runs[episode]:
            if views.surprise(place, *run) >= _SURPRISE:
                frozen.setdefault(episode, []).append(run)
    return frozen


@dataclass(frozen=True)
class _Views:
    """The rows of all episodes as a camera has them: where the robot is, how it moves, whether the picture changed.

    owner: [N] episode; states: [N, S] place and step in standard deviations; sizes: [N] of the steps; same: [N] the
    picture equals the one before; after_same: [N] that one equals the one before it.
    """

    owner: np.ndarray
    states: np.ndarray
    sizes: np.ndarray
    same: np.ndarray
    after_same: np.ndarray

    @classmethod
    def of(cls, at: Sequence[np.ndarray], same: Sequence[np.ndarray]) -> _Views:
        """at: [T, P] of each episode; same: bool [T or more]."""
        steps = [np.diff(place, axis=0, prepend=place[:1]) for place in at]
        states = np.concatenate([np.concatenate(at), np.concatenate(steps)], axis=1)
        states /= np.maximum(states.std(0), 1e-9)
        sizes = np.linalg.norm(states[:, states.shape[1] // 2 :], axis=1)
        states = np.concatenate([states, np.log(sizes + _STILL)[:, None]], axis=1)  # a small step is unlike none
        known = [flags[: len(place)] for flags, place in zip(same, at, strict=True)]
        before = [np.concatenate([[False], flags[:-1]])[: len(flags)] for flags in known]
        owner = np.repeat(np.arange(len(at)), [len(place) for place in at])
        return cls(owner, states, sizes, np.concatenate(known), np.concatenate(before))

    def surprise(self, place: int, first: int, stop: int) -> float:
        """Nats against sound data in which rows [first, stop) of one episode see no change.

        The share of its neighbours that saw none says how likely that row is. A picture that stands still goes on
        standing still: what follows the first such row is compared with the neighbours that follow one, as far as there
        are any.
        """
        own = np.flatnonzero(self.owner == place)
        others = self.owner != place
        nats, following = 0.0, False
        for row in own[first : min(stop, len(own))]:
            if self.sizes[row] <= _STILL:
                continue
            away = np.where(others, np.square(self.states - self.states[row]).sum(1), np.inf)
            near = np.argpartition(away, min(_NEIGHBOURS, len(away) - 1))[:_NEIGHBOURS]
            near = near[others[near]]
            usual = (self.same[near].sum() + 1) / (len(near) + 2)
            if following:
                near = near[self.after_same[near]]
                usual = (self.same[near].sum() + usual) / (len(near) + 1)
            nats -= float(np.log(usual))
            following = True
        return nats
