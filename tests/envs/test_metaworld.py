"""Meta-World behind our API: the package's rules and experts, worlds by seed, upright pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from deixis.datasets.store import TrajectoryStore
from deixis.datasets.timestamps import check_store
from deixis.envs.collect import CollectionError, collect
from deixis.envs.config import CollectConfig
from deixis.envs.metaworld.tasks import HELD_OUT, MT10, MT50, PHRASINGS, TIERS, tier
from deixis.envs.suites import SUITES
from deixis.eval.replay import replay

pytest.importorskip("metaworld", reason="needs the extra metaworld")
from deixis.envs.metaworld.env import MetaWorldEnv


@pytest.fixture(scope="module")
def env() -> MetaWorldEnv:
    return MetaWorldEnv(image_size=64, level="hulls")


def test_the_fifty_tasks_are_the_packages_and_each_can_be_asked_for_in_several_ways() -> None:
    from metaworld import env_dict

    assert {f"{task}-v3" for task in MT50} == set(env_dict.ALL_V3_ENVIRONMENTS)
    assert [f"{task}-v3" for task in MT10] == list(env_dict.MT10_V3)
    assert [len(tasks) for tasks in TIERS.values()] == [28, 11, 6, 5], "as published"
    assert set(PHRASINGS) == set(MT50)
    for task, texts in PHRASINGS.items():
        assert len(set(texts)) == len(texts) >= HELD_OUT + 3, task
    said = [text for texts in PHRASINGS.values() for text in texts]
    assert len(set(said)) == len(said), "no sentence asks for two tasks"


def test_suites_have_the_tasks_and_their_tiers() -> None:
    assert SUITES["metaworld-mt50"].tasks == MT50 and SUITES["metaworld-mt10"].tasks == MT10
    assert SUITES["metaworld-reach"].tasks == ("reach",)
    for name in ("metaworld-mt10", "metaworld-mt50"):
        tiers = SUITES[name].tiers
        assert sorted(task for tasks in tiers.values() for task in tasks) == sorted(SUITES[name].tasks)
    assert all(suite.max_steps == 500 for name, suite in SUITES.items() if name.startswith("metaworld-"))


def test_it_is_a_gymnasium_environment() -> None:
    check_env(MetaWorldEnv(tasks=("reach",), image_size=32, level="hulls"), skip_render_check=True)


def played(env: MetaWorldEnv, task: str, seed: int, steps: int = 30) -> list[np.ndarray]:
    """What is simulated and seen at the start and after some random actions."""
    observation, _ = env.reset(seed=seed, options={"task": task})
    kept = [env.data.qpos.copy(), env.model.body_pos.copy(), *(observation[f"camera.{c.name}"] for c in env.cameras)]
    rng = np.random.default_rng(3)
    for _ in range(steps):
        observation = env.step(rng.uniform(-1, 1, 4))[0]
    return [*kept, env.data.qpos.copy(), env.data.qvel.copy(), env.points(), observation["proprio"]]


@pytest.mark.parametrize("task", ["push", "drawer-open", "door-open", "stick-pull", "box-close"])
def test_equal_seeds_make_equal_worlds_whatever_was_before(env: MetaWorldEnv, task: str) -> None:
    first = played(MetaWorldEnv(tasks=(task,), image_size=64, level="hulls"), task, 5)
    played(env, task, 6, steps=80)
    again = played(env, task, 5)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    other = played(env, task, 6)
    assert not np.array_equal(first[-2][1:], other[-2][1:]), "another seed, another place"


def test_worlds_and_success_are_the_packages_own() -> None:
    """The same seed in the package's environment begins alike and, with the same actions, ends alike."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    ours = MetaWorldEnv(tasks=("drawer-open",), cameras=())
    ours.reset(seed=11, options={"task": "drawer-open"})
    theirs: Any = ALL_V3_ENVIRONMENTS["drawer-open-v3"]()
    theirs._freeze_rand_vec, theirs.seeded_rand_vec, theirs._set_task_called = False, True, True
    theirs.seed(11)
    theirs.reset()
    assert np.array_equal(ours.data.qpos, theirs.data.qpos)
    expert, done = ours.expert(np.random.default_rng(0)), False
    while not done:
        action = expert().astype(np.float32)
        done = ours.step(action)[2]
        info = theirs.step(action)[4]
        assert done == bool(info["success"])
        assert np.array_equal(ours.data.qpos, theirs.data.qpos)


