"""Every condition asks what it says it asks, of the scene it says, and is judged by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from deixis.datasets.language import (
    COLOUR_WORDS,
    ORDINALS,
    RELATION_WORDS,
    SHAPE_WORDS,
    SIDE_WORDS,
    TOWARDS,
    language_of,
    noun_phrases,
    relation,
)
from deixis.envs.conditions import CHANGE_STEP, CONDITIONS, DISTRACTORS, OTHER_WORLDS, allows
from deixis.envs.suites import suite_named
from deixis.envs.tabletop.asking import UnaskableError, ask
from deixis.envs.tabletop.env import TabletopEnv
from deixis.envs.tabletop.expert import expert_action
from deixis.envs.tabletop.goals import VERBS, Goal, ObjectRef
from deixis.envs.tabletop.grammar import instructions
from deixis.envs.tabletop.scene import SceneObject, is_feasible, sample_scene
from deixis.envs.tabletop.splits import HELD_OUT_PAIRS, HELD_OUT_RELATIONS, SPLITS

SPLIT, LANGUAGES = SPLITS["all"], ("en", "zh")
SAME_WORLD = [condition for condition in CONDITIONS if condition not in OTHER_WORLDS]


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    made = suite_named("tabletop-demo").make(disable_env_checker=True, image_size=16)
    yield made.unwrapped  # pyright: ignore[reportReturnType]
    made.close()


def asked_of(condition: str, seeds: range, verbs: tuple[str, ...] = VERBS) -> Iterator[tuple[Any, Goal, Any]]:
    """Scenes with their goals, and what is asked of them; a scene with nothing to ask about is left out."""
    for verb in verbs:
        for seed in seeds:
            objects, goal = sample_scene(verb, np.random.default_rng((seed, 0)), SPLIT.allows)
            world, words = np.random.default_rng((seed, 1)), np.random.default_rng((seed, 2))
            try:
                yield objects, goal, ask(condition, objects, goal, SPLIT, LANGUAGES, VERBS, False, world, words)
            except UnaskableError:
                continue


def own(objects: tuple[SceneObject, ...], ref: ObjectRef) -> SceneObject:
    return next(item for item in objects if item.ref == ref)


def names_in(text: str, objects: tuple[SceneObject, ...]) -> set[str]:
    """Objects that a text names by one of their noun phrases."""
    return {o.name for o in objects if any(n in text for x in LANGUAGES for n in noun_phrases(o.colour, o.shape, x))}


@pytest.mark.parametrize("condition", SAME_WORLD)
def test_hardly_a_scene_has_nothing_to_ask_about(condition: str) -> None:
    found = {verb: sum(1 for _ in asked_of(condition, range(40), (verb,))) for verb in VERBS}
    assert sum(found.values()) >= 0.95 * 40 * len(VERBS) and min(found.values()) >= 0.7 * 40, found


@pytest.mark.parametrize("condition", ["correct", "paraphrase-en", "paraphrase-zh"])
def test_own_goal_in_other_words(condition: str) -> None:
    kind = "train" if condition == "correct" else "heldout"
    for _, goal, asked in asked_of(condition, range(15)):
        language = language_of(asked.text)
        assert asked.goal == goal and asked.text in instructions(goal, language, kind)
        assert condition in ("correct", f"paraphrase-{language}") and asked.lure is None


def test_mixed_sentences_have_the_nouns_of_the_other_language() -> None:
    seen = set()
    for _, goal, asked in asked_of("paraphrase-mixed", range(15)):
        nouns = {
            x: [n for r in (goal.target, goal.reference) if r for n in noun_phrases(r.colour, r.shape, x)]
            for x in LANGUAGES
        }
        (spoken,) = (x for x in LANGUAGES if any(noun in asked.text for noun in nouns[x]))
        rest = asked.text
        for noun in sorted(nouns[spoken], key=len, reverse=True):
            rest = rest.replace(noun, "")
        assert language_of(rest) != spoken, asked.text
        seen.add(spoken)
    assert seen == set(LANGUAGES)


def test_a_swap_names_another_object_and_the_first_is_the_lure() -> None:
    for objects, goal, asked in asked_of("swap", range(25)):
        assert asked.goal.verb == goal.verb and asked.goal.target != goal.target
        assert asked.named == asked.goal.target.name != asked.lure == goal.target.name
        assert asked.text in instructions(asked.goal, language_of(asked.text), "train")
        assert asked.goal.target in [o.ref for o in objects]


def test_another_verb_is_asked_of_an_object_with_room_for_it() -> None:
    for objects, goal, asked in asked_of("verb", range(25)):
        assert asked.goal.verb != goal.verb and is_feasible(objects, asked.goal)
        assert asked.text in instructions(asked.goal, language_of(asked.text), "train")


@pytest.mark.parametrize("condition", ["negation", "correction"])
def test_what_is_not_meant_is_named_and_is_the_lure(condition: str) -> None:
    for objects, _, asked in asked_of(condition, range(25)):
        assert asked.lure != asked.named == asked.goal.target.name
        assert {asked.lure, asked.named} <= names_in(asked.text, objects)
        if condition == "correction":
            language = language_of(asked.text)
            parts = re.split("no wait, |sorry, i mean: |不对，|我说错了，", asked.text)
            assert parts[-1] in instructions(asked.goal, language, "train"), "what is meant comes last"
            assert asked.named not in names_in(parts[0], (own(objects, ObjectRef.from_name(asked.lure)),))


def test_a_reference_is_true_of_the_object_alone() -> None:
    """Read back from the words, by the simulator's truth: one object of that shape lies there."""
    colours = {word for language in LANGUAGES for word in COLOUR_WORDS[language].values()}
    for objects, _, asked in asked_of("reference", range(40)):
        language, target = language_of(asked.text), asked.goal.target
        found = set()
        for landmark in objects:
            for where, words in RELATION_WORDS[language].items():
                nouns = noun_phrases(landmark.colour, landmark.shape, language)
                thing = SHAPE_WORDS[language][target.shape][0]
                said = [f"{thing} {words} the {n}" if language == "en" else f"{n}{words}的{thing}" for n in nouns]
                if any(phrase in asked.text for phrase in said):
                    found |= {
                        o.name
                        for o in objects
                        if o.shape == target.shape
                        and o is not landmark
                        and relation(o.to_dict(), landmark.to_dict()) == where
                    }
        assert found == {asked.named}, (asked.text, [o.to_dict() for o in objects])
        before = asked.text.split(SHAPE_WORDS[language][target.shape][0])[0]
        assert language == "zh" or not colours & set(before.split()), "its colour is not said"


