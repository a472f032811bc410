"""What tensorflow_datasets wrote beside its records: features.json, dataset_info.json, and the names of the files.

Source: tensorflow_datasets' feature.proto and dataset_info.proto, as the JSON that its `features.json` is made of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .importing import MAX_ROWS
from .metadata import read_object
from .options import FormatError

MAX_DEPTH = 16

_SHARD = re.compile(r"(?P<set>.+)-(?P<split>[^-]+)\.tfrecord-(?P<number>\d{5,})-of-(?P<count>\d{5,})")


@dataclass(frozen=True)
class Leaf:
    """One array of an episode. kind: "tensor", "image" or "text"; shape of a step, None where it varies.

    problem: why it cannot be read, "" if it can.
    """

    kind: str
    dtype: str
    shape: tuple[int | None, ...]
    problem: str = ""


@dataclass(frozen=True)
class Shard:
    """A file of records. episodes: how many dataset_info.json says it has, None where it says nothing."""

    path: Path
    split: str
    episodes: int | None


def version_folder(source: Path) -> tuple[Path, list[Path]]:
    """The folder that has features.json, and the files of records that `source` names: itself, or all in that folder.

    A folder with one version below it (`bridge/1.0.0`) stands for that version. FormatError where there is none.
    """
    if source.is_file():
        folder, files = source.parent, [source]
    else:
        below = [path.parent for path in sorted(source.glob("*.*.*/features.json"))]
        if not (source / "features.json").is_file() and len(below) > 1:
            raise FormatError(f"{source}: found versions {[path.name for path in below]}, wanted one; name its folder")
        folder = below[0] if below and not (source / "features.json").is_file() else source
        files = sorted(path for path in folder.glob("*.tfrecord*") if path.is_file())
    if not (folder / "features.json").is_file():
        raise FormatError(f"{folder}: found no features.json, wanted that of tensorflow_datasets beside the records")
    if not files:
        raise FormatError(f"{folder}: found no *.tfrecord* files, wanted records")
    return folder, files


def find_shards(folder: Path, files: list[Path], complete: bool) -> list[Shard]:
    """The files with their splits, "train" first. complete: all shards that their names count must be there."""
    lengths = _shard_lengths(folder / "dataset_info.json")
    shards, present = [], {}
    for path in files:
        match = _SHARD.fullmatch(path.name)
        if match is None:
            shards.append(Shard(path, "train", None))
            continue
        split, number, count = match["split"], int(match["number"]), int(match["count"])
        known = lengths.get(split)
        if known is not None and (len(known) != count or number >= count):
            raise FormatError(f"{path}: found shard {number} of {count}, but dataset_info.json has {len(known)}")
        present.setdefault((match["set"], split, count), []).append(number)
        shards.append(Shard(path, split, None if known is None else known[number]))
    for (name, split, count), numbers in present.items() if complete else ():
        if sorted(numbers) != list(range(count)):
            raise FormatError(
                f"{folder}: found shards {numbers[:5]} of {count} of {name}-{split}, wanted all; fetch the others, or "
                "import the files one by one"
            )
    return sorted(shards, key=lambda shard: (shard.split != "train", shard.split, shard.path.name))


def read_features(path: Path) -> tuple[dict[str, Leaf], dict[str, Leaf]]:
    """Leaves of one step and of the episode around it, by path (`observation/image`, `episode_metadata/file_path`).

    FormatError where features.json is malformed or has no `steps`.
    """
    root = read_object(path)
    members = _members(root, f"{path}")
    steps = members.get("steps")
    sequence = steps.get("sequence") if isinstance(steps, dict) else None
    if not isinstance(sequence, dict) or not isinstance(sequence.get("feature"), dict):
        raise FormatError(f"{path}: found {sorted(members)}, wanted RLDS: a data set `steps` inside each record")
    step = dict(_leaves(sequence["feature"], "", f"{path}, steps"))
    outside = {"featuresDict": {"features": {name: feature for name, feature in members.items() if name != "steps"}}}
    return step, dict(_leaves(outside, "", f"{path}"))


def _members(feature: Any, where: str) -> dict[str, Any]:
    inner = feature.get("featuresDict") if isinstance(feature, dict) else None
    members = inner.get("features") if isinstance(inner, dict) else None
    if not isinstance(members, dict):
        raise FormatError(f"{where}: found no featuresDict.features, wanted tensorflow_datasets' features")
    return members


def _leaves(feature: Any, path: str, where: str, depth: int = 0) -> Iterator[tuple[str, Leaf]]:
    if depth > MAX_DEPTH:
        raise FormatError(f"{where}, {path}: found features nested more than {MAX_DEPTH} deep")
    if isinstance(feature, dict) and "featuresDict" in feature:
        for name, inner in _members(feature, f"{where}, {path}").items():
            if not isinstance(name, str) or not name or "/" in name:
                raise FormatError(f"{where}, {path}: found a feature named {name!r}, wanted a name without '/'")
            yield from _leaves(inner, f"{path}/{name}" if path else name, where, depth + 1)
    else:
        yield path, _leaf(feature, f"{where}, {path}")


def _leaf(feature: Any, where: str) -> Leaf:
    if not isinstance(feature, dict):
        raise FormatError(f"{where}: found {type(feature).__name__}, wanted a feature")
    if "text" in feature:
        return Leaf("text", "string", ())
    for kind in ("image", "tensor"):
        if isinstance(inner := feature.get(kind), dict):
            dtype, shape = inner.get("dtype", "uint8"), _shape(inner.get("shape"), where)
            if dtype == "string":
                return Leaf("text", "string", shape, "" if shape == () else "texts with a shape")
            if kind == "image":
                return Leaf("image", str(dtype), shape, _image_problem(inner, dtype, shape))
            return Leaf("tensor", str(dtype), shape, _tensor_problem(inner, dtype, shape))
    name = str(feature.get("pythonClassName", "no class")).rsplit(".", 1)[-1]
    return Leaf("other", "", (), f"a feature of the class {name}")


def _shape(found: Any, where: str) -> tuple[int | None, ...]:
    """tensorflow_datasets writes int64 as text, and -1 for a size that varies."""
    dimensions = found.get("dimensions", []) if isinstance(found, dict) else []
    try:
        sizes = [int(size) for size in dimensions]
    except (TypeError, ValueError) as error:
        raise FormatError(f"{where}, shape: found {dimensions!r}, wanted whole numbers") from error
    if len(sizes) > 8 or any(size == 0 or size < -1 or size > MAX_ROWS for size in sizes):
        raise FormatError(f"{where}, shape: found {sizes}, wanted up to 8 sizes, positive or -1")
    return tuple(None if size == -1 else size for size in sizes)


def _image_problem(inner: dict[str, Any], dtype: Any, shape: tuple[int | None, ...]) -> str:
    if dtype != "uint8" or len(shape) != 3 or shape[2] not in (1, 3, 4):
        return f"a picture of {dtype} {shape}, not of 8-bit colour"
    encoding = inner.get("encodingFormat", "png")
    return "" if encoding in ("png", "jpeg") else f"pictures encoded as {encoding!r}"


def _tensor_problem(inner: dict[str, Any], dtype: Any, shape: tuple[int | None, ...]) -> str:
    encoding = inner.get("encoding", "none")
    if encoding not in ("none", "", 0):
        return f"values encoded as {encoding!r}"
    if None in shape:
        return f"a shape that varies, {shape}"
    try:
        known = np.dtype(dtype).kind in "biuf" and np.dtype(dtype).itemsize <= 8
    except TypeError:
        known = False
    return "" if known else f"values of {dtype!r}"


def _shard_lengths(path: Path) -> dict[str, list[int]]:
    """Episodes of each shard by split, as dataset_info.json says; {} where there is none."""
    if not path.is_file():
        return {}
    splits = read_object(path).get("splits", [])
    try:
        return {str(split["name"]): [int(length) for length in split.get("shardLengths", [])] for split in splits}
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise FormatError(f"{path}, splits: found {error!r}, wanted names and shardLengths") from error
