"""Curation from end to end: a store that passes the gate, a report that adds up, a source that is left alone."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
import pytest

from deixis.datasets.curation.config import (
    CurationConfig,
    DuplicatesConfig,
    FramesConfig,
    IdleConfig,
    RarityConfig,
    RepetitionConfig,
    ScoreConfig,
)
from deixis.datasets.curation.curate import curate
from deixis.datasets.store import StoreError, TrajectoryStore
from deixis.datasets.timestamps import check_store

from .conftest import SPEC, STREAMS, moving_episode
from .test_duplicates import near_copy

MakeStore = Callable[..., TrajectoryStore]
EVERYTHING = CurationConfig(
    RepetitionConfig(repeated_share=0.5),
    IdleConfig(min_seconds=0.5, inner_seconds=1.0, margin_seconds=0.0),
    ScoreConfig(minimum=0.0),
    DuplicatesConfig(0.98),
    FramesConfig(0.98, rate_hz=5.0),
    RarityConfig(0.4),
    seed=4,
)


def fingerprint(folder: Path) -> str:
    """Of all names and bytes below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


def sees_red(images: Mapping[str, np.ndarray], texts: Sequence[str]) -> np.ndarray:
    pixels = images["front"].astype(int)
    return (pixels[..., 0] > pixels[..., 1] + 100).mean((1, 2)) - 1e-6


@pytest.fixture
def store(moving_store: MakeStore) -> TrajectoryStore:
    """Sixteen episodes and a fault for each step."""
    episodes = [moving_episode(seed, 44) for seed in range(16)]
    episodes[1] = moving_episode(1, 44, still=[(0, 12)])
    episodes[2] = moving_episode(2, 44, still=[(16, 28)])
    episodes[3].instruction = "red cube red cube red cube red cube"
    images = episodes[4].streams["camera.front"].values
    images[..., 0] = np.minimum(images[..., 0], 120)
    episodes[5] = near_copy(episodes[0], 5)
    for index in range(10, 16):
        episodes[index].instruction = "lift the ball"
    return moving_store(episodes)


def test_each_step_does_its_part_and_the_gate_passes(store: TrajectoryStore, tmp_path: Path) -> None:
    assert check_store(store).ok
    before = fingerprint(store.path)
    calls: list[tuple[str, int, int]] = []
    report = curate(store, tmp_path / "clean.zarr", EVERYTHING, sees_red, progress=lambda *call: calls.append(call))
    assert fingerprint(store.path) == before, "the source is left alone"
    clean = TrajectoryStore.open(tmp_path / "clean.zarr")
    gate = check_store(clean)
    assert gate.ok, "\n".join(map(str, gate.errors))
    assert not [finding for finding in gate.findings if finding.severity == "warning"]

    by_step = {step.step: step for step in report.steps}
    assert list(by_step) == ["repetition", "idle", "score", "duplicates", "frames", "rarity"]
    assert [drop.episode for drop in by_step["repetition"].drops] == [3]
    assert [(drop.episode, drop.rows) for drop in by_step["idle"].drops] == [(1, (0, 12)), (2, (16, 28))]
    assert [drop.episode for drop in by_step["score"].drops] == [4]
    assert [drop.episode for drop in by_step["duplicates"].drops] == [5]
    assert by_step["frames"].drops == []
    gone = {drop.episode for drop in by_step["rarity"].drops}
    assert gone and len(clean) == 14 - len(gone) == report.episodes[1]  # 16 - 3, and one was split

    origins = [clean.episode_info(index)["meta"]["curated_from"] for index in range(len(clean))]
    for index, origin in enumerate(origins):
        source, found = store.episode(origin["episode"]), clean.episode(index)
        assert found.instruction == source.instruction
        assert found.meta == {**source.meta, "curated_from": origin}
        for name, stream in found.streams.items():
            whole = source.streams[name]
            rows = slice(*origin["rows"]) if name == "action" else np.isin(whole.stamps_ns, stream.stamps_ns)
            np.testing.assert_array_equal(stream.values, whole.values[rows])
            np.testing.assert_array_equal(stream.stamps_ns, whole.stamps_ns[rows])
            assert (stream.arrivals_ns is None) == (whole.arrivals_ns is None)
    assert calls[0] == ("repetition", 0, 6) and calls[-1] == ("write", len(clean), len(clean))
    note = {"source": str(store.path), "episodes": 16, "config": json.loads(json.dumps(asdict(EVERYTHING)))}
    assert clean.meta == {"suite": "moving", "curation": [note]}
    assert (clean.env_spec, clean.streams, clean.tolerance) == (store.env_spec, store.streams, store.tolerance)


def test_the_report_adds_up_and_can_be_read(store: TrajectoryStore, tmp_path: Path) -> None:
    report = curate(store, tmp_path / "clean.zarr", EVERYTHING, sees_red)
    episodes, rows = report.episodes[0], report.rows[0]
    for step in report.steps:
        assert (step.episodes[0], step.rows[0]) == (episodes, rows), "each step begins with what the last one left"
        assert step.rows[0] - step.rows[1] == sum(drop.rows[1] - drop.rows[0] for drop in step.drops if drop.rows)
        episodes, rows = step.episodes[1], step.rows[1]
    assert (episodes, rows) == (report.episodes[1], report.rows[1])
    assert rows == TrajectoryStore.open(tmp_path / "clean.zarr").offsets("action")[-1]
    read = json.loads(report.to_json())
    assert read["steps"][1]["drops"][0]["rows"] == [0, 12]
    assert read["steps"][1]["settings"]["min_seconds"] == 0.5
    text = str(report)
    assert "repetition: 16 -> 15 episodes, 704 -> 660 rows, 1 drops" in text
    assert "episode 1, rows 0 to 11: neither actions nor proprioception move (seconds 1.2, " in text
    assert "episode 5, rows 0 to 43: nearly the same as another episode (kept episode 0, its cosine 0.99" in text


