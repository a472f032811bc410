"""The frames of a store that a backbone is asked about: which they are, and who may not be on both sides of a split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ...datasets.grounding import rows_at
from ...datasets.spec import ACTION_STREAM
from ...datasets.store import StoreError, TrajectoryStore
from ...datasets.windows import WindowDataset, WindowSpec
from .config import ProbeConfig

BATCH = 256
_CACHE = 256 << 20  # bytes of decoded images
_TRIES = 20  # episodes asked for one about something that is not there


@dataclass(frozen=True)
class FrameBatch:
    """Frames as a backbone takes them: images {camera: uint8 [B, H, W, 3]}, proprio float32 [B, P], B texts.

    told: B other texts, or none: then what words are part of is read a second time.
    """

    images: dict[str, np.ndarray]
    proprio: np.ndarray
    texts: list[str]
    told: list[str] = field(default_factory=list)


class Frames:
    """Some frames of a store, `every` control steps apart, of whole episodes.

    Attributes:
        episode: of each frame, its number in the store, int64 [F].
        t: its action row, int64 [F].
        owner: the place of its episode in `episodes`, which are sorted, int64 [F].
        length: action rows of its episode, int64 [F].
        scene: equal numbers where two episodes show the same scene, int64 [F].
        task: equal numbers where two episodes have the same task, int64 [F]; all 0 where the store tells none.
        texts: the instruction of each.
        told: another text of each: half of all episodes are told something else that could have been asked in their
            scene, the others what is about an object that they have not. What is named is then not where the hand goes.
        named: the object that each of these is about, "" where it is not there.
        proprio, actions: float32 [F, P] and [F, A].

    episodes: all frames of these, in place of what the configuration asks for.

    Raises StoreError where there are fewer than ten episodes: there would be nothing to hold out.
    """

    def __init__(
        self,
        store: TrajectoryStore,
        cameras: tuple[str, ...],
        config: ProbeConfig,
        episodes: Sequence[int] | None = None,
    ) -> None:
        chosen = _choose(store, config) if episodes is None else list(episodes)
        if episodes is not None:
            config = replace(config, every=1)
        self.store, self.cameras, self.config = store, cameras, config
        self.episodes = chosen
        windows = WindowDataset(store, WindowSpec(1, 1), cameras, cache=False, episodes=chosen, cache_bytes=_CACHE)
        rows = np.flatnonzero(windows.t % config.every == 0)
        self._windows, self._rows = windows, rows
        numbers = windows.numbers(rows)
        self.episode, self.t = windows.episode[rows], windows.t[rows]
        self.owner = np.searchsorted(chosen, self.episode)
        self.proprio, self.actions = numbers["proprio"][:, 0], numbers["actions"][:, 0]
        self.texts: list[str] = numbers["instruction"]
        self.infos: dict[int, dict[str, Any]] = {index: store.episode_info(index) for index in chosen}
        infos = self.infos.items()
        self.length = np.array([info["lengths"]["action"] for _, info in infos], np.int64)[self.owner]
        self.scene = _numbered([scene_key(info["meta"], index) for index, info in infos])[self.owner]
        self.task = _numbered([str(info["meta"].get("task", "")) for _, info in infos])[self.owner]
        self.told, self.named = self._tell(np.random.default_rng([config.seed, 1]))

    def __len__(self) -> int:
        return len(self.t)

    def batches(self, told: bool = False) -> Iterator[FrameBatch]:
        """All frames in order; told: with those other texts, too."""
        for start in range(0, len(self), BATCH):
            part = slice(start, start + BATCH)
            found = self._windows.batch(self._rows[part])
            images = {camera: images[:, 0] for camera, images in found["images"].items()}
            others = self.told[part] if told else []
            yield FrameBatch(images, found["proprio"][:, 0], self.texts[part], others)

    def stream(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """What a stream says at each frame [F, ...], and where it says it of that very instant, bool [F]."""
        starts = self.store.offsets(ACTION_STREAM, self.episodes)[self.owner]
        wanted = self.store.stamps(ACTION_STREAM, self.episodes)[starts + self.t]
        rows, exact = rows_at(self.store, name, self.episodes, wanted, self.owner)
        return self.store.read_all(name, self.episodes).values[rows], exact

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all images and states, in order."""
        digest = hashlib.sha256()
        for batch in self.batches():
            for camera in self.cameras:
                digest.update(np.ascontiguousarray(batch.images[camera]).data)
            digest.update(np.ascontiguousarray(batch.proprio).data)
        return digest.hexdigest()

    def _tell(self, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """Texts and what they name, for every frame; see the attributes `told` and `named`."""
        chosen, texts, named = self.episodes, {}, {}
        for index in chosen:
            info = self.infos[index]
            meta, there = info["meta"], {str(item["name"]) for item in info["meta"].get("scene", [])}
            own = {"text": info["instruction"], "goal": meta.get("goal", {})}
            possible = [own, *meta.get("other_instructions", [])]
            said = possible[int(rng.integers(len(possible)))]
            if rng.random() < 0.5:
                strangers = (self.infos[chosen[int(rng.integers(len(chosen)))]] for _ in range(_TRIES))
                about = ((info["instruction"], info["meta"].get("goal", {})) for info in strangers)
                absent = [(text, goal) for text, goal in about if goal.get("target") and goal["target"] not in there]
                if absent:
                    said = {"text": absent[0][0], "goal": absent[0][1]}
            target = str(said["goal"].get("target", ""))
            texts[index], named[index] = str(said["text"]), target if target in there else ""
        owners = self.episode.tolist()
        return [texts[e] for e in owners], [named[e] for e in owners]


def scene_key(meta: dict[str, Any], index: int) -> str:
    """What is equal for two episodes of the same scene: the objects and their places, or else the seed."""
    if meta.get("scene"):
        return json.dumps(meta["scene"], sort_keys=True)
    return f"seed {meta['seed']}" if "seed" in meta else f"episode {index}"


def _choose(store: TrajectoryStore, config: ProbeConfig) -> list[int]:
    """Episodes, drawn by the seed, until they have the frames that are wanted; in the order of the store."""
    order, chosen, total = np.random.default_rng(config.seed).permutation(len(store)).tolist(), [], 0
    for index in order:
        frames = -(-store.episode_info(index)["lengths"]["action"] // config.every)
        if total + frames > config.frames:
            break
        chosen.append(index)
        total += frames
    if len(chosen) < 10:
        raise StoreError(
            f"{store.path}: found {len(chosen)} of {len(store)} episodes within {config.frames} frames, wanted at "
            "least 10, so that some can be held out; collect more, or raise probe.frames or probe.every"
        )
    return sorted(chosen)


def _numbered(keys: list[str]) -> np.ndarray:
    return np.unique(np.array(keys, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
