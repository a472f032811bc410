"""What captions and answers say is read back from the text and checked against the positions."""

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets import language as lang

COLOURED = [(colour, shape) for colour in lang.COLOUR_WORDS["en"] for shape in ("cube", "cylinder", "ball")]
KINDS = [*COLOURED, (None, "plate"), (None, "bowl")]
coordinate = st.floats(-0.4, 0.4)


def make_object(kind: tuple[str | None, str], position: tuple[float, float, float], index: int) -> dict[str, Any]:
    return {"name": f"object_{index}", "colour": kind[0], "shape": kind[1], "position": list(position)}


@st.composite
def scenes(draw: st.DrawFn, min_size: int = 1) -> list[dict[str, Any]]:
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=min_size, max_size=7))  # the same kind may come twice
    return [
        make_object(kind, draw(st.tuples(coordinate, coordinate, st.floats(0, 0.1))), i) for i, kind in enumerate(kinds)
    ]


# The test's own reading of the frame: left is -y, right is +y, front is +x, behind is -x.
SIGNED = {"left": (1, -1), "right": (1, 1), "front": (0, 1), "behind": (0, -1)}


def further(a: dict[str, Any], b: dict[str, Any], side: str) -> bool:
    axis, sign = SIGNED[side]
    return sign * (a["position"][axis] - b["position"][axis]) > 0


def nouns(language: str) -> dict[str, tuple[str | None, str]]:
    return {noun: kind for kind in KINDS for noun in lang.noun_phrases(kind[0], kind[1], language)}


def alternatives(words: Any) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


NOUNS = {language: nouns(language) for language in lang.LANGUAGES}
WHERE = {language: {word: side for side, word in lang.RELATION_WORDS[language].items()} for language in lang.LANGUAGES}
ONE = {language: f"({alternatives(NOUNS[language])})" for language in lang.LANGUAGES}
SIDE = {language: f"({alternatives(WHERE[language])})" for language in lang.LANGUAGES}
STATED = {
    "en": [
        (rf"the {ONE['en']}(?: is)? {SIDE['en']} the {ONE['en']}\.", (1, 2, 3)),
        (rf"{SIDE['en']} the {ONE['en']} is the {ONE['en']}\.", (3, 1, 2)),
    ],
    "zh": [
        (rf"{ONE['zh']}在{ONE['zh']}的?{SIDE['zh']}。", (1, 3, 2)),
        (rf"{ONE['zh']}的?{SIDE['zh']}是{ONE['zh']}。", (3, 2, 1)),
    ],
}


def find(scene: list[dict[str, Any]], noun: str, language: str) -> dict[str, Any]:
    """The one object that the noun can mean."""
    (obj,) = [obj for obj in scene if (obj["colour"], obj["shape"]) == NOUNS[language][noun]]
    return obj


