"""Retrieval, classification and questions: what knows the scenes scores in full, what is blind scores by chance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from deixis.cli import main
from deixis.datasets.language import COLOUR_WORDS, clear_pairs, language_of, noun_phrases, question
from deixis.envs.suites import suite_named
from deixis.eval.alignment import (
    answer_questions,
    classify_objects,
    classify_relations,
    judge_alignment,
    recall,
    show_alignment,
)
from deixis.eval.rollout import make_env
from deixis.eval.scenes import Scenes, gather_scenes
from deixis.policies.interfaces import SeeingBackbone
from deixis.policies.policy import Policy

SUITE = suite_named("tabletop-demo")


@pytest.fixture(scope="module")
def scenes(policy_folder: Path) -> Scenes:
    policy = Policy.load(policy_folder)
    env = make_env(SUITE, policy)
    found = gather_scenes(env, SUITE, tuple(policy.cameras), 24)
    env.close()
    return found


KINDS = [(colour, shape) for colour in COLOUR_WORDS["en"] for shape in ("cube", "cylinder", "ball")]
KINDS += [(None, "plate"), (None, "bowl")]


class Knowing(SeeingBackbone):
    """Knows each picture's scene; a text fits as far as the things it names are there, a relation where it is."""

    def __init__(self, scenes: Scenes) -> None:
        super().__init__()
        self.camera = next(iter(scenes.images))
        pictures = [x.numpy().tobytes() for x in scenes.images[self.camera]]
        self.known = dict(zip(pictures, scenes.objects, strict=True))

    def compare(self, images: Mapping[str, Tensor], texts: Sequence[str]) -> Tensor:
        rows = [self.known[x.numpy().tobytes()] for x in images[self.camera]]
        return torch.tensor([[self.fit(objects, text) for text in texts] for objects in rows])

    def fit(self, objects: Sequence[Mapping], text: str) -> float:
        if "|" in text:
            one, said, other = text.split("|")
            return float(any((a["name"], name, b["name"]) == (one, said, other) for a, b, name in clear_pairs(objects)))
        there = {(item["colour"], item["shape"]) for item in objects}
        language = language_of(text)
        named = {kind for kind in KINDS if any(noun in text for noun in noun_phrases(*kind, language))}
        return len(named & there) / max(1, len(named)) + len(named & there) / max(1, len(named | there))


class Blind(SeeingBackbone):
    """Says the same of every picture."""

    def compare(self, images: Mapping[str, Tensor], texts: Sequence[str]) -> Tensor:
        count = len(next(iter(images.values())))
        return torch.tensor([[float(len(text) % 7) for text in texts]] * count)


def test_recall_is_counted_from_ranks_and_ties_do_not_help() -> None:
    scores = torch.tensor([[3.0, 2.0, 1.0], [5.0, 4.0, 0.0], [9.0, 8.0, 7.0]])
    found = recall(scores)
    assert found["image_to_text_at_1"] == pytest.approx(1 / 3), "ranks 1, 2 and 3"
    assert found["image_to_text_at_5"] == 1.0
    assert found["text_to_image_at_1"] == pytest.approx(1 / 3), "ranks 3, 2 and 1"
    assert found["chance_at_1"] == pytest.approx(1 / 3)
    same = recall(torch.zeros(20, 20))
    assert same["image_to_text_at_1"] == same["image_to_text_at_10"] == same["text_to_image_at_5"] == 0.0


def test_scenes_differ_in_what_is_there_and_are_those_of_the_episodes(scenes: Scenes) -> None:
    kinds = [tuple(sorted((str(item["colour"]), item["shape"]) for item in objects)) for objects in scenes.objects]
    assert len(set(kinds)) == 24
    assert {len(x) for x in scenes.images.values()} == {24}


