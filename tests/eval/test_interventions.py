"""The truth in place of one stage of a real policy: it is taken where it can be, and nothing else changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from deixis.cli import main
from deixis.datasets.language import language_of
from deixis.envs.suites import suite_named
from deixis.envs.tabletop.env import TabletopEnv
from deixis.envs.tabletop.grammar import instructions
from deixis.eval.attribution import STAGES, Attribution, show_causes, summarise_causes
from deixis.eval.interventions import NOWHERE, Helped
from deixis.eval.rollout import Player, build_observation, visible
from deixis.policies.backbones.modular import ModularBackbone
from deixis.policies.interfaces import Marks, Observation
from deixis.policies.policy import Policy

SUITE = suite_named("tabletop-demo")


@pytest.fixture(scope="module")
def policy(policy_folder: Path) -> Policy:
    return Policy.load(policy_folder)


@pytest.fixture(scope="module")
def env(policy: Policy) -> Iterator[TabletopEnv]:
    made = SUITE.make(disable_env_checker=True, image_size=next(iter(policy.cameras.values()))[0])
    yield made.unwrapped  # pyright: ignore[reportReturnType]
    made.close()


def begun(
    env: TabletopEnv, policy: Policy, stage: str, condition: str, task: str = "lift"
) -> tuple[Helped, Observation]:
    helped = Helped(policy, env, stage)
    seen, _ = env.reset(seed=5, options={"task": task, "condition": condition})
    helped.note()
    history = [visible(seen, tuple(policy.cameras))] * policy.config.obs_horizon
    return helped, build_observation(history, seen["instruction"])


def act(of: Policy | Helped, observation: Observation) -> torch.Tensor:
    return of.act(observation, [torch.Generator().manual_seed(0)])


@pytest.mark.parametrize(
    ("condition", "stages"),
    [
        ("correct", {"understanding", "grounding", "execution"}),
        ("light-3", {"perception", "understanding", "grounding", "execution"}),
        ("start-3", {"understanding", "grounding", "execution"}),
        ("false-premise", set()),
    ],
)
def test_what_can_be_replaced_is_known(env: TabletopEnv, policy: Policy, condition: str, stages: set[str]) -> None:
    assert {stage for stage in STAGES if begun(env, policy, stage, condition)[0].testable()} == stages


def test_only_the_stage_that_is_asked_for_is_looked_into(env: TabletopEnv, policy: Policy) -> None:
    assert begun(env, policy, "understanding", "light-3")[0].testable() and env._clean is None, "nothing is rendered"
    assert begun(env, policy, "perception", "light-3")[0].testable() and env._clean is not None


@pytest.mark.parametrize("challenge", ["camera-4", "light-5", "texture-5", "background-5", "noise-5"])
def test_perception_is_given_a_world_as_in_training(env: TabletopEnv, policy: Policy, challenge: str) -> None:
    _, usual = begun(env, policy, "perception", "correct")
    helped, strange = begun(env, policy, "perception", challenge)
    assert not torch.equal(strange.images["front"], usual.images["front"])
    assert torch.equal(act(helped, strange), act(policy, usual))
    env.step(np.array((0.03, 0.02, -0.03, 0.1, -1.0)))
    clean = env.clean_observation()
    assert clean is not None and not np.array_equal(clean["camera.front"], usual.images["front"][0, -1].numpy())


def test_understanding_is_given_the_plainest_words(env: TabletopEnv, policy: Policy) -> None:
    helped, observation = begun(env, policy, "understanding", "correction")
    plain = env.canonical_instruction()
    assert plain in instructions(env.goal, language_of(observation.instruction[0]), "train")
    told = Observation(observation.images, observation.proprio, [str(plain)])
    assert torch.equal(act(helped, observation), act(policy, told))
    assert not torch.equal(act(policy, observation), act(policy, told))


def test_grounding_is_given_masks(env: TabletopEnv, policy: Policy) -> None:
    helped, observation = begun(env, policy, "grounding", "correct", "place")
    assert not torch.equal(act(helped, observation), act(policy, observation))
    backbone, names = policy.backbone, [item.name for item in env.objects]
    assert isinstance(backbone, ModularBackbone) and env.goal.reference is not None
    labels = [names.index(ref.name) + 1 for ref in (env.goal.target, env.goal.reference)]
    masks = {c: torch.from_numpy(env.segmentation(c))[None] for c in policy.cameras}
    with backbone.grounding.pointing(list(masks.values()), torch.tensor([labels], dtype=torch.uint8)):
        places = policy.point(observation)[0]
    height, width = masks["front"].shape[1:]
    for role, label in enumerate(labels):
        rows, columns = np.nonzero(masks["front"][0].numpy() == label)
        centre = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / (width, height) * 2 - 1
        np.testing.assert_allclose(
            places[0, role, :2], centre, atol=1.5 * 2 / backbone.grounding.view(0).moments.shape[0] ** 0.5
        )
    assert torch.equal(act(policy, observation), act(policy, observation)), "nothing stays behind"
    lift, seen = begun(env, policy, "grounding", "correct")
    assert lift._marks().labels[0, 1] == NOWHERE and torch.isfinite(act(lift, seen)).all()


def test_marks_are_for_policies_that_point(policy: Policy, env: TabletopEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    helped, observation = begun(env, policy, "grounding", "correct")
    marks = helped._marks()
    monkeypatch.setattr(policy, "backbone", torch.nn.Identity())
    assert not policy.points
    with pytest.raises(ValueError, match="wanted modular"):
        policy.act(observation, None, None, Marks(marks.segmentation, marks.labels))
    with pytest.raises(ValueError, match="which points"):
        policy.point(observation)


class Sighted:
    """The small policy, but it looks exactly at the object that it is given to look at."""

    def __init__(self, policy: Policy, env: TabletopEnv, label: int) -> None:
        self.policy, self.env, self.label = policy, env, label

    def __getattr__(self, name: str) -> object:
        return getattr(self.policy, name)

    def point(self, observation: Observation) -> torch.Tensor:
        rows, columns = np.nonzero(self.env.segmentation("front") == self.label)
        size = self.env.image_size
        seen = [columns.mean() / size * 2 - 1, rows.mean() / size * 2 - 1, 1.0] if len(rows) else [0.0, 0.0, 0.0]
        return torch.tensor([[[seen], [[0.0, 0.0, 0.0]]]])


@pytest.mark.parametrize("right", [True, False])
def test_execution_is_given_to_the_expert_with_the_object_that_is_looked_at(
    env: TabletopEnv, policy: Policy, right: bool
) -> None:
    _, _ = begun(env, policy, "execution", "correct")
    names = [item.name for item in env.objects]
    able = [n for n in names if n.split()[-1] in ("cube", "cylinder", "ball")]
    chosen = env.goal.target.name if right else next(n for n in able if n != env.goal.target.name)
    sighted = Sighted(policy, env, names.index(chosen) + 1)
    helped = Helped(sighted, env, "execution")  # pyright: ignore[reportArgumentType]
    player = Player(env, helped, SUITE, 1, on_step=helped.note)
    player.begin(5, {"task": "lift", "condition": "correct"}, 0)
    player.follow()
    assert bool(player.info["success"]) == right
    assert player.info["first_grasped"] == chosen


def test_failures_of_a_run_are_attributed_with_their_evidence(
    policy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--out", str(tmp_path), "--eval.workers", "1", "--eval.exec_horizon", "16"]
    asked = ["--eval.episodes", "2", "--eval.conditions", "[correct, swap]", "--eval.videos", "0"]
    assert main(["eval", str(policy_folder), "--attribute", "2", *settings]) == 1
    assert "`deixis eval` makes it" in capsys.readouterr().err
    assert main(["eval", str(policy_folder), *settings, *asked]) == 0
    again = ["eval", str(policy_folder), "--attribute", "2", "--out", str(tmp_path), "--eval.workers", "1"]
    assert main([*again, "--eval.exec_horizon", "8"]) == 1
    assert "eval.exec_horizon: found 8, wanted 16, with which the episodes" in capsys.readouterr().err
    assert main(again) == 0, "with the one that they had"
    lines = [json.loads(line) for line in (tmp_path / "attribution.jsonl").read_text().splitlines()]
    assert [(line["task"], line["condition"]) for line in lines] == [("lift", "correct"), ("push", "correct")]
    for line in lines:
        assert line["evidence"]["perception"] == "not testable"
        assert set(line["evidence"]) <= set(STAGES) and (
            line["cause"] is None or line["evidence"][line["cause"]] == "goal reached"
        )
    record = json.loads((tmp_path / "attribution.json").read_text())["metrics"]
    assert record["failures"] == 2 and record["perception_not_testable"] == 2
    other = ["--eval.suite", "tabletop-demo-validation"]
    assert main(["eval", str(policy_folder), "--attribute", "2", *settings, *other]) == 1
    assert "with the same policy first" in capsys.readouterr().err


def test_shares_of_causes_add_up() -> None:
    causes = ["understanding", "understanding", "execution", None]
    found = summarise_causes([Attribution(cause, {"perception": "not testable"}) for cause in causes])
    shares = {name: found[f"{name}_share"] for name in (*STAGES, "unexplained")}
    assert shares["understanding"] == 0.5 and shares["unexplained"] == 0.25 and sum(shares.values()) == 1
    assert found["perception_not_testable"] == 4
    show_causes({"failures": 0})
