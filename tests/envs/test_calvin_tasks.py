"""CALVIN's tasks, tables and chains as they are written down here: needs neither PyBullet nor a checkout."""

import hashlib
import json

import numpy as np
import pytest

from deixis.envs.calvin.chains import CHAINS, ROBOT, STARTING, chain, published_noise, scene, tables, tables_for
from deixis.envs.calvin.tasks import BLOCKS, HELD_OUT, TASKS

RULES = {  # of CALVIN's oracle, and how many arguments of its own each takes at least and at most
    "rotate_object": (2, 5),
    "push_object": (3, 3),
    "lift_object": (2, 4),
    "place_object": (1, 2),
    "push_object_into": (5, 5),
    "move_door_rel": (2, 2),
    "toggle_light": (3, 3),
    "stack_objects": (0, 1),
    "unstack_objects": (0, 1),
}
# Of all chains with their tables, as JSON with sorted keys and without spaces: what CALVIN's own generator makes.
PUBLISHED = "90191d9ac76baecb4f292ab766bbbf3ae65dbf43a83bbe5c376d99db10fd6446"


def test_there_are_34_tasks_that_rules_of_calvin_judge() -> None:
    assert len(TASKS) == 34 and {task.rule[0] for task in TASKS.values()} == set(RULES)
    for name, task in TASKS.items():
        least, most = RULES[task.rule[0]]
        assert least <= len(task.rule) - 1 <= most, name
    assert TASKS["push_pink_block_left"].rule == ("push_object", "block_pink", -0.1, 0)
    assert TASKS["rotate_red_block_right"].rule == ("rotate_object", "block_red", -60)
    assert TASKS["lift_blue_block_slider"].rule == ("lift_object", "block_blue", 0.03, "table", "plank_link")
    assert TASKS["close_drawer"].rule == ("move_door_rel", "base__drawer", -0.12)
    assert TASKS["turn_off_led"].rule == ("toggle_light", "led", 1, 0)


def test_each_task_can_be_asked_for_in_several_ways_and_no_sentence_asks_for_two() -> None:
    for name, task in TASKS.items():
        assert len(set(task.texts)) == len(task.texts) == HELD_OUT + 3, name
        assert not task.target.endswith("block") or task.target in " ".join(task.texts), name
    said = [text for task in TASKS.values() for text in task.texts]
    assert len(set(said)) == len(said)


def test_tables_are_those_that_calvin_begins_with() -> None:
    assert len(tables()) == 192 and all(table["grasped"] == 0 for table in tables())
    others = {"place_in_slider", "place_in_drawer", "stack_block", "unstack_block"}
    others |= {f"lift_{colour}_block_drawer" for colour in ("red", "blue", "pink")}
    assert set(TASKS) - set(STARTING) == others, "what needs another task before it"
    assert all(table["drawer"] == "open" for table in tables_for("push_into_drawer"))
    for table in tables_for("lift_pink_block_slider"):
        assert (table["pink_block"], table["slider"]) in (("slider_left", "right"), ("slider_right", "left"))


def test_doing_a_task_changes_the_table() -> None:
    table = next(table for table in tables_for("lift_red_block_table") if table["drawer"] == "open")
    (held,) = TASKS["lift_red_block_table"].after(table)
    assert (held["red_block"], held["grasped"]) == ("grasped", 1)
    (laid,) = TASKS["place_in_drawer"].after(held)
    assert (laid["red_block"], laid["grasped"]) == ("drawer", 0)
    assert TASKS["lift_red_block_drawer"].after(laid) and not TASKS["lift_red_block_table"].after(laid)
    assert not TASKS["place_in_drawer"].after(laid), "nothing is in the hand"


def test_the_first_chains_are_the_published_ones() -> None:
    table, tasks = chain(0)
    assert tasks == (
        "rotate_blue_block_right",
        "move_slider_right",
        "lift_red_block_slider",
        "place_in_slider",
        "turn_off_lightbulb",
    )
    assert table["red_block"] == "slider_left" and table["slider"] == "left" and table["lightbulb"] == 1
    assert chain(1)[1][0] == "turn_off_led" and chain(1)[1][-1] == "close_drawer"
    for number in (-1, CHAINS):
        with pytest.raises(ValueError, match=f"found number {number}, wanted 0 to 999"):
            chain(number)


@pytest.mark.slow
def test_all_chains_are_the_published_ones() -> None:
    found = [[dict(table), list(tasks)] for table, tasks in map(chain, range(CHAINS))]
    text = json.dumps(found, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == PUBLISHED


def test_a_table_as_numbers_says_what_the_table_says() -> None:
    seen = set()
    for table in tables():
        parts = scene(table, published_noise(table))
        again = scene(table, published_noise(table))
        assert all(np.array_equal(parts[name], again[name]) for name in parts), "always in the same places"
        assert parts["base__slide"] == (0.28 if table["slider"] == "left" else 0.0)
        assert parts["base__drawer"] == (0.22 if table["drawer"] == "open" else 0.0)
        assert (parts["lightbulb"], parts["led"]) == (table["lightbulb"], table["led"])
        poses = np.array([parts[name] for name in BLOCKS])
        assert poses.shape == (3, 6) and len({tuple(pose[:2]) for pose in poses}) == 3, "no two in one place"
        for name, pose in zip(BLOCKS, poses, strict=True):
            place = table[f"{name[6:]}_block"]
            assert (pose[1] < 0) == (place == "table")
            assert place == "table" or (pose[0] < 0) == (place == "slider_left")
        assert (np.abs(poses[:, 5] - np.pi / 2) <= np.pi / 8).all()
        seen.add(tuple(poses[:, 5]))
    assert len(seen) == len(tables()), "a table has noise of its own"
    assert ROBOT.shape == (15,) and ROBOT[-1] == 1


def test_noise_is_seeded_by_the_hash_that_calvin_uses() -> None:
    from deixis.envs.calvin.chains import _fnv1_32

    assert _fnv1_32("test") == 3910690890, "what pyhash says of this text"
