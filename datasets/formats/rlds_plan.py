"""Which features of an RLDS data set become which stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .declaring import camera_name, dimension_names, named_once
from .importing import checked_name, chosen_cameras
from .options import FormatError, ImportOptions
from .rlds_features import Leaf, read_features

_PROPRIO = ("observation/state", "observation/proprio")


@dataclass(frozen=True)
class Plan:
    """The leaves of a step and around it, and which of them become which stream.

    cameras: short name -> leaf. privileged: stream -> leaf. instructions: leaves of text, the main one first.
    left_out: leaf -> why it cannot be read.
    """

    leaves: dict[str, Leaf]
    outside: dict[str, Leaf]
    cameras: dict[str, str]
    proprio: tuple[str, ...]
    action: tuple[str, ...]
    privileged: dict[str, str]
    instructions: tuple[str, ...]
    left_out: dict[str, str]


def make_plan(folder: Path, options: ImportOptions) -> Plan:
    """Read features.json and choose. FormatError where there is no action, or nothing that is proprioception."""
    where = f"{folder}/features.json"
    leaves, outside = read_features(folder / "features.json")
    left_out = {key: leaf.problem for key, leaf in (leaves | outside).items() if leaf.problem}
    usable = {key: leaf for key, leaf in leaves.items() if not leaf.problem}
    pictures = [key for key, leaf in usable.items() if leaf.kind == "image"]
    cameras = named_once([(camera_name(key.removeprefix("observation/"), where), key) for key in pictures], where)
    kept = chosen_cameras(cameras, options, where)
    numeric = [key for key, leaf in usable.items() if leaf.kind == "tensor"]
    action = tuple(key for key in numeric if key == "action" or key.startswith("action/"))
    if not action:
        raise FormatError(f"{where}: found numbers in {numeric}, wanted `action` of each step")
    proprio = tuple(key if key in leaves else f"observation/{key}" for key in options.proprio)
    proprio = proprio or tuple(key for key in _PROPRIO if key in numeric)[:1]
    missing = [key for key in proprio if key not in numeric]
    if missing or not proprio:
        raise FormatError(
            f"{where}: found numbers in {numeric}, wanted {missing or list(_PROPRIO)}; name what the robot itself "
            "knows in ImportOptions.proprio"
        )
    others = [key for key in numeric if key not in (*action, *proprio)]
    privileged: dict[str, str] = {}
    for key in others:
        name = f"privileged.{checked_name(key.removeprefix('observation/').replace('/', '.'), where)}"
        if name in privileged:
            name = f"privileged.{checked_name(key.replace('/', '.'), where)}"
        privileged[name] = key
    texts = [key for key, leaf in usable.items() if leaf.kind == "text" and "instruction" in key.rsplit("/", 1)[-1]]
    texts = sorted(texts, key=lambda key: (key != "language_instruction", key))
    cameras = {name: cameras[name] for name in kept}
    return Plan(leaves, outside, cameras, proprio, action, privileged, tuple(texts), left_out)


def dimensions(plan: Plan, keys: tuple[str, ...]) -> list[str]:
    """A name for each number of these leaves, side by side."""
    return [name for key in keys for name in dimension_names(key.rsplit("/", 1)[-1], width_of(plan.leaves[key]), None)]


def known_sizes(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """A shape without the sizes that vary."""
    return tuple(size for size in shape if size is not None)


def width_of(leaf: Leaf) -> int:
    """Numbers a step."""
    return int(np.prod(known_sizes(leaf.shape), dtype=np.int64))


def size_of(leaf: Leaf) -> tuple[int, int]:
    """Height and width of pictures."""
    height, width = known_sizes(leaf.shape)[:2]
    return height, width
