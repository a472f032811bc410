"""What may have come between a recording, a world and a policy: faults, each of which can be undone on trial.

Whoever converts data, writes an environment or loads a policy gets one of these wrong sooner or later: everything then
has the right shape, the loss falls, and nothing succeeds. If what did not agree agrees with one of them undone, that
is what it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ...datasets.normalisation import MinMaxNormaliser
from ...datasets.spec import EnvSpec
from .tracks import Track

ADVICE = {
    "swapped cameras": "give each camera the name that it had where the other side got its pictures",
    "channel order": "pictures are RGB; whoever reads or writes them with OpenCV has to turn BGR around",
    "flipped image": "pictures have their first row at the top; turn those of this camera where they are made",
    "sign": "both sides have to count this dimension in the same direction",
    "quaternion sign": "q and -q are one rotation: make w (or the first of the four) positive on both sides",
    "stale proprioception": "read the robot's state after the step that it belongs to, not before",
    "action sign": "both sides have to count this dimension in the same direction (a gripper: what is open?)",
    "chunk shift": "the first action of a chunk is the one for the present observation; look at where windows are cut",
    "normaliser": "the policy's normaliser was fitted to other data than it acts on: load the one it was trained with",
}
"""Fault -> what to do about it."""

LAGS = (1, 2, 3)  # control steps by which proprioception may be late, or early
SHIFTS = (-2, -1, 1, 2)  # control steps by which actions may be late, or early
_FLIPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "upside down": lambda frames: frames[:, ::-1],
    "mirrored": lambda frames: frames[:, :, ::-1],
    "turned by 180 degrees": lambda frames: frames[:, ::-1, ::-1],
}
_QUATERNION = re.compile(r"(.*?)_?q(?:uat(?:ernion)?)?_?([wxyz])")


@dataclass(frozen=True)
class Suspect:
    """One fault, and how to undo it.

    Attributes:
        fault: a key of `ADVICE`. detail: where, or by how much.
        seen: what is seen, without the fault; None where it is not in what is seen.
        done: actions [..., T, A] without the fault; None where it is not in them.
    """

    fault: str
    detail: str
    seen: Callable[[Track], Track] | None = None
    done: Callable[[np.ndarray], np.ndarray] | None = None

    def __str__(self) -> str:
        return f"{self.fault}: {self.detail}"


def of_views(spec: EnvSpec, cameras: Sequence[str]) -> Iterator[Suspect]:
    """Faults in what is seen, the commonest first."""
    sizes = {name: (spec.camera(name).height, spec.camera(name).width) for name in cameras}
    for one, other in combinations(cameras, 2):
        if sizes[one] == sizes[other]:
            yield Suspect("swapped cameras", f"{one} and {other}", _exchanged(one, other))
    groups = [tuple(cameras)] + ([(name,) for name in cameras] if len(cameras) > 1 else [])
    for group in filter(None, groups):
        yield Suspect("channel order", f"red and blue of {_listed(group)}", _changed(group, lambda x: x[..., ::-1]))
        for how, flip in _FLIPS.items():
            yield Suspect("flipped image", f"{_listed(group)} {how}", _changed(group, flip))
    quaternions = quaternion_dimensions(spec.proprio.names)
    for name, dims in quaternions.items():
        yield Suspect("quaternion sign", name, _negated(dims))
    for dim, name in enumerate(spec.proprio.names):
        if not any(dim in dims for dims in quaternions.values()):
            yield Suspect("sign", name, _negated([dim]))
    for lag in LAGS:
        yield Suspect("stale proprioception", f"{_steps(lag)} late", _shifted_proprio(lag))
        yield Suspect("stale proprioception", f"{_steps(lag)} early", _shifted_proprio(-lag))


def signs(spec: EnvSpec) -> Iterator[Suspect]:
    """Dimensions of actions that count the other way round."""
    for dim, name in enumerate(spec.action.names):
        flipped = np.where(np.arange(spec.action.dim) == dim, -1.0, 1.0)
        yield Suspect("action sign", name, done=lambda actions, flipped=flipped: actions * flipped)


def shifts() -> Iterator[tuple[int, Suspect]]:
    """Actions that come too early or too late, and by how many control steps the ones that are meant follow."""
    for steps in SHIFTS:
        when = f"actions come {_steps(abs(steps))} {'early' if steps > 0 else 'late'}"
        yield steps, Suspect("chunk shift", when, done=lambda actions, steps=steps: _shifted(actions, -steps))


def of_normalisers(
    policys: Mapping[str, MinMaxNormaliser], stores: Mapping[str, MinMaxNormaliser], spec: EnvSpec
) -> Iterator[Suspect]:
    """The policy's normalisers "action" and "proprio", where the store's own are others."""
    low, high = np.asarray(spec.action.low), np.asarray(spec.action.high)

    def done(actions: np.ndarray) -> np.ndarray:
        meant = policys["action"].normalise(actions.astype(np.float64))
        return stores["action"].unnormalise(meant).clip(low, high)

    def seen(track: Track) -> Track:
        meant = stores["proprio"].normalise(track.proprio.astype(np.float64))
        return replace(track, proprio=policys["proprio"].unnormalise(meant).astype(np.float32))

    if _differ(policys["action"], stores["action"]):
        yield Suspect("normaliser", "of actions, which is not that of the recordings", done=done)
    if _differ(policys["proprio"], stores["proprio"]):
        yield Suspect("normaliser", "of proprioception, which is not that of the recordings", seen)


def quaternion_dimensions(names: Sequence[str]) -> dict[str, list[int]]:
    """Name -> its four dimensions, of each quaternion among dimensions such as tool_qw, tool_qx, tool_qy, tool_qz."""
    found: dict[str, dict[str, int]] = {}
    for dim, name in enumerate(names):
        if match := _QUATERNION.fullmatch(name):
            found.setdefault(match[1] or "quaternion", {})[match[2]] = dim
    return {name: sorted(parts.values()) for name, parts in found.items() if len(parts) == 4}


def _differ(one: MinMaxNormaliser, other: MinMaxNormaliser) -> bool:
    return not (np.allclose(one.low, other.low, rtol=1e-3) and np.allclose(one.high, other.high, rtol=1e-3))


def _exchanged(one: str, other: str) -> Callable[[Track], Track]:
    def seen(track: Track) -> Track:
        images = {**track.images, one: track.images[other], other: track.images[one]}
        return replace(track, images=images)

    return seen


def _changed(cameras: Sequence[str], change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Track], Track]:
    def seen(track: Track) -> Track:
        changed = {name: np.ascontiguousarray(change(track.images[name])) for name in cameras}
        return replace(track, images={**track.images, **changed})

    return seen


def _negated(dims: Sequence[int]) -> Callable[[Track], Track]:
    def seen(track: Track) -> Track:
        proprio = track.proprio.copy()
        proprio[:, list(dims)] *= -1
        return replace(track, proprio=proprio)

    return seen


def _shifted_proprio(steps: int) -> Callable[[Track], Track]:
    return lambda track: replace(track, proprio=_shifted(track.proprio, steps))


def _shifted(rows: np.ndarray, steps: int) -> np.ndarray:
    """Row t becomes row t + steps, of [..., T, D]; the first or the last fills up."""
    index = np.clip(np.arange(rows.shape[-2]) + steps, 0, rows.shape[-2] - 1)
    return rows[..., index, :]


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names)


def _steps(count: int) -> str:
    return f"{count} control step{'s' * (count > 1)}"
