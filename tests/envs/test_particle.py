"""The particle: its physics in closed form, its rules, its expert, its pictures, and demonstrations of it."""

import math
import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.store import TrajectoryStore
from deixis.datasets.timestamps import check_store
from deixis.envs.collect import CollectionError, collect
from deixis.envs.config import CollectConfig
from deixis.envs.particle import DT, KD, KP, RADIUS, REPEATS, STEPS, ParticleEnv
from deixis.envs.particle_demonstrations import SWITCH, ParticleExpert
from deixis.envs.suites import SUITES, suite_named

DIMS = (1, 2, 8, 32)


def fly(env: ParticleEnv, seed: int) -> dict:
    """One episode of the expert; the last info."""
    expert = ParticleExpert()
    observation, info = env.reset(seed=seed)
    for _ in range(STEPS):
        observation, _, _, _, info = env.step(expert.action(observation["proprio"]))
    return info


# ---- physics ----


def test_one_action_is_ten_euler_steps_of_the_controller() -> None:
    env = ParticleEnv(dim=3)
    env.reset(seed=4)
    rng = np.random.default_rng(0)
    position, velocity = env.position.copy(), env.velocity.copy()
    for _ in range(20):
        command = rng.random(3)
        for _ in range(REPEATS):
            force = KP * (command - position) - KD * velocity
            position, velocity = position + velocity * DT, velocity + force * DT
        env.step(command)
        np.testing.assert_allclose(env.position, position, atol=1e-12)
        np.testing.assert_allclose(env.velocity, velocity, atol=1e-12)


def test_an_action_worked_out_beforehand() -> None:
    """From rest, one side of the cube from the command: q -> q - 0.005 v and v -> 0.975 v + 0.05 q, ten times."""
    env = ParticleEnv(dim=1)
    env.reset(seed=0)
    env.position, env.velocity = np.zeros(1), np.zeros(1)
    env.step(np.ones(1))
    assert env.position[0] == pytest.approx(0.010519489840, abs=1e-12)
    assert env.velocity[0] == pytest.approx(0.445967002778, abs=1e-12)


def test_a_held_command_is_the_damped_oscillation_of_the_textbook() -> None:
    """x'' = kp (a - x) - kd x': decay kd / 2, frequency sqrt(kp - kd^2 / 4); Euler steps of 5 ms stay near it."""
    env = ParticleEnv(dim=2)
    env.reset(seed=8)
    start, command = env.position.copy(), np.array([0.3, 0.9])
    decay = KD / 2
    turn = math.sqrt(KP - decay**2)
    for step in range(1, STEPS + 1):
        env.step(command)
        t = step * DT * REPEATS
        left = math.exp(-decay * t) * (math.cos(turn * t) + decay / turn * math.sin(turn * t))
        np.testing.assert_allclose(env.position, command + left * (start - command), atol=0.01)


@given(st.integers(0, 2**31 - 1), st.sampled_from(["corners", "anywhere"]), st.integers(1, 12))
def test_no_commands_drive_it_out_of_the_observation_space(seed: int, kind: str, hold: int) -> None:
    env = ParticleEnv(dim=4)
    observation, _ = env.reset(seed=seed)
    assert env.observation_space.contains(observation)
    rng = np.random.default_rng(seed)
    for step in range(STEPS):
        if step % hold == 0:
            command = rng.integers(0, 2, 4).astype(float) if kind == "corners" else rng.random(4)
        observation, *_ = env.step(command)
        assert env.observation_space.contains(observation)


def test_the_worst_commands_do_not_either() -> None:
    """Always away from where it goes: the largest swing that the controller allows."""
    env = ParticleEnv(dim=1)
    env.reset(seed=0)
    env.position = np.zeros(1)
    for _ in range(500):
        observation, *_ = env.step((env.velocity >= 0).astype(float))
        assert env.observation_space.contains(observation)


def test_a_command_out_of_the_cube_is_cut_off() -> None:
    one, two = ParticleEnv(dim=2), ParticleEnv(dim=2)
    one.reset(seed=1)
    two.reset(seed=1)
    one.step(np.array([-3.0, 1.5]))
    two.step(np.array([0.0, 1.0]))
    assert np.array_equal(one.position, two.position)


# ---- rules ----


@pytest.mark.parametrize("dim", DIMS)
def test_an_episode_is_a_function_of_its_seed(dim: int) -> None:
    def episode(seed: int) -> np.ndarray:
        env, rng = ParticleEnv(dim=dim), np.random.default_rng(3)
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(rng.random(dim))[0] for _ in range(STEPS)]
        return np.stack([observation["proprio"] for observation in seen])

    assert np.array_equal(episode(7), episode(7))
    assert not np.array_equal(episode(7)[0], episode(8)[0])