def test_an_ordinal_counts_to_the_object() -> None:
    patterns = {"en": r"(\w+) (\w+) from the (left|right|front|back)", "zh": r"从(.)边数第(.)个(方块|圆柱|球|物体)"}
    for objects, _, asked in asked_of("ordinal", range(40)):
        language = language_of(asked.text)
        match = re.search(patterns[language], asked.text)
        assert match, asked.text
        nth, thing, side = match.groups() if language == "en" else (match[2], match[3], match[1])
        shape = next((s for s, words in SHAPE_WORDS[language].items() if words[0] == thing), None)
        axis, sign = TOWARDS[next(name for name, word in SIDE_WORDS[language].items() if word == side)]
        row = sorted((o for o in objects if shape in (None, o.shape)), key=lambda o: -sign * (o.x, o.y)[axis])
        assert row[ORDINALS[language].index(nth)].name == asked.named, asked.text


def test_a_false_premise_names_what_is_not_there_and_nearly_is() -> None:
    for objects, goal, asked in asked_of("false-premise", range(25)):
        assert asked.goal is None and asked.named not in [o.name for o in objects]
        named = ObjectRef.from_name(asked.named)
        assert named.colour == goal.target.colour or named.shape == goal.target.shape
        assert any(n in asked.text for x in LANGUAGES for n in noun_phrases(named.colour, named.shape, x))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_environment_has_it(env: TabletopEnv, condition: str) -> None:
    suite = suite_named("tabletop-demo")
    for task in suite.tasks:
        options, seed = {"task": task, "condition": condition}, suite.episode_seed(task, 3)
        if not allows(condition, task):
            with pytest.raises(ValueError, match="has no such goal"):
                env.reset(seed=seed, options=options)
            continue
        observation, info = env.reset(seed=seed, options=options)
        again, _ = env.reset(seed=seed, options=options)
        assert env.observation_space.contains(observation)
        assert observation["instruction"] == again["instruction"]
        assert info["choices"] == sum(o.shape in ("cube", "cylinder", "ball") for o in env.objects)
        _, plain = env.reset(seed=seed, options={"task": task})
        if condition not in OTHER_WORLDS:
            assert info["scene"] == plain["scene"] and info["original_goal"] == plain["original_goal"]
        if condition in DISTRACTORS:
            about = 1 + (info["goal"]["reference"] is not None)
            assert len(info["scene"]) == about + int(condition[-1])


