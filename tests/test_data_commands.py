"""`deixis data …` as a user types it, on real demonstrations."""

import json
from pathlib import Path

import numpy as np
import pytest

from deixis.cli import main
from deixis.datasets.episode import Stream
from deixis.datasets.store import TrajectoryStore
from deixis.envs.collect import collect
from deixis.envs.config import CollectConfig


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    return collect(CollectConfig(episodes=24, workers=1), tmp_path_factory.mktemp("data") / "store.zarr", seed=9)


@pytest.mark.parametrize("kind", ["robomimic", "lerobot"])
def test_out_and_in_again(store: TrajectoryStore, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture) -> None:
    there, back = tmp_path / ("set.hdf5" if kind == "robomimic" else "set"), tmp_path / "back.zarr"
    assert main(["data", "export", str(store.path), str(there), "--format", kind]) == 0
    assert main(["data", "import", str(there), str(back), "--rate-hz", "10"]) == 0
    assert f"24 episodes of format {kind}" in capsys.readouterr().out
    imported = TrajectoryStore.open(back)
    for index in (0, 23):
        np.testing.assert_array_equal(imported.read(index, "action").values, store.read(index, "action").values)
        assert imported.episode_info(index)["instruction"] == store.episode_info(index)["instruction"]
    assert main(["data", "import", str(there), str(back)]) == 1, "what is there is not overwritten"
    assert "deixis data import:" in capsys.readouterr().err


def test_check_writes_its_report_and_page_and_repairs(
    store: TrajectoryStore, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    faulty = TrajectoryStore.create(
        tmp_path / "faulty.zarr", store.env_spec, list(store.streams.values()), store.meta, store.tolerance
    )
    with faulty.writer(sync=False) as writer:
        for index in range(len(store)):
            episode = store.episode(index)
            if index == 4:
                values = episode.streams["proprio"].values.copy()
                values[3, 2] = np.inf
                episode.streams["proprio"] = Stream(values, episode.streams["proprio"].stamps_ns)
            writer.append(episode)
    report, page, fixed = tmp_path / "gate.json", tmp_path / "gate.html", tmp_path / "fixed.zarr"
    command = ["data", "check", str(faulty.path), "--json", str(report), "--page", str(page)]
    assert main(command) == 1
    told = json.loads(report.read_text("utf-8"))
    assert not told["ok"] and {f["check"] for f in told["findings"] if f["severity"] == "error"} == {"finite"}
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert main(["data", "check", str(faulty.path), "--fix", str(fixed)]) == 0
    assert "episode 4: dropped (finite)" in capsys.readouterr().out
    assert len(TrajectoryStore.open(fixed)) == 23
    assert main(["data", "check", str(fixed)]) == 0


def test_replay(store: TrajectoryStore, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    written = tmp_path / "replay.json"
    command = ["data", "replay", str(store.path), "--env", "tabletop", "--path", "recorded", "--episodes", "3"]
    assert main([*command, "--json", str(written)]) == 0
    assert "3 of 3 exact, 3 of 3 successes again" in capsys.readouterr().out
    assert [episode["episode"] for episode in json.loads(written.read_text("utf-8"))[0]["episodes"]] == [0, 8, 16]


def test_curate(store: TrajectoryStore, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    doubled = TrajectoryStore.create(
        tmp_path / "doubled.zarr", store.env_spec, list(store.streams.values()), store.meta, store.tolerance
    )
    with doubled.writer(sync=False) as writer:
        for index in [*range(len(store)), 7]:
            writer.append(store.episode(index))
    told, clean = tmp_path / "told.json", tmp_path / "clean.zarr"
    command = ["data", "curate", str(doubled.path), str(clean), "--duplicates.threshold", "0.98", "--json", str(told)]
    assert main(command) == 0
    assert len(TrajectoryStore.open(clean)) == 24
    assert "24" in capsys.readouterr().out and json.loads(told.read_text("utf-8"))
    assert main(["data", "curate", str(doubled.path), str(tmp_path / "x"), "--duplicates.threshold", "7"]) in (1, 2)


def test_commands_explain_themselves(capsys: pytest.CaptureFixture) -> None:
    for name in ("import", "export", "replay", "curate"):
        assert main(["data", name, "--help"]) == 0
        assert f"deixis data {name}" in capsys.readouterr().out
    assert main(["data"]) == 0 and "deixis data curate" in capsys.readouterr().out
    assert main(["data", "chek"]) == 2
