"""Goals are valid or refused with a clear message, and every sentence says exactly one goal."""

import json
import string
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.language import COLOUR_WORDS, SHAPE_WORDS, noun_phrases
from deixis.envs.tabletop import goals as vocabulary
from deixis.envs.tabletop import grammar
from deixis.envs.tabletop.goals import Goal, ObjectRef

GOALS = vocabulary.all_goals()
LANGUAGES = ("en", "zh")
RED_CUBE = ObjectRef("red", "cube")
goals = st.sampled_from(GOALS)


def test_all_goals_are_distinct_and_of_every_verb() -> None:
    assert len(GOALS) == len(set(GOALS)) == 18 + 18 + 18 * 4 + 18 * 2 + 12 * 11 + 18 * 19 * 4
    assert {goal.verb for goal in GOALS} == set(vocabulary.VERBS)


def test_no_two_goals_share_a_text_and_no_goal_repeats_one() -> None:
    owner: dict[str, tuple[Goal, str]] = {}
    for goal in GOALS:
        for language in LANGUAGES:
            for phrasing in grammar.phrasings(goal.verb, language):
                for text in phrasing.texts(goal):
                    assert text not in owner, (text, goal, phrasing.name, owner[text])
                    owner[text] = goal, phrasing.name


def test_training_and_heldout_phrasings_are_disjoint() -> None:
    for goal in GOALS[::7]:
        for language in LANGUAGES:
            train, heldout, both = (
                grammar.instructions(goal, language, phrasing) for phrasing in ("train", "heldout", "all")
            )
            assert not set(train) & set(heldout)
            assert set(train) | set(heldout) == set(both)