def test_a_step_that_is_off_does_nothing(store: TrajectoryStore, tmp_path: Path) -> None:
    report = curate(store, tmp_path / "b", CurationConfig(duplicates=DuplicatesConfig(0.98)))
    assert [step.step for step in report.steps] == ["duplicates"]
    assert report.episodes == (16, 15)
    again = curate(TrajectoryStore.open(tmp_path / "b"), tmp_path / "c", CurationConfig(idle=IdleConfig(0.5)))
    assert again.episodes == (15, 15)
    notes = TrajectoryStore.open(tmp_path / "c").meta["curation"]
    assert [note["source"] for note in notes] == [str(store.path), str(tmp_path / "b")], "both are on record"


def test_the_same_seed_makes_the_same_store(store: TrajectoryStore, tmp_path: Path) -> None:
    config = CurationConfig(rarity=RarityConfig(0.1), seed=1)
    reports = [curate(store, tmp_path / name, config) for name in "ab"]
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    assert reports[0].steps == reports[1].steps


def test_what_a_lossy_codec_has_lost_is_not_lost_twice(tmp_path: Path) -> None:
    streams = [replace(spec, codec="jpeg:80") if spec.kind == "image" else spec for spec in STREAMS]
    store = TrajectoryStore.create(tmp_path / "lossy", SPEC, streams)
    with store.writer(sync=False) as writer:
        writer.append(moving_episode(0, still=[(0, 12)]))
    curate(store, tmp_path / "clean", CurationConfig(idle=IdleConfig(0.5, margin_seconds=0.0)))
    found = TrajectoryStore.open(tmp_path / "clean").read(0, "camera.front").values
    np.testing.assert_array_equal(found, store.read(0, "camera.front").values[6:])


def test_nothing_half_written(store: TrajectoryStore, tmp_path: Path) -> None:
    def stop(what: str, done: int, _: int) -> None:
        if (what, done) == ("write", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curate(store, tmp_path / "clean.zarr", CurationConfig(duplicates=DuplicatesConfig(0.98)), progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == [store.path.name]


def test_what_is_refused(store: TrajectoryStore, tmp_path: Path, moving_store: MakeStore) -> None:
    some, clean = CurationConfig(duplicates=DuplicatesConfig(0.98)), tmp_path / "clean.zarr"
    cases: list[tuple[str, Any]] = [
        ("no step that is on", lambda: curate(store, clean, CurationConfig())),
        ("found something there", lambda: curate(store, store.path, some)),
        ("a place inside the source", lambda: curate(store, store.path / "streams" / "clean", some)),
        ("a limit but no scorer", lambda: curate(store, clean, CurationConfig(score=ScoreConfig(minimum=0.1)))),
        ("a scorer but no limit", lambda: curate(store, clean, some, sees_red)),
        ("found no episodes", lambda: curate(moving_store([], "empty"), clean, some)),
        (
            "the step 'score' leaves no episode",
            lambda: curate(store, clean, CurationConfig(score=ScoreConfig(minimum=2)), sees_red),
        ),
    ]
    for message, attempt in cases:
        with pytest.raises(StoreError, match=message):
            attempt()
    assert not clean.exists()


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (DuplicatesConfig, {"threshold": 0.0}, r"duplicates.threshold: found 0.0, wanted a number above 0 and up to 1"),
        (FramesConfig, {"threshold": 1.1}, r"frames.threshold"),
        (FramesConfig, {"rate_hz": 0.0}, r"frames.rate_hz"),
        (RarityConfig, {"threshold": float("nan")}, r"rarity.threshold"),
        (RarityConfig, {"n": 0}, r"rarity.n: found 0, wanted a number at least 1"),
        (RepetitionConfig, {"repeated_share": 2.0}, r"repetition.repeated_share: .* from 0 to 1"),
        (IdleConfig, {"min_seconds": -1.0}, r"idle.min_seconds"),
        (IdleConfig, {"speeds": {"x": -1.0}}, r"idle.speeds\['x'\]"),
        (ScoreConfig, {"quantile": 1.5}, r"score.quantile"),
        (CurationConfig, {"seed": -1}, r"seed: found -1"),
    ],
)
def test_settings_out_of_range_are_refused(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_settings_are_typed_for_the_command_line() -> None:
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CurationConfig)
    typed = [
        *("--duplicates.threshold", "0.98", "--idle.min_seconds", "0.5", "--idle.deltas", "[dx, dy]"),
        *("--idle.speeds", "{gripper: 0.2}", "--rarity.threshold", "0.01", "--seed", "7"),
    ]
    config = CurationConfig(**vars(parser.instantiate(parser.parse_args(typed))))
    assert config.duplicates == DuplicatesConfig(0.98)
    assert config.idle == IdleConfig(min_seconds=0.5, deltas=("dx", "dy"), speeds={"gripper": 0.2})
    assert (config.rarity.threshold, config.seed, config.score.on) == (0.01, 7, False)
    assert not CurationConfig().on


def test_the_settings_import_nothing_heavy() -> None:
    program = (
        "import sys, deixis.datasets.curation.config\n"
        "sys.exit(repr(sorted({'numpy', 'scipy', 'zarr', 'torch'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
