"""The report in a real browser: everything is drawn at every width, filters work by keyboard, nothing hostile runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deixis.eval.report import write_report
from deixis.eval.report.rows import ENDINGS, ending
from deixis.eval.results import EpisodeRecord

from .browser import NAMES, Browser, find_chromium
from .conftest import write_whole_run

EXECUTABLE = find_chromium()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason=f"no Chromium here, looked for {', '.join(NAMES)}")

WIDTHS = (400, 1000, 1600)
HOSTILE = (
    '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    "<a href='http://localhost/x'>' onfocus='window.hacked=1"
)
CHARTS = {
    "svg.curve": 8,  # three losses and a challenge, of either run
    ".track": 20,
    ".track .dot": 20,
    ".stack": 8,
    ".stack i": 8,
    ".bar": 10,
    "table.confusion": 2,
    ".film > img": 2,
    ".strip img": 2,
}
"""What draws -> how many of these there are at least on the page of two runs."""

SIZES = "[...document.querySelectorAll(%r)].map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"
SHOWN = "[...document.querySelectorAll('[data-kind=%s]')].filter(e => e.getClientRects().length).length"
FOCUSED = "document.activeElement.name || document.activeElement.type || document.activeElement.className"
BEYOND = """[...document.body.querySelectorAll("*")]
  .filter(e => !e.closest(".scroll, .strip, pre, .skip") && e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 80))"""


TALLEST_TICK = "Math.max(...[...document.querySelectorAll('.ticks span')].map(e => e.getBoundingClientRect().height))"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert EXECUTABLE is not None
    with Browser(EXECUTABLE, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def hostile(records: list[EpisodeRecord], make_record: Callable[..., EpisodeRecord]) -> list[EpisodeRecord]:
    """Episodes whose every text is hostile here and there, and those of a challenge."""
    changes = {"instruction": HOSTILE, "target": HOSTILE, "first_grasped": HOSTILE, "predicates": {HOSTILE: False}}
    strange = [make_record(HOSTILE, index, success=False, **changes) for index in range(3)]
    world = [make_record("lift", i, f"light-{level}", success=i > 2) for level in range(1, 6) for i in range(4)]
    return [*records, *strange, *world, make_record("lift", 0, HOSTILE)]


@pytest.fixture
def page(tmp_path: Path, hostile: list[EpisodeRecord]) -> Path:
    return write_report(write_whole_run(tmp_path / "run", hostile, HOSTILE))


@pytest.fixture
def page_of_two(tmp_path: Path, hostile: list[EpisodeRecord]) -> Path:
    first = write_whole_run(tmp_path / "run", hostile, HOSTILE)
    worse = [replace(record, success=record.success and record.index > 4) for record in hostile]
    second = write_whole_run(tmp_path / "a-run-with-a-rather-long-name-that-has-no-place-to-break", worse, HOSTILE)
    return write_report(first, second)


def press_until(browser: Browser, wanted: str, most: int = 60) -> None:
    """Press Tab until what is wanted has the focus, and see that the focus shows."""
    for _ in range(most):
        browser.press("Tab")
        if browser.run(FOCUSED) == wanted:
            style = browser.run("(s => [s.outlineStyle, s.outlineWidth])(getComputedStyle(document.activeElement))")
            assert style[0] != "none" and style[1] != "0px", f"{wanted}: the focus does not show"
            return
    raise AssertionError(f"{wanted}: not reached by {most} presses of Tab")


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_is_drawn_and_nothing_stands_out(browser: Browser, page_of_two: Path, width: int) -> None:
    browser.resize(width)
    browser.open(page_of_two)
    browser.run("document.querySelectorAll('details').forEach(details => details.open = true)")
    for kind, least in CHARTS.items():
        sizes = browser.run(SIZES % kind)
        assert len(sizes) >= least, f"{kind}: {len(sizes)} on the page"
        assert all(w > 0 and h > 0 for w, h in sizes), f"{kind}: not drawn"
    assert browser.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert browser.run(BEYOND) == []
    assert browser.run(TALLEST_TICK) < 30, "a tick is broken over lines"
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.problems == []


def test_filters_work_by_keyboard_alone(browser: Browser, page: Path, hostile: list[EpisodeRecord]) -> None:
    browser.resize(1000)
    browser.open(page)

    def wanted(**fields: str) -> int:
        kept = [record for record in hostile if all(getattr(record, name) == value for name, value in fields.items())]
        return len(kept)

    def count() -> str:
        return browser.run("document.querySelector('output[aria-live]').textContent")

    assert browser.run(SHOWN % "row") == len(hostile) and browser.run(SHOWN % "film") == 1
    assert count() == f"{len(hostile)} of {len(hostile)} episodes, 1 of 1 films"
    press_until(browser, "task")
    browser.press("ArrowDown")
    assert browser.run(SHOWN % "row") == wanted(task="lift") and browser.run(SHOWN % "film") == 1
    browser.press("Tab")
    for condition in ("correct", "null"):
        browser.press("ArrowDown")
        assert browser.run(SHOWN % "row") == wanted(task="lift", condition=condition) == 10
        assert browser.run(SHOWN % "film") == 0, "the film is of a swap"
    browser.press("Tab")
    for name in ENDINGS:
        browser.press("ArrowDown")
        kept = [r for r in hostile if (r.task, r.condition, ending(r)) == ("lift", "null", name)]
        assert browser.run("document.activeElement.value") == name
        assert browser.run(SHOWN % "row") == len(kept)
        assert count() == f"{len(kept)} of {len(hostile)} episodes, 0 of 1 films"
    browser.press("Tab")
    assert browser.run(FOCUSED) == "reset"
    browser.press("Enter")
    browser.run("new Promise(done => setTimeout(done, 20))")
    assert browser.run(SHOWN % "row") == len(hostile)
    press_until(browser, "card scroll tall")
    assert browser.problems == []


def test_a_task_with_a_hostile_name_can_be_chosen_and_nothing_runs(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.run("document.querySelectorAll('details').forEach(details => details.open = true)")
    press_until(browser, "task")
    for _ in range(4):
        browser.press("ArrowDown")
    assert browser.run("document.activeElement.value") == HOSTILE
    assert browser.run(SHOWN % "row") == 3
    assert browser.run("typeof window.hacked") == "undefined"
    assert browser.run("document.scripts.length") == 1
    assert browser.run("[...document.querySelectorAll('[onerror], [onfocus], a[href^=http]')].length") == 0
    assert browser.run("document.body.innerText").count(HOSTILE) >= 6
    assert browser.problems == []


def test_what_would_run_all_the_same_is_blocked(browser: Browser, page: Path) -> None:
    """The second wall: even where a text were not escaped, the page's policy would let nothing run or load."""
    page.write_text(page.read_text("utf-8").replace("</main>", f"<p>{HOSTILE}</p></main>"), "utf-8")
    browser.open(page)
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert browser.run("document.scripts.length") == 2, "it stands in the page"
    assert browser.run("typeof window.hacked") == "undefined"
    assert any("Content Security Policy" in problem for problem in browser.problems)


def test_the_page_is_whole_without_its_script(browser: Browser, page: Path, hostile: list[EpisodeRecord]) -> None:
    script = (Path(write_report.__code__.co_filename).parent / "page.js").read_text("utf-8")
    text = page.read_text("utf-8")
    assert script in text
    page.write_text(text.replace(script, ""), "utf-8")
    browser.open(page)
    assert browser.run(SHOWN % "row") == len(hostile) and browser.run(SHOWN % "film") == 1
    assert browser.run("document.querySelector('form').getClientRects().length") == 0


def test_links_lead_where_they_say(browser: Browser, page_of_two: Path, tmp_path: Path) -> None:
    browser.open(page_of_two)
    browser.press("Tab")
    assert browser.run(FOCUSED) == "skip"
    browser.press("Enter")
    assert browser.run("document.activeElement.id") == "main"
    browser.press("Tab")
    assert not browser.run("document.querySelector('details.run').open")
    browser.press("Enter")
    browser.run("new Promise(done => setTimeout(done, 50))")
    assert browser.run("[...document.querySelectorAll('details.run')].map(details => details.open)") == [True, False]
    assert browser.problems == []
