"""Splits hold out what they say, and training still meets every word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deixis.envs.tabletop import goals, grammar
from deixis.envs.tabletop.goals import Goal, ObjectRef
from deixis.envs.tabletop.splits import HELD_OUT_PAIRS, SPLITS, Split

GOALS = goals.all_goals()
splits = st.sampled_from(list(SPLITS.values()))


def test_names() -> None:
    assert list(SPLITS) == ["all", "pairs", "relations", "phrasings"]
    assert all(split.name == name for name, split in SPLITS.items())


def test_all_holds_out_no_goal_but_reserves_phrasings() -> None:
    split = SPLITS["all"]
    assert all(split.allows(goal) for goal in GOALS)
    assert split.held_out_phrasings == grammar.RESERVED_PHRASINGS


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_reserved_phrasings_are_never_training(split: Split) -> None:
    assert split.held_out_phrasings >= grammar.RESERVED_PHRASINGS


def test_pairs_leave_every_colour_shape_and_verb_in_training() -> None:
    split = SPLITS["pairs"]
    assert len(HELD_OUT_PAIRS) == 6
    seen = [goal for goal in GOALS if split.allows(goal)]
    assert {goal.target.colour for goal in seen} == set(goals.COLOURS)
    assert {goal.target.shape for goal in seen} == set(goals.SHAPES)
    assert {goal.verb for goal in seen} == set(goals.VERBS)
    assert not split.allows(Goal("lift", ObjectRef("red", "ball")))
    assert not split.allows(Goal("move", ObjectRef("red", "cube"), ObjectRef("red", "ball"), "left"))
    assert split.allows(Goal("place", ObjectRef("red", "cube"), ObjectRef(None, "plate"), "on"))


def test_relations_leave_every_verb_and_every_side_in_training() -> None:
    split = SPLITS["relations"]
    seen = [goal for goal in GOALS if split.allows(goal)]
    assert {goal.verb for goal in seen} == set(goals.VERBS)
    assert {goal.relation for goal in seen} >= set(goals.SIDES)
    held_out = {(goal.verb, goal.relation) for goal in GOALS} - {(goal.verb, goal.relation) for goal in seen}
    assert held_out == split.held_out_relations


@given(splits, st.sampled_from(GOALS), st.integers(0, 2**32 - 1), st.sampled_from(["en", "zh"]))
def test_training_and_heldout_instructions_never_meet(split: Split, goal: Goal, seed: int, language: str) -> None:
    train, heldout = (
        {text for phrasing in split.phrasings(goal.verb, language, part) for text in phrasing.texts(goal)}
        for part in (False, True)
    )
    assert not train & heldout
    assert train | heldout == set(grammar.instructions(goal, language))
    rng = np.random.default_rng(seed)
    assert split.sample_instruction(goal, rng, (language,)) in train
    assert split.sample_instruction(goal, rng, (language,), heldout=True) in heldout


@pytest.mark.parametrize("verb", goals.VERBS)
def test_phrasings_split_trains_on_commands_only(verb: str) -> None:
    split = SPLITS["phrasings"]
    for language, polite in (("en", ("please", "could")), ("zh", ("请", "麻烦", "吗"))):
        train = split.phrasings(verb, language)
        assert len(train) >= 8
        assert not any(word in phrasing.template for phrasing in train for word in polite)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Split("x", held_out_pairs=frozenset({("rad", "cube")})), "colour: found 'rad'.*did you mean 'red'"),
        (lambda: Split("x", held_out_relations=frozenset({("push", "on")})), "held_out_relations: found 'push on'"),
        (lambda: Split("x", held_out_phrasings=frozenset({"en.lft.03"})), "did you mean 'en.lift.03'"),
        (
            lambda: Split("x", held_out_phrasings=frozenset(p.name for p in grammar.phrasings("lift", "en"))),
            "no training phrasing left for lift in 'en'",
        ),
        (
            lambda: Split("x", held_out_phrasings=frozenset()).sample_instruction(
                GOALS[0], np.random.default_rng(0), heldout=True
            ),
            "holds out no phrasing of touch",
        ),
        (lambda: SPLITS["all"].sample_instruction(GOALS[0], np.random.default_rng(0), ("fr",)), "language: found 'fr'"),
        (lambda: SPLITS["all"].sample_instruction(GOALS[0], np.random.default_rng(0), ()), "languages: found none"),
    ],
)
def test_errors_name_what_is_wrong(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
