"""Conditions under which one and the same task can be judged: other words for one scene, or another world.

Names and what they mean; an environment that has them makes them in `reset(options={"condition": ...})`.
"""

from __future__ import annotations

CHANGE_STEP = 5  # control steps after which "change" asks for something else: the hand is on its way
DISTRACTORS = tuple(f"distractors-{count}" for count in range(6))
CONDITIONS: dict[str, str] = {
    "correct": "the instruction of the scene's goal",
    "null": "an empty instruction",
    "swap": "another object of the scene is to be acted on, in the same way",
    "verb": "something else is to be done with the same object",
    "paraphrase-en": "an English sentence that is kept from training",
    "paraphrase-zh": "a Chinese sentence that is kept from training",
    "paraphrase-mixed": "such a sentence whose nouns are in the other language",
    "negation": "another object is named as the one that is not meant",
    "correction": "another object is asked for first, and taken back",
    "reference": "the object is named by where it lies beside another, and not by its colour",
    "ordinal": "the object is named by its place in a row, and not by its colour",
    "change": f"another object is asked for until step {CHANGE_STEP}, then this one",
    "false-premise": "the object that is asked for is not there; success is to leave all others alone",
    "pair": "the object has one of the colour and shape pairs that the split 'pairs' keeps from training",
    "relation": "the goal has one of the relations that the split 'relations' keeps from training",
    **{name: f"{name[-1]} objects beside those that the goal is about" for name in DISTRACTORS},
}
"""Condition -> how the instruction, or what there is in the world, differs."""

CHALLENGES: dict[str, str] = {
    "camera": "the front camera stands elsewhere",
    "light": "the light is brighter or darker, from elsewhere, and tinted",
    "texture": "the table is covered in tiles of other colours",
    "background": "the floor has another colour, and things stand on it",
    "start": "the hand begins elsewhere",
    "layout": "the object lies beyond where it lay in training",
    "noise": "every camera's picture is noisy, and so is proprioception",
}
"""What else can differ from training, with the scene's own instruction: kind -> how."""

SEVERITIES = range(1, 6)
WORLDS = tuple(f"{kind}-{severity}" for kind in CHALLENGES for severity in SEVERITIES)
"""The conditions that these are, such as "camera-1", hardly different, to "camera-5"."""

GROUPS = {"all": tuple(CONDITIONS), "challenges": ("correct", *WORLDS)}
"""Names that stand for several conditions."""

OTHER_WORLDS = ("pair", "relation", *DISTRACTORS, *(name for name in WORLDS if name.startswith("layout")))
"""Conditions whose scenes are not those of "correct"."""


def meaning(condition: str) -> str:
    """How it differs, in words; of an unknown one nothing."""
    kind, _, severity = condition.rpartition("-")
    if condition in CONDITIONS or kind not in CHALLENGES:
        return CONDITIONS.get(condition, "")
    return f"{CHALLENGES[kind]}, severity {severity} of {SEVERITIES[-1]}"


def all_conditions() -> tuple[str, ...]:
    """All conditions."""
    return (*CONDITIONS, *WORLDS)


_TASKS = {"relation": ("push", "move")}


def allows(condition: str, task: str) -> bool:
    """Whether a task can be asked under a condition."""
    return task in _TASKS.get(condition, (task,))
