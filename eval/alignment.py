"""Whether words and pictures mean the same to a backbone: retrieval, classification, questions, on scenes never seen.

The scenes are those that a suite's episodes begin with. The words are about what the simulator knows of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from ..datasets.language import (
    LANGUAGES,
    RELATIONS,
    caption,
    clear_pairs,
    question,
    statement,
)
from ..envs.suites import suite_named
from ..policies.backbones.language import LanguageBackbone
from ..policies.backbones.modular import ModularBackbone
from ..policies.interfaces import SeeingBackbone
from ..policies.policy import Policy
from .config import EvalConfig
from .rollout import make_env
from .scenes import Scenes, gather_scenes
from .statistics import proportion
from .synonyms import judge_synonyms

RECALL_AT = (1, 5, 10)
KINDS_COMPARED = 10  # of objects: one that is there against nine that are not
QUESTIONS = ("colour", "shape", "count", "presence", "relation", "where", "further", "extreme", "nearest")


def alignment_of(folder: Path, config: EvalConfig) -> dict[str, Any]:
    """`judge_alignment` of a saved policy, on as many scenes as there would be episodes."""
    policy, suite = Policy.load(folder), suite_named(config.suite)
    require_seeing(policy)
    env = make_env(suite, policy)
    try:
        return judge_alignment(policy, gather_scenes(env, suite, tuple(policy.cameras), config.episodes))
    finally:
        env.close()


def judge_alignment(policy: Policy, scenes: Scenes, seed: int = 0) -> dict[str, Any]:
    """All of what follows, as nested numbers, for a policy whose backbone sees and reads.

    Raises ValueError for another.
    """
    backbone = require_seeing(policy)
    found: dict[str, Any] = {"scenes": len(scenes.objects)}
    for language in LANGUAGES:
        rng = np.random.default_rng([seed, LANGUAGES.index(language)])
        texts = [caption(objects, rng, language, max_relations=0) for objects in scenes.objects]
        found[f"retrieval_{language}"] = recall(backbone.compare(scenes.images, texts))
        found[f"objects_{language}"] = classify_objects(backbone, scenes, language, rng)
        found[f"relations_{language}"] = classify_relations(backbone, scenes, language, rng)
        found[f"questions_{language}"] = answer_questions(backbone, scenes, language, rng)
        if isinstance(backbone, ModularBackbone):
            found[f"synonyms_{language}"] = judge_synonyms(backbone, scenes, language, seed)
    return found


def require_seeing(policy: Policy) -> SeeingBackbone:
    """The policy's backbone; ValueError where it cannot compare pictures with words."""
    if not isinstance(policy.backbone, SeeingBackbone):
        raise ValueError(
            f"policy.backbone.kind: found {policy.config.backbone.kind!r}, wanted one that sees and reads: modular, "
            "compositional or fusion"
        )
    return policy.backbone


def recall(scores: Tensor) -> dict[str, float]:
    """R@k of images [N] against their own texts [N], and back: how often the own is among the k best of scores [N, N].

    A text that scores like the own counts as better: what says the same of everything finds nothing.
    """
    found = {"chance_at_1": 1 / len(scores)}
    for name, of in (("image_to_text", scores), ("text_to_image", scores.T)):
        rank = (of >= of.diagonal()[:, None]).sum(1)
        found |= {f"{name}_at_{k}": float((rank <= k).float().mean()) for k in RECALL_AT}
    return found


def classify_objects(
    backbone: SeeingBackbone, scenes: Scenes, language: str, rng: np.random.Generator
) -> dict[str, float]:
    """How often, of ten kinds of objects of which one is in the scene, that one's caption fits best."""
    kinds = sorted({(item["colour"], item["shape"]) for objects in scenes.objects for item in objects}, key=str)
    texts = [caption([_object(*kind)], rng, language, max_relations=0) for kind in kinds]
    scores = backbone.compare(scenes.images, texts)
    right = []
    for row, objects in enumerate(scenes.objects):
        there = {(item["colour"], item["shape"]) for item in objects}
        absent = [i for i, kind in enumerate(kinds) if kind not in there]
        if len(absent) < KINDS_COMPARED - 1:
            continue
        for own in (i for i, kind in enumerate(kinds) if kind in there):
            others = rng.choice(absent, KINDS_COMPARED - 1, replace=False)
            right.append(bool(scores[row, own] > scores[row, torch.from_numpy(others)].max()))
    return _accuracy(right, 1 / KINDS_COMPARED)


