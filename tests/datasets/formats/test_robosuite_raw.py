"""robosuite's raw demonstrations: made here, as the wheel has them, and hostile."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from deixis.datasets.formats import IMPORTERS, detect
from deixis.datasets.formats.mujoco_joints import joints_of, state_width
from deixis.datasets.formats.options import FormatError, ImportOptions
from deixis.datasets.formats.robosuite_raw import import_robosuite_raw
from deixis.datasets.timestamps import check_store

from .hdf5_files import MODEL, STATE_WIDTH, damage, poke, replace, robosuite_demo, strange_arrays, write_demos

ENV = {"env": "Lift", "env_info": {"env_name": "Lift", "control_freq": 20}, "repository_version": "1.4.0"}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """demo_1 and demo_2 of 6 and 4 rows, as collect_human_demonstrations writes them."""
    demos = {"demo_1": robosuite_demo(6, 1), "demo_2": robosuite_demo(4, 2)}
    return write_demos(tmp_path / "demo.hdf5", demos, ENV, {"model_file": MODEL})


def refused(source: Path, match: str, **options: Any) -> None:
    before = sorted(source.parent.iterdir())
    with pytest.raises(FormatError, match=match) as caught:
        import_robosuite_raw(source, source.parent / "out", ImportOptions(**options))
    assert str(source.parent) in str(caught.value)
    assert sorted(source.parent.iterdir()) == before


def test_states_become_what_the_robot_knows_and_the_rest(raw: Path, tmp_path: Path) -> None:
    assert detect(raw) == detect(tmp_path) == "robosuite_raw"
    store = IMPORTERS["robosuite_raw"](raw, tmp_path / "s", ImportOptions(instruction="lift it"))
    for index, wanted in enumerate((robosuite_demo(6, 1), robosuite_demo(4, 2))):
        episode = store.episode(index)
        states = wanted["states"]
        # Three joints of the robot: columns 1-3 of qpos and the first three of qvel, behind 14 of qpos.
        np.testing.assert_array_equal(episode.streams["proprio"].values, states[:, [1, 2, 3, 15, 16, 17]])
        np.testing.assert_array_equal(episode.streams["privileged.states"].values, states)
        np.testing.assert_array_equal(episode.streams["action"].values, wanted["actions"])
        np.testing.assert_array_equal(episode.streams["action"].stamps_ns, np.rint(states[:, 0] * 1e9).astype(np.int64))
        assert episode.instruction == "lift it" and episode.meta == {"demo": f"demo_{index + 1}"}
    assert store.env_spec.proprio.names[:2] == ("robot0_joint1.qpos", "robot0_joint2.qpos")
    assert store.env_spec.proprio.units == ("radian", "radian", "metre", "radian/s", "radian/s", "metre/s")
    assert store.streams["action"].clock == "measured" and store.env_spec.action.rate_hz == 20
    chosen = import_robosuite_raw(raw, tmp_path / "c", ImportOptions(proprio=("cube_joint0",), limit=1))
    np.testing.assert_array_equal(chosen.read(0, "proprio").values[:, :7], robosuite_demo(6, 1)["states"][:, 4:11])


def test_the_model_may_be_a_file_beside(raw: Path, tmp_path: Path) -> None:
    damage(raw, lambda f: [f[f"data/demo_{i}"].attrs.__setitem__("model_file", "model_1.xml") for i in (1, 2)])
    refused(raw, "found no readable text")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model_1.xml").write_text(MODEL)
    assert import_robosuite_raw(raw, tmp_path / "s").env_spec.proprio.dim == 6
    (tmp_path / "models" / "model_1.xml").rename(tmp_path / "secret.xml")
    (tmp_path / "models" / "model_1.xml").symlink_to(tmp_path / "secret.xml")
    refused(raw, "found a link")


def hand_over(path: Path) -> Path:
    """As the wheel's hand-over: devices polled faster than they send, so that stamps repeat; logs of other lengths."""
    rng, demos = np.random.default_rng(0), {}
    for index, (rows, polls) in enumerate(((40, 90), (30, 61))):
        demo = {**robosuite_demo(rows, index), "user_acting": np.ones((rows, 2), bool)}
        for user in range(2):
            sent = 1.6e9 + 0.05 * (np.arange(polls) * rows // polls)
            demo |= {f"user_info/{user}/timestamp": sent, f"user_info/{user}/dpos": rng.normal(size=(polls, 3)),
                     f"user_info/{user}/grasp": rng.random(polls) < 0.5}  # fmt: skip
        demos[f"demo_{index}"] = {**demo, "controller_info/counters": np.arange(polls)}
    env = {"env": "TwoArmHandover", "env_args": {"env_name": "TwoArmHandover", "env_kwargs": {"control_freq": 20}}}
    return write_demos(path, demos, env, {"model_file": MODEL})


def test_clocks_of_devices_stay_as_they_are_and_are_reported(tmp_path: Path) -> None:
    store = import_robosuite_raw(hand_over(tmp_path / "demo.hdf5"), tmp_path / "s")
    assert store.meta["devices"] == {user: ["dpos_0", "dpos_1", "dpos_2", "grasp"] for user in ("user_0", "user_1")}
    assert store.meta["left_out"] == ["controller_info", "model_file"]
    with h5py.File(tmp_path / "demo.hdf5") as file:
        sent: Any = file["data/demo_0/user_info/1/timestamp"]
        np.testing.assert_array_equal(
            store.read(0, "privileged.user_1").stamps_ns, np.rint(sent[:] * 1e9).astype(np.int64)
        )
    found = {(finding.stream, finding.check, finding.episode) for finding in check_store(store).errors}
    wanted = {(f"privileged.user_{user}", "duplicate", episode) for user in range(2) for episode in range(2)}
    assert wanted <= found
    assert not [finding for finding in found if finding[0] == "action" and finding[1] != "lag"]  # the motion is random


def wheels_demonstrations() -> list[Path]:
    """The demonstrations that an installed robosuite brings (1.4.1: lift, wipe/panda, handover/panda_panda)."""
    spec = importlib.util.find_spec("robosuite")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return sorted(
        file for folder in folders for file in Path(folder, "models/assets/demonstrations").rglob("demo.hdf5")
    )


def test_the_wheels_own_demonstrations_are_reported_as_what_they_are(tmp_path: Path) -> None:
    files = wheels_demonstrations()
    if not files:
        pytest.skip("no robosuite with demonstrations is installed")
    for number, file in enumerate(files):
        store = import_robosuite_raw(file, tmp_path / str(number))
        found = {(finding.stream, finding.check, finding.episode) for finding in check_store(store).errors}
        if file.parent.name == "panda_panda":
            repeated = [int((np.diff(store.stamps("privileged.user_0", [i])) <= 0).sum()) for i in range(len(store))]
            assert repeated == [739, 580, 573, 443, 324, 370, 641]
            assert {(f"privileged.user_{user}", "duplicate", i) for user in range(2) for i in range(7)} <= found
        else:
            assert not found


def test_joints_are_numbered_as_mujoco_numbers_them() -> None:
    mujoco = pytest.importorskip("mujoco")
    # MuJoCo wants masses; the order of joints is what is compared.
    text = MODEL.replace("<joint ", '<geom size="0.1"/><joint ').replace("<freejoint ", '<geom size="0.1"/><freejoint ')
    model = mujoco.MjModel.from_xml_string(text)
    joints = joints_of(text, "here")
    assert [joint.name for joint in joints] == [model.joint(i).name for i in range(model.njnt)]
    assert [joint.qpos for joint in joints] == [1 + int(model.jnt_qposadr[i]) for i in range(model.njnt)]
    assert [joint.qvel for joint in joints] == [1 + model.nq + int(model.jnt_dofadr[i]) for i in range(model.njnt)]
    assert state_width(joints) == 1 + model.nq + model.nv == STATE_WIDTH


@pytest.mark.parametrize("name", ["states", "actions"])
@pytest.mark.parametrize("kind", strange_arrays("", (1,), Path()))
def test_arrays_that_are_no_plain_numbers_are_refused(kind: str, name: str, raw: Path, tmp_path: Path) -> None:
    shape = (4, STATE_WIDTH if name == "states" else 4)
    elsewhere = tmp_path / "elsewhere.h5"
    with h5py.File(elsewhere, "w") as file:
        file["x"] = np.zeros(shape)
    change, match = strange_arrays(f"data/demo_2/{name}", shape, elsewhere)[kind]
    refused(damage(raw, change), match)


def model(text: str) -> Callable[[h5py.File], None]:
    return lambda file: file["data/demo_2"].attrs.__setitem__("model_file", text)


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><mujoco>&b;</mujoco>'
HOSTILE: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "a model that climbs": (model("../../secret.xml"), "and no path"),
    "a model elsewhere": (model("/etc/passwd"), "and no path"),
    "a model that is not there": (model("model_9.xml"), "found no readable text"),
    "a model of entities": (model(BOMB), "found entities"),
    "a model that includes": (
        model(MODEL.replace("<worldbody>", '<include file="/etc/passwd"/><worldbody>')), "includes"),
    "a model cut short": (model(MODEL[:-20]), "found no XML"),
    "a model that is none": (model("<robot></robot>"), "found the root element 'robot'"),
    "a model of another demonstration": (
        model(MODEL.replace('type="ball"', 'type="hinge"')), "of another demonstration"),
    "a joint of no kind": (model(MODEL.replace("hinge", "screw")), "found type 'screw'"),
    "a model without a robot": (
        model(MODEL.replace("robot0", "thing").replace("gripper0_finger", "x")), "wanted some of a"),
    "no model": (lambda f: f["data/demo_2"].attrs.__delitem__("model_file"), "found none"),
    "a model of numbers": (lambda f: f["data/demo_2"].attrs.__setitem__("model_file", 7), "wanted text"),
    "no states": (lambda f: f.__delitem__("data/demo_2/states"), "found no states"),
    "states that stand still": (
        lambda f: replace(f, "data/demo_2/states", np.zeros((4, STATE_WIDTH))), "found no states"),
    "fewer states": (lambda f: replace(f, "data/demo_2/states", np.zeros((3, STATE_WIDTH))), "found 3 rows, wanted 4"),
    "a time of NaN": (lambda f: poke(f, "data/demo_2/states", (1, 0), np.nan), "wanted a time that fits"),
    "another array": (lambda f: f.create_dataset("data/demo_2/torques", data=np.zeros((4, 2))), "as in /data/demo_1"),
    "an array of other rows": (lambda f: f.create_dataset("data/demo_2/x", data=np.zeros(3)), "found 3 rows, wanted 4"),
    "an environment that climbs": (lambda f: f["data"].attrs.__setitem__("env", "../x"), "and no path"),
    "a device without a clock": (
        lambda f: f.create_dataset("data/demo_1/user_info/0/dpos", data=np.zeros((3, 3))), "found nothing there"),
    "a device's clock of whole seconds": (
        lambda f: f.create_dataset("data/demo_1/user_info/0/timestamp", data=np.arange(3)), "wanted float64"),
    "a device elsewhere": (
        lambda f: f.create_group("data/demo_1/user_info").__setitem__("0", h5py.SoftLink("/data")), "found a SoftLink"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_broken_files_are_refused(kind: str, raw: Path) -> None:
    change, match = HOSTILE[kind]
    refused(damage(raw, change), match)


def test_images_cannot_be_asked_for(raw: Path) -> None:
    refused(raw, "raw demonstrations have no images", cameras=("front",))
