"""The sentences that ask for the tabletop's goals, in English and Chinese.

A `Phrasing` is a sentence pattern with a stable name such as ``"en.lift.03"``, so that it can be held out by name.
Every sentence says verb, target, relation and reference without doubt: no two goals share one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...datasets.language import LANGUAGES, check_language, check_word, fill, noun_phrases, pick, pick_noun
from .goals import VERBS, Goal

PHRASING_SETS = ("train", "heldout", "all")


@dataclass(frozen=True)
class Phrasing:
    """A sentence pattern. ``template`` has ``{target}``, ``{reference}`` and the relation words of `_WORDS`."""

    name: str
    verb: str
    language: str
    template: str
    reserved: bool  # kept out of every training set

    def nouns(self, goal: Goal) -> list[tuple[str, ...]]:
        """The noun phrases of target and, where there is one, reference, canonical first."""
        refs = [goal.target] if goal.reference is None else [goal.target, goal.reference]
        return [noun_phrases(ref.colour, ref.shape, self.language) for ref in refs]

    def write(self, goal: Goal, nouns: Sequence[str]) -> str:
        """The sentence for this goal with the chosen nouns (target, then reference)."""
        slots = dict(zip(("target", "reference"), nouns, strict=False))
        return fill(self.template, **slots, **_WORDS[self.language].get((goal.verb, goal.relation), {}))

    def texts(self, goal: Goal) -> tuple[str, ...]:
        """The sentences for this goal with every choice of nouns, canonical ones first."""
        return tuple(self.write(goal, nouns) for nouns in itertools.product(*self.nouns(goal)))

    def sample(self, goal: Goal, rng: np.random.Generator) -> str:
        """One sentence; the canonical noun is the most common."""
        return self.write(goal, [pick_noun(rng, options) for options in self.nouns(goal)])


# How a verb says its relation: {heading} and {side} for push, {on} and {onto} for place, {where} and {side} for move.
_WORDS: dict[str, dict[tuple[str, str | None], dict[str, str]]] = {
    "en": {
        ("push", "left"): {"heading": "to the left", "side": "left"},
        ("push", "right"): {"heading": "to the right", "side": "right"},
        ("push", "front"): {"heading": "toward the camera", "side": "front"},
        ("push", "behind"): {"heading": "away from the camera", "side": "back"},
        ("place", "on"): {"on": "on", "onto": "onto"},
        ("place", "in"): {"on": "in", "onto": "into"},
        ("move", "left"): {"where": "to the left of", "side": "left"},
        ("move", "right"): {"where": "to the right of", "side": "right"},
        ("move", "front"): {"where": "in front of", "side": "front"},
        ("move", "behind"): {"where": "behind", "side": "back"},
    },
    "zh": {
        # 向前 alone would mean away from the viewer to many readers, so these name the camera.
        ("push", "left"): {"heading": "向左", "side": "左边"},
        ("push", "right"): {"heading": "向右", "side": "右边"},
        ("push", "front"): {"heading": "朝镜头方向", "side": "前边"},
        ("push", "behind"): {"heading": "朝远离镜头的方向", "side": "后边"},
        ("place", "on"): {"on": "上", "onto": "上面"},
        ("place", "in"): {"on": "里", "onto": "里面"},
        ("move", "left"): {"where": "左边", "side": "左侧"},
        ("move", "right"): {"where": "右边", "side": "右侧"},
        ("move", "front"): {"where": "前面", "side": "前方"},
        ("move", "behind"): {"where": "后面", "side": "后方"},
    },
}

# (training phrasings, reserved phrasings), one a line. Names count the lines, so append at the end and never reorder.
_TEMPLATES: dict[tuple[str, str], tuple[str, str]] = {
    ("en", "touch"): (
        """
        touch the {target}
        tap the {target}
        poke the {target}
        please touch the {target}
        could you touch the {target}?
        touch that {target}
        touch {target}
        reach out and touch the {target}
        touch the {target} with the gripper
        make contact with the {target}
        go and tap the {target}
        give the {target} a tap
        i want you to touch the {target}
        """,
        """
        prod the {target}
        bring the gripper into contact with the {target}
        would you mind tapping the {target}?
        put a fingertip on the {target}
        lightly press against the {target}
        """,
    ),
    ("en", "lift"): (
        """
        lift the {target}
        pick up the {target}
        raise the {target}
        lift up the {target}
        pick the {target} up
        please lift the {target}
        could you pick up the {target}?
        grab the {target} and lift it
        lift that {target}
        pick up {target}
        take the {target} off the table
        grasp the {target} and raise it
        i want you to lift the {target}
        lift the {target} into the air
        """,
        """
        hoist the {target}
        hold the {target} up above the table
        would you mind picking the {target} up?
        get the {target} up off the table
        take hold of the {target} and bring it up
        """,
    ),
    ("en", "push"): (
        """
        push the {target} {heading}
        push the {target} over to the {side}
        slide the {target} {heading}
        slide the {target} toward the {side} side
        nudge the {target} {heading}
        please push the {target} {heading}
        could you push the {target} {heading}?
        push that {target} {heading}
        push {target} {heading}
        give the {target} a push {heading}
        push the {target} along the table {heading}
        use the gripper to push the {target} {heading}
        shove the {target} {heading}
        i want you to slide the {target} {heading}
        """,
        """
        scoot the {target} {heading}
        would you mind nudging the {target} {heading}?
        press on the {target} until it slides {heading}
        sweep the {target} over the table {heading}
        give the {target} a shove to the {side}
        """,
    ),
    ("en", "place"): (
        """
        put the {target} {on} the {reference}
        place the {target} {on} the {reference}
        set the {target} {on} the {reference}
        set the {target} down {on} the {reference}
        put the {target} {onto} the {reference}
        drop the {target} {onto} the {reference}
        please put the {target} {on} the {reference}
        could you place the {target} {on} the {reference}?
        put that {target} {on} the {reference}
        put {target} {on} {reference}
        pick up the {target} and put it {on} the {reference}
        take the {target} and place it {onto} the {reference}
        move the {target} {onto} the {reference}
        i want the {target} {on} the {reference}
        """,
        """
        lay the {target} {on} the {reference}
        transfer the {target} {onto} the {reference}
        would you mind putting the {target} {on} the {reference}?
        make sure the {target} ends up {on} the {reference}
        the {reference} is where the {target} belongs, put it {on} there
        """,
    ),
    ("en", "stack"): (
        """
        stack the {target} on the {reference}
        stack the {target} on top of the {reference}
        put the {target} on top of the {reference}
        place the {target} on top of the {reference}
        put the {target} on the {reference}
        set the {target} on top of the {reference}
        please stack the {target} on the {reference}
        could you stack the {target} on top of the {reference}?
        stack that {target} on the {reference}
        stack {target} on {reference}
        pick up the {target} and stack it on the {reference}
        take the {target} and put it on top of the {reference}
        i want the {target} on top of the {reference}
        """,
        """
        pile the {target} onto the {reference}
        build a tower with the {target} above the {reference}
        would you mind stacking the {target} onto the {reference}?
        balance the {target} on the {reference}
        use the {reference} as a base and stack the {target} on it
        """,
    ),
    ("en", "move"): (
        """
        move the {target} {where} the {reference}
        put the {target} {where} the {reference}
        place the {target} {where} the {reference}
        set the {target} down {where} the {reference}
        bring the {target} {where} the {reference}
        move the {target} to the {side} side of the {reference}
        please move the {target} {where} the {reference}
        could you put the {target} {where} the {reference}?
        move that {target} {where} the {reference}
        move {target} {where} {reference}
        pick up the {target} and put it {where} the {reference}
        take the {target} and place it {where} the {reference}
        i want the {target} {where} the {reference}
        carry the {target} to a spot {where} the {reference}
        """,
        """
        relocate the {target} so that it sits {where} the {reference}
        shift the {target} over to the {side} side of the {reference}
        would you mind putting the {target} {where} the {reference}?
        make sure the {target} ends up {where} the {reference}
        {where} the {reference} is where the {target} should go
        """,
    ),
    ("zh", "touch"): (
        """
        碰一下{target}
        触碰{target}
        摸一下{target}
        碰碰{target}
        用夹爪碰一下{target}
        轻轻碰一下{target}
        请碰一下{target}
        请触碰{target}
        麻烦碰一下{target}
        去碰一下{target}
        伸手碰一下{target}
        能碰一下{target}吗？
        我想让你碰一下{target}
        """,
        """
        轻触{target}
        点一下{target}
        帮我摸摸{target}
        让夹爪接触到{target}
        你可以去触碰一下{target}吗？
        """,
    ),
    ("zh", "lift"): (
        """
        拿起{target}
        把{target}拿起来
        举起{target}
        把{target}举起来
        抬起{target}
        把{target}抬起来
        提起{target}
        抓起{target}
        请拿起{target}
        请把{target}举起来
        能把{target}拿起来吗？
        从桌上拿起{target}
        抓住{target}，然后举起来
        我想让你把{target}拿起来
        """,
        """
        夹起{target}
        将{target}从桌面上提起来
        麻烦你把{target}举高
        帮我把{target}拿离桌面
        你可以把{target}提到空中吗？
        """,
    ),
    ("zh", "push"): (
        """
        把{target}{heading}推
        {heading}推{target}
        把{target}推到{side}
        将{target}推向{side}
        把{target}往{side}推
        {heading}推动{target}
        请{heading}推{target}
        请把{target}推到{side}
        能把{target}往{side}推吗？
        把{target}{heading}推一下
        用夹爪把{target}推到{side}
        把{target}{heading}推一段距离
        推一下{target}，让它到{side}去
        我想让你把{target}{heading}推
        """,
        """
        把{target}{heading}拨
        用夹爪把{target}{heading}顶一下
        麻烦将{target}{heading}推动
        帮我把{target}推去{side}
        你可以让{target}{heading}滑动吗？
        """,
    ),
    ("zh", "place"): (
        """
        把{target}放到{reference}{on}
        把{target}放在{reference}{on}
        将{target}放到{reference}{on}
        把{target}放到{reference}{onto}
        把{target}摆在{reference}{on}
        把{target}移到{reference}{on}
        请把{target}放到{reference}{on}
        请将{target}放在{reference}{onto}
        能把{target}放到{reference}{on}吗？
        拿起{target}，放到{reference}{on}
        抓起{target}，把它放在{reference}{on}
        把{target}拿到{reference}{on}
        把{target}搁在{reference}{on}
        我想让{target}待在{reference}{on}
        """,
        """
        将{target}置于{reference}{on}
        麻烦把{target}搁到{reference}{onto}
        帮我把{target}送到{reference}{on}
        {target}应该放在{reference}{onto}
        你可以把{target}摆到{reference}{on}吗？
        """,
    ),
    ("zh", "stack"): (
        """
        把{target}叠到{reference}上
        把{target}叠在{reference}上
        把{target}堆到{reference}上面
        把{target}放到{reference}上面
        把{target}摞在{reference}上
        将{target}叠放在{reference}上
        请把{target}叠到{reference}上
        请把{target}放在{reference}上面
        能把{target}叠在{reference}上吗？
        拿起{target}，叠到{reference}上
        抓起{target}，把它摞到{reference}上面
        把{target}放在{reference}顶上
        我想让{target}叠在{reference}上面
        """,
        """
        将{target}垒在{reference}上面
        麻烦把{target}摞到{reference}顶上
        帮我把{target}堆在{reference}顶部
        用{reference}垫底，把{target}叠上去
        你可以把{target}叠放到{reference}上吗？
        """,
    ),
    ("zh", "move"): (
        """
        把{target}移到{reference}的{where}
        把{target}放到{reference}的{where}
        把{target}移动到{reference}的{side}
        将{target}移到{reference}的{side}
        把{target}挪到{reference}的{where}
        把{target}放在{reference}{where}
        请把{target}移到{reference}的{where}
        请将{target}放在{reference}的{side}
        能把{target}移到{reference}的{where}吗？
        拿起{target}，放到{reference}的{where}
        抓起{target}，把它放在{reference}的{side}
        把{target}拿到{reference}的{where}
        把{target}摆在{reference}的{where}
        我想让{target}待在{reference}的{where}
        """,
        """
        将{target}置于{reference}的{side}
        麻烦把{target}挪去{reference}的{where}
        帮我把{target}搁在{reference}的{where}
        {target}应该放在{reference}的{side}
        你可以把{target}摆到{reference}的{where}吗？
        """,
    ),
}


def _phrasings() -> Iterator[Phrasing]:
    for (language, verb), (training, reserved) in _TEMPLATES.items():
        for block, mark in ((training, ""), (reserved, "h")):
            for number, template in enumerate(block.strip().splitlines(), start=1):
                yield Phrasing(f"{language}.{verb}.{mark}{number:02d}", verb, language, template.strip(), bool(mark))


PHRASINGS: dict[str, Phrasing] = {phrasing.name: phrasing for phrasing in _phrasings()}
RESERVED_PHRASINGS: frozenset[str] = frozenset(name for name, phrasing in PHRASINGS.items() if phrasing.reserved)


def phrasings(verb: str, language: str, phrasing: str = "all") -> tuple[Phrasing, ...]:
    """The phrasings of one verb in one language; ``phrasing`` is "train", "heldout" or "all"."""
    check_word("verb", verb, VERBS)
    check_language(language)
    check_word("phrasing", phrasing, PHRASING_SETS)
    kept = {"train": (False,), "heldout": (True,), "all": (False, True)}[phrasing]
    return tuple(p for p in PHRASINGS.values() if (p.verb, p.language) == (verb, language) and p.reserved in kept)


def instructions(goal: Goal, language: str = "en", phrasing: str = "all") -> tuple[str, ...]:
    """Every sentence that asks for the goal, over phrasings and nouns."""
    return tuple(text for pattern in phrasings(goal.verb, language, phrasing) for text in pattern.texts(goal))


def sample_instruction(
    goal: Goal, rng: np.random.Generator, languages: Sequence[str] = LANGUAGES, phrasing: str = "train"
) -> str:
    """One sentence that asks for the goal: language and phrasing uniformly, the canonical nouns most often."""
    if not languages:
        raise ValueError(f"languages: found none, wanted some of {', '.join(LANGUAGES)}")
    return pick(rng, phrasings(goal.verb, pick(rng, languages), phrasing)).sample(goal, rng)


def canonical(goal: Goal) -> str:
    """The plainest English sentence for the goal: ``"lift the red cube"``."""
    return PHRASINGS[f"en.{goal.verb}.01"].texts(goal)[0]
