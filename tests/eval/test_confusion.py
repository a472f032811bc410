"""What was asked for against what was acted on, counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deixis.eval.report.confusion import confusions
from deixis.eval.results import EpisodeRecord

COLOURS, SHAPES = ("red", "blue", "green", "yellow"), ("cube", "ball", "cylinder")
ALL = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]


@pytest.fixture
def took(make_record: Callable[..., EpisodeRecord]) -> Callable[..., EpisodeRecord]:
    def make(asked: str, acted_on: str | None, **changes: object) -> EpisodeRecord:
        return make_record(target=asked, **{"first_grasped": acted_on, "first_moved": None} | changes)

    return make


def test_few_objects_are_told_apart_one_by_one(took: Callable[..., EpisodeRecord]) -> None:
    records = [took("red cube", "red cube")] * 5 + [took("red cube", "blue cube"), took("blue cube", "bowl")]
    records += [took("blue cube", None), took("blue cube", None, first_moved="blue cube", condition="swap")]
    [table] = confusions(records)
    assert (table.what, table.asked) == ("object", ["blue cube", "red cube"])
    assert table.acted_on == ["blue cube", "red cube", "bowl", "none"]
    assert table.counts == [[1, 0, 1, 1], [1, 5, 0, 0]] and table.right == [0, 1]
    assert table.accuracy == pytest.approx(6 / 9)


def test_many_objects_are_told_apart_by_colour_and_by_shape(took: Callable[..., EpisodeRecord]) -> None:
    records = [took(name, name) for name in ALL]
    records += [took("red cube", "red ball"), took("red cube", "blue cube"), took("red cube", "bowl")]
    colours, shapes = confusions(records)
    assert colours.asked == sorted(COLOURS) and shapes.asked == sorted(SHAPES)
    assert colours.acted_on == [*sorted(COLOURS), "bowl", "none"] and shapes.acted_on[-2:] == ["bowl", "none"]
    assert colours.counts[colours.asked.index("red")] == [1, 0, 4, 0, 1, 0]
    assert shapes.counts[shapes.asked.index("cube")] == [1, 5, 0, 1, 0]
    assert colours.accuracy == pytest.approx(13 / 15) and shapes.accuracy == pytest.approx(13 / 15)


def test_many_objects_whose_names_have_no_parts_are_told_apart_as_far_as_there_is_room(
    took: Callable[..., EpisodeRecord],
) -> None:
    names = [f"thing{number}" for number in range(6)]
    records = [took(name, name) for number, name in enumerate(names) for _ in range(6 - number)]
    [table] = confusions(records, most=2)
    assert (table.asked, table.acted_on) == (["thing0", "thing1", "others"], ["thing0", "thing1", "others", "none"])
    assert table.counts == [[6, 0, 0, 0], [0, 5, 0, 0], [0, 0, 10, 0]]
    assert table.right == [0, 1, None], "which of the others it was is not known"


def test_only_episodes_that_name_an_object_to_be_found_count(took: Callable[..., EpisodeRecord]) -> None:
    others = [took("red cube", "blue cube", condition=name) for name in ("null", "false-premise", "camera-5")]
    assert confusions([*others, took("", None)]) == []
    [table] = confusions([*others, took("red cube", "red cube")])
    assert table.counts == [[1, 0]] and table.accuracy == 1
