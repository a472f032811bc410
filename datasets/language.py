"""Noun phrases, captions and questions made from simulator truth, in English and Chinese.

A scene is a sequence of objects ``{"name", "colour" (str or None), "shape", "position": [x, y, z] in metres}``. Every
statement is true of the positions that are handed in, so hand in those of the moment the image was taken.

Words are in the viewer's frame of the front camera, which looks at the robot: left is world -y, right is +y, in front
of (nearer the camera) is +x, behind is -x. A relation is stated only when it is clear by a margin; unclear pairs are
passed over.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

LANGUAGES = ("en", "zh")
RELATION_MARGIN = 0.03  # metres: about half an object; below it two viewers would disagree
CANONICAL_SHARE = 0.7  # how often the canonical noun is drawn when synonyms exist

COLOUR_WORDS: dict[str, dict[str, str]] = {
    "en": {name: name for name in ("red", "green", "blue", "yellow", "purple", "orange")},
    "zh": {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "purple": "紫色", "orange": "橙色"},
}
# The first word is the canonical one.
SHAPE_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "cube": ("cube", "block"),
        "cylinder": ("cylinder", "can"),
        "ball": ("ball", "sphere"),
        "plate": ("plate",),
        "bowl": ("bowl",),
    },
    "zh": {
        "cube": ("方块", "立方体"),
        "cylinder": ("圆柱", "圆柱体"),
        "ball": ("球", "圆球"),
        "plate": ("盘子",),
        "bowl": ("碗",),
    },
}
RELATIONS = ("left", "right", "front", "behind")
RELATION_WORDS: dict[str, dict[str, str]] = {
    "en": {"left": "to the left of", "right": "to the right of", "front": "in front of", "behind": "behind"},
    "zh": {"left": "左边", "right": "右边", "front": "前面", "behind": "后面"},
}
OPPOSITE = {"left": "right", "right": "left", "front": "behind", "behind": "front"}
TOWARDS = {"left": (1, -1.0), "right": (1, 1.0), "front": (0, 1.0), "behind": (0, -1.0)}  # relation -> (axis, sign)

_LISTINGS = {
    "en": (
        "there is {things} on the table.",
        "i see {things}.",
        "a table with {things}.",
        "the scene shows {things}.",
        "on the table: {things}.",
        "the camera sees {things}.",
    ),
    "zh": (
        "桌上有{things}。",
        "桌子上放着{things}。",
        "图中有{things}。",
        "画面里可以看到{things}。",
        "我看到{things}。",
        "桌面上摆着{things}。",
    ),
}
_STATEMENTS = {
    "en": ("the {a} is {where} the {b}.", "{where} the {b} is the {a}.", "you can see the {a} {where} the {b}."),
    "zh": ("{a}在{b}的{where}。", "{b}的{where}是{a}。", "可以看到{a}在{b}的{where}。"),
}
_QUESTIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "colour": ("what colour is the {shape}?", "which colour does the {shape} have?"),
        "shape": ("what shape is the {colour} object?", "what is the {colour} thing?"),
        "count": ("how many {things} are there?", "how many {things} are on the table?"),
        "presence": ("is there {one} on the table?", "can you see {one}?"),
        "relation": ("is the {a} {where} the {b}?", "can you see the {a} {where} the {b}?"),
        "where": ("where is the {a} relative to the {b}?", "on which side of the {b} is the {a}?"),
        "further": (
            "which is further to the {side}, the {a} or the {b}?",
            "the {a} or the {b}: which is more to the {side}?",
        ),
        "extreme": ("which object is furthest to the {side}?", "what is the object furthest to the {side}?"),
        "nearest": ("which object is nearest to the {a}?", "what is closest to the {a}?"),
        "distance": ("how far is the {a} from the {b}?", "what is the distance between the {a} and the {b}?"),
    },
    "zh": {
        "colour": ("{shape}是什么颜色的？", "{shape}的颜色是什么？"),
        "shape": ("{colour}物体是什么形状？", "{colour}的东西是什么？"),
        "count": ("有几个{things}？", "桌上有多少个{things}？"),
        "presence": ("桌上有{a}吗？", "桌上有没有{a}？"),
        "relation": ("{a}在{b}的{where}吗？", "{a}是在{b}的{where}吗？"),
        "where": ("{a}在{b}的哪一边？", "{a}在{b}的什么方向？"),
        "further": ("{a}和{b}，哪个更靠{side}？", "哪个更靠{side}，{a}还是{b}？"),
        "extreme": ("哪个物体最靠{side}？", "最靠{side}的物体是什么？"),
        "nearest": ("离{a}最近的是什么？", "哪个物体离{a}最近？"),
        "distance": ("{a}离{b}有多远？", "{a}和{b}之间的距离是多少？"),
    },
}
_YES_NO = {"en": ("yes", "no"), "zh": ("是", "不是")}
_PRESENT_ABSENT = {"en": ("yes", "no"), "zh": ("有", "没有")}
_CENTIMETRES = {"en": "{cm} cm", "zh": "{cm}厘米"}
ANY_OBJECT = {"en": "object", "zh": "物体"}
SIDE_WORDS = {
    "en": {"left": "left", "right": "right", "front": "front", "behind": "back"},
    "zh": {"left": "左", "right": "右", "front": "前", "behind": "后"},
}

ORDINALS = {
    "en": ("first", "second", "third", "fourth", "fifth", "sixth", "seventh"),
    "zh": ("一", "二", "三", "四", "五", "六", "七"),
}

SceneObject = Mapping[str, Any]
Scene = Sequence[SceneObject]
QuestionAnswer = tuple[str, str]


def language_of(text: str) -> str:
    """ "zh" where a text has a Chinese character, else "en"."""
    return "zh" if any("\u2e80" <= letter <= "\uffef" for letter in text) else "en"


def check_language(language: str) -> None:
    """Raise ValueError unless ``language`` is one of `LANGUAGES`."""
    if language not in LANGUAGES:
        raise ValueError(f"language: found {language!r}, wanted one of {', '.join(LANGUAGES)}")


def check_word(field: str, found: object, wanted: Sequence[str]) -> None:
    """Raise ValueError unless ``found`` is one of ``wanted``; the message names the nearest valid word."""
    if found in wanted:
        return
    close = difflib.get_close_matches(str(found), wanted, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    options = f"one of {', '.join(wanted)}" if len(wanted) <= 30 else f"one of {len(wanted)} names, such as {wanted[0]}"
    raise ValueError(f"{field}: found {found!r}, wanted {options}{hint}")


def pick(rng: np.random.Generator, options: Sequence[Any]) -> Any:
    """One of the options, uniformly (unlike ``rng.choice`` it keeps the Python type)."""
    return options[int(rng.integers(len(options)))]


def pick_noun(rng: np.random.Generator, options: Sequence[str]) -> str:
    """One of the noun phrases; the first one, the canonical one, is the most common."""
    if len(options) == 1 or rng.random() < CANONICAL_SHARE:
        return options[0]
    return pick(rng, options[1:])


def noun_phrases(colour: str | None, shape: str, language: str) -> tuple[str, ...]:
    """All noun phrases without article for an object, canonical first: ``("red cube", "red block")``.

    Raises ValueError for a language, colour or shape that has no words.
    """
    check_language(language)
    check_word("shape", shape, tuple(SHAPE_WORDS[language]))
    nouns = SHAPE_WORDS[language][shape]
    if colour is None:
        return nouns
    check_word("colour", colour, tuple(COLOUR_WORDS[language]))
    word = COLOUR_WORDS[language][colour]
    if language == "en":
        return tuple(f"{word} {noun}" for noun in nouns)
    return (f"{word}{nouns[0]}", f"{word}的{nouns[0]}", *(f"{word}{noun}" for noun in nouns[1:]))


def fill(template: str, **words: str) -> str:
    """The template with its words. A Chinese noun with 的 takes no second: 红色的球 and 的左边 make 红色的球左边."""
    text = template.format(**words)
    for word in words.values():
        if "的" in word:
            text = text.replace(f"{word}的", word)
    return text


def phrase(obj: SceneObject, rng: np.random.Generator, language: str) -> str:
    """A noun phrase without article for one object (keys ``colour`` and ``shape``): ``"red block"``."""
    return pick_noun(rng, _names(obj, language))


def relation(a: SceneObject, b: SceneObject, margin: float = RELATION_MARGIN) -> str | None:
    """Where a is, seen from b: one of `RELATIONS`, or None when neither axis leads the other by ``margin`` metres."""
    offset = [_offset(a, b, 0), _offset(a, b, 1)]
    axis = 0 if abs(offset[0]) > abs(offset[1]) else 1
    if abs(offset[axis]) - abs(offset[1 - axis]) < margin or offset[axis] == 0:
        return None
    return next(name for name, (along, sign) in TOWARDS.items() if along == axis and sign * offset[axis] > 0)


def caption(
    scene: Scene, rng: np.random.Generator, language: str, margin: float = RELATION_MARGIN, max_relations: int = 2
) -> str:
    """A caption that lists every object in random order, then states 0 to ``max_relations`` true spatial relations.

    Raises ValueError for an empty scene, or an object with a missing field or an unknown word.
    """
    _check_scene(scene, language)
    order = [scene[i] for i in rng.permutation(len(scene))]
    template = pick(rng, _LISTINGS[language])
    sentences = [template.format(things=_listing([phrase(obj, rng, language) for obj in order], language))]
    pairs = clear_pairs(scene, margin)
    count = min(int(rng.integers(max_relations + 1)), len(pairs))
    for i in rng.permutation(len(pairs))[:count]:
        a, b, name = pairs[i]
        sentences.append(statement(a, b, name, rng, language))
    return (" " if language == "en" else "").join(sentences)


def caption_in_two_ways(scene: Scene, rng: np.random.Generator, language: str) -> tuple[str, str]:
    """One listing of every object, by its first and by its second name: "红色方块" and "红色的方块", "red cube" and
    "red block". Nothing else differs. Raises ValueError as `caption` does.
    """
    _check_scene(scene, language)
    names = [_names(scene[i], language) for i in rng.permutation(len(scene))]
    template = pick(rng, _LISTINGS[language])
    first, second = (
        template.format(things=_listing([nouns[min(way, len(nouns) - 1)] for nouns in names], language))
        for way in (0, 1)
    )
    return first, second


def statement(a: SceneObject, b: SceneObject, name: str, rng: np.random.Generator, language: str) -> str:
    """A sentence that says that a is in the relation ``name`` (`RELATIONS`) to b, whether it is or not."""
    words = {"a": phrase(a, rng, language), "b": phrase(b, rng, language), "where": RELATION_WORDS[language][name]}
    return fill(pick(rng, _STATEMENTS[language]), **words)


def question(
    kind: str, scene: Scene, rng: np.random.Generator, language: str, margin: float = RELATION_MARGIN
) -> QuestionAnswer | None:
    """A question of one kind (`QUESTION_KINDS`) and its answer; None where the scene cannot answer it without doubt.

    Raises ValueError as `caption` does, and for an unknown kind.
    """
    _check_scene(scene, language)
    check_word("kind", kind, QUESTION_KINDS)
    return _KINDS[kind](scene, rng, language, margin)


def questions(
    scene: Scene, rng: np.random.Generator, language: str, margin: float = RELATION_MARGIN
) -> list[QuestionAnswer]:
    """Questions and their true answers about a scene: at most one of each kind, in random order.

    Kinds: colour, shape, count, presence, relation (yes or no), where, further (of two), extreme (of all), nearest,
    distance. A kind that the scene cannot answer without doubt (two objects of one name, a tie within ``margin``
    metres) is left out. Distances are between object centres, to the nearest centimetre.
    Raises ValueError as `caption` does.
    """
    _check_scene(scene, language)
    asked = [ask(scene, rng, language, margin) for ask in _KINDS.values()]
    answered = [item for item in asked if item is not None]
    return [answered[i] for i in rng.permutation(len(answered))]


def _check_scene(scene: Scene, language: str) -> None:
    check_language(language)
    if not scene:
        raise ValueError("scene: found no objects, wanted at least one")
    for index, obj in enumerate(scene):
        for field in ("colour", "shape", "position"):
            if field not in obj:
                raise ValueError(f"scene[{index}]: field {field!r} is missing, found {sorted(obj)}")
        _names(obj, language)
        position = obj["position"]
        if len(position) != 3 or not all(math.isfinite(value) for value in position):
            raise ValueError(f"scene[{index}].position: found {position}, wanted 3 finite numbers in metres")


def _names(obj: SceneObject, language: str) -> tuple[str, ...]:
    return noun_phrases(obj["colour"], obj["shape"], language)


def _offset(a: SceneObject, b: SceneObject, axis: int) -> float:
    return float(a["position"][axis]) - float(b["position"][axis])


def _distance(a: SceneObject, b: SceneObject) -> float:
    return math.dist(a["position"], b["position"])


def _only_ones(scene: Scene, *fields: str) -> list[SceneObject]:
    """The objects that share their values of ``fields`` with no other object of the scene."""
    keys = [tuple(obj[field] for field in fields) for obj in scene]
    return [obj for obj, key in zip(scene, keys, strict=True) if keys.count(key) == 1]


def clear_pairs(scene: Scene, margin: float = RELATION_MARGIN) -> list[tuple[SceneObject, SceneObject, str]]:
    """Two objects whose names are their own, and the relation (`RELATIONS`) that they clearly are in: a, b, it."""
    named = _only_ones(scene, "colour", "shape")
    found = ((a, b, relation(a, b, margin)) for a in named for b in named if a is not b)
    return [(a, b, name) for a, b, name in found if name is not None]


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _listing(nouns: Sequence[str], language: str) -> str:
    if language == "en":
        nouns, comma, last = [_with_article(noun) for noun in nouns], ", ", " and "
    else:
        nouns, comma, last = [f"一个{noun}" for noun in nouns], "、", "和"
    return comma.join(nouns[:-1]) + last + nouns[-1] if len(nouns) > 1 else nouns[0]


def _question(kind: str, rng: np.random.Generator, language: str, **words: str) -> str:
    return fill(pick(rng, _QUESTIONS[language][kind]), **words)


def _ask_colour(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer | None:
    options = [obj for obj in _only_ones(scene, "shape") if obj["colour"] is not None]
    if not options:
        return None
    obj = pick(rng, options)
    shape = pick_noun(rng, SHAPE_WORDS[language][obj["shape"]])
    return _question("colour", rng, language, shape=shape), COLOUR_WORDS[language][obj["colour"]]


def _ask_shape(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer | None:
    options = [obj for obj in _only_ones(scene, "colour") if obj["colour"] is not None]
    if not options:
        return None
    obj = pick(rng, options)
    colour = COLOUR_WORDS[language][obj["colour"]]
    return _question("shape", rng, language, colour=colour), SHAPE_WORDS[language][obj["shape"]][0]


def _ask_count(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer:
    field = pick(rng, ("colour", "shape", "all"))
    if field == "shape":
        value = pick(rng, tuple(SHAPE_WORDS[language]))
        noun = pick_noun(rng, SHAPE_WORDS[language][value])
    elif field == "colour":
        value = pick(rng, tuple(COLOUR_WORDS[language]))
        noun = COLOUR_WORDS[language][value] + (" " if language == "en" else "") + ANY_OBJECT[language]
    else:
        value, noun = None, ANY_OBJECT[language]
    count = len(scene) if value is None else sum(obj[field] == value for obj in scene)
    things = f"{noun}s" if language == "en" else noun
    return _question("count", rng, language, things=things), str(count) if language == "en" else f"{count}个"


def _ask_presence(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer:
    present = sorted({(obj["colour"], obj["shape"]) for obj in scene}, key=str)
    coloured = ((colour, shape) for colour in COLOUR_WORDS[language] for shape in ("cube", "cylinder", "ball"))
    absent = [pair for pair in (*coloured, (None, "plate"), (None, "bowl")) if pair not in present]
    there = not absent or rng.random() < 0.5
    colour, shape = pick(rng, present if there else absent)
    noun = pick_noun(rng, noun_phrases(colour, shape, language))
    return _question("presence", rng, language, a=noun, one=_with_article(noun)), _PRESENT_ABSENT[language][
        0 if there else 1
    ]


def _ask_relation(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer | None:
    pairs = clear_pairs(scene, margin)
    if not pairs:
        return None
    a, b, name = pick(rng, pairs)
    true = rng.random() < 0.5
    where = RELATION_WORDS[language][name if true else OPPOSITE[name]]
    words = {"a": phrase(a, rng, language), "b": phrase(b, rng, language), "where": where}
    return _question("relation", rng, language, **words), _YES_NO[language][0 if true else 1]


def _ask_where(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer | None:
    pairs = clear_pairs(scene, margin)
    if not pairs:
        return None
    a, b, name = pick(rng, pairs)
    answer = RELATION_WORDS[language][name].removesuffix(" of")
    return _question("where", rng, language, a=phrase(a, rng, language), b=phrase(b, rng, language)), answer


def _ask_further(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer | None:
    named = _only_ones(scene, "colour", "shape")
    side = pick(rng, RELATIONS)
    axis, sign = TOWARDS[side]
    pairs = [(a, b) for a in named for b in named if a is not b and sign * _offset(a, b, axis) >= margin]
    if not pairs:
        return None
    further, other = pick(rng, pairs)
    a, b = (further, other) if rng.random() < 0.5 else (other, further)
    words = {"a": phrase(a, rng, language), "b": phrase(b, rng, language), "side": SIDE_WORDS[language][side]}
    return _question("further", rng, language, **words), _names(further, language)[0]


def _ask_extreme(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer | None:
    side = pick(rng, RELATIONS)
    axis, sign = TOWARDS[side]
    ranked = sorted(scene, key=lambda obj: -sign * float(obj["position"][axis]))
    if len(ranked) < 2 or abs(_offset(ranked[0], ranked[1], axis)) < margin:
        return None
    return _question("extreme", rng, language, side=SIDE_WORDS[language][side]), _names(ranked[0], language)[0]


def _ask_nearest(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer | None:
    named = _only_ones(scene, "colour", "shape")
    if not named:
        return None
    a = pick(rng, named)
    ranked = sorted((obj for obj in scene if obj is not a), key=lambda obj: _distance(a, obj))
    if len(ranked) < 2 or _distance(a, ranked[1]) - _distance(a, ranked[0]) < margin:
        return None
    return _question("nearest", rng, language, a=phrase(a, rng, language)), _names(ranked[0], language)[0]


def _ask_distance(scene: Scene, rng: np.random.Generator, language: str, margin: float) -> QuestionAnswer | None:
    named = _only_ones(scene, "colour", "shape")
    if len(named) < 2:
        return None
    a, b = (named[i] for i in rng.permutation(len(named))[:2])
    answer = _CENTIMETRES[language].format(cm=round(100 * _distance(a, b)))
    return _question("distance", rng, language, a=phrase(a, rng, language), b=phrase(b, rng, language)), answer


_KINDS: dict[str, Callable[[Scene, np.random.Generator, str, float], QuestionAnswer | None]] = {
    "colour": _ask_colour,
    "shape": _ask_shape,
    "count": _ask_count,
    "presence": _ask_presence,
    "relation": _ask_relation,
    "where": _ask_where,
    "further": _ask_further,
    "extreme": _ask_extreme,
    "nearest": _ask_nearest,
    "distance": _ask_distance,
}
QUESTION_KINDS = tuple(_KINDS)
LASTING_KINDS = ("colour", "shape", "count", "presence")  # true wherever the objects are moved to
