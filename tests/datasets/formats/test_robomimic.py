"""robomimic's and LIBERO's HDF5 in and out, among them through robomimic's own loader, and hostile files."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deixis.datasets.formats import EXPORTERS, IMPORTERS, detect
from deixis.datasets.formats.options import FormatError, ImportOptions
from deixis.datasets.formats.robomimic import import_robomimic
from deixis.datasets.formats.robomimic_export import export_robomimic
from deixis.datasets.store import StoreError, StreamSpec, TrajectoryStore
from deixis.datasets.windows import WindowDataset, WindowSpec

from .hdf5_files import ROBOMIMIC_ARGS, damage, poke, replace, robomimic_demo, strange_arrays, write_demos

PROPRIO = ("obs/robot0_eef_pos", "obs/robot0_eef_quat", "obs/robot0_gripper_qpos")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two demonstrations of 5 and 3 rows."""
    return write_demos(tmp_path / "two.hdf5", {"demo_0": robomimic_demo(5, 0), "demo_1": robomimic_demo(3, 1)})


def refused(source: Path, match: str, **options: Any) -> None:
    before = sorted(source.parent.iterdir())
    with pytest.raises(FormatError, match=match) as caught:
        import_robomimic(source, source.parent / "out", ImportOptions(**options))
    assert str(source) in str(caught.value)
    assert sorted(source.parent.iterdir()) == before


# ---------------------------------------------------------------------------------------------------------- coming in


def test_a_file_comes_in_whole(two: Path, tmp_path: Path) -> None:
    assert detect(two) == "robomimic"
    seen: list[tuple[int, int]] = []
    store = IMPORTERS["robomimic"](two, tmp_path / "s", None, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    for index, wanted in enumerate((robomimic_demo(5, 0), robomimic_demo(3, 1))):
        streams = store.episode(index).streams
        for name, key in (("camera.agentview", "obs/agentview_image"), ("action", "actions"),
                          ("privileged.object", "obs/object"), ("privileged.states", "states"),
                          ("privileged.rewards", "rewards"), ("privileged.dones", "dones"),
                          ("camera.robot0_eye_in_hand", "obs/robot0_eye_in_hand_image")):  # fmt: skip
            assert streams[name].values.dtype == wanted[key].dtype
            np.testing.assert_array_equal(streams[name].values, wanted[key])
        np.testing.assert_array_equal(streams["proprio"].values, np.hstack([wanted[key] for key in PROPRIO]))
        np.testing.assert_array_equal(streams["action"].stamps_ns, 50_000_000 * np.arange(len(wanted["actions"])))
    assert {spec.clock for spec in store.streams.values()} == {"measured"}  # the simulation's own
    assert store.env_spec.action.names[0] == "dx" and store.env_spec.action.low == (-1,) * 7
    assert store.env_spec.env_id == "robosuite/Lift" and store.meta["env_args"] == ROBOMIMIC_ARGS


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    demos = {f"demo_{i}": robomimic_demo(2 + i, i) for i in range(12)}
    masks = {"train": ["demo_2", "demo_10"], "valid": ["demo_0"]}
    store = import_robomimic(write_demos(tmp_path / "f.hdf5", demos, masks=masks), tmp_path / "s")
    assert [store.episode_info(i)["meta"]["demo"] for i in range(12)] == list(demos)
    assert [store.episode_info(i)["lengths"]["action"] for i in range(12)] == list(range(2, 14))
    assert store.meta["filter_keys"] == masks
    assert len(import_robomimic(tmp_path / "f.hdf5", tmp_path / "first", ImportOptions(limit=11))) == 11


def test_no_window_reaches_into_another_demonstration(two: Path, tmp_path: Path) -> None:
    # Planted: every number of a demonstration is its index, so that a foreign row would show.
    demos = {name: robomimic_demo(rows, 0) for name, rows in (("demo_0", 5), ("demo_1", 3))}
    for index, demo in enumerate(demos.values()):
        for key in ("actions", *PROPRIO):
            demo[key][:] = index
        demo["obs/agentview_image"][:] = index
    store = import_robomimic(write_demos(tmp_path / "f.hdf5", demos), tmp_path / "s")
    windows = WindowDataset(store, WindowSpec(3, 4), ["agentview"])  # robomimic's frame_stack 3, seq_length 4
    batch = windows.batch(np.arange(len(windows)))
    assert len(windows) == 8
    for part in (batch["proprio"], batch["actions"], batch["images"]["agentview"]):
        owners = part.reshape(8, -1)
        assert (owners == batch["episode"][:, None]).all()
    # robomimic pads at both ends: frame_stack - 1 rows before the first, seq_length - 1 after the last.
    assert batch["obs_is_pad"].sum(1).tolist() == [2, 1, 0, 0, 0, 2, 1, 0]
    assert batch["is_pad"].sum(1).tolist() == [0, 0, 1, 2, 3, 1, 2, 3]


def libero(path: Path, lag: int = 1, **attributes: Any) -> Path:
    """LIBERO's names; joints that are in the states `lag` rows later."""
    rng, rows = np.random.default_rng(0), 9
    states = np.cumsum(rng.normal(size=(rows + 1, 12)), axis=0)
    states[:, 0] = 0.05 * np.arange(rows + 1)
    demo = {
        "actions": rng.uniform(-1, 1, (rows, 7)), "states": states[:rows], "robot_states": rng.normal(size=(rows, 9)),
        "rewards": np.zeros(rows, np.uint8), "dones": np.zeros(rows, np.uint8),
        "obs/agentview_rgb": rng.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8),
        "obs/eye_in_hand_rgb": rng.integers(0, 256, (rows, 4, 4, 3), dtype=np.uint8),
        "obs/joint_states": states[lag : lag + rows, 2:9], "obs/ee_states": rng.normal(size=(rows, 6)),
        "obs/ee_pos": rng.normal(size=(rows, 3)), "obs/gripper_states": rng.normal(size=(rows, 2)),
    }  # fmt: skip
    problem = {"problem_name": "p", "language_instruction": "turn on the stove"}
    data = {"env_args": ROBOMIMIC_ARGS, "problem_info": problem, "macros_image_convention": "opengl", **attributes}
    return write_demos(path, {"demo_0": demo}, data)


