"""Sub-goals are sentences about a goal, one for each phase, in the language of the instruction."""

from __future__ import annotations

import pytest

from deixis.datasets.subgoals import PHASES, ask, subgoal, with_subgoal

SCENE = [
    {"name": "red cube", "colour": "red", "shape": "cube", "position": [0, 0, 0]},
    {"name": "plate", "colour": None, "shape": "plate", "position": [0, 0, 0]},
    {"name": "blue ball", "colour": "blue", "shape": "ball", "position": [0, 0, 0]},
]
LIFT = {"verb": "lift", "target": "red cube", "reference": None, "relation": None}
PLACE = {"verb": "place", "target": "red cube", "reference": "plate", "relation": "on"}
MOVE = {"verb": "move", "target": "red cube", "reference": "blue ball", "relation": "left"}


@pytest.mark.parametrize(
    ("phase", "goal", "english", "chinese"),
    [
        ("above", LIFT, "move above the red cube", "移到红色方块上方"),
        ("carry", PLACE, "carry the red cube onto the plate", "把红色方块拿到盘子上面"),
        ("lower", MOVE, "lower the red cube to the left of the blue ball", "把红色方块放到蓝色球的左边"),
        ("push", LIFT, "push the red cube", "推红色方块"),
    ],
)
def test_a_phase_of_a_goal_is_one_sentence(phase: str, goal: dict, english: str, chinese: str) -> None:
    assert (subgoal(phase, goal, SCENE, "en"), subgoal(phase, goal, SCENE, "zh")) == (english, chinese)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_no_two_phases_are_said_alike(language: str) -> None:
    assert len({subgoal(phase, PLACE, SCENE, language) for phase in PHASES}) == len(PHASES)


def test_question_and_answer_are_in_the_language_of_the_instruction() -> None:
    assert ask("lift the red cube") == "next step for: lift the red cube"
    assert with_subgoal("举起红色方块", "抓住红色方块") == "举起红色方块 现在：抓住红色方块。"
