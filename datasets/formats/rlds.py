"""RLDS data sets, as tensorflow_datasets keeps them in TFRecords (Open X-Embodiment, DROID), into a store.

One record is one episode; the array `steps/observation/state` holds that feature of all its steps, flattened.

    steps/observation/IMAGE -> camera.IMAGE        steps/observation/state, or proprio -> proprio
    steps/action            -> action              other numbers -> privileged.NAME

RLDS has no clock and no rate: `ImportOptions.rate_hz` is needed, and the clock is synthetic. What the format says of
the last step (its action need not mean anything) cannot be known from the data: all steps are kept as they are.
Source: RLDS' documentation, "Dataset Format", and tensorflow_datasets' `example_serializer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..episode import Episode, Stream, StreamSpec
from ..spec import ACTION_STREAM, PROPRIO_STREAM, camera_stream
from ..store import TrajectoryStore
from .declaring import ActionRange, declared_robot, declared_streams
from .images import checked_picture, decode_image, image_size
from .importing import (
    Progress,
    checked_size,
    needed_rate,
    synthetic_stamps,
    write_store,
)
from .options import FormatError, ImportOptions
from .rlds_features import Leaf, Shard, find_shards, version_folder
from .rlds_plan import Plan, dimensions, known_sizes, make_plan, size_of, width_of
from .tfrecord import Values, parse_example, read_records

_MAX_META_TEXT = 4096


def import_rlds(
    source: str | Path,
    destination: str | Path,
    options: ImportOptions | None = None,
    progress: Progress | None = None,
) -> TrajectoryStore:
    """Read the RLDS data set in the folder (or the one file) `source` into a new store at `destination`.

    All splits are read, "train" first; an episode's meta says its split. An `action` of several features is joined in
    their order. Features that are no numbers, pictures or texts are listed in `meta["left_out"]` with the reason.

    Raises FormatError for a data set that is damaged, incomplete or contradicts itself, and where no rate is given.
    """
    source, options = Path(source), options or ImportOptions()
    folder, files = version_folder(source)
    rate = needed_rate(options, None, str(folder))
    shards = find_shards(folder, files, complete=source.is_dir())
    plan = make_plan(folder, options)
    plan, actions, total = _survey(plan, shards, options.limit)
    env_spec = declared_robot(
        f"rlds/{_set_name(folder, files[0])}",
        {name: size_of(plan.leaves[key]) for name, key in plan.cameras.items()},
        dimensions(plan, plan.proprio),
        dimensions(plan, plan.action),
        actions.limits(),
        rate,
    )
    kinds = {
        name: (plan.leaves[key].dtype, known_sizes(plan.leaves[key].shape)) for name, key in plan.privileged.items()
    }
    specs = declared_streams(env_spec, kinds, "synthetic")
    meta = {
        "format": "rlds",
        "source": folder.name,
        "camera_keys": plan.cameras,
        "proprio_keys": list(plan.proprio),
        "action_keys": list(plan.action),
        "privileged_keys": plan.privileged,
        "left_out": plan.left_out,
        "clock": "made from the given rate: RLDS keeps none",
    }
    episodes = (
        _episode(example, where, split, plan, specs, rate, options.instruction)
        for example, where, split in _examples(shards, options.limit)
    )
    return write_store(destination, env_spec, specs, meta, episodes, total, progress)


def _survey(plan: Plan, shards: list[Shard], limit: int | None) -> tuple[Plan, ActionRange, int]:
    """Range of the actions, number of episodes, and the sizes of pictures where features.json leaves them open."""
    actions, total = ActionRange(sum(width_of(plan.leaves[key]) for key in plan.action)), 0
    for example, where, _ in _examples(shards, limit):
        actions.update(_numbers(example, plan, plan.action, where))
        if total == 0:
            sizes = {key: _first_size(example, plan.leaves[key], key, where) for key in plan.cameras.values()}
            found = {key: replace(plan.leaves[key], shape=(*size, 3)) for key, size in sizes.items()}
            plan = replace(plan, leaves=plan.leaves | found)
        total += 1
    if total == 0:
        raise FormatError(f"{shards[0].path}: found no episodes, wanted at least one")
    return plan, actions, total


def _examples(shards: list[Shard], limit: int | None) -> Iterator[tuple[dict[str, Values], str, str]]:
    """Each episode's features, where it stands, and its split."""
    done = 0
    for shard in shards:
        number = -1
        for number, record in enumerate(read_records(shard.path)):
            if done == limit:
                return
            where = f"{shard.path}, record {number}"
            yield parse_example(record, where), where, shard.split
            done += 1
        if shard.episodes is not None and number + 1 != shard.episodes:
            raise FormatError(
                f"{shard.path}: found {number + 1} episodes, wanted {shard.episodes} as dataset_info.json says"
            )


def _episode(
    example: Mapping[str, Values],
    where: str,
    split: str,
    plan: Plan,
    specs: list[StreamSpec],
    rate: float,
    instruction: str | None,
) -> Episode:
    rows = len(_numbers(example, plan, plan.action, where))
    row_bytes = sum(np.dtype(spec.dtype).itemsize * int(np.prod(spec.shape)) for spec in specs)
    checked_size(rows, row_bytes, where)
    _check_borders(example, plan, rows, where)
    stamps = synthetic_stamps(rows, rate)
    sources = {PROPRIO_STREAM: plan.proprio, ACTION_STREAM: plan.action}
    sources |= {name: (key,) for name, key in plan.privileged.items()}
    images = {camera_stream(name): key for name, key in plan.cameras.items()}
    streams = {}
    for spec in specs:
        if spec.name in images:
            values = _frames(example, plan, images[spec.name], rows, where)
        else:
            values = _numbers(example, plan, sources[spec.name], where, rows)
            values = values.reshape(rows, *spec.shape).astype(spec.dtype)
        streams[spec.name] = Stream(values, stamps.copy())
    words = _words(example, plan, where)
    meta = {"split": split, **_episode_meta(example, plan.outside)}
    if len(words) > 1:
        meta["instructions"] = words
    return Episode(streams, instruction if instruction is not None else words[0] if words else "", meta)


