"""Documents about a picture, from the simulator's truth: captions, questions with answers, places of what is named.

A place is two tokens, `<p12><p40>`: how far right and how far down in the picture, in `PLACES` steps; `<none>` says
that nothing there has that name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .language import LANGUAGES, LASTING_KINDS, QUESTION_KINDS, Scene, SceneObject, caption, phrase, pick, question
from .subgoals import ask

PLACES = 64
NOWHERE = "<none>"
PLACE_TOKENS = (NOWHERE, *(f"<p{place:02d}>" for place in range(PLACES)))
LEAST_PIXELS = 3  # of an object that counts as seen
SUBGOAL = "subgoal"
KINDS = {"caption": 0.2, "question": 0.3, "place": 0.5}  # how often each is drawn
KINDS_WITH_SUBGOALS = {**KINDS, SUBGOAL: 0.5}
DESCRIBE = {"en": ("describe the scene.", "what do you see?"), "zh": ("描述这个场景。", "你看到了什么？")}
_WHERE = {"en": ("point to the {thing}.", "where is the {thing}?"), "zh": ("指出{thing}。", "{thing}在哪里？")}
_REQUEST = {"en": "what to take for: {text}", "zh": "要拿什么：{text}"}


@dataclass(frozen=True)
class Document:
    """A text about a picture: what is given, and what is to be said.

    Attributes:
        kind: one of `KINDS_WITH_SUBGOALS`.
        prompt: given.
        answer: to be said.
    """

    kind: str
    prompt: str
    answer: str


def place_text(place: tuple[float, float] | None) -> str:
    """A place (u, v) in [0, 1], right and down, as two tokens; None as `NOWHERE`."""
    if place is None:
        return NOWHERE
    return "".join(f"<p{min(PLACES - 1, max(0, int(share * PLACES))):02d}>" for share in place)


def read_place(text: str) -> tuple[float, float] | None:
    """The middle of the place that a text of two tokens names; None for anything else."""
    tokens = [f"<{part}" for part in text.replace(" ", "").split("<")[1:]]
    if len(tokens) != 2 or not all(token in PLACE_TOKENS[1:] for token in tokens):
        return None
    u, v = ((int(token[2:4]) + 0.5) / PLACES for token in tokens)
    return u, v


def seen_place(segmentation: np.ndarray, label: int) -> tuple[float, float] | None:
    """Middle (u, v) in [0, 1] of the pixels of a label in uint8 [H, W]; None where it has next to none."""
    rows, columns = np.nonzero(segmentation == label)
    if len(rows) < LEAST_PIXELS:
        return None
    height, width = segmentation.shape
    return float(columns.mean() + 0.5) / width, float(rows.mean() + 0.5) / height


def write_documents(
    scene: Scene,
    segmentation: np.ndarray,
    requests: Sequence[tuple[str, int]],
    absent: Sequence[SceneObject],
    still: bool,
    count: int,
    rng: np.random.Generator,
    kinds: Mapping[str, float] = KINDS,
    doing: tuple[str, str] | None = None,
) -> list[Document]:
    """Documents about one picture, of random kinds in random languages.

    Args:
        scene: its objects; object i has label i + 1.
        segmentation: uint8 [H, W] of the picture.
        requests: instructions that could be given in it, and the label of the object that each is about.
        absent: objects (colour, shape) that are not in the scene, to be asked for too.
        still: whether the objects are where `scene` says; without it nothing is asked that moving them changes.
        count: how many.
        rng: of every choice.
        kinds: how often each is drawn, in proportion.
        doing: the instruction that is being carried out, and the sub-goal of the instant.

    Raises ValueError for kinds that there are not (`KINDS`, and `SUBGOAL` where it is known what is being done), a
    negative share, or none above 0.
    """
    known = KINDS_WITH_SUBGOALS if doing else KINDS
    if not set(kinds) <= set(known) or min(kinds.values(), default=0) < 0 or not sum(kinds.values()) > 0:
        raise ValueError(f"kinds of documents: found {dict(kinds)}, wanted shares of {', '.join(known)}, one above 0")
    drawn = rng.choice(list(kinds), size=count, p=np.array(list(kinds.values())) / sum(kinds.values()))
    return [
        Document(SUBGOAL, ask(doing[0]), doing[1])
        if doing and kind == SUBGOAL
        else _document(str(kind), scene, segmentation, requests, absent, still, rng)
        for kind in drawn
    ]


def _document(
    kind: str,
    scene: Scene,
    segmentation: np.ndarray,
    requests: Sequence[tuple[str, int]],
    absent: Sequence[SceneObject],
    still: bool,
    rng: np.random.Generator,
) -> Document:
    language = pick(rng, LANGUAGES)
    if kind == "question":
        for which in rng.permutation(QUESTION_KINDS if still else LASTING_KINDS):
            asked = question(str(which), scene, rng, language)
            if asked is not None:
                return Document(kind, *asked)
    if kind != "place":
        said = caption(scene, rng, language, max_relations=2 if still else 0)
        return Document("caption", pick(rng, DESCRIBE[language]), said)
    if requests and rng.random() < 0.5:
        text, label = pick(rng, requests)
        return Document(kind, _REQUEST[language].format(text=text), place_text(seen_place(segmentation, label)))
    if absent and rng.random() < 0.2:
        prompt = pick(rng, _WHERE[language]).format(thing=phrase(pick(rng, absent), rng, language))
        return Document(kind, prompt, NOWHERE)
    kinds = [(item["colour"], item["shape"]) for item in scene]
    row = pick(rng, [i for i, own in enumerate(kinds) if kinds.count(own) == 1] or [None])
    if row is None:  # no name here means one thing alone
        return Document("caption", pick(rng, DESCRIBE[language]), caption(scene, rng, language, max_relations=0))
    prompt = pick(rng, _WHERE[language]).format(thing=phrase(scene[row], rng, language))
    return Document(kind, prompt, place_text(seen_place(segmentation, row + 1)))