def classify_relations(
    backbone: SeeingBackbone, scenes: Scenes, language: str, rng: np.random.Generator
) -> dict[str, float]:
    """How often the true one of four statements fits best: A is left of, right of, in front of or behind B."""
    texts, truths = [], []
    for row, objects in enumerate(scenes.objects):
        pairs = clear_pairs(objects)
        if pairs:
            one, other, name = pairs[int(rng.integers(len(pairs)))]
            texts += [statement(one, other, relation, rng, language) for relation in RELATIONS]
            truths.append((row, RELATIONS.index(name)))
    scores, right, count = backbone.compare(scenes.images, texts), [], len(RELATIONS)
    for number, (row, truth) in enumerate(truths):
        own = scores[row, number * count : (number + 1) * count]
        right.append(bool(own[truth] > own[torch.arange(count) != truth].max()))
    return _accuracy(right, 1 / len(RELATIONS))


def answer_questions(
    backbone: SeeingBackbone, scenes: Scenes, language: str, rng: np.random.Generator
) -> dict[str, float]:
    """Share of questions with exactly the true answer, by kind and in all; `commonest` is what one answer for all gets.

    A language model says its answer. Others choose: of all answers that questions of a kind have here, the one that
    fits best after the question.
    """
    asked = [
        (kind, row, *asking)
        for kind in QUESTIONS
        for row, objects in enumerate(scenes.objects)
        if (asking := question(kind, objects, rng, language)) is not None
    ]
    given = (
        _say(backbone, scenes, asked) if isinstance(backbone, LanguageBackbone) else _choose(backbone, scenes, asked)
    )
    found, guessed = {}, 0
    for kind in QUESTIONS:
        rows = [i for i, item in enumerate(asked) if item[0] == kind]
        truths = Counter(asked[i][3] for i in rows)
        guessed += max(truths.values(), default=0)
        if rows:
            found[kind] = sum(given[i] == asked[i][3] for i in rows) / len(rows)
    right = [given[i] == asked[i][3] for i in range(len(asked))]
    return {**_accuracy(right, guessed / max(1, len(asked)), "commonest"), **found}


def _say(backbone: LanguageBackbone, scenes: Scenes, asked: Sequence[tuple[str, int, str, str]]) -> list[str]:
    said = []
    for start in range(0, len(asked), 64):
        part = asked[start : start + 64]
        rows = torch.tensor([row for _, row, _, _ in part])
        images = {camera: x[rows] for camera, x in scenes.images.items()}
        said += backbone.answer(images, [text for _, _, text, _ in part], 16)
    return said


def _choose(backbone: SeeingBackbone, scenes: Scenes, asked: Sequence[tuple[str, int, str, str]]) -> list[str]:
    chosen = []
    for kind, row, text, _ in asked:
        options = sorted({answer for other, _, _, answer in asked if other == kind})
        images = {camera: x[row : row + 1] for camera, x in scenes.images.items()}
        scores = backbone.compare(images, [f"{text} {option}" for option in options])[0]
        chosen.append(options[int(scores.argmax())])
    return chosen


def _object(colour: str | None, shape: str) -> dict[str, Any]:
    return {"colour": colour, "shape": shape, "position": (0.0, 0.0, 0.0)}


def show_alignment(found: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what `judge_alignment` found as a table."""
    table = Table(title=f"{found['scenes']} scenes that no demonstration has shown")
    for column in ("", *LANGUAGES, "by chance"):
        table.add_column(column, justify="right" if column else "left")

    def row(name: str, test: str, key: str, chance: str) -> None:
        results = [found[f"{test}_{language}"] for language in LANGUAGES]
        cells = (f"{result[key]:.1%}" if key in result else "-" for result in results)
        table.add_row(name, *cells, f"{results[0][chance]:.1%}")

    for direction in ("image_to_text", "text_to_image"):
        for k in RECALL_AT:
            table.add_row(
                f"{direction.replace('_', ' ')}, R@{k}",
                *(f"{found[f'retrieval_{language}'][f'{direction}_at_{k}']:.1%}" for language in LANGUAGES),
                f"{k / found['scenes']:.1%}",
            )
    row("objects: one of ten", "objects", "accuracy", "chance")
    row("relations: one of four", "relations", "accuracy", "chance")
    row("questions", "questions", "accuracy", "commonest")
    (console or Console()).print(table)


def _accuracy(right: Sequence[bool], chance: float, name: str = "chance") -> dict[str, Any]:
    """The share that is right, with its interval; neither where nothing could be asked of so few scenes."""
    found = {"asked": len(right), name: chance}
    if not right:
        return found
    rate = proportion(sum(right), len(right))
    return {"accuracy": rate.rate, "ci95": [rate.low, rate.high], **found}
