"""What frozen features are asked about: targets, from what the simulator or the user's streams know of each frame.

A target that speaks of something that is not in a frame ("where is the red one?") counts only where it is there. For
the solver such rows hold the mean, so that all targets of a frame share one system of equations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ...datasets.language import RELATION_MARGIN, TOWARDS
from ...datasets.spec import OBJECTS_STREAM
from ...datasets.store import StoreError
from .frames import Frames

SOON = 1.0  # seconds ahead that success is foretold
_RARE = 0.02  # share of frames below which a flag, or a class, is not asked about
_PAIRS = 6  # of colours, whose relation is asked
_LIFTED, _NEAR = 0.015, 0.06  # metres above where it lay, and from the tool, of what is held


@dataclass(frozen=True)
class Target:
    """One question about every frame.

    Attributes:
        name: of the target.
        kind: "regression" (K numbers), "classes" (one of K, one-hot) or "flags" (each of K is there or not).
        values: float32 [F, K].
        counts: where each column means something, bool [F, K].
        known: frames that can be used at all, bool [F].
        columns: what each column is, in words.
    """

    name: str
    kind: str
    values: np.ndarray
    counts: np.ndarray
    known: np.ndarray
    columns: tuple[str, ...]


def make_targets(frames: Frames) -> list[Target]:
    """Every target that the store has the labels for, and those that `ProbeConfig.labels` declares.

    Raises:
        StoreError: a declared label is not in the store, or has another shape.
    """
    found = [_next_action(frames), _progress(frames), _success_ahead(frames)]
    if OBJECTS_STREAM in frames.store.streams and all("scene" in i["meta"] for i in frames.infos.values()):
        found += _about_objects(frames)
    found += [declared(frames, label) for label in frames.config.labels]
    return [target for target in found if target is not None]


def told_targets(frames: Frames) -> list[Target]:
    """What is asked about the texts that frames are told (`Frames.told`): is what they name there, and where."""
    there = np.array([bool(name) for name in frames.named])
    if there.all() or not there.any():
        return []
    found: list[Target | None] = [_whole("match", "flags", there[:, None], ("what the text names is there",))]
    if OBJECTS_STREAM in frames.store.streams:
        found.append(_places(frames).of_named(frames.named))
    return [target for target in found if target is not None]


def declared(frames: Frames, label: str) -> Target:
    """The target of "NAME=KIND:STREAM" or "NAME=KIND:meta.KEY"."""
    name, _, rest = label.partition("=")
    kind, _, place = rest.partition(":")
    where = f"probe.labels {label!r}"
    known = np.ones(len(frames), bool)
    if place.startswith("meta."):
        key = place.removeprefix("meta.")
        missing = [index for index, info in frames.infos.items() if key not in info["meta"]]
        if missing:
            raise StoreError(
                f"{where}: found no {key!r} in the meta of episode {missing[0]}, wanted one in every episode"
            )
        raw: Any = np.array([frames.infos[e]["meta"][key] for e in frames.episode.tolist()])
    elif place in frames.store.streams:
        raw, known = frames.stream(place)
    else:
        raise StoreError(
            f"{where}: found no stream {place!r}, wanted one of {', '.join(frames.store.streams)}, or meta.KEY"
        )
    values = raw.reshape(len(frames), -1)
    if kind == "classes":
        if values.shape[1] != 1:
            raise StoreError(f"{where}: found {values.shape[1]} numbers in a row, wanted one, which class it is")
        return _classes(name, values[:, 0].astype(str), known)
    if values.dtype.kind not in "fiub" or not np.isfinite(values[known].astype(float)).all():
        raise StoreError(f"{where}: found {values.dtype} that are not all finite numbers, wanted numbers")
    if kind == "flags" and not np.isin(values[known], (0, 1)).all():
        raise StoreError(f"{where}: found values other than 0 and 1, wanted flags")
    columns = tuple(f"{name} {i}" for i in range(values.shape[1]))
    return Target(name, kind, values.astype(np.float32), np.repeat(known[:, None], len(columns), 1), known, columns)


def _whole(name: str, kind: str, values: np.ndarray, columns: Sequence[str]) -> Target:
    """A target that is known of every frame."""
    return Target(
        *(name, kind, np.asarray(values, np.float32), np.ones(values.shape, bool)),
        *(np.ones(len(values), bool), tuple(columns)),
    )


def _next_action(frames: Frames) -> Target | None:
    varies = frames.actions.std(0) > 1e-6
    if not varies.any():
        return None
    names = [name for name, moves in zip(frames.store.env_spec.action.names, varies, strict=True) if moves]
    return _whole("next_action", "regression", frames.actions[:, varies], names)


def _progress(frames: Frames) -> Target:
    share = frames.t / np.maximum(frames.length - 1, 1)
    return _whole("progress", "regression", share[:, None], ("share of the episode",))


def _success_ahead(frames: Frames) -> Target | None:
    """Whether the episode will have succeeded `SOON` seconds later."""
    succeeds = {index: bool(info["meta"].get("success", True)) for index, info in frames.infos.items()}
    left = (frames.length - 1 - frames.t) / frames.store.env_spec.action.rate_hz
    soon = (left <= SOON) & np.array([succeeds[e] for e in frames.episode.tolist()])
    if soon.all() or not soon.any():
        return None
    return _whole("success_ahead", "flags", soon[:, None], (f"success within {SOON:g} s",))


def _places(frames: Frames) -> _Places:
    positions, known = frames.stream(OBJECTS_STREAM)
    scenes = [frames.infos[e]["meta"]["scene"] for e in frames.episodes]
    return _Places(positions.astype(np.float32), known, scenes, frames.owner)


def _about_objects(frames: Frames) -> list[Target | None]:
    places = _places(frames)
    return [
        places.of_colours(),
        places.flags("identity", lambda item: f"{item['colour']} {item['shape']}"),
        places.flags("colour", lambda item: item["colour"]),
        places.flags("shape", lambda item: item["shape"]),
        places.relations(),
        places.grasped(frames),
    ]


class _Places:
    """Where everything is: positions [F, M, 3] and whether they are of that instant [F], the scene of each episode, and
    which is each frame's [F]."""

    def __init__(
        self,
        positions: np.ndarray,
        known: np.ndarray,
        scenes: Sequence[Sequence[Mapping[str, Any]]],
        owner: np.ndarray,
    ) -> None:
        self.positions, self.known, self.scenes, self.owner = positions, known, scenes, owner
        counts = Counter(item["colour"] for scene in scenes for item in scene if item["colour"] is not None)
        self.colours = sorted(colour for colour, count in counts.items() if count >= _RARE * len(scenes))
        self._rows = {colour: self._only(colour) for colour in self.colours}

    def _only(self, colour: str) -> np.ndarray:
        """Which object is the only one of a colour, int64 [F]; -1 where none or several are."""
        of = [[row for row, item in enumerate(scene) if item["colour"] == colour] for scene in self.scenes]
        return np.array([rows[0] if len(rows) == 1 else -1 for rows in of])[self.owner]

    def _at(self, rows: np.ndarray) -> np.ndarray:
        return self.positions[np.arange(len(rows)), np.maximum(rows, 0)]

    def of_colours(self) -> Target | None:
        """Where the only object of each colour is, x and y in metres."""
        values, counts, columns = [], [], []
        for colour in self.colours:
            there = (self._rows[colour] >= 0) & self.known
            if there.mean() >= _RARE:
                values.append(self._at(self._rows[colour])[:, :2])
                counts.append(np.repeat(there[:, None], 2, 1))
                columns += [f"x of the {colour} one", f"y of the {colour} one"]
        if not values:
            return None
        return Target(
            "object_position",
            "regression",
            np.concatenate(values, 1),
            np.concatenate(counts, 1),
            self.known,
            tuple(columns),
        )

    def of_named(self, named: Sequence[str]) -> Target | None:
        """Where what is named is, x and y in metres; frames where it is not there are left out."""
        names = [[str(item["name"]) for item in self.scenes[episode]] for episode in self.owner]
        rows = np.array([of.index(name) if name in of else -1 for name, of in zip(named, names, strict=True)])
        there = (rows >= 0) & self.known
        if there.mean() < _RARE:
            return None
        counts = np.repeat(there[:, None], 2, 1)
        return Target("named_position", "regression", self._at(rows)[:, :2], counts, there, ("x", "y"))

    def flags(self, name: str, key: Any) -> Target | None:
        """Which kinds of objects are in the scene, `key` being of an object what its kind is."""
        kinds = [{key(item) for item in scene} - {None} for scene in self.scenes]
        counts = Counter(kind for there in kinds for kind in there)
        shares = {kind: count / len(kinds) for kind, count in counts.items()}
        asked = sorted(kind for kind, share in shares.items() if _RARE <= share <= 1 - _RARE)
        if not asked:
            return None
        values = np.array([[kind in there for kind in asked] for there in kinds])
        return _whole(name, "flags", values[self.owner], asked)

    def relations(self) -> Target | None:
        """Of pairs of colours: is this one left of that, and is it behind it, where that is clear."""
        pairs = {
            (a, b): (self._rows[a] >= 0) & (self._rows[b] >= 0) & self.known for a, b in combinations(self.colours, 2)
        }
        common = sorted(pairs, key=lambda pair: -pairs[pair].sum())[:_PAIRS]
        values, counts, columns = [], [], []
        for a, b in common:
            offset = self._at(self._rows[a]) - self._at(self._rows[b])
            for name in ("left", "behind"):
                axis, sign = TOWARDS[name]
                values.append(sign * offset[:, axis] > 0)
                counts.append(pairs[a, b] & (np.abs(offset[:, axis]) > RELATION_MARGIN))
            columns += [f"{a} left of {b}", f"{a} behind {b}"]
        if not np.any(counts):
            return None
        return Target(
            *("relation", "flags", np.stack(values, 1).astype(np.float32), np.stack(counts, 1)),
            *(self.known, tuple(columns)),
        )

    def grasped(self, frames: Frames) -> Target | None:
        """The colour of what is held, or "nothing": held is what is near the tool and higher than it first lay."""
        names = frames.store.env_spec.proprio.names
        if any(f"tool_{axis}" not in names for axis in "xyz"):
            return None
        tool = frames.proprio[:, [names.index(f"tool_{axis}") for axis in "xyz"]]
        lay = np.full((len(self.scenes), self.positions.shape[1]), np.inf, np.float32)
        for episode, scene in enumerate(self.scenes):
            lay[episode, : len(scene)] = [item["position"][2] for item in scene]
        raised = self.positions[..., 2] > lay[self.owner] + _LIFTED
        near = np.linalg.norm(self.positions - tool[:, None], axis=-1) < _NEAR
        held = raised & near
        which = np.where(held.any(1), held.argmax(1), -1).tolist()
        pairs = zip(which, self.owner.tolist(), strict=True)
        colours = [str(self.scenes[of][row]["colour"]) if row >= 0 else "nothing" for row, of in pairs]
        return _classes("grasped", np.array(colours), self.known, least=_RARE / 2)


def _classes(name: str, values: np.ndarray, known: np.ndarray, least: float = 0.0) -> Target:
    """One of several; classes of fewer than a share `least` of the frames do not count."""
    labels, places = np.unique(values, return_inverse=True)
    shares = np.bincount(places[known], minlength=len(labels)) / max(1, known.sum())
    kept = [i for i, share in enumerate(shares) if share >= least and share > 0]
    one_hot = np.stack([places == i for i in kept], 1)
    counts = np.repeat((known & one_hot.any(1))[:, None], len(kept), 1)
    return Target(name, "classes", one_hot.astype(np.float32), counts, known, tuple(str(labels[i]) for i in kept))