def test_other_worlds_ask_for_what_a_split_holds_out(env: TabletopEnv) -> None:
    for seed in range(8):
        _, info = env.reset(seed=seed, options={"task": "lift", "condition": "pair"})
        target = ObjectRef.from_name(info["goal"]["target"])
        assert (target.colour, target.shape) in HELD_OUT_PAIRS
        _, info = env.reset(seed=seed, options={"task": "push", "condition": "relation"})
        assert ("push", info["goal"]["relation"]) in HELD_OUT_RELATIONS


@pytest.mark.parametrize("condition", ["verb", "negation", "reference", "ordinal", "change", "swap", "distractors-0"])
def test_what_is_asked_can_be_done(env: TabletopEnv, condition: str) -> None:
    done = []
    for task in ("lift", "push", "place"):
        for seed in (4, 5):
            env.reset(seed=seed, options={"task": task, "condition": condition})
            success, info = False, {}
            for _ in range(80):
                _, _, success, _, info = env.step(expert_action(env))
                if success:
                    break
            done.append(success and info["success"] and (info["first_grasped"] or info["first_moved"]))
            assert not success or done[-1] == info["goal"]["target"]
            if condition in ("verb", "swap"):
                assert not (success and info["original_success"]), "another goal than the scene's own"
    assert sum(map(bool, done)) >= 5, done


def test_words_change_on_the_way(env: TabletopEnv) -> None:
    first, _ = env.reset(seed=7, options={"task": "lift", "condition": "change"})
    _, plain = env.reset(seed=7, options={"task": "lift"})
    _, info = env.reset(seed=7, options={"task": "lift", "condition": "change"})
    texts = []
    for _ in range(CHANGE_STEP + 1):
        observation, *_, info = env.step(np.zeros(5))
        texts.append(observation["instruction"])
    assert texts == [first["instruction"]] * (CHANGE_STEP - 1) + [plain["instruction"]] * 2
    assert info["instruction"] == f"{first['instruction']} -> {plain['instruction']}"
    assert info["lure"] != info["goal"]["target"] == plain["goal"]["target"]
    fixed, _ = env.reset(seed=7, options={"task": "lift", "condition": "change", "instruction": "wait"})
    assert fixed["instruction"] == "wait"


def test_where_nothing_is_to_be_done_success_is_to_leave_all_alone(env: TabletopEnv) -> None:
    env.reset(seed=3, options={"task": "lift", "condition": "false-premise"})
    for _ in range(5):
        _, reward, terminated, _, info = env.step(np.zeros(5))
        assert info["success"] and not terminated and reward == 0
    assert info["predicates"] == {"left_alone": True} and not info["original_success"]
    for _ in range(60):
        _, reward, terminated, _, info = env.step(expert_action(env))  # it takes the scene's own object
        if terminated:
            break
    assert terminated and not info["success"] and reward == 0
    assert (info["first_grasped"] or info["first_moved"]) != info["goal"]["target"]


def test_a_condition_that_is_not_there_is_refused(env: TabletopEnv) -> None:
    with pytest.raises(ValueError, match="wanted one of correct, null"):
        env.reset(seed=0, options={"condition": "whisper"})
    plain = gymnasium.make("deixis/Tabletop-v0", disable_env_checker=True, image_size=16)
    observation, _ = plain.reset(seed=1, options={"task": "stack", "condition": "negation"})
    assert plain.observation_space.contains(observation)
    plain.close()
