"""Documents about a picture say what is true of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.documents import (
    KINDS,
    NOWHERE,
    PLACE_TOKENS,
    PLACES,
    place_text,
    read_place,
    seen_place,
    write_documents,
)
from deixis.datasets.language import COLOUR_WORDS, LASTING_KINDS, QUESTION_KINDS, SHAPE_WORDS, question

SCENE = [
    {"name": "red cube", "colour": "red", "shape": "cube", "position": [0.0, 0.2, 0.0]},
    {"name": "blue ball", "colour": "blue", "shape": "ball", "position": [0.0, -0.2, 0.0]},
]
SEGMENTATION = np.zeros((32, 64), np.uint8)
SEGMENTATION[4:8, 8:16] = 1  # the red cube in the upper left; the ball is out of view


@given(st.floats(0, 1), st.floats(0, 1))
def test_places_come_back_to_half_a_step(u: float, v: float) -> None:
    found = read_place(place_text((u, v)))
    assert found is not None
    assert max(abs(found[0] - u), abs(found[1] - v)) <= 0.5 / PLACES + 1e-9


@pytest.mark.parametrize(
    "text", ["", NOWHERE, "<p01>", "<p01><p02><p03>", "<p01><p99>", "left", "<p01> and <p02>", "<p1"]
)
def test_what_is_no_place_is_none(text: str) -> None:
    assert read_place(text) is None


def test_the_middle_of_an_object_and_what_cannot_be_seen() -> None:
    assert seen_place(SEGMENTATION, 1) == (12 / 64, 6 / 32)
    assert seen_place(SEGMENTATION, 2) is None
    speck = np.zeros((8, 8), np.uint8)
    speck[0, :2] = 5
    assert seen_place(speck, 5) is None


def words_of(name: str) -> set[str]:
    table = {"red": COLOUR_WORDS, "ball": SHAPE_WORDS, "cube": SHAPE_WORDS}[name]
    found = [table[language][name] for language in ("en", "zh")]
    return {word for of in found for word in ([of] if isinstance(of, str) else of)}


def test_documents_are_of_every_kind_and_true() -> None:
    rng = np.random.default_rng(0)
    absent = [{"colour": "green", "shape": "cube"}]
    requests = [("lift the red cube", 1), ("lift the blue ball", 2)]
    written = write_documents(SCENE, SEGMENTATION, requests, absent, True, 3000, rng)
    share = {kind: sum(one.kind == kind for one in written) / 3000 for kind in KINDS}
    assert share == pytest.approx(KINDS, abs=0.05)
    here, places = place_text((12 / 64, 6 / 32)), [one for one in written if one.kind == "place"]
    cube = [one for one in places if any(word in one.prompt for word in words_of("red"))]
    assert cube
    assert {one.answer for one in cube} == {here}
    other = [one for one in places if one not in cube]
    assert {one.answer for one in other} == {NOWHERE}, "the ball is out of view, the green cube is not there"
    assert any("lift the blue ball" in one.prompt for one in other)
    assert {token for one in written for token in PLACE_TOKENS if token in one.prompt} == set()


def test_where_objects_may_have_moved_nothing_is_asked_that_this_changes() -> None:
    rng = np.random.default_rng(0)
    written = write_documents(SCENE, SEGMENTATION, [], [], False, 2000, rng)
    spatial = ("left", "right", "front", "behind", "nearest", "far", "左", "右", "前", "后", "远", "近")
    said = [one.prompt + one.answer for one in written]
    assert not [text for text in said if any(word in text for word in spatial)]


def test_of_two_that_share_a_name_neither_is_pointed_at() -> None:
    rng = np.random.default_rng(0)
    twins = [SCENE[0], {**SCENE[0], "position": [0.1, 0.1, 0.0]}]
    assert not [d for d in write_documents(twins, SEGMENTATION, [], [], False, 200, rng) if d.kind == "place"]


def test_lasting_questions_have_answers_that_moving_objects_leaves() -> None:
    scene = [*SCENE, {"name": "bowl", "colour": None, "shape": "bowl", "position": [0.3, 0.2, 0.0]}]
    places = [item["position"] for item in scene]
    moved = [{**item, "position": place} for item, place in zip(scene, [places[2], *places[:2]], strict=True)]
    for kind in QUESTION_KINDS:
        seeds = range(30)
        before, after = ([question(kind, of, np.random.default_rng(s), "en") for s in seeds] for of in (scene, moved))
        assert (before == after) == (kind in LASTING_KINDS), kind


def test_kinds_are_drawn_in_their_proportion() -> None:
    def drawn(kinds: dict[str, float]) -> list[str]:
        written = write_documents(SCENE, SEGMENTATION, [], [], True, 1000, np.random.default_rng(0), kinds)
        return [document.kind for document in written]

    assert set(drawn({"caption": 3})) == {"caption"}
    shares = drawn({"caption": 1, "place": 3})
    assert 0.7 < shares.count("place") / 1000 < 0.8 and set(shares) == {"caption", "place"}
    for wrong in ({"riddle": 1.0}, {"caption": -1.0, "place": 2.0}, {"caption": 0.0}, {}):
        with pytest.raises(ValueError, match="kinds of documents: found"):
            drawn(wrong)