def test_libero_is_read_as_it_means(tmp_path: Path) -> None:
    source = libero(tmp_path / "l.hdf5")
    store = import_robomimic(source, tmp_path / "s")
    episode = store.episode(0)
    assert episode.instruction == "turn on the stove"
    assert store.env_spec.env_id == "libero/Lift" and store.env_spec.camera_names == ("agentview", "eye_in_hand")
    with h5py.File(source) as file:
        raw: Any = file["data/demo_0/obs/agentview_rgb"]
        np.testing.assert_array_equal(episode.streams["camera.agentview"].values, raw[:][:, ::-1])  # it was upside down
    assert list(store.meta["proprio_keys"]) == ["ee_states", "gripper_states", "joint_states"]
    assert "privileged.robot_states" in store.streams
    assert episode.meta["observation_lag_rows"] == 1
    early = import_robomimic(libero(tmp_path / "e.hdf5", lag=0, macros_image_convention="opencv"), tmp_path / "e")
    assert early.episode(0).meta["observation_lag_rows"] == 0 and early.meta["images"] == "as in the file"


def test_the_task_definition_has_the_last_word_on_language(tmp_path: Path) -> None:
    source = libero(
        tmp_path / "l.hdf5", bddl_file_content="(define (problem x)\n (:language put the bowl, 放 )\n (:goal))"
    )
    assert import_robomimic(source, tmp_path / "s").episode(0).instruction == "put the bowl, 放"
    chosen = import_robomimic(source, tmp_path / "t", ImportOptions(instruction="do nothing"))
    assert chosen.episode(0).instruction == "do nothing"