def seeded(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(scenes(), st.integers(0, 2**32 - 1), st.sampled_from(lang.LANGUAGES))
def test_every_relation_in_a_caption_is_true(scene: list[dict[str, Any]], seed: int, language: str) -> None:
    text = lang.caption(scene, seeded(seed), language)
    stop = "." if language == "en" else "。"
    listing, *sentences = [part.strip() + stop for part in text.split(stop) if part.strip()]
    for sentence in sentences:
        matches = [(re.search(pattern, sentence), order) for pattern, order in STATED[language]]
        ((match, order),) = [(match, order) for match, order in matches if match]
        a, side, b = (match[i] for i in order)
        assert further(find(scene, a, language), find(scene, b, language), WHERE[language][side]), sentence
    article = r"\ban? " if language == "en" else "一个"
    listed = [NOUNS[language][noun] for noun in re.findall(article + ONE[language], listing)]
    assert sorted(listed, key=str) == sorted(((o["colour"], o["shape"]) for o in scene), key=str), listing


def answer_is_true(scene: list[dict[str, Any]], question: str, answer: str, language: str) -> bool:
    """Reads one question and answer and decides from the positions alone."""
    shape_words = {word: shape for shape, words in lang.SHAPE_WORDS[language].items() for word in words}
    colour_words = {word: colour for colour, word in lang.COLOUR_WORDS[language].items()}
    mentioned = [m[0] for m in re.finditer(ONE[language], question)]
    side = {"left": "left", "左": "left", "right": "right", "右": "right", "front": "front", "前": "front"}
    side |= {"back": "behind", "后": "behind"}

    if match := re.search(r"(\d+) ?(?:cm|厘米)$", answer):
        a, b = (find(scene, noun, language) for noun in mentioned)
        return abs(100 * math.dist(a["position"], b["position"]) - int(match[1])) <= 0.5 + 1e-9
    if match := re.fullmatch(r"(\d+)个?", answer):
        if noun := re.search(
            alternatives([f"{c}{' ' * (language == 'en')}{o}" for c in colour_words for o in ("object", "物体")]),
            question,
        ):
            colour = colour_words[noun[0].split(" ")[0].removesuffix("物体")]
            return int(match[1]) == sum(o["colour"] == colour for o in scene)
        if "object" in question or "物体" in question:
            return int(match[1]) == len(scene)
        (shape,) = {shape_words[m] for m in re.findall(alternatives(shape_words), question)}
        return int(match[1]) == sum(o["shape"] == shape for o in scene)
    if answer in ("yes", "no", "是", "不是", "有", "没有"):
        said = answer in ("yes", "是", "有")
        if len(mentioned) == 1:
            return said == any((o["colour"], o["shape"]) == NOUNS[language][mentioned[0]] for o in scene)
        a, b = (find(scene, noun, language) for noun in mentioned)
        (where,) = re.findall(SIDE[language], question)
        return said == further(a, b, WHERE[language][where])
    if re.search("relative to|on which side of|哪一边|什么方向", question):
        where = {word.removesuffix(" of"): name for word, name in WHERE[language].items()}[answer]
        a, b = (find(scene, noun, language) for noun in mentioned)
        return further(b, a, where) if question.startswith("on which side") else further(a, b, where)
    if re.search("colour|颜色", question):
        (shape,) = {shape_words[m] for m in re.findall(alternatives(shape_words), question)}
        return [o["colour"] for o in scene if o["shape"] == shape] == [colour_words[answer]]
    if re.search("what shape|thing|形状|的东西", question):
        (colour,) = {colour_words[m] for m in re.findall(alternatives(colour_words), question)}
        return [o["shape"] for o in scene if o["colour"] == colour] == [shape_words[answer]]
    if re.search("nearest|closest|最近", question):
        a = find(scene, mentioned[0], language)
        nearest = min((o for o in scene if o is not a), key=lambda o: math.dist(a["position"], o["position"]))
        return (nearest["colour"], nearest["shape"]) == NOUNS[language][answer]
    (where,) = re.findall(r"(?:furthest|further|more) to the (\w+)" if language == "en" else "[更最]靠(.)", question)
    among = [find(scene, noun, language) for noun in mentioned] or scene
    first = [o for o in among if all(further(o, other, side[where]) for other in among if other is not o)]
    return [(o["colour"], o["shape"]) for o in first] == [NOUNS[language][answer]]


@given(scenes(), st.integers(0, 2**32 - 1), st.sampled_from(lang.LANGUAGES))
def test_every_answer_is_true(scene: list[dict[str, Any]], seed: int, language: str) -> None:
    for question, answer in lang.questions(scene, seeded(seed), language):
        assert answer_is_true(scene, question, answer, language), (question, answer)


TRIO = [
    make_object(("red", "cube"), (0.0, -0.1, 0.0), 0),
    make_object(("orange", "ball"), (0.0, 0.1, 0.0), 1),
    make_object((None, "plate"), (0.3, -0.1, 0.0), 2),
]


@pytest.mark.parametrize("language", lang.LANGUAGES)
def test_all_ten_kinds_of_question_are_asked(language: str) -> None:
    assert max(len(lang.questions(TRIO, seeded(seed), language)) for seed in range(50)) == 10


@pytest.mark.parametrize("language", lang.LANGUAGES)
def test_captions_vary_and_are_repeatable(language: str) -> None:
    captions = [lang.caption(TRIO, seeded(seed), language) for seed in range(200)]
    assert captions == [lang.caption(TRIO, seeded(seed), language) for seed in range(200)]
    assert len(set(captions)) > 150
    assert not any("的的" in text or "a orange" in text or "{" in text for text in captions)


def test_the_frame_is_the_viewers() -> None:
    cube, ball, plate = TRIO
    assert lang.relation(cube, ball) == "left" and lang.relation(ball, cube) == "right"
    assert lang.relation(plate, cube) == "front" and lang.relation(cube, plate) == "behind"


@given(st.tuples(coordinate, coordinate), st.tuples(coordinate, coordinate))
def test_relation_is_mirrored_and_keeps_its_margin(p: tuple[float, float], q: tuple[float, float]) -> None:
    a, b = make_object(KINDS[0], (*p, 0.0), 0), make_object(KINDS[1], (*q, 0.0), 1)
    name = lang.relation(a, b)
    assert lang.relation(b, a) == (None if name is None else lang.OPPOSITE[name])
    if name is not None:
        assert abs(p[SIGNED[name][0]] - q[SIGNED[name][0]]) >= lang.RELATION_MARGIN


def test_unclear_pairs_are_skipped() -> None:
    near = [make_object(("red", "cube"), (0.0, 0.0, 0.0), 0), make_object(("blue", "ball"), (0.01, 0.01, 0.0), 1)]
    twins = [make_object(("red", "cube"), (0.0, 0.0, 0.0), 0), make_object(("red", "cube"), (0.0, 0.3, 0.0), 1)]
    diagonal = [make_object(("red", "cube"), (0.0, 0.0, 0.0), 0), make_object(("blue", "ball"), (0.2, 0.2, 0.0), 1)]
    for scene in (near, twins, diagonal):
        for seed in range(30):
            text = lang.caption(scene, seeded(seed), "en")
            assert not any(word in text for word in lang.RELATION_WORDS["en"].values()), text
    for seed in range(30):
        assert not any("far" in q or "distance" in q for q, _ in lang.questions(twins, seeded(seed), "en"))


def test_phrase_prefers_the_canonical_noun() -> None:
    rng = seeded(0)
    said = [lang.phrase(TRIO[0], rng, "en") for _ in range(500)]
    assert set(said) == {"red cube", "red block"} and 300 < said.count("red cube") < 400
    assert {lang.phrase(TRIO[0], rng, "zh") for _ in range(100)} == {"红色方块", "红色的方块", "红色立方体"}


def test_fill_gives_a_chinese_noun_one_de() -> None:
    assert lang.fill("{a}的左边", a="红色的球") == "红色的球左边"
    assert lang.fill("{a}的左边", a="红色球") == "红色球的左边"


@pytest.mark.parametrize("write", [lang.caption, lang.questions])
@pytest.mark.parametrize(
    ("scene", "language", "message"),
    [
        (TRIO, "fr", "language: found 'fr'"),
        ([], "en", "scene: found no objects"),
        ([{"name": "a", "colour": "red", "shape": "cube"}], "en", r"scene\[0\]: field 'position' is missing"),
        ([{**TRIO[0], "position": [0.0, 1.0]}], "en", r"scene\[0\].position: found"),
        ([{**TRIO[0], "position": [0.0, 1.0, math.nan]}], "en", r"scene\[0\].position: found"),
        ([{**TRIO[0], "colour": "gren"}], "en", "colour: found 'gren'.*did you mean 'green'"),
        ([{**TRIO[0], "shape": "pyramid"}], "en", "shape: found 'pyramid'"),
    ],
)
def test_errors_name_the_field(write, scene: list[dict[str, Any]], language: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(scene, seeded(0), language)
