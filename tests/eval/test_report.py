"""The page: self-contained, escaped, whole with everything there and with nothing but the table."""

import html
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from deixis.cli import main
from deixis.eval import report
from deixis.eval.charts import curve, nice_ticks, running_mean
from deixis.eval.report import write_report
from deixis.eval.report.files import ReportError
from deixis.eval.report.learning_curves import learning_curves
from deixis.eval.report.rows import (
    ENDINGS,
    MOST_EPISODES,
    challenges,
    conditions,
    controls,
    ending,
    episodes,
    verdict,
)
from deixis.eval.report.wording import duration, percent
from deixis.eval.results import write_table
from deixis.eval.summary import summarise

from .conftest import HOSTILE


class Page(HTMLParser):
    """Collects tags, what they point to outside the page, and text; complains about tags that do not close."""

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
        links = [value for name, value in attrs if name in ("src", "href", "xlink:href", "data") and value]
        self.links += [link for link in links if not link.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_whole_page(run_dir):
    text = write_report(run_dir).read_text("utf-8")
    page = Page(text)
    own = (Path(report.__file__).parent / "page.js").read_text("utf-8")
    assert page.tags.count("script") == 1 and text.count("<script") == 1 and f"<script>{own}</script>" in text
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
        "Instructions in a row",
        "What was asked for, and what it took",
        "What made it fail",
        "Episodes, one by one",
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


def test_a_task_that_is_a_sentence_wraps(make_record, tmp_path: Path) -> None:
    write_table([make_record("put_it_away", i, success=i > 0) for i in range(4)], tmp_path / "episodes.parquet")
    page = write_report(tmp_path).read_text()
    assert page.count("put it away") >= 2, "beside its success and beside how its episodes ended"


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
    for text in ("not json\n", "[]\n", '{"cause": null}\n'):
        (tmp_path / "attribution.jsonl").write_text(text)
        with pytest.raises(ReportError, match=r"attribution\.jsonl: wanted lines"):
            write_report(tmp_path)


def test_chains_are_drawn_where_they_were_run_and_those_of_another_policy_are_said_to_be(make_record, tmp_path):
    write_table([make_record()], tmp_path / "episodes.parquet")
    assert "Instructions in a row" not in write_report(tmp_path).read_text("utf-8")
    won = (2, 0, 5, 3)  # instructions carried out in each chain; the last was cut short
    chains = [
        make_record("lift", index, f"chain-{place + 1}", success=place < count)
        for index, count in enumerate(won)
        for place in range(min(count + (count != 3), 5))
    ]
    write_table(chains, tmp_path / "chains.parquet")
    text = write_report(tmp_path).read_text("utf-8")
    assert "4 chains of up to 5" in text and "<strong>2.50</strong> of 5" in text
    assert "In 1 of them nothing more could be asked" in text
    for label, share in (("1 or more", "75%"), ("3 or more", "50%"), ("5 or more", "25%")):
        assert f'aria-label="{label}: {share}, 95% interval' in text
    assert "of another policy" not in text
    write_table([make_record(condition="chain-1", policy_hash="another")], tmp_path / "chains.parquet")
    assert "of another policy, another" in write_report(tmp_path).read_text("utf-8")


def test_the_list_has_every_episode_or_says_how_many(records, make_record):
    whole = episodes(records)
    assert [row["record"] for row in whole["rows"]] == records and whole["total"] == 90
    assert (whole["tasks"], whole["conditions"]) == (["lift", "push", "place"], ["correct", "null", "swap"])
    assert whole["endings"] == ENDINGS and not whole["scored"]
    part = episodes(records, most=18)
    assert part["total"] == 90 and len(part["rows"]) == 18
    kept = [(row["record"].condition, row["record"].task, row["record"].index) for row in part["rows"]]
    assert kept == [(c, t, i) for c in ("correct", "null", "swap") for t in ("lift", "push", "place") for i in range(2)]
    nameless = episodes([make_record(target="", first_grasped=None, first_moved=None, success=False, score=0.5)])
    assert nameless["endings"] == {"unfinished": "goal not reached"} and nameless["scored"] and not nameless["objects"]


def test_a_list_that_is_cut_says_so(make_record, tmp_path):
    write_table([make_record(index=index) for index in range(MOST_EPISODES + 5)], tmp_path / "episodes.parquet")
    text = write_report(tmp_path).read_text("utf-8")
    assert "2,000 of 2,005: those with the lowest numbers" in text and text.count('<tr data-kind="row"') == 2000


def test_several_runs_on_one_page(records, run_dir, make_record, tmp_path):
    other = tmp_path / "other"
    better = [replace(r, success=True, score=1.0, policy_hash="another") for r in records if r.condition != "swap"]
    write_table(better, other / "episodes.parquet")
    path = write_report(run_dir, other)
    assert path == run_dir.parent / "report.html"
    page = Page(text := path.read_text("utf-8"))
    shown = " ".join(page.texts)
    assert all(link.startswith("data:image/") for link in page.links) and HOSTILE not in text
    lost = sum(not r.success for r in records if r.condition == "correct")
    # 30 of the first run's 31 episodes are in the other run as well.
    assert f"{lost} : 0 alone" in shown and f"+{100 * lost / 30:.1f}" in shown and "60 episodes of both" in shown
    assert page.tags.count("form") == 2 and text.count("</details>") > 2 and "Success by task" in shown
    assert write_report(run_dir, other, page=tmp_path / "new" / "page.html").read_text("utf-8") == text
    with pytest.raises(ValueError, match="found twice among the runs"):
        write_report(run_dir, other, run_dir.parent / "run")
    with pytest.raises(ValueError, match="found no run"):
        write_report()


def test_runs_that_share_nothing_are_said_to(make_record, tmp_path):
    for place, suite in enumerate(("tabletop-demo", "tabletop-demo", "push-t")):
        record = make_record(suite=suite, seed=place)  # the same number, but another scene
        write_table([record], tmp_path / str(place) / "run" / "episodes.parquet")
    runs = [tmp_path / str(place) / "run" for place in range(3)]
    text = write_report(*runs, page=tmp_path / "page.html").read_text("utf-8")
    assert text.count("No episode is shared") == 2
    assert "1/run minus 0/run" in text and "2/run minus 0/run" in text


def test_the_command_takes_runs_and_a_page(run_dir, make_record, tmp_path, monkeypatch, capsys):
    write_table([make_record()], tmp_path / "b" / "episodes.parquet")
    monkeypatch.chdir(tmp_path)
    assert main(["report", "b"]) == 0 and (tmp_path / "b" / "report.html").is_file()
    assert main(["report", "--out", "b"]) == 0 and json.loads((tmp_path / "b" / "timings.json").read_text())["report"]
    assert main(["report", str(run_dir), "b", "--page", "pages/both.html"]) == 0
    assert "2 runs" in (tmp_path / "pages" / "both.html").read_text("utf-8")
    assert "report: pages/both.html" in capsys.readouterr().out
    assert main(["report", "b", "c"]) == 1
    assert "c/episodes.parquet is not there" in capsys.readouterr().err


def test_weak_spots_stand_first(tmp_path, make_record):
    bad = {"success": False, "first_grasped": "red ball", "first_moved": "red ball", "first_touched": "red ball"}
    records = [make_record("lift", index) for index in range(60)]
    write_table(
        [*records, *(make_record("lift", 60 + index, **bad) for index in range(40))], tmp_path / "episodes.parquet"
    )
    text = write_report(tmp_path).read_text("utf-8")
    assert text.index("Weak spots") < text.index("Success by task")
    assert "It takes another object of the same colour in 40%." in text
    write_table(records, tmp_path / "episodes.parquet")
    assert "Weak spots" not in write_report(tmp_path).read_text("utf-8")


def test_a_diagnosis_stands_in_the_page_with_its_first_broken_rung(run_dir: Path) -> None:
    text = write_report(run_dir).read_text()
    ladder = html.unescape(text.split('<ol class="card ladder">')[1].split("</ol>")[0])
    badges = [part.split("</span>")[0] for part in ladder.split('<span class="badge')[1:]]
    assert badges == [' ok">holds', '">breaks', ' open">not known']
    assert f'<p class="cause">flipped image: {HOSTILE}</p>' in ladder
    assert "First broken: <strong>views</strong>" in text and "This diagnosis is of another policy" not in text

    file = run_dir / "diagnosis.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, "policy_hash": "fedc", "broken": None}))
    text = write_report(run_dir).read_text()
    assert "None is broken" in text and "This diagnosis is of another policy, fedc" in text
    file.write_text(json.dumps({"rungs": 3}))
    with pytest.raises(ReportError, match=r"diagnosis\.json: wanted policy_hash, broken and rungs"):
        write_report(run_dir)