def test_choices_are_followed(two: Path, tmp_path: Path) -> None:
    options = ImportOptions(cameras=("agentview",), proprio=("object", "robot0_eef_pos"), rate_hz=10)
    store = import_robomimic(two, tmp_path / "s", options)
    assert store.env_spec.camera_names == ("agentview",) and store.env_spec.proprio.dim == 13
    assert store.env_spec.action.rate_hz == 10
    assert "privileged.robot0_eef_quat" in store.streams and "privileged.object" not in store.streams
    refused(two, "found no cameras", cameras=("top",))
    refused(two, r"wanted \['nothing'\]", proprio=("nothing",))
    refused(two, r"wanted \['agentview_image'\]", proprio=("agentview_image",))


def test_a_clock_that_is_none_is_called_synthetic(tmp_path: Path) -> None:
    gym = {**ROBOMIMIC_ARGS, "type": 2}
    frozen = robomimic_demo(4, 0)
    frozen["states"][:, 0] = 0
    for number, (demo, args) in enumerate(((robomimic_demo(4, 0), gym), (frozen, ROBOMIMIC_ARGS))):
        source = write_demos(tmp_path / f"{number}.hdf5", {"demo_0": demo}, {"env_args": args})
        store = import_robomimic(source, tmp_path / f"s{number}")
        assert {spec.clock for spec in store.streams.values()} == {"synthetic"}
        assert "keeps none" in store.meta["clock"]
        np.testing.assert_array_equal(store.stamps("action"), 50_000_000 * np.arange(4))
    refused(write_demos(tmp_path / "n.hdf5", {"demo_0": frozen}, {}), "found no control rate")


def test_actions_beyond_one_widen_the_limits(tmp_path: Path) -> None:
    demo = robomimic_demo(4, 0)
    demo["actions"][2, 1], demo["actions"][1, 3] = 3.5, np.nan
    store = import_robomimic(write_demos(tmp_path / "f.hdf5", {"demo_0": demo}), tmp_path / "s")
    assert store.env_spec.action.high == (1, 3.5, 1, 1, 1, 1, 1)
    assert np.isnan(store.read(0, "action").values[1, 3])  # for the gate to find


# ----------------------------------------------------------------------------------------------------------- going out


@settings(max_examples=4)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3))
def test_out_and_in_again_changes_nothing(tmp_path_factory: pytest.TempPathFactory, lengths: list[int]) -> None:
    folder = tmp_path_factory.mktemp("robomimic")
    demos = {f"demo_{3 * i}": robomimic_demo(rows, i) for i, rows in enumerate(lengths)}
    first = import_robomimic(write_demos(folder / "in.hdf5", demos, masks={"train": ["demo_0"]}), folder / "first")
    second = import_robomimic(EXPORTERS["robomimic"](first, folder / "out.hdf5"), folder / "second")
    assert second.streams == first.streams and second.env_spec == first.env_spec
    assert second.meta["filter_keys"] == {"train": ["demo_0"]}
    for index in range(len(lengths)):
        wanted, found = first.episode(index), second.episode(index)
        assert found.instruction == wanted.instruction
        for name, stream in wanted.streams.items():
            np.testing.assert_array_equal(found.streams[name].values, stream.values)
            np.testing.assert_array_equal(found.streams[name].stamps_ns, stream.stamps_ns)