def test_more_scenes_than_there_are_is_an_error_and_not_a_wait(scenes: Scenes) -> None:
    class OneScene(gymnasium.Env):
        def reset(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            return {"camera.front": np.zeros((4, 4, 3))}, {"scene": scenes.objects[0]}

    assert len(gather_scenes(OneScene(), SUITE, ["front"], 1).objects) == 1
    with pytest.raises(ValueError, match="found 1 scenes with different objects, wanted 2; ask for fewer"):
        gather_scenes(OneScene(), SUITE, ["front"], 2)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_knows_the_scenes_scores_in_full_and_what_is_blind_by_chance(
    scenes: Scenes, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    knowing, blind = Knowing(scenes), Blind()

    def rng() -> np.random.Generator:
        return np.random.default_rng(0)

    assert classify_objects(knowing, scenes, language, rng())["accuracy"] == 1.0
    objects = classify_objects(blind, scenes, language, rng())
    assert objects["chance"] == 0.1 and objects["accuracy"] < 0.25 and objects["asked"] > 60
    relations = classify_relations(blind, scenes, language, rng())
    assert relations["chance"] == 0.25 and relations["accuracy"] < 0.55 and relations["asked"] > 10

    def plainly(a: Mapping, b: Mapping, name: str, rng: np.random.Generator, language: str) -> str:
        return f"{a['name']}|{name}|{b['name']}"

    monkeypatch.setattr("deixis.eval.alignment.statement", plainly)
    assert classify_relations(knowing, scenes, language, rng())["accuracy"] == 1.0


def test_answers_are_compared_with_the_best_single_answer(scenes: Scenes, monkeypatch: pytest.MonkeyPatch) -> None:
    truths = {}
    for kind in ("colour", "count", "where"):
        for row, objects in enumerate(scenes.objects):
            asked = question(kind, objects, np.random.default_rng(row), "en")
            if asked:
                truths[kind, row] = asked

    def ask(kind: str, objects: Sequence[Mapping], rng: np.random.Generator, language: str) -> tuple[str, str] | None:
        return truths.get((kind, scenes.objects.index(objects)))

    monkeypatch.setattr("deixis.eval.alignment.question", ask)

    class Answering(Knowing):
        def fit(self, objects: Sequence[Mapping], text: str) -> float:
            row = scenes.objects.index(objects)
            return float(any(text == f"{asked} {answer}" for (_, r), (asked, answer) in truths.items() if r == row))

    found = answer_questions(Answering(scenes), scenes, "en", np.random.default_rng(0))
    assert found["accuracy"] == found["colour"] == found["where"] == 1.0
    assert found["asked"] == len(truths)
    commonest = 0
    for kind in ("colour", "count", "where"):
        answers = [answer for (k, _), (_, answer) in truths.items() if k == kind]
        commonest += max(answers.count(answer) for answer in answers)
    assert found["commonest"] == pytest.approx(commonest / len(truths))
    assert "further" not in found


def test_an_untrained_policy_is_judged_and_shown(policy_folder: Path, scenes: Scenes) -> None:
    found = judge_alignment(Policy.load(policy_folder), scenes)
    assert found["scenes"] == 24
    directions = [f"{name}_at_{k}" for name in ("image_to_text", "text_to_image") for k in (1, 5, 10)]
    assert set(found["retrieval_zh"]) == {"chance_at_1", *directions}
    assert found["objects_en"]["accuracy"] < 0.5
    show_alignment(found, console := Console(record=True, width=100))
    assert "text to image, R@10" in console.export_text()


def test_too_few_scenes_to_choose_among_leave_the_accuracy_out(policy_folder: Path, scenes: Scenes) -> None:
    few = Scenes({camera: x[:2] for camera, x in scenes.images.items()}, scenes.objects[:2])
    found = judge_alignment(Policy.load(policy_folder), few)
    assert found["objects_en"] == {"asked": 0, "chance": 0.1}
    show_alignment(found, console := Console(record=True, width=100))
    assert next(line for line in console.export_text().splitlines() if "objects" in line).count(" - ") == 2


def test_the_command_writes_a_record(policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "retrieval.json"
    command = ["eval", str(policy_folder), "--alignment", "--eval.episodes", "12", "--out", str(tmp_path / "run")]
    assert main([*command, "--json", str(record)]) == 0
    written = json.loads(record.read_text())
    assert written["name"] == "retrieval" and written["metrics"]["scenes"] == 12
    assert main([*command, "--collapse"]) == 1
    assert "found --collapse and --alignment, wanted one at a time" in capsys.readouterr().err
