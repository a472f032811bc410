"""Several runs: rates beside each other, and differences over the very same episodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from deixis.eval.comparison import bootstrap_interval, mcnemar
from deixis.eval.report.side_by_side import JudgedRun, difference, differences, rates
from deixis.eval.results import EpisodeRecord
from deixis.eval.summary import summarise


def judged(name: str, records: list[EpisodeRecord]) -> JudgedRun:
    return JudgedRun(name, records, summarise(records, {}))


def outcomes(make: Callable[..., EpisodeRecord], condition: str, marks: str) -> list[EpisodeRecord]:
    """An episode for every letter, "+" being a success."""
    return [make("lift", index, condition, success=mark == "+") for index, mark in enumerate(marks)]


def test_differences_are_of_the_same_episodes_whatever_their_order(make_record: Callable[..., EpisodeRecord]) -> None:
    first = outcomes(make_record, "correct", "++++----+-") + outcomes(make_record, "swap", "++--")
    second = outcomes(make_record, "correct", "++++++++--") + outcomes(make_record, "camera-1", "+++")
    found = difference(judged("b", second[::-1]), judged("a", first))
    assert (found.run, found.base, found.shared, list(found.by_condition)) == ("b", "a", 10, ["correct"])
    one = found.by_condition["correct"]
    assert (one.first, one.second, one.difference) == (0.8, 0.5, pytest.approx(0.3))
    assert (one.only_first, one.only_second, one.p_value) == (4, 1, mcnemar(4, 1))
    assert (one.low, one.high) == bootstrap_interval([1] * 4 + [-1] + [0] * 5)
    assert found.scale == next(s for s in (0.05, 0.1, 0.25, 0.5, 1.0) if s >= max(abs(one.low), one.high))


def test_every_run_is_compared_with_the_first(make_record: Callable[..., EpisodeRecord]) -> None:
    runs = [judged(name, outcomes(make_record, "correct", "+-+-")) for name in "abc"]
    found = differences(runs)
    assert [(one.run, one.base) for one in found] == [("b", "a"), ("c", "a")]
    assert found[0].scale == 0.05 and found[0].by_condition["correct"].p_value == 1


@pytest.mark.parametrize("change", [{"suite": "push-t"}, {"seed": 1}, {"task": "push"}, {"index": 7}])
def test_other_episodes_are_never_paired(make_record: Callable[..., EpisodeRecord], change: dict) -> None:
    record = make_record()
    found = difference(judged("b", [replace(record, **change)]), judged("a", [record]))
    assert found.shared == 0 and found.by_condition == {}


def test_rates_stand_beside_each_other_where_at_least_two_runs_have_them(
    make_record: Callable[..., EpisodeRecord],
) -> None:
    first = outcomes(make_record, "correct", "++-") + [
        record for name in ("swap", "camera-1", "null") for record in outcomes(make_record, name, "+-")
    ]
    second = [*outcomes(make_record, "correct", "+---"), make_record("push", 0)]
    second += outcomes(make_record, "swap", "--") + outcomes(make_record, "camera-1", "++++")
    found = rates([judged("a", first), judged("b", second)])

    def said(groups: list) -> dict[str, list[tuple[str, float, int]]]:
        return {g["label"]: [(r["label"], round(r["rate"], 3), r["episodes"]) for r in g["rows"]] for g in groups}

    assert said(found["all"]) == {
        "all tasks": [("a", 0.667, 3), ("b", 0.4, 5)],
        "lift": [("a", 0.667, 3), ("b", 0.25, 4)],
    }
    assert said(found["conditions"]) == {"swap": [("a", 0.5, 2), ("b", 0.0, 2)]}
    assert said(found["worlds"]) == {"camera-1": [("a", 0.5, 2), ("b", 1.0, 4)]}
    assert all(r["low"] <= r["rate"] <= r["high"] for g in found["all"] for r in g["rows"])