def test_any_store_goes_out(make_store: Any, make_episode: Any, tmp_path: Path) -> None:
    episodes = [make_episode(i, 9 + i, 10**12) for i in range(3)]
    path = export_robomimic(make_store(episodes), tmp_path / "deep" / "out.hdf5")
    with h5py.File(path) as file:
        data: Any = file["data"]
        assert data.attrs["total"] == 9 + 10 + 11
        assert json.loads(data.attrs["env_args"])["env_kwargs"] == {"control_freq": 10.0}
        for index, episode in enumerate(episodes):
            demo, streams = data[f"demo_{index}"], episode.streams
            assert json.loads(demo.attrs["ep_meta"])["lang"] == episode.instruction
            assert demo.attrs["num_samples"] == len(demo["actions"]) == 9 + index
            np.testing.assert_array_equal(demo["obs/front_image"], streams["camera.front"].values)
            np.testing.assert_array_equal(demo["next_obs/front_image"][:-1], streams["camera.front"].values[1:])
            np.testing.assert_array_equal(demo["obs/proprio"], streams["proprio"].values)
            # 2.5 Hz beside 10 Hz: each row is the newest that is not later.
            seen = np.arange(9 + index) // 4
            np.testing.assert_array_equal(demo["obs/objects"], streams["privileged.objects"].values[seen])
            np.testing.assert_array_equal(demo["obs/front_segmentation"], streams["segmentation.front"].values[seen])
            assert demo["rewards"][:].tolist() == [0.0] * (8 + index) + [1.0]
            assert demo["dones"][:].tolist() == [0] * (8 + index) + [1]
            np.testing.assert_array_equal(demo["stamps_ns"], streams["action"].stamps_ns)
    back = import_robomimic(path, tmp_path / "back")
    np.testing.assert_array_equal(
        back.read_all("proprio").values, np.concatenate([e.streams["proprio"].values for e in episodes])
    )
    np.testing.assert_array_equal(
        back.stamps("action"), np.concatenate([e.streams["action"].stamps_ns for e in episodes])
    )
    assert back.streams["action"].clock == "measured"


def test_what_cannot_go_out_leaves_nothing(make_store: Any, make_episode: Any, tmp_path: Path) -> None:
    late = make_episode(0)
    late.streams["proprio"].stamps_ns[:] += 500_000_000
    empty, bad, good = make_store([], "empty"), make_store([late], "late"), make_store([make_episode(0)], "good")
    backward = TrajectoryStore.create(tmp_path / "backward", good.env_spec, list(good.streams.values()))
    episode = make_episode(0)
    episode.streams["proprio"].stamps_ns[3] = 0
    with backward.writer(sync=False, ordered=False) as writer:
        writer.append(episode)
    (tmp_path / "there").touch()
    before = sorted(tmp_path.iterdir())
    for store, name, match in (
        (empty, "x", "found no episodes"), (bad, "x", "recent enough at action row 0"),
        (good, "there", "something there"),
        (backward, "x", "stamps that do not increase"),
    ):  # fmt: skip
        with pytest.raises(StoreError, match=match):
            export_robomimic(store, tmp_path / name)
    assert sorted(tmp_path.iterdir()) == before


def test_robomimics_own_loader_reads_every_value(tmp_path: Path) -> None:
    loader = pytest.importorskip("robomimic.utils.dataset", reason="robomimic is not installed (pip install --no-deps)")
    obs_utils = pytest.importorskip("robomimic.utils.obs_utils")
    demos = {f"demo_{i}": robomimic_demo(4 + i, i) for i in range(11)}
    masks = {"train": [f"demo_{i}" for i in range(0, 11, 2)]}
    store = import_robomimic(write_demos(tmp_path / "in.hdf5", demos, masks=masks), tmp_path / "s")
    path = export_robomimic(store, tmp_path / "out.hdf5")
    low = ["robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object"]
    images = ["agentview_image", "robot0_eye_in_hand_image"]
    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": low, "rgb": images}})
    for cache in (None, "low_dim"):
        data = loader.SequenceDataset(
            str(path), (*low, *images), ("actions", "rewards", "dones", "states"), frame_stack=2, seq_length=3,
            get_pad_mask=True, hdf5_cache_mode=cache,
        )  # fmt: skip
        assert (data.n_demos, len(data)) == (11, sum(len(demo["actions"]) for demo in demos.values()))
        item = 0
        for demo in demos.values():
            rows = len(demo["actions"])
            for t in range(rows):
                wanted, found = np.clip(np.arange(t - 1, t + 3), 0, rows - 1), data[item]
                for key in ("actions", "rewards", "dones", "states"):
                    precision = np.float64 if cache is None else np.float32  # its cache holds float32
                    np.testing.assert_array_equal(found[key], demo[key][wanted].astype(precision))
                for key in (*low, *images):
                    np.testing.assert_array_equal(found["obs"][key], demo[f"obs/{key}"][wanted])
                    later = np.minimum(wanted + 1, rows - 1)
                    np.testing.assert_array_equal(found["next_obs"][key], demo[f"obs/{key}"][later])
                inside = (np.arange(t - 1, t + 3) >= 0) & (np.arange(t - 1, t + 3) < rows)
                np.testing.assert_array_equal(np.ravel(found["pad_mask"]), inside)
                item += 1
    assert loader.SequenceDataset(str(path), low, ("actions",), filter_by_attribute="train").n_demos == 6