def test_start_and_way_points_are_uniform_and_independent() -> None:
    env = ParticleEnv(dim=2)
    drawn = np.stack([env.reset(seed=seed)[0]["proprio"] for seed in range(4000)])
    assert not drawn[:, 2:4].any()  # at rest
    places = np.delete(drawn, [2, 3], axis=1).astype(float)
    for column in places.T:
        counts = np.histogram(column, bins=10, range=(0, 1))[0]
        assert np.square(counts - 400).sum() / 400 < 33.7  # chi-squared, 9 degrees of freedom, p = 1e-4
    assert np.abs(np.corrcoef(places.T) - np.eye(6)).max() < 0.08


def test_the_observation_is_what_its_spec_names() -> None:
    env = ParticleEnv(dim=2)
    env.reset(seed=5)
    observation, *_ = env.step(np.array([0.2, 0.8]))
    names = env.env_spec.proprio.names
    assert names[:3] == ("position_0", "position_1", "velocity_0") and names[-1] == "second_1"
    seen = dict(zip(names, observation["proprio"], strict=True))
    assert seen["velocity_1"] == np.float32(env.velocity[1]) and seen["first_0"] == np.float32(env.first[0])
    assert env.env_spec.action.rate_hz == 20.0 and env.env_spec.proprio.units[2] == "1/s"
    assert env.env_spec.cameras == ()


def test_success_wants_the_first_on_the_way_and_the_second_at_the_end() -> None:
    env = ParticleEnv(dim=2)

    def episode(way) -> list[tuple[float, bool, bool, dict]]:
        env.reset(seed=2)
        return [env.step(way(step))[1:] for step in range(STEPS)]

    good = episode(lambda step: env.first if step < 25 else env.second)
    assert [result[:3] for result in good[:-1]] == [(0.0, False, False)] * 49
    assert good[-1][:3] == (1.0, True, False) and good[-1][3]["success"]
    assert not any(result[3]["success"] for result in good[:-1])
    for way in (lambda step: env.second, lambda step: env.first, lambda step: env.second if step < 25 else env.first):
        bad = episode(way)
        assert bad[-1][:3] == (0.0, False, True) and not bad[-1][3]["success"]
    unmet = episode(lambda step: env.second)[-1][3]["predicates"]
    assert unmet["at_second"] and not unmet["reached_first"] and unmet["closest_to_first"] > RADIUS


def test_a_way_point_counts_where_an_action_ends_and_not_where_the_episode_begins() -> None:
    env = ParticleEnv(dim=2)
    _, info = env.reset(seed=2)
    env.first = env.position.copy()
    assert not info["predicates"]["reached_first"]
    _, _, _, _, info = env.step(env.first)
    assert info["predicates"]["reached_first"]


