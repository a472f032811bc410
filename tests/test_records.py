"""Records of results, and the documents' tables that are made from them."""

import json
from pathlib import Path
from typing import Any

import pytest

import deixis
from deixis.cli import main
from deixis.eval import bench
from deixis.eval.records import Record, RecordError, fill_tables, flat_metrics, format_metric, make_record, table

ROOT = Path(deixis.__file__).parent
DOCUMENTS = sorted(
    path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")] if "<!-- results:" in path.read_text("utf-8")
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    make_record("demo", "deixis demo", {"success_rate": 0.875, "ci95": [0.82, 0.91], "episodes": 200}, [0]).write(
        tmp_path / "demo.json"
    )
    make_record("plain", "deixis demo --align.steps 0", {"success_rate": 0.03, "wall_seconds": {"total": 612.4}}).write(
        tmp_path / "plain.json"
    )
    return tmp_path


def document(marker: str) -> str:
    return f"Before.\n\n<!-- results:{marker} -->\nold\n<!-- /results -->\n\nAfter.\n"


def test_a_record_reads_back_as_written(results: Path) -> None:
    record = Record.read(results / "demo.json")
    assert record.metrics == {"success_rate": 0.875, "ci95.low": 0.82, "ci95.high": 0.91, "episodes": 200}
    assert set(json.loads((results / "demo.json").read_text())) == {
        *("name", "command", "commit", "date", "hardware", "versions", "seeds", "metrics"),
    }
    assert record.versions["torch"].startswith("2.")
    assert record.hardware["cores"] >= 1
    assert sorted(path.name for path in results.iterdir()) == ["demo.json", "plain.json"]


def test_metrics_are_flat_numbers() -> None:
    assert flat_metrics({"a": {"b": 1, "c": None}, "d": [0.1, 0.2], "e": True}) == {
        "a.b": 1,
        "d.low": 0.1,
        "d.high": 0.2,
        "e": 1,
    }
    with pytest.raises(RecordError, match=r"metric 'a\.b'"):
        flat_metrics({"a": {"b": "fast"}})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("success_rate", 0.875, "87.5%"),
        ("ci95.low", 0.82, "82.0%"),
        ("episodes", 200, "200"),
        ("wall_seconds.total", 612.4, "612.4 s"),
        ("tabletop_steps_per_s", 1234.5, "1,234"),
        ("loss", 0.012345, "0.01235"),
        ("missing", None, "-"),
    ],
)
def test_numbers_read_well(name: str, value: float | None, expected: str) -> None:
    assert format_metric(name, value) == expected


def test_tables_are_filled_and_stay_as_they_are(results: Path) -> None:
    filled = fill_tables(document("demo,plain success_rate ci95"), results)
    assert "| success rate | 87.5% | 3.0% |" in filled
    assert "| ci95 | 82.0% to 91.0% | - |" in filled
    assert "`deixis demo --align.steps 0`" in filled
    assert "old" not in filled
    assert filled.startswith("Before.\n")
    assert filled.endswith("After.\n")
    assert fill_tables(filled, results) == filled


def test_without_metrics_a_table_shows_all(results: Path) -> None:
    rows = table([Record.read(results / "demo.json")]).splitlines()
    assert [row.split("|")[1].strip() for row in rows[2:5]] == ["success rate", "ci95", "episodes"]


def grouped(results: Path, metrics: dict[str, Any], marker: str) -> list[str]:
    make_record("study", "deixis study x", metrics).write(results / "study.json")
    return fill_tables(document(marker), results).splitlines()


def test_variants_are_rows_and_intervals_stand_beside_their_metric(results: Path) -> None:
    metrics = {
        "a": {"score": 0.95, "score_ci95": [0.9, 1.0], "train_seconds": 12.5},
        "b": {"score": 0.5, "success_rate": 0.25},
    }
    rows = grouped(results, metrics, "study/* score success_rate train_seconds")
    assert rows[3:7] == [
        "|  | score | success rate | train seconds |",
        "| --- | ---: | ---: | ---: |",
        "| a | 0.950 (0.900 to 1.000) | - | 12.5 s |",
        "| b | 0.5 | 25.0% | - |",
    ]


def test_suites_are_rows_and_variants_columns(results: Path) -> None:
    metrics = {"p-1": {"a": {"success_rate": 1.0}, "b": {"success_rate": 0.5}}, "p-2": {"a": {"success_rate": 0.0}}}
    rows = grouped(results, metrics, "study/*/* success_rate")
    assert rows[3] == "| success rate | a | b |"
    assert rows[5:7] == ["| p-1 | 100.0% | 50.0% |", "| p-2 | 0.0% | - |"]


def test_variants_of_two_records_stand_side_by_side(results: Path) -> None:
    make_record("more", "deixis study more", {"p-1": {"c": {"success_rate": 0.25}}}).write(results / "more.json")
    metrics = {"p-1": {"a": {"success_rate": 1.0}}, "p-2": {"a": {"success_rate": 0.0}}}
    rows = grouped(results, metrics, "study,more/*/* success_rate")
    assert rows[3] == "| success rate | a | c |"
    assert rows[5:7] == ["| p-1 | 100.0% | 25.0% |", "| p-2 | 0.0% | - |"]
    assert ["deixis study x" in rows[8], "deixis study more" in rows[9]] == [True, True]


def test_a_metric_that_two_records_have_is_refused(results: Path) -> None:
    with pytest.raises(RecordError, match=r"more than one has the metric 'a\.score'"):
        grouped(results, {"a": {"score": 1.0}}, "study,study/* score")


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("study/* speed", "no group with the metrics .'speed'"),
        ("study/*", "none was named"),
        ("study/*/* score", "wanted one metric of suite.variant"),
    ],
)
def test_a_table_of_groups_that_cannot_be_made_is_refused(results: Path, marker: str, expected: str) -> None:
    with pytest.raises(RecordError, match=expected):
        grouped(results, {"a": {"score": 1.0}}, marker)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (document("absent"), "no record at"),
        (document("demo speed"), "no metric 'speed'"),
        ("<!-- results:demo -->\nnever closed\n", "no `<!-- /results -->`"),
    ],
)
def test_a_table_that_cannot_be_made_is_refused(results: Path, text: str, expected: str) -> None:
    with pytest.raises(RecordError, match=expected):
        fill_tables(text, results)


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "x"}'])
def test_a_broken_record_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(RecordError, match=r"x\.json"):
        Record.read(tmp_path / "x.json")


def test_results_command_writes_all_documents_or_none(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = results / "good.md", results / "bad.md"
    good.write_text(document("demo"))
    bad.write_text(document("absent"))
    assert main(["results", str(good), str(bad), "--folder", str(results)]) == 1
    assert "old" in good.read_text()
    assert main(["results", str(good), "--folder", str(results)]) == 0
    assert "87.5%" in good.read_text()
    assert "written" in capsys.readouterr().out


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_documents_say_what_the_records_say(path: Path) -> None:
    text = path.read_text("utf-8")
    assert fill_tables(text, ROOT / "results") == text, "run `deixis results`"


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*.json")), ids=lambda path: path.name)
def test_committed_records_are_whole(path: Path) -> None:
    record = Record.read(path)
    assert record.name == path.stem
    assert record.command.startswith("deixis ")
    assert all(isinstance(value, (int, float)) for value in record.metrics.values())


def test_every_benchmark_says_what_it_measures() -> None:
    assert all(bench.names().values())