# --------------------------------------------------------------------------------------------- hostile and broken ones

DEMO = "data/demo_1"
ARRAYS = {"obs/object": (3, 10), "actions": (3, 7), "states": (3, 10)}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("kind", strange_arrays("", (1,), Path()))
def test_arrays_that_are_no_plain_numbers_are_refused(kind: str, name: str, two: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.h5"
    with h5py.File(elsewhere, "w") as file:
        file["x"] = np.zeros(ARRAYS[name])
    change, match = strange_arrays(f"{DEMO}/{name}", ARRAYS[name], elsewhere)[kind]
    refused(damage(two, change), match)


def set_attribute(item: str, name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file[item].attrs.__setitem__(name, value)


HOSTILE: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "actions of three axes": (lambda f: replace(f, f"{DEMO}/actions", np.zeros((3, 7, 1))), r"wanted \[T, A\]"),
    "actions of another width": (lambda f: replace(f, f"{DEMO}/actions", np.zeros((3, 6))), r"as in /data/demo_0"),
    "fewer actions": (lambda f: replace(f, f"{DEMO}/actions", np.zeros((2, 7))), "found num_samples 3 and 2 actions"),
    "fewer images": (
        lambda f: replace(f, f"{DEMO}/obs/agentview_image", np.zeros((2, 6, 5, 3), np.uint8)), "found 2 rows, wanted"),
    "smaller images": (
        lambda f: replace(f, f"{DEMO}/obs/agentview_image", np.zeros((3, 6, 4, 3), np.uint8)), "as in /data/demo_0"),
    "float images": (
        lambda f: replace(f, "data/demo_0/obs/agentview_image", np.zeros((5, 6, 5, 3))), "wanted uint8"),
    "a missing key": (lambda f: f.__delitem__(f"{DEMO}/obs/object"), "found nothing there"),
    "no observations": (lambda f: f.__delitem__(f"{DEMO}/obs"), "found nothing there"),
    "no actions": (lambda f: f.__delitem__(f"{DEMO}/actions"), "found nothing there"),
    "no data": (lambda f: f.__delitem__("data"), "found nothing there"),
    "no demonstrations": (lambda f: [f.__delitem__(f"data/demo_{i}") for i in range(2)], "found no demonstrations"),
    "an array for a demonstration": (lambda f: replace(f, DEMO, np.zeros(3)), "wanted a group"),
    "a demonstration that is a link": (lambda f: replace(f, DEMO, h5py.SoftLink("/data/demo_0")), "found a SoftLink"),
    "a demonstration elsewhere": (
        lambda f: replace(f, DEMO, h5py.ExternalLink("/etc/passwd", "/")), "found a ExternalLink"),
    "a demonstration with another name": (lambda f: f.move(DEMO, "data/..demo_1"), "found the member"),
    "a number twice": (lambda f: f.create_group("data/demo_01"), "each number once"),
    "an observation that climbs": (
        lambda f: f.move("data/demo_0/obs/object", "data/demo_0/obs/..%2f..%2fx"), "and no path"),
    "an observation with blanks": (lambda f: f.move("data/demo_0/obs/object", "data/demo_0/obs/a b"), "and no path"),
    "num_samples of NaN": (set_attribute(DEMO, "num_samples", np.nan), "wanted a whole number"),
    "env_args that is no JSON": (set_attribute("data", "env_args", "{"), "no readable JSON"),
    "env_args with NaN": (
        set_attribute("data", "env_args", '{"env_kwargs": {"control_freq": NaN}}'), "no readable JSON"),
    "env_args that is a list": (set_attribute("data", "env_args", "[1]"), "wanted a JSON object"),
    "env_args that is a number": (set_attribute("data", "env_args", 3.0), "wanted text"),
    "a rate of nothing": (
        set_attribute("data", "env_args", '{"env_kwargs": {"control_freq": 0}}'), "wanted a rate in Hz"),
    "an instruction of NaN": (
        set_attribute("data", "problem_info", '{"language_instruction": NaN}'), "no readable JSON"),
    "an instruction of null": (
        set_attribute("data", "problem_info", '{"language_instruction": null}'), "found None, wanted text"),
    "words that are a list": (set_attribute(DEMO, "ep_meta", '{"lang": ["a"]}'), "wanted text"),
    "a filter key of strangers": (
        lambda f: f.create_dataset("mask/train", data=np.array([b"demo_7"])), "wanted demonstrations of this file"),
    "a filter key of numbers": (lambda f: f.create_dataset("mask/train", data=np.arange(3)), "wanted a list"),
    "a filter key that is a link": (
        lambda f: f.create_group("mask").__setitem__("train", h5py.SoftLink("/data")), "found a SoftLink"),
    "a time of NaN": (lambda f: poke(f, f"{DEMO}/states", (1, 0), np.nan), "wanted a time that fits"),
    "a time without end": (lambda f: poke(f, f"{DEMO}/states", (1, 0), 1e300), "wanted a time that fits"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_broken_files_are_refused(kind: str, two: Path) -> None:
    change, match = HOSTILE[kind]
    refused(damage(two, change), match)


@settings(max_examples=20)
@given(st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, part: float) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = write_demos(folder / "cut.hdf5", {"demo_0": robomimic_demo(5, 0)}).read_bytes()
    (folder / "cut.hdf5").write_bytes(whole[: int(part * len(whole))])
    refused(folder / "cut.hdf5", "found no HDF5 file that can be read|found no format")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.hdf5", "found no file there")
    (tmp_path / "text.hdf5").write_text("hello")
    refused(tmp_path / "text.hdf5", "found no HDF5 file")


def test_a_damaged_chunk_is_refused(tmp_path: Path) -> None:
    source = write_demos(tmp_path / "f.hdf5", {"demo_0": robomimic_demo(5, 0)})
    pictures = np.random.default_rng(0).integers(0, 256, (5, 6, 5, 3), dtype=np.uint8)
    damage(source, lambda f: replace(f, "data/demo_0/obs/agentview_image", None, data=pictures, compression="gzip"))
    with h5py.File(source) as file:
        chunk: Any = file["data/demo_0/obs/agentview_image"]
        place = chunk.id.get_chunk_info(0)
    content = bytearray(source.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size // 2] = bytes(place.size // 2)
    source.write_bytes(content)
    refused(source, "the data cannot be read")


def test_streams_are_declared_once(two: Path, tmp_path: Path) -> None:
    damage(two, lambda f: [f.create_dataset(f"data/demo_{i}/obs/rewards", data=np.zeros(5 - 2 * i)) for i in range(2)])
    store = import_robomimic(two, tmp_path / "s")
    assert store.streams["privileged.obs.rewards"] == StreamSpec(
        "privileged.obs.rewards", "float64", (), 20.0, "privileged", "unstated"
    )
    assert all(a != b for a, b in pairwise(sorted(store.streams)))
