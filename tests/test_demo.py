"""The whole way of the data, small: `deixis demo` makes all it promises, and the steps one by one make the same."""

import json
from pathlib import Path

import pytest

from deixis.cli import main
from deixis.eval.records import Record
from deixis.eval.results import read_table, table_digest
from deixis.run_steps import PRODUCTS

TRAINING = ("--align.steps", "10", "--imitate.steps", "10", "--threads", "1")
EVALUATION = ("--eval.episodes", "3", "--eval.control_episodes", "3", "--eval.videos", "1")
LOOKS = (
    "--watch.share",
    "1",
    "--watch.alignment_every",
    "5",
    "--watch.scenes",
    "4",
    "--watch.rollout_every",
    "10",
    "--watch.episodes",
    "1",
)
SMALL = ("--config", "smoke", *TRAINING, *LOOKS, *EVALUATION)
ASKED_FOR = {
    *("policies", "events.jsonl", "collapse.parquet", "collapse.json", "alignment.json", "comparison.parquet"),
    *("comparison.json", "chains.parquet", "chains.json", "attribution.jsonl", "attribution.json", "diagnosis.json"),
    *("probe.json", "probe.html", "features", "best_by_probe"),
    "episodes.partial.jsonl",  # of an evaluation that was stopped
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    assert main(["demo", *SMALL, "--out", str(out), "--json", str(out / "small.json")]) == 0
    return out


def test_demo_leaves_everything_it_promises(demo: Path) -> None:
    made = {path.name for path in demo.iterdir()}
    assert made == set(PRODUCTS) - ASKED_FOR - {"record.json"} | {"small.json"}
    summary = json.loads((demo / "summary.json").read_text())
    wanted = {
        "success_rate",
        "ci95",
        "episodes",
        "per_task",
        "wrong_object_rate",
        "null_success_rate",
        "swap_follow_rate",
    }
    assert wanted | {"wall_seconds", "versions"} <= set(summary)
    assert summary["episodes"] == 3
    assert set(summary["wall_seconds"]["stages"]) == {"collect", "check", "train", "eval", "report"}
    record = Record.read(demo / "small.json")
    assert record.name == "small"
    assert record.metrics["success_rate"] == summary["success_rate"]
    assert record.metrics["wall_seconds.total"] == summary["wall_seconds"]["total"]


def test_training_tells_what_it_was_asked_to_look_at(demo: Path) -> None:
    looks = [json.loads(line) for line in (demo / "evaluations.jsonl").read_text().splitlines()]
    found = {name: value for look in looks for name, value in look["evaluations"].items()}
    expected = {
        "alignment/retrieval_en",
        "alignment/objects_zh",
        "alignment/seconds",
        "rollout/success",
        "rollout/score",
    }
    assert expected <= set(found)
    assert looks[0]["stage"] == "align" and looks[0]["step"] == 5
    assert 0 <= found["alignment/retrieval_en"] <= 1


def test_a_second_demo_is_refused_and_harms_nothing(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*")}
    assert main(["demo", *SMALL, "--out", str(demo)]) == 1
    assert "--overwrite true" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*")} == before


@pytest.mark.slow
def test_the_steps_one_by_one_make_the_same(demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    smoke = ("--config", "smoke", "--out", str(out))
    assert main(["collect", *smoke]) == 0
    assert main(["data", "check", "--out", str(out)]) == 0
    assert main(["train", *smoke, *TRAINING]) == 0
    assert main(["eval", *smoke, *EVALUATION]) == 0
    assert main(["report", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == set(PRODUCTS) - ASKED_FOR - {"evaluations.jsonl"}
    assert (out / "policy/model.safetensors").read_bytes() == (demo / "policy/model.safetensors").read_bytes()
    assert table_digest(read_table(out / "episodes.parquet")) == table_digest(read_table(demo / "episodes.parquet"))
    assert main(["train", *smoke, *TRAINING, "--align.steps", "1"]) == 1  # another configuration
