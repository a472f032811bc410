"""Rollouts in the real environment with a real, untrained policy."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from deixis.envs.rendering_backend import select_backend
from deixis.envs.suites import suite_named
from deixis.eval.results import table_digest
from deixis.eval.rollout import build_observation, make_env, run_episode, visible
from deixis.policies.interfaces import Observation
from deixis.policies.policy import Policy

SUITE = replace(suite_named("tabletop-demo"), max_steps=20)


@pytest.fixture(scope="module")
def policy(policy_folder) -> Policy:
    select_backend()
    torch.set_num_threads(1)
    return Policy.load(policy_folder)


@pytest.fixture(scope="module")
def env(policy):
    return make_env(SUITE, policy)


def run(env, policy, task="lift", index=0, condition="correct", suite=SUITE, **options):
    return run_episode(env, policy, suite, task, index, condition, policy_hash="0", versions={}, **options)


class Recording:
    """Passes everything on to a policy and remembers what reached it."""

    def __init__(self, policy):
        self.policy, self.config, self.spec, self.cameras = policy, policy.config, policy.spec, policy.cameras
        self.seen: list[Observation] = []
        self.arguments: list[tuple] = []

    def act(self, observation, *rest):
        self.seen.append(observation)
        self.arguments.append(rest)
        return self.policy.act(observation, *rest)


@pytest.mark.parametrize("task", SUITE.tasks)
def test_an_episode_repeats_itself_exactly(env, policy, task):
    first = run(env, policy, task, 3)
    run(env, policy, "push", 1, "swap")  # another episode in between leaves no trace
    again = run(make_env(SUITE, policy), policy, task, 3)
    assert table_digest([first]) == table_digest([again])
    assert first.steps == SUITE.max_steps or first.success
    assert first.seed == SUITE.episode_seed(task, 3)


def test_conditions_share_scene_and_noise(env, policy):
    seen = {}
    for condition in ("correct", "null", "swap"):
        recording = Recording(policy)
        record = run(env, recording, "lift", 0, condition)
        seen[condition] = (record, recording.seen[0], recording.arguments[0][0][0].initial_seed())
    correct, null, swap = (seen[condition] for condition in ("correct", "null", "swap"))
    for record, observation, noise_seed in (null, swap):
        assert noise_seed == correct[2] == SUITE.policy_seed("lift", 0)
        assert record.original_target == correct[0].target
        for camera, images in observation.images.items():
            torch.testing.assert_close(images, correct[1].images[camera], rtol=0, atol=0)
    assert (null[0].instruction, null[1].instruction) == ("", [""])
    assert null[0].target == correct[0].target
    assert swap[0].target != correct[0].target
    assert swap[1].instruction == [swap[0].instruction] != correct[1].instruction


@pytest.mark.parametrize("exec_horizon", [1, 2, 8])
def test_skipping_unseen_images_changes_nothing(policy, exec_horizon, monkeypatch):
    """The policy sees the same as when every step is rendered, and the episode goes the same way."""
    env = make_env(SUITE, policy)
    fast, slow = Recording(policy), Recording(policy)
    quick = run(env, fast, "place", 2, exec_horizon=exec_horizon)
    switched = []
    monkeypatch.setattr(env.unwrapped, "set_observing", switched.append)
    thorough = run(env, slow, "place", 2, exec_horizon=exec_horizon)
    assert (False in switched) == (exec_horizon > policy.config.obs_horizon)
    assert table_digest([quick]) == table_digest([thorough])
    assert len(fast.seen) == len(slow.seen) == -(-quick.steps // exec_horizon)
    for few, all_ in zip(fast.seen, slow.seen, strict=True):
        assert_same(few, all_)


def test_history_is_the_last_steps_padded_with_the_first(env, policy):
    """What the policy sees at its k-th look, against an episode replayed by hand and rendered at every step."""
    recording, chunks = Recording(policy), []

    def act(observation, *rest):
        chunks.append(Recording.act(recording, observation, *rest))
        return chunks[-1]

    recording_env = make_env(SUITE, policy)
    recorder = Recording(policy)
    recorder.act, recorder.seen = act, recording.seen
    run(recording_env, recorder, "push", 0, exec_horizon=5)
    observation, _ = env.reset(seed=SUITE.episode_seed("push", 0), options={"task": "push", "condition": "correct"})
    timeline = [observation]
    for action in np.concatenate([chunk[0, :5].numpy() for chunk in chunks])[: SUITE.max_steps]:
        timeline.append(env.step(action)[0])
    cameras = tuple(policy.cameras)
    for look, seen in enumerate(recording.seen):
        steps = [max(0, 5 * look - 1), 5 * look]
        assert_same(seen, build_observation([visible(timeline[s], cameras) for s in steps], observation["instruction"]))


def test_only_images_proprio_and_words_reach_the_policy(env, policy, monkeypatch):
    recording = Recording(policy)
    clean = run(env, recording, "lift", 1)
    assert {field.name for field in fields(Observation)} == {"images", "proprio", "instruction"}
    for observation, arguments in zip(recording.seen, recording.arguments, strict=True):
        assert set(observation.images) == set(policy.cameras)
        height, width = policy.cameras["front"]
        assert {tuple(i.shape) for i in observation.images.values()} == {
            (1, policy.config.obs_horizon, height, width, 3)
        }
        assert {i.dtype for i in observation.images.values()} == {torch.uint8}
        assert tuple(observation.proprio.shape) == (1, policy.config.obs_horizon, policy.spec.proprio.dim)
        assert [type(text) for text in observation.instruction] == [str]
        ((generator,),) = arguments
        assert isinstance(generator, torch.Generator)

    # Truth put into the observation, or lies told in info, change nothing of what the policy sees.
    step, reset = env.unwrapped.step, env.unwrapped.reset

    def leaking_step(action):
        observation, reward, terminated, truncated, info = step(action)
        return observation | {"object_positions": np.ones((6, 3))}, reward, terminated, truncated, info | {"scene": []}

    def leaking_reset(**options):
        observation, info = reset(**options)
        return observation | {"target_position": np.ones(3)}, info | {"scene": [], "instruction": "the answer"}

    monkeypatch.setattr(env.unwrapped, "step", leaking_step)
    monkeypatch.setattr(env.unwrapped, "reset", leaking_reset)
    leaked = Recording(policy)
    assert table_digest([run(env, leaked, "lift", 1)]) == table_digest([clean])
    for one, other in zip(recording.seen, leaked.seen, strict=True):
        assert_same(one, other)


def test_what_is_visible_is_a_copy():
    observation = {"camera.front": np.zeros((2, 2, 3), np.uint8), "proprio": np.zeros(3, np.float32), "truth": 1}
    seen = visible(observation, ["front"])
    observation["camera.front"][:] = 9
    observation["proprio"][:] = 9
    assert set(seen) == {"front", "proprio"}
    assert not seen["front"].any()
    assert not seen["proprio"].any()


def test_success_ends_the_episode(env, policy):
    """The expert's actions, handed out as chunks, end at success with the right object."""
    from deixis.envs.tabletop.expert import expert_action

    class Expert(Recording):
        def act(self, observation, *rest):
            action = torch.as_tensor(np.asarray(expert_action(env.unwrapped)), dtype=torch.float32)
            return action.expand(1, policy.config.action_horizon, -1)

    suite, ticks = suite_named("tabletop-demo"), []
    record = run(env, Expert(policy), "lift", 0, suite=suite, exec_horizon=1, on_step=lambda: ticks.append(1))
    assert record.success
    assert record.steps < suite.max_steps
    assert len(ticks) == record.steps + 1
    assert record.first_touched == record.first_grasped == record.acted_on == record.target
    assert record.predicates == {"held": True, "high": True}


def test_what_does_not_fit_is_an_error(env, policy):
    with pytest.raises(ValueError, match="exec_horizon: found 17, wanted at most the 16"):
        run(env, policy, exec_horizon=17)
    other = Recording(policy)
    other.spec = replace(policy.spec, action=replace(policy.spec.action, rate_hz=20.0))
    with pytest.raises(ValueError, match=r"does not fit the policy: action: found .*rate_hz=10"):
        make_env(SUITE, other)  # pyright: ignore[reportArgumentType]


def assert_same(one: Observation, other: Observation) -> None:
    assert one.instruction == other.instruction
    assert torch.equal(one.proprio, other.proprio)
    assert set(one.images) == set(other.images)
    assert all(torch.equal(images, other.images[camera]) for camera, images in one.images.items())