@pytest.mark.parametrize("dim", [1, 3])
def test_gymnasium_accepts_it(dim: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make("deixis/Particle-v0", dim=dim, render_mode="rgb_array").unwrapped)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ParticleEnv(dim=0), "dim: found 0"),
        (lambda: ParticleEnv(dim=2.0), "dim: found 2.0"),  # pyright: ignore[reportArgumentType]
        (lambda: ParticleEnv().reset(options={"task": "push"}), "'task': found 'push', wanted 'reach'"),
        (lambda: ParticleEnv().reset(options={"condition": "swap"}), "'condition': found 'swap', wanted 'correct'"),
        (lambda: ParticleEnv().reset(options={"goal": 1}), "'goal' is unknown; known: task, condition"),
    ],
)
def test_bad_options_are_refused(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("action", [np.zeros(3), np.zeros((1, 2)), np.array([0.5, np.nan]), 0.5])
def test_bad_actions_are_refused(action) -> None:
    env = ParticleEnv(dim=2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="wanted 2 finite numbers"):
        env.step(action)


# ---- the expert ----


@pytest.mark.parametrize("dim", DIMS)
def test_the_expert_succeeds(dim: int) -> None:
    env = ParticleEnv(dim=dim)
    assert all(fly(env, seed)["success"] for seed in range(300))


def test_the_expert_turns_when_it_sees_that_it_is_there_and_never_back() -> None:
    expert = ParticleExpert()
    first, second = np.array([0.5, 0.5]), np.array([0.1, 0.9])

    def told(x: float) -> np.ndarray:
        return expert.action(np.concatenate([[x, 0.5], [0.0, 0.0], first, second]).astype(np.float32))

    assert np.array_equal(told(0.5 + 1.1 * SWITCH), np.float32(first))
    assert np.array_equal(told(0.5 + 0.9 * SWITCH), np.float32(second))
    assert np.array_equal(told(0.9), np.float32(second))
    assert np.array_equal(
        ParticleExpert().action(np.concatenate([[0.9, 0.5], [0, 0], first, second])), first
    )  # another episode


# ---- pictures ----


@pytest.mark.parametrize("dim", [1, 2, 3, 32])
def test_a_picture_shows_way_points_and_motion(dim: int) -> None:
    env = ParticleEnv(dim=dim, render_mode="rgb_array", render_size=200)
    observation, _ = env.reset(seed=3)
    before = env.render()
    assert before.shape == (200, 200, 3) and before.dtype == np.uint8
    expert = ParticleExpert()
    for _ in range(10):
        observation, *_ = env.step(expert.action(observation["proprio"]))
    after = env.render()
    assert (before != after).any(2).sum() > 20
    red, green, blue = np.moveaxis(after.astype(int), -1, 0)
    assert ((green > red + 30) & (green > blue + 10)).any() and ((blue > red + 50) & (blue > green + 30)).any()


def test_the_map_is_to_scale() -> None:
    env = ParticleEnv(dim=2, render_mode="rgb_array", render_size=300)
    env.reset(seed=0)
    env.first, env.second = np.array([0.25, 0.75]), np.array([0.75, 0.25])
    env.position = np.array([0.5, 0.5])
    env._trail = [env.position]
    red, green, blue = np.moveaxis(env.render().astype(int), -1, 0)
    rows, columns = np.nonzero((green > red + 60) & (green > blue + 40))
    assert columns.mean() / 300 == pytest.approx(0.07 + 0.86 * 0.25, abs=0.01)  # to the right
    assert rows.mean() / 300 == pytest.approx(0.07 + 0.86 * 0.25, abs=0.01)  # up
    assert np.ptp(columns) / 300 == pytest.approx(2 * RADIUS * 0.86, abs=0.015)  # as large as it counts


# ---- demonstrations ----


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    folder = tmp_path_factory.mktemp("particle")
    return collect(CollectConfig(suite="particle-2", episodes=40, workers=2), folder / "demos.zarr", seed=3)


def test_demonstrations_are_those_of_their_seeds(store: TrajectoryStore) -> None:
    suite = suite_named("particle-2")
    assert len(store) == 40 and store.meta["suite"] == "particle-2" and store.meta["dim"] == 2
    assert store.env_spec == ParticleEnv(dim=2).env_spec and set(store.streams) == {"proprio", "action"}
    env: ParticleEnv = suite.make().unwrapped  # pyright: ignore[reportAssignmentType]
    for number in (0, 1, 39):
        episode = store.episode(number)
        seed = suite.demonstration_seed("reach", number, 3)
        assert episode.meta == {"task": "reach", "seed": seed, "success": True, "attempt": number}
        proprio, action = episode.streams["proprio"], episode.streams["action"]
        assert len(proprio.values) == STEPS
        assert np.array_equal(action.stamps_ns, np.arange(STEPS) * 50_000_000)
        observation, info = env.reset(seed=episode.meta["seed"])
        for seen, command in zip(proprio.values, action.values, strict=True):
            assert np.array_equal(observation["proprio"], seen)
            assert np.array_equal(command, seen[4:6]) or np.array_equal(command, seen[6:8])
            observation, _, _, _, info = env.step(command)
        assert info["success"] and episode.instruction == info["instruction"]


def test_workers_do_not_change_what_comes_out(store: TrajectoryStore, tmp_path: Path) -> None:
    alone = collect(CollectConfig(suite="particle-2", episodes=5, workers=1), tmp_path / "alone.zarr", seed=3)
    for index in range(5):
        one, two = alone.episode(index), store.episode(index)
        assert one.meta == two.meta
        assert all(np.array_equal(one.streams[n].values, two.streams[n].values) for n in one.streams)


def test_the_gate_has_nothing_against_them(store: TrajectoryStore) -> None:
    assert not check_store(store).errors


def test_tabletop_options_change_nothing(store: TrajectoryStore, tmp_path: Path) -> None:
    config = CollectConfig(suite="particle-2", episodes=2, workers=1, noise=0.5, image_size=32)
    noisy = collect(config, tmp_path / "noisy.zarr", seed=3)
    assert np.array_equal(noisy.episode(1).streams["proprio"].values, store.episode(1).streams["proprio"].values)


def test_every_published_dimension_is_a_suite() -> None:
    for dim in (1, 2, 4, 8, 16, 32):
        suite = SUITES[f"particle-{dim}"]
        env = suite.make(disable_env_checker=True).unwrapped
        assert isinstance(env, ParticleEnv) and env.dim == dim
        assert (suite.tasks, suite.max_steps) == (("reach",), STEPS)


def test_a_suite_without_an_expert_says_so(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match=r"no expert drives deixis/PushT-v0.*record your own demonstrations"):
        collect(CollectConfig(suite="pusht-state", episodes=1), tmp_path / "none.zarr")
    assert not (tmp_path / "none.zarr").exists()
