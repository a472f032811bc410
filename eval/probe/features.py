"""Features of a store's frames, extracted once and kept on disk, memory-mapped, under what decides them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets.atomic import whole_folder
from .frames import FrameBatch, Frames
from .sources import TOLD, Source

VERSION = 1  # of what readings mean
MOST = 512  # dimensions a probe sees: more are first projected on that many principal components
_SAMPLE = 2048  # frames that these are found in
_PIXELS = 32  # along each side of a picture, as the baseline of raw pixels has it

Advance = Callable[[int, int], None]


class Features:
    """Readings in a folder, by name; each a file that numpy reads.

    Attributes:
        names: of the readings, from the first layer to the last.
        told: the names of those that were read again with other texts.
        seconds: that extraction took; None where the features were there.
    """

    def __init__(self, folder: Path, seconds: float | None = None) -> None:
        self.folder, self.seconds = folder, seconds
        self._files: list[str] = json.loads((folder / "readings.json").read_text("utf-8"))
        self.names = [name for name in self._files if not name.startswith(TOLD)]
        self.told = [name.removeprefix(TOLD) for name in self._files if name.startswith(TOLD)]

    def read(self, name: str, told: bool = False) -> np.ndarray:
        """A reading, float32 [F, D], memory-mapped; told: as it is with the other texts."""
        file = f"{self._files.index(TOLD + name if told else name):03d}.npy"
        return np.load(self.folder / file, mmap_mode="r")


def extract(
    source: Source, frames: Frames, folder: Path, told: bool = False, advance: Advance | None = None
) -> Features:
    """A backbone's features of all frames; found in `folder` where the same weights have seen the same before.

    told: what words are part of also with the texts `Frames.told`. advance: called with (done, wanted).
    """
    said = hashlib.sha256("\n".join([*frames.texts, *(frames.told if told else [])]).encode()).hexdigest()
    key = hashlib.sha256(f"{VERSION} {told} {source.digest()} {frames.digest} {said}".encode()).hexdigest()[:24]
    place = folder / key
    if (place / "readings.json").is_file():
        return Features(place)
    began, arrays, start = time.perf_counter(), {}, 0
    with whole_folder(place) as scratch:
        for batch in frames.batches(told):
            stop = start + len(batch.texts)
            for name, values in source.read(batch).items():
                if not torch.isfinite(values).all():
                    raise ValueError(
                        f"{source.name}: reading {name} of frames {start} to {stop}: found values that are not finite, "
                        "wanted numbers; are its weights whole?"
                    )
                if name not in arrays:
                    file = scratch / f"{len(arrays):03d}.npy"
                    arrays[name] = np.lib.format.open_memmap(file, "w+", np.float32, (len(frames), values.shape[1]))
                arrays[name][start:stop] = values.numpy()
            start = stop
            if advance:
                advance(start, len(frames))
        for values in arrays.values():
            values.flush()
        (scratch / "readings.json").write_text(json.dumps(list(arrays)), "utf-8")
    return Features(place, time.perf_counter() - began)


def read_last(source: Source, batches: Iterable[FrameBatch]) -> tuple[Tensor, Tensor | None]:
    """What a backbone hands on of all frames [F, D], and the same with what else they are told; nothing is kept."""
    own, other = [], []
    for batch in batches:
        found = source.read(batch)
        last = [name for name in found if not name.startswith(TOLD)][-1]
        own.append(found[last])
        other += [found[TOLD + last]] if TOLD + last in found else []
    return torch.cat(own), torch.cat(other) if other else None


class Pixels:
    """Raw pixels as a `Source`: every camera's picture at 32 x 32 at most."""

    name = "pixels"
    cameras: tuple[str, ...] | None = None

    def digest(self) -> str:
        return f"pixels {_PIXELS}"

    def worded(self, reading: str) -> bool:
        return False

    def untrained(self, seed: int) -> Pixels:
        return self

    def read(self, batch: FrameBatch) -> dict[str, Tensor]:
        each = [torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 for images in batch.images.values()]
        sides = [(min(_PIXELS, x.shape[2]), min(_PIXELS, x.shape[3])) for x in each]
        return {
            "pixels": torch.cat([F.adaptive_avg_pool2d(*pair).flatten(1) for pair in zip(each, sides, strict=True)], 1)
        }


def narrowed(features: np.ndarray, seed: int = 0) -> Tensor:
    """Features [F, D] on their principal components, at most `MOST` of them, found without any label."""
    values = torch.from_numpy(np.array(features, np.float32))
    if values.shape[1] <= MOST:
        return values
    rows = np.sort(np.random.default_rng([seed, 4]).permutation(len(values))[:_SAMPLE])
    sample = values[torch.from_numpy(rows)]
    mean = sample.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, _, directions = torch.svd_lowrank(sample - mean, q=min(MOST, len(rows)), niter=1)
    return (values - mean) @ directions
