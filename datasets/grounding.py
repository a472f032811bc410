"""Samples for grounding words in pictures: images, the segmentation of the same instant, and the scene's truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .spec import ACTION_STREAM, OBJECTS_STREAM, PROPRIO_STREAM, camera_stream, segmentation_stream
from .store import StoreError, TrajectoryStore
from .subgoals import PHASE_STREAM


class GroundingDataset:
    """One item for each segmentation stamp of the chosen episodes (default all), kept in memory.

    cameras: short names ("front"), at least one; all are segmented at the same stamps, and at each of these there
    is exactly a row of each camera, of proprioception and of the actions. In a segmentation 0 is the background, i + 1
    the object meta["scene"][i], 255 the robot. frames: the cameras' images of the chosen episodes, joined, where they
    have been read already (`WindowDataset.frames`). Attributes: episode, t int64 [N], t being the action row.

    Raises StoreError if there is no such row, if a stream, meta["scene"] or meta["goal"] is missing, or if there
    is no episode.
    """

    def __init__(
        self,
        store: TrajectoryStore,
        cameras: Sequence[str],
        action_horizon: int = 16,
        episodes: Sequence[int] | None = None,
        frames: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        chosen = list(range(len(store))) if episodes is None else [int(index) for index in episodes]
        if not cameras or not chosen or action_horizon < 1:
            raise StoreError(
                f"{store.path}: found {len(cameras)} cameras, {len(chosen)} episodes, action_horizon {action_horizon}, "
                "wanted at least one of each"
            )
        for camera in cameras:
            store.env_spec.camera(camera)
        self.cameras, self.action_horizon = tuple(cameras), action_horizon
        first = segmentation_stream(self.cameras[0])
        stamps, owners = store.stamps(first, chosen), _owners(store.offsets(first, chosen))

        def rows_at(name: str) -> np.ndarray:
            return _exact_rows(store, name, chosen, stamps, owners)

        self._segmentation = {c: _take(store, segmentation_stream(c), chosen, rows_at) for c in self.cameras}
        self._images = {
            c: frames[c][rows_at(camera_stream(c))] if frames else _take(store, camera_stream(c), chosen, rows_at)
            for c in self.cameras
        }
        self._proprio = _take(store, PROPRIO_STREAM, chosen, rows_at).astype(np.float32)
        tracked = OBJECTS_STREAM in store.streams
        self._objects = _take(store, OBJECTS_STREAM, chosen, rows_at) if tracked else None
        phased = PHASE_STREAM in store.streams
        self._phase = _take(store, PHASE_STREAM, chosen, rows_at)[:, 0] if phased else None
        self._actions = store.read_all(ACTION_STREAM, chosen).values.astype(np.float32)
        self._action_row = rows_at(ACTION_STREAM)
        offsets = store.offsets(ACTION_STREAM, chosen)
        self._stop = offsets[owners + 1]
        self.episode = np.array(chosen, np.int64)[owners]
        self.t = self._action_row - offsets[owners]
        infos = [store.episode_info(index) for index in chosen]
        for index, info in zip(chosen, infos, strict=True):
            if missing := [key for key in ("scene", "goal") if key not in info["meta"]]:
                raise StoreError(f"{store.path}, episode {index}: meta lacks {missing}, wanted both for grounding")
        self._infos = [infos[owner] for owner in owners]

    def __len__(self) -> int:
        return len(self.t)

    def batch(self, indices: np.ndarray) -> dict[str, Any]:
        """Items `indices` int64 [B].

        images {camera: uint8 [B, H, W, 3]}, segmentation {camera: uint8 [B, H, W]}, proprio float32 [B, P],
        actions float32 [B, Tp, A] from that stamp on, is_pad bool [B, Tp], objects float32 [B, M, 3] (where each object
        of the scene is at that instant, metres; None where the store has no stream of them), phase uint8 [B] (of the
        expert, `datasets.subgoals`; None likewise), and lists of length B:
        scene (each the episode's list of objects, with their places at its start), goal (dict), instruction (str),
        other_instructions (list of {"text", "goal"}: what else could have been asked in the scene; empty where the
        store has none). They are shared, not copied: leave them as they are.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or indices.dtype.kind not in "iu":
            raise ValueError(f"grounding: found indices of {indices.dtype} {indices.shape}, wanted ints [B]")
        if len(indices) and (indices.min() < 0 or indices.max() >= len(self)):
            raise IndexError(
                f"grounding: found indices {indices.min()} to {indices.max()}, wanted 0 to {len(self) - 1}"
            )
        rows = self._action_row[indices, None] + np.arange(self.action_horizon)
        last = self._stop[indices, None] - 1
        infos = [self._infos[index] for index in indices]
        return {
            "images": {camera: images.take(indices, axis=0) for camera, images in self._images.items()},
            "segmentation": {camera: masks.take(indices, axis=0) for camera, masks in self._segmentation.items()},
            "proprio": self._proprio.take(indices, axis=0),
            "actions": self._actions.take(np.minimum(rows, last), axis=0),
            "is_pad": rows > last,
            "objects": None if self._objects is None else self._objects.take(indices, axis=0),
            "phase": None if self._phase is None else self._phase.take(indices),
            "scene": [info["meta"]["scene"] for info in infos],
            "goal": [info["meta"]["goal"] for info in infos],
            "instruction": [info["instruction"] for info in infos],
            "other_instructions": [info["meta"].get("other_instructions", []) for info in infos],
        }


def _owners(offsets: np.ndarray) -> np.ndarray:
    """For each row the position of its episode: int64 [rows]."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _take(store: TrajectoryStore, name: str, chosen: list[int], rows_at: Any) -> np.ndarray:
    rows = rows_at(name)
    return store.read_all(name, chosen).values[rows]


def rows_at(
    store: TrajectoryStore, name: str, chosen: Sequence[int], wanted: np.ndarray, owners: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of stream `name` (the chosen episodes joined) at stamps [N], each in its own episode, and which of them are
    exactly then, int64 and bool [N]; others are the next later row, or the last.

    owners: of each stamp, the position of its episode in `chosen`.
    """
    stamps, offsets = store.stamps(name, chosen), store.offsets(name, chosen)
    rows, exact = np.empty(len(wanted), np.int64), np.empty(len(wanted), bool)
    for position in range(len(chosen)):
        of_episode = owners == position
        seen, at = stamps[offsets[position] : offsets[position + 1]], wanted[of_episode]
        local = np.minimum(np.searchsorted(seen, at), len(seen) - 1)
        rows[of_episode], exact[of_episode] = local + offsets[position], seen[local] == at
    return rows, exact


def _exact_rows(
    store: TrajectoryStore, name: str, chosen: list[int], wanted: np.ndarray, owners: np.ndarray
) -> np.ndarray:
    """The rows of `rows_at`; StoreError where one is not exact."""
    rows, exact = rows_at(store, name, chosen, wanted, owners)
    if not exact.all():
        wrong = int(np.flatnonzero(~exact)[0])
        number = wrong - int(np.searchsorted(owners, owners[wrong]))
        raise StoreError(
            f"{store.path}, episode {chosen[owners[wrong]]}, stream {name!r}: found no row at {wanted[wrong]} ns, "
            f"wanted one exactly there, where segmentation row {number} was taken; take segmentations at control stamps"
        )
    return rows
