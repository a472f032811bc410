"""Each challenge changes what it says, the more the higher its severity, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from deixis.envs.conditions import CHALLENGES, SEVERITIES, WORLDS, meaning
from deixis.envs.suites import suite_named
from deixis.envs.tabletop.challenges import IMAGE_NOISE, LAYOUT_MARGIN, NO_CHALLENGE, START_SHIFT, Challenge
from deixis.envs.tabletop.env import TabletopEnv
from deixis.envs.tabletop.expert import expert_action
from deixis.envs.tabletop.scene import Region

SEEN = ("camera", "light", "texture", "background", "noise")
CAMERAS = ("camera.front", "camera.wrist")


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    made = suite_named("tabletop-demo").make(disable_env_checker=True, image_size=64)
    yield made.unwrapped  # pyright: ignore[reportReturnType]
    made.close()


def begin(
    env: TabletopEnv, condition: str, seed: int = 11, task: str = "lift"
) -> tuple[dict[str, Any], dict[str, Any]]:
    observation, info = env.reset(seed=seed, options={"task": task, "condition": condition})
    return {name: np.array(value) for name, value in observation.items()}, info


@pytest.mark.parametrize("kind", CHALLENGES)
def test_it_differs_the_more_and_the_same_every_time(env: TabletopEnv, kind: str) -> None:
    plain, usual = begin(env, "correct")
    joints, differences = env.data.qpos[:9].copy(), []
    for severity in SEVERITIES:
        observation, info = begin(env, f"{kind}-{severity}")
        again, _ = begin(env, f"{kind}-{severity}")
        assert all(np.array_equal(observation[name], again[name]) for name in observation)
        assert env.observation_space.contains({**observation, "instruction": str(observation["instruction"])})
        if kind != "layout":
            assert info["scene"] == usual["scene"] and observation["instruction"] == plain["instruction"]
            assert info["goal"] == usual["goal"]
        if kind not in ("start", "layout"):
            np.testing.assert_array_equal(env.data.qpos[:9], joints)
        if kind not in ("start", "noise", "layout"):
            np.testing.assert_array_equal(observation["proprio"], plain["proprio"])
        pixels = [np.abs(observation[c].astype(float) - plain[c].astype(float)).mean() for c in CAMERAS]
        differences.append(sum(pixels))
    assert min(differences) > 0
    if kind in SEEN:
        assert all(a < b for a, b in pairwise(differences)), differences


def test_only_what_a_challenge_is_about_changes_in_the_picture(env: TabletopEnv) -> None:
    begin(env, "correct")
    where = env.segmentation("front")
    for kind in ("light", "texture", "background"):
        begin(env, f"{kind}-5")
        np.testing.assert_array_equal(env.segmentation("front"), where, err_msg=kind)
    plain, _ = begin(env, "correct")
    textured, _ = begin(env, "texture-5")
    things = (where > 0) & (where < 255)
    changed = np.abs(textured["camera.front"].astype(int) - plain["camera.front"]).max(-1)
    assert changed[things].max() == 0, "what stands on the table looks as it did"
    begin(env, "camera-5")
    assert not np.array_equal(env.segmentation("front"), where)


def test_noise_is_as_strong_as_it_says_and_new_at_every_step(env: TabletopEnv) -> None:
    grey = {name: np.full((64, 64, 3), 128, np.uint8) for name in ("front", "wrist")}
    for severity in SEVERITIES:
        challenge = Challenge.of(f"noise-{severity}", (1, 2))
        assert challenge is not None
        images, proprio = challenge.see(grey, np.zeros(13, np.float32), step=3)
        assert images["front"].std() == pytest.approx(IMAGE_NOISE[severity - 1], rel=0.05)
        assert 0 < np.abs(proprio).max() < 0.06 and proprio.dtype == np.float32
        later, _ = challenge.see(grey, np.zeros(13, np.float32), step=4)
        assert not np.array_equal(later["front"], images["front"])
    assert grey["front"].std() == 0, "what is there stays"


def test_the_hand_begins_as_far_away_as_it_says(env: TabletopEnv) -> None:
    begin(env, "correct")
    usual = env.tool_position
    for severity in SEVERITIES:
        begin(env, f"start-{severity}")
        assert np.linalg.norm((env.tool_position - usual)[:2]) == pytest.approx(START_SHIFT[severity - 1], rel=0.25)


def test_the_target_lies_beyond_the_usual_region_and_is_seen(env: TabletopEnv) -> None:
    for seed in range(6):
        for severity in SEVERITIES:
            _, info = begin(env, f"layout-{severity}", seed)
            label, target = next((i, o) for i, o in enumerate(info["scene"], 1) if o["name"] == info["goal"]["target"])
            place = tuple(target["position"][:2])
            assert place not in Region() and place in Region().ring(LAYOUT_MARGIN[severity - 1])
            assert (env.segmentation("front") == label).sum() >= 4


@pytest.mark.parametrize("kind", CHALLENGES)
def test_it_can_still_be_done(env: TabletopEnv, kind: str) -> None:
    done = 0
    for task in ("lift", "push", "place"):
        begin(env, f"{kind}-5", 21, task)
        for _ in range(80):
            *_, terminated, _, info = env.step(expert_action(env))
            if terminated:
                break
        done += info["success"]
    assert done == 3


def test_names_say_what_they_are() -> None:
    assert len(WORLDS) == 35 and Challenge.of("correct", (0,)) is None
    assert meaning("light-3") == "the light is brighter or darker, from elsewhere, and tinted, severity 3 of 5"
    assert meaning("swap") == "another object of the scene is to be acted on, in the same way"
    assert meaning("nothing") == ""


def test_no_challenge_changes_nothing(env: TabletopEnv) -> None:
    begin(env, "correct")
    looks = (env.model.geom_rgba, env.model.cam_pos, env.model.cam_quat, env.model.light_dir, env.model.light_diffuse)
    before = [np.array(values) for values in looks]
    NO_CHALLENGE.alter(env.model)
    assert all(np.array_equal(values, old) for values, old in zip(looks, before, strict=True))
    assert NO_CHALLENGE.region(Region()) == Region() and NO_CHALLENGE.bodies() == "" and not NO_CHALLENGE.start().any()
    images, proprio = {"front": np.zeros((2, 2, 3), np.uint8)}, np.zeros(3, np.float32)
    assert NO_CHALLENGE.see(images, proprio, 0) == (images, proprio)
