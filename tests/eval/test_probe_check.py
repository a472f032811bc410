"""A check says good of what holds the labels, bad of noise, and is not fooled by shuffled labels or shared scenes."""

from dataclasses import replace

import numpy as np
import pytest

from deixis.eval.probe.answers import Answer
from deixis.eval.probe.check import Check, best_layer
from deixis.eval.probe.scores import Score
from deixis.eval.probe.verdict import BAD, GOOD, MARGIN, UNSURE, judge, judge_target

from .probe_inputs import answers_of, classes, flags, made_frames, regression


def as_check(answers: dict[str, Answer]) -> Check:
    return Check("made", 600, 60, best_layer(answers), answers, {}, {"extract": None, "probe": 0.0})


@pytest.fixture(scope="module")
def labels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "position": rng.normal(size=(1200, 2)),
        "kind": rng.integers(0, 3, 1200),
        "there": rng.random((1200, 2)) < (0.3, 0.6),
    }


def targets_of(labels: dict[str, np.ndarray]) -> list:
    """Under names that the verdict knows."""
    return [
        regression(labels["position"], "object_position"),
        classes(labels["kind"], 3, "grasped"),
        flags(labels["there"], "match"),
    ]


def test_features_that_hold_the_labels_give_the_score_of_theory(labels) -> None:
    """With noise of variance s beside a truth of variance 1, a line explains 1 / (1 + s) of it."""
    rng, frames = np.random.default_rng(1), made_frames(episodes=120)
    position = labels["position"]
    noisy = position + np.sqrt(0.25) * rng.normal(size=position.shape)
    features = np.concatenate([noisy, np.eye(3)[labels["kind"]], labels["there"]], 1)
    answers = answers_of(features, targets_of(labels), frames)
    low, high = answers["object_position"].score.ci95
    assert low <= 1 / 1.25 <= high
    assert high - low < 0.1
    assert answers["grasped"].score.value == pytest.approx(1)
    assert answers["match"].score.value == pytest.approx(1)
    found = judge(as_check(answers))
    assert found.verdict == GOOD
    assert set(found.by_target.values()) == {GOOD}


def test_noise_is_at_chance_in_every_metric_and_called_bad(labels) -> None:
    frames = made_frames(episodes=120)
    answers = answers_of(np.random.default_rng(2).normal(size=(1200, 12)), targets_of(labels), frames)
    for name, answer in answers.items():
        assert abs(answer.skill.value) < max(0.06, answer.skill.half), name
        assert answer.score.value == pytest.approx(answer.chance.value, abs=0.2), name
    found = judge(as_check(answers))
    assert found.verdict == BAD
    assert any(where == "loss" for where, _ in found.advice)


def test_shuffled_labels_are_at_chance_whatever_the_features(labels) -> None:
    frames = made_frames(episodes=120)
    features = np.concatenate([labels["position"], np.eye(3)[labels["kind"]], labels["there"]], 1)
    for name, answer in answers_of(features, targets_of(labels), frames).items():
        assert answer.shuffled.value - answer.shuffled.half < MARGIN, name
        assert answer.skill.value - answer.shuffled.value > 0.9, name


def test_a_leak_across_an_episode_split_is_caught_by_the_split_of_scenes() -> None:
    """Features that say nothing but which scene it is. Ten episodes of each scene stand on both sides of a split by
    episodes, so labels that hang on the scene are known by heart."""
    frames, rng = made_frames(episodes=400, length=3, scenes=40), np.random.default_rng(0)
    codes, label = rng.normal(size=(40, 64)), rng.normal(size=(40, 1))
    features = codes[frames.scene] + 0.01 * rng.normal(size=(1200, 64))
    targets = [regression(label[frames.scene], "object_position"), regression(label[frames.scene] * 2, "grasped")]
    answers = answers_of(features, targets, frames)
    leaked = answers["object_position"]
    assert leaked.skill.value > 0.9
    assert leaked.strict["scenes"].value < 0.1
    assert judge_target(leaked) == BAD
    found = judge(as_check(answers))
    assert found.verdict == BAD
    assert found.advice[0][0] == "data"
    assert "known scenes" in found.advice[0][1]


def test_the_curve_rises_and_ends_at_the_score(labels) -> None:
    frames, rng = made_frames(episodes=120), np.random.default_rng(4)
    features = rng.normal(size=(1200, 60))
    truth = features @ rng.normal(size=(60, 1))
    curve = answers_of(features, [regression(truth)], frames)["numbers"].curves["backbone"]
    assert curve.samples == sorted(curve.samples)
    assert curve.skills[0] < 0.5 < 0.99 < curve.skills[-1]
    assert curve.bits > 0
    assert curve.skills[0] < curve.area < curve.skills[-1]


def score_of(value: float, half: float) -> Score:
    """With an interval of this half width."""
    spread = half / 2.0930 * np.sqrt(20 / 19)
    return Score(value, value + spread * np.tile([1, -1], 10) / np.sqrt(20))


@pytest.mark.parametrize(
    ("gain", "strict", "shuffled", "wanted"),
    [
        ((0.3, 0.1), (0.3, 0.1), (0.0, 0.05), GOOD),
        ((0.3, 0.1), (0.02, 0.01), (0.0, 0.05), BAD),
        ((0.03, 0.01), (0.3, 0.1), (0.0, 0.05), BAD),
        ((0.3, 0.4), (0.3, 0.1), (0.0, 0.05), UNSURE),
        ((0.3, 0.1), (0.3, 0.1), (0.2, 0.05), UNSURE),
        ((0.04, 0.03), (0.3, 0.1), (0.0, 0.05), UNSURE),
    ],
)
def test_the_rule_says_what_is_written(gain, strict, shuffled, wanted: str, labels) -> None:
    assert score_of(0.3, 0.1).half == pytest.approx(0.1, rel=1e-3)
    frames = made_frames(episodes=120)
    answer = answers_of(labels["position"], [regression(labels["position"])], frames)["numbers"]
    answer = replace(answer, gain=score_of(*gain), strict_gain=score_of(*strict), shuffled=score_of(*shuffled))
    assert judge_target(answer) == wanted


def test_the_verdict_is_that_of_where_things_are_and_else_of_most(labels) -> None:
    frames, noise = made_frames(episodes=120), np.random.default_rng(5).normal(size=1200)

    def verdict_of(good: tuple[str, ...], bad: tuple[str, ...]) -> str:
        targets = [regression(labels["position"], name) for name in good]
        targets += [regression(noise, name) for name in bad]
        return judge(as_check(answers_of(labels["position"], targets, frames))).verdict

    assert verdict_of(("named_position",), ("object_position", "next_action")) == GOOD
    assert verdict_of(("object_position", "next_action"), ("named_position",)) == BAD
    assert verdict_of(("object_position",), ("next_action", "progress")) == GOOD
    assert verdict_of(("next_action", "progress"), ("drawer",)) == GOOD
    assert verdict_of(("next_action",), ("progress",)) == UNSURE
    assert verdict_of(("next_action",), ()) == UNSURE
