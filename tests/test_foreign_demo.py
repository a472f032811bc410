"""The whole way in a world of another package, small: what a user gets who asks for one of its presets."""

import json
from pathlib import Path

import pytest

from deixis.cli import main
from deixis.datasets.store import TrajectoryStore
from deixis.run_steps import PRODUCTS

SMALL = (
    *("--config", "metaworld_mt10", "--collect.suite", "metaworld-reach", "--collect.episodes", "8"),
    *("--collect.image_size", "32", "--perceive.steps", "3", "--imitate.steps", "3", "--threads", "1"),
    *("--perceive.points", "{privileged.points.corner: 32.0, privileged.points.wrist: 32.0}"),
)
EVALUATION = (
    *("--eval.suite", "metaworld-reach", "--eval.conditions", "[correct]"),
    *("--eval.episodes", "1", "--eval.videos", "0"),
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("metaworld", reason="metaworld is not here: pip install 'deixis[metaworld]'")
    out = tmp_path_factory.mktemp("metaworld") / "run"
    assert main(["demo", *SMALL, *EVALUATION, "--out", str(out)]) == 0
    return out


def test_it_leaves_what_a_demo_leaves(demo: Path) -> None:
    made = {path.name for path in demo.iterdir()}
    assert made - set(PRODUCTS) == set()
    assert {"report.html", "gate.html", "policy", "episodes.parquet", "media", "demonstrations.zarr"} - made == set()
    assert (demo / "media" / "index.json").is_file()


def test_its_demonstrations_say_who_demonstrated(demo: Path) -> None:
    store = TrajectoryStore.open(demo / "demonstrations.zarr")
    assert store.meta["demonstrator"] == "scripted expert of metaworld"
    assert set(store.meta["versions"]) >= {"metaworld", "mujoco", "deixis"}
    assert [store.episode_info(i)["instruction"] != "" for i in range(8)] == [True] * 8


def test_its_policy_is_refused_in_another_world(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(demo / "policy"), "--out", str(demo), *EVALUATION[2:], "--eval.suite", "tabletop-demo"])
    said = capsys.readouterr().err
    assert "suite 'tabletop-demo' does not fit the policy: action: found" in said and "Traceback" not in said


def test_its_demonstrations_happen_again_and_look_as_they_did(demo: Path, tmp_path: Path) -> None:
    """What disturbed the demonstrations goes beyond what the policy's normaliser can say, and is none of its faults."""
    written = tmp_path / "diagnosis.json"
    main(["diagnose", str(demo), "--episodes", "8", "--json", str(written)])
    rungs = {rung["name"]: rung for rung in json.loads(written.read_text())["rungs"]}
    assert rungs["replay"]["holds"] and rungs["replay"]["numbers"] == {"repeated": 8, "episodes": 8}
    assert rungs["views"]["holds"] and max(rungs["views"]["numbers"]["apart"].values()) < 1e-6
