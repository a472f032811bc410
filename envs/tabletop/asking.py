"""What is asked of one scene under each condition: a goal, its words, and what a policy that half listens would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ...datasets.language import (
    ANY_OBJECT,
    LANGUAGES,
    ORDINALS,
    RELATION_MARGIN,
    RELATION_WORDS,
    SHAPE_WORDS,
    SIDE_WORDS,
    TOWARDS,
    noun_phrases,
    pick,
    pick_noun,
    relation,
)
from .goals import COLOURS, Goal, ObjectRef, targets
from .scene import SceneObject, is_feasible, other_goal, other_goals, possible_targets
from .splits import Split

_NOT_THIS = {
    "en": ("not the {other}: {command}", "leave the {other} alone. {command}", "{command}, not the {other}"),
    "zh": ("不是{other}，{command}", "别动{other}，{command}", "{command}，不是{other}"),
}
_TAKEN_BACK = {
    "en": ("{wrong}. no wait, {command}", "{wrong}. sorry, i mean: {command}"),
    "zh": ("{wrong}，不对，{command}", "{wrong}，我说错了，{command}"),
}
_BESIDE = {"en": "{thing} {where} the {landmark}", "zh": "{landmark}{where}的{thing}"}
_NTH = {"en": "{nth} {thing} from the {side}", "zh": "从{side}边数第{nth}个{thing}"}


def characters() -> set[str]:
    """All characters that these ways of asking add to those of the sentences themselves."""
    templates = [*_NOT_THIS.values(), *_TAKEN_BACK.values(), *ORDINALS.values()]
    texts = [text for group in templates for text in group]
    texts += [*_BESIDE.values(), *_NTH.values(), *ANY_OBJECT.values()]
    texts += [
        word for words in (RELATION_WORDS, SIDE_WORDS) for language in LANGUAGES for word in words[language].values()
    ]
    return set().union(*texts)


class UnaskableError(ValueError):
    """A scene about which a condition has nothing to ask."""


@dataclass(frozen=True)
class Asked:
    """What an episode asks for.

    Attributes:
        text: the instruction.
        goal: what it asks for; None where what it names is not there.
        named: the object that the instruction is about, by name.
        lure: the object that a policy would act on which does not hear all of it; None where there is none.
        earlier: the instruction until `CHANGE_STEP`, where it changes.
    """

    text: str
    goal: Goal | None
    named: str
    lure: str | None = None
    earlier: str | None = None


def ask(
    condition: str,
    objects: Sequence[SceneObject],
    goal: Goal,
    split: Split,
    languages: Sequence[str],
    verbs: Sequence[str],
    heldout: bool,
    world: np.random.Generator,
    words: np.random.Generator,
) -> Asked:
    """What to ask of a scene with this goal under a condition; where it has nothing to ask about that goal (the object
    lies nowhere that tells it from others, say), of the same verb's goals with another object.

    Arguments as the attributes of `Asker`. Raises UnaskableError where it has nothing to ask about any of them.
    """
    asker, said = Asker(objects, goal, split, languages, verbs, heldout, world, words), []
    for one in _goals_to_ask_about(asker):
        try:
            return replace(asker, goal=one).ask(condition)
        except UnaskableError as error:
            said.append(error)
    raise UnaskableError(f"condition {condition!r}: " + "; ".join(map(str, said)))


def _goals_to_ask_about(asker: Asker) -> Iterator[Goal]:
    """Its own, then others, which take random numbers of the world only once they are needed."""
    yield asker.goal
    for other in other_goals(asker.objects, [asker.goal.verb], asker.split, asker.world):
        if other.target != asker.goal.target and is_feasible(asker.objects, other):
            yield other


@dataclass(frozen=True)
class Asker:
    """Asks for the goal of a scene, or for something else in it.

    Attributes:
        objects, goal: of the scene.
        split: whose phrasings are used. languages: of the instructions.
        verbs: that may be asked for. heldout: whether to use phrasings that are kept from training throughout.
        world, words: random numbers for what is asked for, and for how it is said.
    """

    objects: Sequence[SceneObject]
    goal: Goal
    split: Split
    languages: Sequence[str]
    verbs: Sequence[str]
    heldout: bool
    world: np.random.Generator
    words: np.random.Generator

    def ask(self, condition: str) -> Asked:
        """Raises UnaskableError where the scene has nothing to ask about under that condition."""
        kinds: dict[str, Callable[[], Asked]] = {
            "null": self._null,
            "swap": self._swap,
            "verb": self._verb,
            "paraphrase-mixed": self._mixed,
            "negation": self._negation,
            "correction": self._correction,
            "reference": self._reference,
            "ordinal": self._ordinal,
            "change": self._change,
            "false-premise": self._false_premise,
        }
        if condition.startswith("paraphrase-") and condition not in kinds:
            return self._asked(self._paraphrase(condition.removeprefix("paraphrase-")))
        return kinds.get(condition, lambda: self._asked(self._sentence(self.goal)))()

    # ---- what is asked for ----

    def _asked(self, text: str, lure: str | None = None) -> Asked:
        return Asked(text, self.goal, self.goal.target.name, lure)

    def _null(self) -> Asked:
        return Asked("", self.goal, self.goal.target.name, self.goal.target.name)

    def _swap(self) -> Asked:
        goal = other_goal(self.objects, self.goal, self.world)
        return Asked(self._sentence(goal), goal, goal.target.name, self.goal.target.name)

    def _verb(self) -> Asked:
        others = [verb for verb in self.verbs if verb != self.goal.verb]
        goals = other_goals(self.objects, others, self.split, self.world)
        goals = [g for g in goals if g.target == self.goal.target and is_feasible(self.objects, g)]
        if not goals:
            raise UnaskableError(f"nothing but {self.goal.verb} can be asked of the {self.goal.target.name} here")
        goal = pick(self.world, goals)
        return Asked(self._sentence(goal), goal, goal.target.name)

    def _change(self) -> Asked:
        later, earlier = self._sentence(self.goal), other_goal(self.objects, self.goal, self.world)
        return Asked(later, self.goal, self.goal.target.name, earlier.target.name, self._sentence(earlier))

    def _false_premise(self) -> Asked:
        present, goal = {item.ref for item in self.objects}, self.goal
        absent = [ref for c in COLOURS for s in targets(goal.verb) if (ref := ObjectRef(c, s)) not in present]
        # As near as can be to what is there: the same colour or the same shape.
        near = [ref for ref in absent if ref.colour == goal.target.colour or ref.shape == goal.target.shape]
        named = pick(self.world, near or absent)
        wanted = Goal(goal.verb, named, goal.reference, goal.relation)
        return Asked(self._sentence(wanted), None, named.name)

    # ---- how it is said ----

    def _negation(self) -> Asked:
        language, other = pick(self.words, self.languages), self._tempting()
        command = self._sentence(self.goal, language).rstrip("?？")
        text = pick(self.words, _NOT_THIS[language]).format(other=self._noun(other, language), command=command)
        return self._asked(text, other.name)

    def _correction(self) -> Asked:
        language, other = pick(self.words, self.languages), self._tempting()
        wrong = Goal(self.goal.verb, other, self.goal.reference, self.goal.relation)
        text = pick(self.words, _TAKEN_BACK[language]).format(
            wrong=self._sentence(wrong, language).rstrip("?？"), command=self._sentence(self.goal, language)
        )
        return self._asked(text, other.name)

    def _paraphrase(self, language: str) -> str:
        return self.split.sample_instruction(self.goal, self.words, (language,), heldout=True)

    def _mixed(self) -> Asked:
        language = pick(self.words, LANGUAGES)
        other = next(name for name in LANGUAGES if name != language)
        phrasing = pick(self.words, self.split.phrasings(self.goal.verb, language, heldout=True))
        refs = [ref for ref in (self.goal.target, self.goal.reference) if ref is not None]
        return self._asked(phrasing.write(self.goal, [self._noun(ref, other) for ref in refs]))

    def _reference(self) -> Asked:
        own = next(item for item in self.objects if item.ref == self.goal.target)
        alike = [item for item in self.objects if item.shape == own.shape and item is not own]
        found = []
        for landmark in self.objects:
            where = relation(own.to_dict(), landmark.to_dict()) if landmark is not own else None
            # Another of that shape must not lie there, nor where two viewers would disagree.
            others = [relation(item.to_dict(), landmark.to_dict()) for item in alike if item is not landmark]
            if where and landmark.ref != self.goal.reference and not {where, None} & set(others):
                found.append((landmark, where))
        if not found:
            raise UnaskableError(f"the {own.name} lies nowhere that tells it from others of its shape")
        (landmark, where), language = pick(self.world, found), pick(self.words, self.languages)
        noun = _BESIDE[language].format(
            thing=SHAPE_WORDS[language][own.shape][0],
            where=RELATION_WORDS[language][where],
            landmark=self._noun(landmark.ref, language),
        )
        return self._asked(self._sentence(self.goal, language, noun))

    def _ordinal(self) -> Asked:
        own = next(item for item in self.objects if item.ref == self.goal.target)
        alike = [item for item in self.objects if item.shape == own.shape]
        rows = [("shape", alike)] if len(alike) > 1 else []
        found = []
        for kind, row in [*rows, ("any", list(self.objects))]:
            for side, (axis, sign) in TOWARDS.items():
                places = sorted((-sign * (item.x, item.y)[axis], item is own) for item in row)
                number = next(n for n, (_, is_own) in enumerate(places) if is_own)
                gaps = [b - a for (a, _), (b, _) in pairwise(places)]
                if min(gaps[max(0, number - 1) : number + 1], default=0.0) >= RELATION_MARGIN:
                    found.append((kind, side, number))
            if found:
                break
        if not found:
            raise UnaskableError(f"the {own.name} has no sure place in any row")
        (kind, side, number), language = pick(self.world, found), pick(self.words, self.languages)
        thing = SHAPE_WORDS[language][own.shape][0] if kind == "shape" else ANY_OBJECT[language]
        noun = _NTH[language].format(nth=ORDINALS[language][number], thing=thing, side=SIDE_WORDS[language][side])
        return self._asked(self._sentence(self.goal, language, noun))

    def _sentence(self, goal: Goal, language: str | None = None, noun: str | None = None) -> str:
        """An instruction for a goal, where wanted with another noun for its target."""
        languages = self.languages if language is None else (language,)
        if noun is None:
            return self.split.sample_instruction(goal, self.words, languages, heldout=self.heldout)
        phrasing = pick(self.words, self.split.phrasings(goal.verb, languages[0], self.heldout))
        nouns = [noun] if goal.reference is None else [noun, self._noun(goal.reference, languages[0])]
        return phrasing.write(goal, nouns)

    def _noun(self, ref: ObjectRef, language: str) -> str:
        return pick_noun(self.words, noun_phrases(ref.colour, ref.shape, language))

    def _tempting(self) -> ObjectRef:
        """Another object of which the same could be asked, that shares colour or shape with the target if one does."""
        target = self.goal.target
        others = [ref for ref in possible_targets(self.objects, self.goal) if ref != target]
        near = [ref for ref in others if ref.colour == target.colour or ref.shape == target.shape]
        if not others:
            raise UnaskableError(f"there is nothing else of which {self.goal.verb!r} could be asked")
        return pick(self.world, near or others)
