"""The adapter for CALVIN, through a stand-in of the shape of calvin_env over boxes in real PyBullet."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from deixis.envs.calvin.chains import ROBOT, STARTING, chain, tables_for
from deixis.envs.calvin.checkout import VARIABLE, CheckoutError, find_checkout
from deixis.envs.calvin.tasks import TASKS
from deixis.envs.suites import Suite, suite_named

STAND_IN = Path(__file__).parent / "calvin_stand_in"
WORDS = "calvin_models/conf/annotations/new_playtable_validation.yaml"
STILL = np.array([0, 0, 0, 0, 0, 0, 1.0])


def copied(folder: Path) -> Path:
    """A checkout of its own, a clone by the looks of it."""
    shutil.copytree(STAND_IN, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".git").mkdir()
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("pybullet", "omegaconf", "hydra"):
        pytest.importorskip(package, reason="needs the extra calvin, which dev leaves out: `make test-calvin`")
    folder = copied(tmp_path_factory.mktemp("calvin") / "calvin_env")
    sentences = "".join(f"{task}: ['as calvin says it: {task}']\n" for task in TASKS)
    (folder.parent / WORDS).parent.mkdir(parents=True)
    (folder.parent / WORDS).write_text(sentences, "utf-8")
    return folder


@pytest.fixture
def env(checkout: Path) -> Iterator[Any]:
    from deixis.envs.calvin.env import CalvinEnv

    env = CalvinEnv(image_size=64, folder=checkout)
    yield env
    env.close()


@pytest.fixture
def suite(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv(VARIABLE, str(checkout))
    return suite_named("calvin-d")


def joint(env: Any, name: str, value: float) -> None:
    """Moves a joint of the table by an invisible hand."""
    sim = env.table._sim
    part = next(part for part in env.table._parts() if part.name == name)
    sim.p.resetJointState(part.uid, part.number, value, physicsClientId=sim.cid)


def test_it_is_a_gymnasium_environment(env: Any) -> None:
    check_env(env, skip_render_check=True)
    assert env.render().shape == (64, 64, 3)


def test_pictures_and_numbers_are_calvins(suite: Suite) -> None:
    env: Any = suite.make(disable_env_checker=True).unwrapped
    observation, info = env.reset(seed=3, options={"task": "open_drawer"})
    assert observation["camera.static"].shape == (200, 200, 3)
    assert observation["camera.gripper"].shape == (84, 84, 3)
    assert env.observation_space.contains(observation)
    assert observation["proprio"] == pytest.approx(env.table.robot()) and observation["proprio"].shape == (15,)
    assert observation["proprio"][:3] == pytest.approx(ROBOT[:3], abs=0.005)
    assert info["goal"] == {"verb": "open_drawer", "target": "drawer"} and info["predicates"] == {"success": False}
    assert suite.tasks == STARTING and suite.max_steps == 360 and env.env_spec.action.rate_hz == 30
    env.close()


def test_an_action_is_a_share_of_two_centimetres_and_a_twentieth_of_a_radian(env: Any) -> None:
    env.reset(seed=0, options={"task": "open_drawer"})
    robot = env.table._sim.robot
    start, turn = robot.target.copy(), robot.turn.copy()
    action = np.array([1.0, -0.5, 0.25, 1.0, 0.0, -1.0, 0.3])
    kept = action.copy()
    env.table.step(action)
    assert np.array_equal(action, kept), "what was handed in stays as it was"
    assert robot.target - start == pytest.approx([0.02, -0.01, 0.005])
    assert robot.turn - turn == pytest.approx([0.05, 0.0, -0.05]) and robot.gripper_action == 1
    env.step(np.array([9.0, 0, 0, 0, 0, 0, -0.1]))
    assert robot.target[0] - start[0] == pytest.approx(0.04), "clipped to the limits"
    assert robot.gripper_action == -1
    for _ in range(30):
        observation = env.step(STILL)[0]
    assert observation["proprio"][:3] == pytest.approx(robot.target, abs=0.003), "PyBullet has moved the hand there"
    with pytest.raises(ValueError, match=r"action: found .*wanted \(7,\) finite numbers"):
        env.step(np.full(7, np.nan))


def test_pictures_are_upright(env: Any) -> None:
    def centre_of_red() -> np.ndarray:
        picture = env.observe()["camera.static"].astype(int)
        return np.argwhere((picture[..., 0] > 90) & (picture[..., 1:].max(-1) < 60)).mean(0)

    env.reset(seed=1, options={"task": "push_red_block_left"})
    sim, red = env.table._sim, env.table._sim.scene.movable_objects[2]
    seen = {}
    for name, place in {"here": (0.05, 0, 0.5), "above": (0.05, 0, 0.7), "right": (0.25, 0, 0.5)}.items():
        sim.p.resetBasePositionAndOrientation(red.uid, place, [0, 0, 0, 1], physicsClientId=sim.cid)
        seen[name] = centre_of_red()
    assert seen["above"][0] < seen["here"][0] - 5 and abs(seen["above"][1] - seen["here"][1]) < 2, "up is row 0"
    assert seen["right"][1] > seen["here"][1] + 5 and abs(seen["right"][0] - seen["here"][0]) < 2, "right is right"


def test_steps_that_nobody_looks_at_are_not_drawn(env: Any) -> None:
    first = env.reset(seed=1, options={"task": "push_red_block_left"})[0]
    move = np.array([1.0, 1.0, 0, 0, 0, 0, 1])
    env.set_observing(False)
    assert all(env.step(move)[0]["camera.static"] is first["camera.static"] for _ in range(5))
    env.set_observing(True)
    assert not np.array_equal(env.step(move)[0]["camera.static"], first["camera.static"])
    assert env.table._sim.drawn == 0, "the simulation draws nothing by itself"


def played(env: Any, task: str, seed: int) -> list[np.ndarray]:
    observation, _ = env.reset(seed=seed, options={"task": task})
    kept = [
        *env.table.places().values(),
        *(observation[name] for name in ("camera.static", "camera.gripper", "proprio")),
    ]
    rng = np.random.default_rng(2)
    for _ in range(25):
        observation = env.step(rng.uniform(-1, 1, 7))[0]
    return [*kept, *env.table.places().values(), observation["camera.static"], observation["proprio"]]


def test_equal_seeds_make_equal_worlds_whatever_was_before(env: Any) -> None:
    first = played(env, "push_blue_block_right", 5)
    played(env, "turn_on_led", 6)
    for name, value in (("base__button", 0.3), ("base__drawer", 0.2)):
        joint(env, name, value)
    sim = env.table._sim
    sim.p.resetBaseVelocity(sim.scene.loose, [0.5, 0, 1], physicsClientId=sim.cid)  # which no reset of it knows of
    for _ in range(40):
        env.step(np.array([0.5, 1.0, -1.0, 0, 0, 0, -1]))
    again = played(env, "push_blue_block_right", 5)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    other = played(env, "push_blue_block_right", 6)
    assert not np.array_equal(first[0], other[0]), "another seed, another place"


def test_a_button_knows_its_light_when_an_episode_begins(env: Any) -> None:
    for task, others in (("turn_off_led", "turn_on_led"), ("turn_on_led", "turn_off_led")) * 2:
        env.reset(seed=7, options={"task": others})  # leaves the light in the other state
        env.reset(seed=7, options={"task": task})
        assert not env.step(STILL)[4]["success"]
        joint(env, "base__button", 0.3)
        _, reward, terminated, truncated, info = env.step(STILL)
        assert info["success"] and reward == 1 and terminated and not truncated, task


def test_a_block_that_the_hand_pushes_far_enough_is_a_success(env: Any) -> None:
    """Through actions and contact alone: beside the block, down, and along the table."""
    env.reset(seed=11, options={"task": "push_red_block_left"})
    place = env.table.places()["block_red"]
    done, steps = False, 0
    for target in (place + [0.15, 0, 0.2], place + [0.15, 0, 0.02], place + [-0.16, 0, 0.02]):
        while not done and (left := target - env.table._sim.robot.target).dot(left) > 1e-8:
            action = np.concatenate([np.clip(left / 0.02, -1, 1), np.zeros(3), [1]])
            _, _, done, _, info = env.step(action)
            steps += 1
            assert info["success"] == done and steps < 200
    moved = env.table.places()["block_red"] - place
    assert done and -0.13 < moved[0] < -0.1, "it ends where the rule says, 10 cm, and not later"


def test_success_is_judged_from_the_moment_of_asking(env: Any) -> None:
    env.reset(seed=2, options={"task": "open_drawer"})
    joint(env, "base__drawer", 0.2)
    assert env.step(STILL)[4]["success"]
    _, info = env.ask_next("open_drawer", 1)
    assert not info["success"] and not env.step(STILL)[4]["success"], "it was open already"
    observation, info = env.ask_next("close_drawer", 2)
    assert observation["instruction"] == info["instruction"] in TASKS["close_drawer"].texts
    joint(env, "base__drawer", 0.0)
    assert env.step(STILL)[4]["success"] and info["goal"]["verb"] == "close_drawer"
    with pytest.raises(ValueError, match="task: found 'dance'"):
        env.ask_next("dance", 1)


def test_every_task_begins_on_a_table_on_which_it_can_be_done(env: Any) -> None:
    for task in STARTING:
        env.reset(seed=4, options={"task": task})
        doors = {name: door["current_state"] for name, door in env.table.info["scene_info"]["doors"].items()}
        slider = "left" if doors["base__slide"] > 0.14 else "right"
        drawer = "open" if doors["base__drawer"] > 0.11 else "closed"
        fitting = tables_for(task)
        assert any((table["slider"], table["drawer"]) == (slider, drawer) for table in fitting), task


def test_conditions_say_it_differently(env: Any) -> None:
    task = "turn_on_lightbulb"

    def said(**options: Any) -> str:
        return env.reset(seed=9, options={"task": task, **options})[0]["instruction"]

    assert said() in TASKS[task].texts[:-1] and said() == said(condition="correct")
    assert said(condition="null") == "" and said(condition="paraphrase-en") == TASKS[task].texts[-1]
    assert said(instruction="let there be light") == "let there be light"
    for options, message in (
        ({"task": "stack_block"}, "reset option 'task': found 'stack_block', wanted one of rotate_red"),
        ({"condition": "swap"}, "reset option 'condition': found 'swap', wanted one of correct, null"),
        ({"colour": "red"}, r"reset options: found \['colour'\]"),
        ({"task": "open_drawer", "chain": 0}, "wanted 'rotate_blue_block_right', the first of chain 0"),
        ({"chain": 1000}, "found number 1000, wanted 0 to 999"),
    ):
        with pytest.raises(ValueError, match=message):
            env.reset(seed=0, options=options)


def test_calvins_own_sentences_where_its_repository_is(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(checkout.parent))  # the folder of calvin, of which calvin_env is a part
    suite = suite_named("calvin-d-original")
    env: Any = suite.make(disable_env_checker=True, image_size=32).unwrapped
    assert env.reset(seed=0, options={"task": "open_drawer"})[0]["instruction"] == "as calvin says it: open_drawer"
    told = env.reset(seed=0, options={"task": "open_drawer", "condition": "paraphrase-en"})[0]["instruction"]
    assert told == TASKS["open_drawer"].texts[-1]
    env.close()


class InvisibleHand:
    """A policy that moves doors and presses switches by force, and does nothing else."""

    def __init__(self, env: Any) -> None:
        self.env, self.cameras = env, {"static": (64, 64)}
        self.config: Any = SimpleNamespace(exec_horizon=4, action_horizon=4, obs_horizon=1, subgoals=False)

    def say(self, observation: Any) -> None:
        return None

    def act(self, observation: Any, generators: Any = None, subgoals: Any = None) -> Any:
        import torch

        world = self.env.unwrapped
        rule = TASKS[world.task].rule
        if rule[0] == "move_door_rel":
            joint(world, rule[1], 0.28 if rule[2] > 0 else 0.0)
        elif rule[0] == "toggle_light":
            part = {"led": "base__button", "lightbulb": "base__switch"}[rule[1]]
            joint(world, part, 0.0)
            world.step(STILL)
            joint(world, part, 0.3)
        return torch.tensor(np.tile(STILL, (1, 4, 1)))


def test_a_published_chain_is_played_to_its_first_failure(suite: Suite) -> None:
    from deixis.eval.chains import run_chain
    from deixis.eval.rollout import Player

    env = suite.make(disable_env_checker=True, image_size=64)
    solvable = ("move_door_rel", "toggle_light")
    lengths = []
    for number in (1, 2, 8):
        table, tasks = chain(number)
        wanted = next(place for place, task in enumerate(tasks) if TASKS[task].rule[0] not in solvable)
        records = run_chain(Player(env, InvisibleHand(env), suite), suite, number, "hand", {})
        assert [record.task for record in records] == list(tasks[: wanted + 1])
        assert [record.success for record in records] == [True] * wanted + [False]
        assert [record.condition for record in records] == [f"chain-{place + 1}" for place in range(wanted + 1)]
        assert records[-1].steps == 360 and all(record.index == number for record in records)
        lights = env.unwrapped.table.info["scene_info"]["lights"]  # pyright: ignore[reportAttributeAccessIssue]
        toggled = {TASKS[task].rule[1] for task in tasks[:wanted] if TASKS[task].rule[0] == "toggle_light"}
        for light in ("led", "lightbulb"):
            assert (lights[light]["logical_state"] != table[light]) == (light in toggled), "the world goes on"
        lengths.append(wanted)
    assert lengths == [1, 0, 1]
    env.close()


def test_one_table_lives_in_a_process(env: Any, checkout: Path) -> None:
    from deixis.envs.calvin.env import CalvinEnv

    with pytest.raises(RuntimeError, match=r"close\(\) the other environment first.*eval.environments 1"):
        CalvinEnv(image_size=32, folder=checkout)
    env.close()
    env.close()
    with ThreadPoolExecutor(2) as threads:
        made = [threads.submit(CalvinEnv, image_size=32, folder=checkout) for _ in range(2)]
    failed = [future for future in made if future.exception()]
    assert len(failed) == 1 and isinstance(failed[0].exception(), RuntimeError), "at the same moment neither"
    next(future for future in made if future not in failed).result().close()
    CalvinEnv(image_size=32, folder=checkout).close()


def test_two_checkouts_cannot_be_mixed(env: Any, tmp_path: Path) -> None:
    other = find_checkout(copied(tmp_path / "calvin_env"))
    with pytest.raises(CheckoutError, match=r"is imported from .* already; use one checkout"):
        other.module("envs.tasks")


def test_settings_start_nothing_from_elsewhere(checkout: Path, tmp_path: Path) -> None:
    folder = copied(tmp_path / "calvin_env")
    camera = folder / "conf/cameras/cameras/static.yaml"
    for text, message in (
        ("_target_: os.system\ncommand: ls\n", "_target_: found 'os.system', wanted a part of calvin_env"),
        ("name: {_target_: shutil.rmtree}\n", "_target_: found 'shutil.rmtree'"),
        ("_target_: ${oc.env:HOME}\n", "_target_: found '.{oc.env:HOME}'"),
        ("- a\n- b\n", "found ListConfig, wanted names with values"),
        ("name: [\n", "cannot be read as settings"),
    ):
        camera.write_text(text, "utf-8")
        with pytest.raises(ValueError, match=message) as caught:
            find_checkout(folder).settings({"static": 64})
        assert str(camera) in str(caught.value)


def test_a_task_without_a_sentence_is_named(checkout: Path, tmp_path: Path) -> None:
    folder = copied(tmp_path / "calvin_env")
    (tmp_path / WORDS).parent.mkdir(parents=True)
    (tmp_path / WORDS).write_text("open_drawer: ['open it']\n", "utf-8")
    with pytest.raises(ValueError, match="task 'rotate_red_block_right': found None, wanted a list"):
        find_checkout(folder).sentences()


def test_a_module_that_calvin_needs_is_named(checkout: Path) -> None:
    (checkout / "calvin_env/envs/needy.py").write_text("import no_such_package_here\n", "utf-8")
    with pytest.raises(
        CheckoutError, match=r"needs a module that is not here \(no_such_package_here\).*deixis\[calvin\]"
    ):
        find_checkout(checkout).module("envs.needy")


# ---- at the border, without PyBullet ----


def test_a_checkout_has_to_be_named_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(CheckoutError, match=r"git clone .*export DEIXIS_CALVIN="):
        suite_named("calvin-d")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(CheckoutError, match=r"DEIXIS_CALVIN: found '.*nowhere', which is no folder"):
        suite_named("calvin-d")
    folder = copied(tmp_path / "calvin_env")
    monkeypatch.setenv(VARIABLE, str(folder))
    assert suite_named("calvin-d").name == "calvin-d"
    assert find_checkout(tmp_path).folder == folder, "the folder around it will do"
    with pytest.raises(CheckoutError, match=r"clone github.com/mees/calvin .*or evaluate the suite 'calvin-d'"):
        suite_named("calvin-d-original")
    with pytest.raises(ValueError, match="found 'calvin-abc', wanted one of calvin-d, calvin-d-original"):
        suite_named("calvin-abc")
    (folder / "conf/robot/panda.yaml").unlink()
    with pytest.raises(CheckoutError, match=r"lacks conf/robot/panda.yaml; wanted a whole checkout"):
        suite_named("calvin-d")


def test_a_checkout_has_to_be_a_clone(tmp_path: Path) -> None:
    folder = copied(tmp_path / "calvin_env")
    (folder / ".git").rmdir()
    with pytest.raises(CheckoutError, match=r"is no git clone \(no .git in it or above\)"):
        find_checkout(folder)
