"""Sub-goals: what an expert is about at an instant, in words that a policy can say before it acts (V -> L -> A).

A demonstration holds the phase of every instant (`PHASE_STREAM`); with the episode's goal it becomes a sentence, always
the same one, so that what a policy says is right or wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .language import RELATION_WORDS, Scene, fill, language_of, noun_phrases

PHASE_STREAM = "privileged.phase"  # [1] place in `PHASES`, at every action
PHASES = ("above", "down", "grip", "raise", "carry", "lower", "release", "leave", "behind", "push")
_SENTENCES: dict[str, dict[str, str]] = {
    "en": {
        "above": "move above the {target}",
        "down": "go down to the {target}",
        "grip": "grip the {target}",
        "raise": "raise the {target}",
        "carry": "carry the {target} {place}",
        "lower": "lower the {target} {place}",
        "release": "let go of the {target}",
        "leave": "move away from the {target}",
        "behind": "move beside the {target}",
        "push": "push the {target}",
    },
    "zh": {
        "above": "移到{target}上方",
        "down": "下到{target}",
        "grip": "抓住{target}",
        "raise": "举起{target}",
        "carry": "把{target}拿到{place}",
        "lower": "把{target}放到{place}",
        "release": "松开{target}",
        "leave": "离开{target}",
        "behind": "移到{target}旁边",
        "push": "推{target}",
    },
}
_PLACES = {
    "en": {"on": "onto the {reference}", "in": "into the {reference}"}
    | {side: f"{words} the {{reference}}" for side, words in RELATION_WORDS["en"].items()},
    "zh": {"on": "{reference}上面", "in": "{reference}里面"}
    | {side: f"{{reference}}的{words}" for side, words in RELATION_WORDS["zh"].items()},
}
_ASK = {"en": "next step for: {text}", "zh": "下一步：{text}"}
_KNOWN = {"en": "{text} now: {subgoal}.", "zh": "{text} 现在：{subgoal}。"}


def subgoal(phase: str, goal: Mapping[str, Any], scene: Scene, language: str) -> str:
    """The sentence for a phase of a goal ("target", and where there are, "reference" and "relation", named as in
    `scene`): "move above the red cube".
    """
    kinds = {str(item["name"]): (item["colour"], item["shape"]) for item in scene}
    names = {role: noun_phrases(*kinds[goal[role]], language)[0] for role in ("target", "reference") if goal.get(role)}
    place = fill(_PLACES[language][goal["relation"]], reference=names["reference"]) if "reference" in names else ""
    return fill(_SENTENCES[language][phase], target=names["target"], place=place).strip()


def ask(instruction: str) -> str:
    """What a policy is asked, to say a sub-goal, in the language of the instruction."""
    return _ASK[language_of(instruction)].format(text=instruction)


def with_subgoal(instruction: str, said: str) -> str:
    """An instruction and the sub-goal that was said, as one text to act on."""
    return _KNOWN[language_of(instruction)].format(text=instruction, subgoal=said)