@pytest.mark.parametrize("verb", vocabulary.VERBS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_enough_phrasings_with_stable_names(verb: str, language: str) -> None:
    train = [p.name for p in grammar.phrasings(verb, language, "train")]
    heldout = [p.name for p in grammar.phrasings(verb, language, "heldout")]
    assert train == [f"{language}.{verb}.{n:02d}" for n in range(1, len(train) + 1)] and len(train) >= 12
    assert heldout == [f"{language}.{verb}.h{n:02d}" for n in range(1, len(heldout) + 1)] and len(heldout) >= 5
    assert grammar.RESERVED_PHRASINGS.issuperset(heldout) and grammar.RESERVED_PHRASINGS.isdisjoint(train)


def test_names_already_used_by_recorded_splits_keep_their_sentences() -> None:
    goal = Goal("lift", RED_CUBE)
    assert grammar.PHRASINGS["en.lift.03"].texts(goal)[0] == "raise the red cube"
    assert grammar.PHRASINGS["en.lift.h01"].texts(goal)[0] == "hoist the red cube"
    assert grammar.PHRASINGS["zh.lift.02"].texts(goal)[0] == "把红色方块拿起来"


@given(goals, st.sampled_from(LANGUAGES))
def test_every_text_names_the_objects_and_is_clean(goal: Goal, language: str) -> None:
    refs = [goal.target] if goal.reference is None else [goal.target, goal.reference]
    for text in grammar.instructions(goal, language):
        for ref in refs:
            assert any(noun in text for noun in noun_phrases(ref.colour, ref.shape, language)), text
        assert text == text.strip() and "  " not in text and "{" not in text and "的的" not in text
        assert text.isascii() if language == "en" else not set(text) & set(string.ascii_letters + " ,?")


@given(goals)
def test_opposite_sides_are_told_apart_by_every_phrasing(goal: Goal) -> None:
    if goal.verb not in ("push", "move"):
        return
    for language in LANGUAGES:
        for phrasing in grammar.phrasings(goal.verb, language):
            texts = {phrasing.texts(Goal(goal.verb, goal.target, goal.reference, side))[0] for side in vocabulary.SIDES}
            assert len(texts) == len(vocabulary.SIDES), phrasing.name


@given(goals, st.integers(0, 2**32 - 1), st.sampled_from(grammar.PHRASING_SETS))
def test_sampling_is_repeatable_and_stays_in_its_set(goal: Goal, seed: int, phrasing: str) -> None:
    text = grammar.sample_instruction(goal, np.random.default_rng(seed), phrasing=phrasing)
    assert text == grammar.sample_instruction(goal, np.random.default_rng(seed), phrasing=phrasing)
    assert any(text in grammar.instructions(goal, language, phrasing) for language in LANGUAGES)


def test_sampling_reaches_every_phrasing_and_the_canonical_noun_leads() -> None:
    goal, rng = Goal("lift", RED_CUBE), np.random.default_rng(0)
    texts = [grammar.sample_instruction(goal, rng, languages=("en",)) for _ in range(2000)]
    assert set(texts) == set(grammar.instructions(goal, "en", "train"))
    assert sum("cube" in text for text in texts) > sum("block" in text for text in texts) > 0


@given(goals)
def test_goal_survives_json(goal: Goal) -> None:
    assert Goal.from_dict(json.loads(json.dumps(goal.to_dict()))) == goal


def test_object_names_survive() -> None:
    assert [ObjectRef.from_name(obj.name) for obj in vocabulary.all_objects()] == list(vocabulary.all_objects())


def test_canonical_sentences() -> None:
    blue_ball, plate, bowl = (ObjectRef("blue", "ball"), ObjectRef(None, "plate"), ObjectRef(None, "bowl"))
    found = [
        grammar.canonical(goal)
        for goal in (
            Goal("touch", RED_CUBE),
            Goal("lift", RED_CUBE),
            Goal("push", RED_CUBE, None, "behind"),
            Goal("place", RED_CUBE, plate, "on"),
            Goal("place", RED_CUBE, bowl, "in"),
            Goal("stack", RED_CUBE, ObjectRef("red", "cylinder"), "on"),
            Goal("move", RED_CUBE, blue_ball, "front"),
        )
    ]
    assert found == [
        "touch the red cube",
        "lift the red cube",
        "push the red cube away from the camera",
        "put the red cube on the plate",
        "put the red cube in the bowl",
        "stack the red cube on the red cylinder",
        "move the red cube in front of the blue ball",
    ]
    assert len({grammar.canonical(goal) for goal in GOALS}) == len(GOALS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ObjectRef("read", "cube"), "colour: found 'read'.*did you mean 'red'"),
        (lambda: ObjectRef("red", "cubes"), "shape: found 'cubes'.*did you mean 'cube'"),
        (lambda: ObjectRef(None, "cube"), "colour: found None"),
        (lambda: ObjectRef("red", "plate"), "wanted None"),
        (lambda: ObjectRef.from_name("big red cube"), "object name: found 'big red cube'"),
        (lambda: Goal("lft", RED_CUBE), "verb: found 'lft'.*did you mean 'lift'"),
        (lambda: Goal("lift", ObjectRef(None, "bowl")), "target of lift: found 'bowl'"),
        (lambda: Goal("lift", RED_CUBE, RED_CUBE), "reference of lift: found 'red cube', wanted None"),
        (lambda: Goal("lift", RED_CUBE, None, "left"), "relation of lift: found 'left', wanted None"),
        (lambda: Goal("push", RED_CUBE), "relation of push: found None, wanted one of left"),
        (lambda: Goal("push", RED_CUBE, None, "lft"), "did you mean 'left'"),
        (lambda: Goal("place", RED_CUBE), "reference of place: found None"),
        (lambda: Goal("place", RED_CUBE, ObjectRef("red", "ball"), "on"), "reference of place: found 'ball'"),
        (
            lambda: Goal("place", RED_CUBE, ObjectRef(None, "bowl"), "on"),
            "relation of place: found 'on', wanted one of in",
        ),
        (lambda: Goal("stack", RED_CUBE, ObjectRef("red", "ball"), "on"), "reference of stack: found 'ball'"),
        (lambda: Goal("stack", ObjectRef("red", "ball"), RED_CUBE, "on"), "target of stack: found 'ball'"),
        (lambda: Goal("move", RED_CUBE, RED_CUBE, "left"), "wanted another object"),
        (lambda: Goal.from_dict({"verb": "lift"}), "goal: found fields"),
        (
            lambda: Goal.from_dict({"verb": "lift", "target": 3, "reference": None, "relation": None}),
            "goal field target: found 3",
        ),
        (lambda: grammar.instructions(Goal("lift", RED_CUBE), "fr"), "language: found 'fr'"),
        (lambda: grammar.instructions(Goal("lift", RED_CUBE), phrasing="test"), "phrasing: found 'test'"),
        (
            lambda: grammar.sample_instruction(Goal("lift", RED_CUBE), np.random.default_rng(0), languages=()),
            "languages: found none",
        ),
    ],
)
def test_errors_name_the_field_and_the_nearest_word(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_every_colour_and_shape_has_words_of_its_own() -> None:
    for language in LANGUAGES:
        assert tuple(COLOUR_WORDS[language]) == vocabulary.COLOURS
        assert tuple(SHAPE_WORDS[language]) == vocabulary.SHAPES + vocabulary.CONTAINERS
        nouns = sorted(n for obj in vocabulary.all_objects() for n in noun_phrases(obj.colour, obj.shape, language))
        assert all(a != b for a, b in pairwise(nouns))