def _numbers(
    example: Mapping[str, Values], plan: Plan, keys: tuple[str, ...], where: str, rows: int | None = None
) -> np.ndarray:
    """Leaves of numbers side by side, [T, D]; of one leaf in its own dtype."""
    columns = []
    for key in keys:
        leaf, values, here = plan.leaves[key], example.get(f"steps/{key}"), f"{where}, steps/{key}"
        if not isinstance(values, np.ndarray):
            found = "nothing" if values is None else f"{len(values)} byte strings"
            raise FormatError(
                f"{here}: found {found}, wanted {leaf.dtype} values; features.json is of another data set"
            )
        wanted = np.dtype(leaf.dtype)
        if len(values) and (wanted.kind == "f") != (values.dtype.kind == "f"):
            raise FormatError(f"{here}: found {values.dtype} values, wanted {wanted} as features.json says")
        steps, rest = divmod(len(values), width_of(leaf))
        if rest or not steps or (rows is not None and steps != rows):
            steps_wanted = "whole steps" if rows is None else f"{rows} steps"
            raise FormatError(f"{here}: found {len(values)} values, wanted {steps_wanted} of shape {list(leaf.shape)}")
        cast = values.astype(wanted)
        if wanted.kind in "iub" and not np.array_equal(cast, values):
            raise FormatError(f"{here}: found values that {wanted} cannot hold")
        columns.append(cast.reshape(steps, -1))
        rows = steps
    return np.concatenate(columns, 1)


def _frames(example: Mapping[str, Values], plan: Plan, key: str, rows: int, where: str) -> np.ndarray:
    encoded, size = _encoded(example, key, where), size_of(plan.leaves[key])
    if len(encoded) != rows:
        raise FormatError(f"{where}, steps/{key}: found {len(encoded)} pictures, wanted {rows}, one for each action")
    frames = np.empty((rows, *size, 3), np.uint8)
    for row, data in enumerate(encoded):
        frames[row] = decode_image(data, size, f"{where}, steps/{key}, step {row}")
    return frames


def _encoded(example: Mapping[str, Values], key: str, where: str) -> list[bytes]:
    found = example.get(f"steps/{key}")
    if not isinstance(found, list):
        raise FormatError(f"{where}, steps/{key}: found no byte strings, wanted encoded pictures")
    return found


def _first_size(example: Mapping[str, Values], leaf: Leaf, key: str, where: str) -> tuple[int, int]:
    """Height and width of a camera: declared, or those of its first picture."""
    if None not in leaf.shape:
        return checked_picture(size_of(leaf), f"{where}, steps/{key}")
    encoded = _encoded(example, key, where)
    if not encoded:
        raise FormatError(f"{where}, steps/{key}: found no pictures, wanted one for each step")
    return checked_picture(image_size(encoded[0], f"{where}, steps/{key}, step 0"), f"{where}, steps/{key}, step 0")


def _check_borders(example: Mapping[str, Values], plan: Plan, rows: int, where: str) -> None:
    """FormatError where is_first or is_last stands inside: the record would be several episodes."""
    for key, allowed in (("is_first", 0), ("is_last", rows - 1)):
        if key in plan.privileged.values():
            marked = np.flatnonzero(_numbers(example, plan, (key,), where, rows)[:, 0])
            inside = marked[marked != allowed]
            if len(inside):
                raise FormatError(
                    f"{where}, steps/{key}: found true at step {inside[0]} of {rows}, wanted it at step {allowed} "
                    "alone; a record is one episode"
                )


def _words(example: Mapping[str, Values], plan: Plan, where: str) -> list[str]:
    """All texts of the instructions that are not empty, each once, in the order they come."""
    words = []
    for key in plan.instructions:
        found = example.get(f"steps/{key}", [])
        if not isinstance(found, list):
            raise FormatError(f"{where}, steps/{key}: found numbers, wanted texts")
        words += [_decoded(item, f"{where}, steps/{key}").strip() for item in found]
    return [text for text in dict.fromkeys(words) if text]


def _decoded(item: bytes, where: str) -> str:
    try:
        return item.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: found text that is not UTF-8 ({error})") from error


def _episode_meta(example: Mapping[str, Values], leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """Texts and numbers that stand beside the steps, where there is one of each and it is short."""
    meta: dict[str, Any] = {}
    for key, leaf in leaves.items():
        found = example.get(key)
        if leaf.problem or found is None or len(found) != 1:
            continue
        if isinstance(found, list):
            if leaf.kind == "text" and len(found[0]) <= _MAX_META_TEXT:
                meta[key] = found[0].decode("utf-8", "replace")
        elif np.isfinite(found[0]):
            meta[key] = bool(found[0]) if leaf.dtype == "bool" else found[0].item()
    return meta


def _set_name(folder: Path, file: Path) -> str:
    """`bridge` for bridge-train.tfrecord-00000-of-00001, or else the folder's name."""
    name = file.name.split(".tfrecord")[0].rpartition("-")[0]
    return name or folder.name
