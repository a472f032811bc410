"""Opens an exported data set with the real `lerobot` package and compares every value with what deixis wrote.

    make test-lerobot, or by hand, in two environments:
    deixis' own:      python check_lerobot.py make FOLDER      writes FOLDER/set and FOLDER/expected.npz
    that of lerobot:  python check_lerobot.py compare FOLDER   reads them with lerobot.datasets.LeRobotDataset

The second half imports nothing of deixis: lerobot needs another Python and other versions.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

CAMERAS = ("front", "wrist")
STEPS = (7, 12, 3)


def make(folder: Path) -> None:
    """A store of random pictures and numbers, some slower than control, exported, and the same as plain arrays."""
    from deixis.datasets.formats.lerobot import export_lerobot
    from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec
    from deixis.datasets.store import Episode, Stream, StreamSpec, TrajectoryStore

    spec = EnvSpec(
        "deixis/Check-v0",
        tuple(CameraSpec(name, 24, 32, 10) for name in CAMERAS),
        ProprioSpec(("x", "y", "z"), ("metre",) * 3, 10),
        ActionSpec(("dx", "gripper"), ("metre", "1"), (-2, -2), (2, 2), 10),
    )
    streams = (
        *(StreamSpec(f"camera.{name}", "uint8", (24, 32, 3), 10, "image", "1") for name in CAMERAS),
        StreamSpec("proprio", "float32", (3,), 10, "proprio", "metre"),
        StreamSpec("action", "float32", (2,), 10, "action", "mixed"),
        StreamSpec("privileged.objects", "float64", (2, 3), 5, "privileged", "metre"),
        StreamSpec("privileged.touched", "bool", (), 10, "privileged", "1"),
    )
    rng = np.random.default_rng(0)
    store = TrajectoryStore.create(folder / "store.zarr", spec, streams)
    expected: dict[str, list[np.ndarray]] = {}
    with store.writer(sync=False) as writer:
        for number, steps in enumerate(STEPS):
            control = 10**15 + np.cumsum(rng.integers(95_000_000, 105_000_000, steps))
            rows = {}
            for stream in streams:
                stamps = control[:: round(10 / stream.rate_hz)]
                drawn = rng.integers(0, 256, (len(stamps), *stream.shape))
                values = drawn if stream.dtype == "uint8" else drawn % 2 if stream.dtype == "bool" else drawn / 256
                rows[stream.name] = Stream(values.astype(stream.dtype), stamps)
                held = np.searchsorted(stamps, control, side="right") - 1
                expected.setdefault(stream.name, []).append(rows[stream.name].values[held])
            writer.append(Episode(rows, f"lift the cube, 请 {number % 2}", {"seed": number}))
            expected.setdefault("stamp_ns", []).append(control)
            expected.setdefault("task", []).append(np.full(steps, f"lift the cube, 请 {number % 2}"))
    export_lerobot(store, folder / "set")
    export_lerobot(store, folder / "video_set", images="video")
    arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in expected.items()}
    np.savez(folder / "expected.npz", **arrays)


def compare(folder: Path) -> None:
    """Every frame, action and state of the data set is the one that was written. SystemExit says which is not."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HOME=str(folder / "cache"))
    _declare_torchvision_operators()
    import lerobot  # pyright: ignore[reportMissingImports]
    from lerobot.datasets.lerobot_dataset import LeRobotDataset  # pyright: ignore[reportMissingImports]

    expected = np.load(folder / "expected.npz", allow_pickle=False)
    dataset = LeRobotDataset("deixis/check", root=folder / "set")
    compared = 0
    _expect(len(dataset) == sum(STEPS) and dataset.num_episodes == len(STEPS), f"{len(dataset)} frames, {dataset}")
    for row in range(len(dataset)):
        item = dataset[row]
        for name in CAMERAS:
            pixels = np.rint(item[f"observation.images.{name}"].numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
            _same(pixels, expected[f"camera.{name}"][row], f"row {row}, camera {name}")
        _same(item["observation.state"].numpy(), expected["proprio"][row], f"row {row}, observation.state")
        _same(item["action"].numpy(), expected["action"][row], f"row {row}, action")
        objects = np.asarray(item["objects"], np.float64)  # lerobot makes float32 of it, which holds 1 / 256
        _same(objects, expected["privileged.objects"][row], f"row {row}, objects")
        _same(np.asarray(item["touched"]).reshape(()), expected["privileged.touched"][row], f"row {row}, touched")
        _same(np.asarray(item["stamp_ns"]).reshape(()), expected["stamp_ns"][row], f"row {row}, stamp_ns")
        _expect(item["task"] == str(expected["task"][row]), f"row {row}: task {item['task']!r}")
        compared += 5 + len(CAMERAS)
    action = dataset.meta.stats["action"]
    _expect(bool(np.allclose(np.ravel(action["max"]), expected["action"].max(0))), f"stats of the action: {action}")
    windows = LeRobotDataset("deixis/check", root=folder / "set", delta_timestamps={"action": [0.0, 0.1, 0.2]})
    _same(windows[1]["action"].numpy(), expected["action"][1:4], "three actions from row 1 on")
    videos = LeRobotDataset("deixis/check", root=folder / "video_set", video_backend="pyav")
    for row in range(
        len(videos)
    ):  # lossy, of noise: only that there is a frame of that size at each row, and the action
        item = videos[row]
        _expect(tuple(item["observation.images.front"].shape) == (3, 24, 32), f"row {row}: no video frame")
        _same(item["action"].numpy(), expected["action"][row], f"row {row}, action of the video set")
    version = getattr(lerobot, "__version__", "?")
    print(
        f"lerobot {version}: {len(dataset)} rows, {compared} values of features equal, {len(videos)} video rows opened"
    )


def _same(found: np.ndarray, wanted: np.ndarray, where: str) -> None:
    _expect(found.dtype == wanted.dtype and np.array_equal(found, wanted), f"{where}: found {found}, wanted {wanted}")


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise SystemExit(f"check_lerobot: {message}")


def _declare_torchvision_operators() -> None:
    """Let torchvision be imported where its operators do not load: its wheel is built for CUDA, torch may not be.

    The import fails for want of two of them; lerobot reads data with torchvision's transforms, which need none.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # its operators go when it does


_kept: list[object] = []

if __name__ == "__main__":
    {"make": make, "compare": compare}[sys.argv[1]](Path(sys.argv[2]))