@pytest.mark.parametrize("task", MT10)
def test_the_packages_expert_succeeds(env: MetaWorldEnv, task: str) -> None:
    env.set_observing(False)
    outcomes = []
    for seed in (100, 101, 103):
        env.reset(seed=seed, options={"task": task})
        expert, done, steps = env.expert(np.random.default_rng(0)), False, 0
        while not done and steps < 500:
            done, steps = env.step(expert())[2], steps + 1
        outcomes.append(done)
    env.set_observing(True)
    assert sum(outcomes) >= 2, outcomes


def test_pictures_are_upright_and_known_points_are_where_they_are_seen() -> None:
    env = MetaWorldEnv(tasks=("reach",), image_size=128, level="plain")
    env.reset(seed=4, options={"task": "reach"})
    picture = env.observe()["camera.corner"].astype(int)
    column, row = env.seen_points("corner")[2]  # the goal of reach is drawn as a red sphere
    near = picture[int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2]
    assert (near[..., 0] > near[..., 1] + 60).any(), near
    low, height = env.seen_points("corner")[0], env.points()[0, 2]
    for _ in range(30):
        env.step(np.array([0.0, 0.0, 1.0, -1.0]))
    assert env.points()[0, 2] > height + 0.05 and env.seen_points("corner")[0, 1] < low[1] - 5, "up is up"
    assert abs(env.seen_points("corner")[0, 0] - low[0]) < 5
    assert env.segmentation("corner").max() == 255 and (env.segmentation("corner") == 1).any()


def test_words_by_condition(env: MetaWorldEnv) -> None:
    def told(seed: int, **options: str) -> str:
        return env.reset(seed=seed, options={"task": "push", **options})[0]["instruction"]

    usual, kept = PHRASINGS["push"][:-HELD_OUT], PHRASINGS["push"][-HELD_OUT:]
    assert {told(seed) for seed in range(12)} == set(usual)
    assert {told(seed, condition="paraphrase-en") for seed in range(4)} == set(kept)
    assert told(0, condition="null") == "" and told(0, instruction="go home") == "go home"
    for options, said in (
        ({"task": "fly"}, "'task': found 'fly', wanted one of assembly, "),
        ({"condition": "swap"}, "'condition': found 'swap', wanted one of correct, null, paraphrase-en"),
        ({"colour": "red"}, r"found \['colour'\]"),
    ):
        with pytest.raises(ValueError, match=said):
            env.reset(seed=0, options=options)
    with pytest.raises(ValueError, match=r"cameras: found \['left'\], wanted some of corner, wrist"):
        MetaWorldEnv(cameras=("left",))
    with pytest.raises(ValueError, match="action: found"):
        env.step(np.full(4, np.nan))


def test_demonstrations_are_labelled_pass_the_gate_and_can_be_gone_on_with(tmp_path: Path) -> None:
    config = CollectConfig("metaworld-drawer-open", episodes=3, image_size=32, noise=0.2, workers=1)
    whole = collect(config, tmp_path / "whole.zarr")
    report = check_store(whole)
    assert report.ok, report.findings
    assert whole.meta["demonstrator"] == "scripted expert of metaworld" and whole.meta["versions"]["metaworld"]
    again = replay(whole, "suite")
    assert again.exact == again.repeated == 3, again.episodes
    begun = CollectConfig("metaworld-drawer-open", episodes=1, image_size=32, noise=0.2, workers=1)
    collect(begun, tmp_path / "begun.zarr")
    collect(config, tmp_path / "begun.zarr")
    again = TrajectoryStore.open(tmp_path / "begun.zarr")
    assert len(again) == 3
    for index in range(3):
        one, two = whole.episode(index), again.episode(index)
        assert one.meta == two.meta and one.instruction == two.instruction
        for name in one.streams:
            assert np.array_equal(one.streams[name].values, two.streams[name].values), name
    points = whole.read(0, "privileged.points.corner").values
    assert points.shape[1:] == (3, 2) and (points >= 0).all() and (points <= 32).all()
    assert not np.array_equal(whole.read(0, "action").values, whole.read(0, "executed").values)
    for wrong, said in (
        (CollectConfig("metaworld-drawer-open", 4, image_size=48, noise=0.2, workers=1), "cameras"),
        (
            CollectConfig("metaworld-drawer-open", 4, image_size=32, noise=0.1, workers=1),
            "noise: it has 0.2, ",
        ),
    ):
        with pytest.raises(CollectionError, match=said):
            collect(wrong, tmp_path / "begun.zarr")


def test_every_task_has_a_tier() -> None:
    assert tier("reach") == "easy" and tier("stick-pull") == "very hard"
