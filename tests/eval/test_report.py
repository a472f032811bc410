"""The page: self-contained, escaped, whole with everything there and with nothing but the table."""

import html
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from deixis.eval.charts import curve, nice_ticks, running_mean
from deixis.eval.media import Clip, write_index
from deixis.eval.report import (
    ReportError,
    challenges,
    conditions,
    controls,
    duration,
    ending,
    learning_curves,
    percent,
    verdict,
    write_report,
)
from deixis.eval.results import write_table
from deixis.eval.summary import summarise

HOSTILE = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Collects tags, what they point to, and text; complains about tags that do not close."""

    VOID = frozenset({"meta", "img", "br", "line", "circle", "polyline", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data") and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture
def run_dir(tmp_path, records, make_record):
    """A run folder with every file that a run leaves, some of them hostile."""
    failed = make_record("place", 99, success=False, instruction=HOSTILE, first_grasped="green ball")
    write_table([*records, failed], tmp_path / "episodes.parquet")
    (tmp_path / "timings.json").write_text('{"collect": 42.3, "check": 3.2, "train": 388.1, "eval": 3700}')
    lines = [
        {"stage": stage, "step": step, "time_s": step, "lr": 1e-3, "samples_per_s": 400.0, "loss": loss}
        for stage, names in (("align", ("grounding", "contrastive")), (HOSTILE, ("action",)))
        for step in range(10, 510, 10)
        for loss in [dict.fromkeys(names, 100.0 / step)]
    ]
    text = "\n".join(json.dumps(line) for line in [*lines, lines[3]])
    (tmp_path / "training.jsonl").write_text(text + '\n{"stage": "align", "st')
    (tmp_path / "config.yaml").write_text(f"seed: 0 # {HOSTILE}\n")
    finding = {"severity": "warning", "episode": 3, "stream": "camera.front", "row": 12, "check": "jitter"}
    finding |= {"found": HOSTILE, "expected": "less", "action": "look"}
    (tmp_path / "gate.json").write_text(json.dumps({"ok": True, "episodes": 1000, "findings": [finding] * 30}))
    record = {"command": f"deixis demo {HOSTILE}", "commit": None, "date": "2026-01-01", "hardware": {"cores": 2}}
    (tmp_path / "record.json").write_text(json.dumps(record))
    (tmp_path / "media").mkdir()
    for name in ("a.webp", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "media" / name)
    write_index(
        [Clip("a.webp", "a.png", "lift", 0, "swap", HOSTILE, False, 80, "red cube", "ball", None)], tmp_path / "media"
    )
    return tmp_path


def test_a_whole_page(run_dir):
    text = write_report(run_dir).read_text("utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert text.count(html.escape(HOSTILE, quote=False)[:10]) >= 6
    assert page.links
    assert all(link.startswith("data:image/") for link in page.links)
    assert "http" not in text.replace("http-equiv", "")
    assert "@import" not in text
    assert "url(" not in text
    assert page.tags.count("svg") == 3
    shown = " ".join(page.texts)
    for expected in (
        "Success by task",
        "42 s",
        "6 min 28 s",
        "1 h 1 min",
        "30 findings",
        "jitter",
        "2.13.0",
        "0123456789abcdef",
    ):
        assert expected in shown
    assert write_report(run_dir).read_text("utf-8") == text


def test_the_table_alone_is_enough(tmp_path, make_record):
    write_table([make_record(index=index) for index in range(3)], tmp_path / "episodes.parquet")
    page = Page(write_report(tmp_path).read_text("utf-8"))
    shown = " ".join(page.texts)
    assert "100%" in shown
    assert "Episodes on film" not in shown
    assert "Training" not in shown


def test_errors_name_the_file(tmp_path, make_record):
    with pytest.raises(FileNotFoundError, match=r"episodes.parquet: not found; `deixis eval` writes it"):
        write_report(tmp_path)
    write_table([make_record()], tmp_path / "episodes.parquet")
    (tmp_path / "gate.json").write_text("{")
    with pytest.raises(ReportError, match=r"gate.json: is not valid JSON"):
        write_report(tmp_path)
    (tmp_path / "gate.json").unlink()
    (tmp_path / "training.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    with pytest.raises(ReportError, match=r"training.jsonl, line 1: found"):
        write_report(tmp_path)


def test_verdict_and_controls(records, make_record):
    summary = summarise(records, {})
    first, second = verdict(summary)
    successes = sum(r.success for r in records if r.condition == "correct")
    assert first.startswith(f"Reached the goal in {successes} of 30 unseen episodes (95% interval ")
    assert "told nothing" in second
    assert len(controls(summary)) == 5
    alone = summarise([make_record()], {})
    assert [row["label"] for row in controls(alone)] == ["Wrong object"]
    assert verdict(alone)[1] == "It acted on a wrong object in 0%."


def test_endings(make_record):
    assert ending(make_record()) == "success"
    assert ending(make_record(success=False)) == "unfinished"
    assert ending(make_record(success=False, first_grasped="blue cube")) == "wrong"
    assert ending(make_record(success=False, first_grasped=None, first_moved=None)) == "idle"


def test_learning_curves(run_dir):
    stages = learning_curves(run_dir / "training.jsonl")
    assert [(stage["stage"], stage["steps"], stage["rate"]) for stage in stages] == [
        ("align", 500, "400"),
        (HOSTILE, 500, "400"),
    ]
    assert [item["name"] for item in stages[0]["curves"]] == ["grounding", "contrastive"]
    assert stages[0]["curves"][0]["last"] == "0.2"
    assert learning_curves(run_dir / "none.jsonl") == []


def test_curve():
    steps = list(range(1, 1001))
    assert "alert" in curve(steps, steps, HOSTILE)
    assert "<script" not in curve(steps, steps, HOSTILE)
    assert curve(steps, steps, "loss").count(",") < 2000  # long curves are thinned
    assert ">0.01</text>" in curve([1, 2, 3], [0.01, 1.0, 9.0], "loss")
    assert "no finite value" in curve([1], [float("nan")], "loss")
    for values in ([1.0], [2.0, 2.0], [0.0, 1e-9], [-3.0, float("inf"), 5.0], [1e6, 1e-6]):
        drawn = curve(range(len(values)), values, "loss")
        assert "nan" not in drawn
        assert "inf" not in drawn


def test_ticks_and_mean():
    assert nice_ticks(0.0, 1.0) == [0.0, 0.5, 1.0]
    assert nice_ticks(0.13, 0.94) == [0.0, 0.5, 1.0]
    assert nice_ticks(3.0, 3.0) == [2.5, 3.0, 3.5]
    assert running_mean([1.0, 3.0, 5.0], 0.67).tolist() == [1.0, 2.0, 4.0]  # pyright: ignore[reportArgumentType]


def test_words():
    assert [percent(0.905), percent(0.9), percent(1.0), percent(0.126, 0)] == ["90.5%", "90%", "100%", "13%"]
    assert [duration(s) for s in (0.04, 9.96, 73.4, 60, 3660)] == [
        "0.0 s",
        "10.0 s",
        "1 min 13 s",
        "1 min",
        "1 h 1 min",
    ]


def test_a_suite_without_objects_and_controls_shows_its_scores_instead(make_record, tmp_path: Path) -> None:
    none = {"target": "", "original_target": "", "first_touched": None, "first_grasped": None, "first_moved": None}
    marks = [1.0, 0.25, 0.5]
    table = [make_record("push-t", i, success=mark == 1, score=mark, **none) for i, mark in enumerate(marks)]
    write_table(table, tmp_path / "episodes.parquet")
    page = write_report(tmp_path).read_text("utf-8")
    assert "Mean score 0.583" in page and "0.250" in page
    for absent in ("Does it follow the words?", "object asked for", "acted on none"):
        assert absent not in page


def test_every_condition_has_its_row_where_others_than_the_controls_were_run(make_record, tmp_path):
    acted = {"correct": "red cube", "negation": "blue cube", "ordinal": "green ball", "false-premise": None}
    records = [
        make_record("lift", i, c, first_grasped=a, first_moved=a, lure="blue cube", choices=4, success=a == "red cube")
        for c, a in acted.items()
        for i in range(4)
    ]
    write_table(records, tmp_path / "episodes.parquet")
    rows = conditions(summarise(records, {}))
    assert [row["label"] for row in rows] == list(acted)
    assert rows[1]["shares"] == {"named": 0, "lure": 1, "other": 0, "none": 0}
    assert rows[2]["shares"]["other"] == 1 and rows[3]["shares"]["none"] == 1
    assert rows[0]["score"] == 1 and rows[3]["score"] is None and rows[3]["nothing_to_do"]
    text = write_report(tmp_path).read_text("utf-8")
    page = Page(text)
    assert "Told in other ways" in text and "another object is named as the one that is not meant" in text
    assert "idle right" in text and page.links == []
    assert conditions(summarise(records[:4], {})) == [], "nothing beside what the controls show"


def test_a_challenge_is_drawn_where_all_its_severities_were_run(make_record, tmp_path):
    names = ["correct", *(f"light-{severity}" for severity in range(1, 6)), "camera-1"]
    records = [make_record("lift", i, name, success=i < 6 - n) for n, name in enumerate(names) for i in range(6)]
    write_table(records, tmp_path / "episodes.parquet")
    drawn = challenges(summarise(records, {}))
    assert [chart["name"] for chart in drawn] == ["light"]
    assert "light: success 100%, 83%, 67%, 50%, 33%, 17% from severity 0 to 5" in drawn[0]["svg"]
    assert drawn[0]["svg"].count("<circle") == 6 and drawn[0]["last"] == "17% at worst"
    assert "Where the world differs from training" in (text := write_report(tmp_path).read_text("utf-8"))
    assert Page(text).links == [] and "Told in other ways" not in text


def test_what_made_it_fail_is_drawn_where_failures_were_attributed(records, tmp_path):
    write_table(records, tmp_path / "episodes.parquet")
    assert "What made it fail" not in write_report(tmp_path).read_text("utf-8")
    found = [("understanding", {"perception": "not testable", "understanding": "goal reached"})] * 3
    found += [(None, dict.fromkeys(("perception", "understanding"), "goal missed"))]
    lines = [json.dumps({"task": "lift", "cause": cause, "evidence": evidence}) + "\n" for cause, evidence in found]
    (tmp_path / "attribution.jsonl").write_text("".join(lines))
    page = Page(text := write_report(tmp_path).read_text("utf-8"))
    assert "What made it fail" in text and "not testable in 3" in text and 'aria-label="understanding: 75%"' in text
    assert page.links == []
    (tmp_path / "attribution.jsonl").write_text("not json\n")
    with pytest.raises(ReportError, match=r"attribution\.jsonl: wanted lines"):
        write_report(tmp_path)
