"""Diffusion Policy's replay buffers: Push-T as published, small ones made here, and hostile ones."""

import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import deixis
from deixis.datasets.formats import IMPORTERS, detect
from deixis.datasets.formats.options import FormatError, ImportOptions
from deixis.datasets.formats.replay_buffer import count_windows, import_replay_buffer
from deixis.datasets.formats.replay_layout import Columns, chosen_proprio, remaining
from deixis.datasets.formats.zarr_v2 import RowReader
from deixis.datasets.store import TrajectoryStore
from deixis.datasets.timestamps import check_store
from deixis.datasets.windows import WindowDataset, WindowSpec

DATA = Path(os.environ.get("DEIXIS_DATA", Path(deixis.__file__).parent.parent / "shared" / "data"))
PUSHT = DATA / "pusht_cchi_v7_replay.zarr"
needs_pusht = pytest.mark.skipif(not PUSHT.is_dir(), reason=f"Push-T's demonstrations are not in {DATA} (DEIXIS_DATA)")


def write_buffer(path: Path, arrays: dict[str, np.ndarray], ends: Any, chunk: int = 5) -> Path:
    """A replay buffer as zarr v2, in chunks of `chunk` rows, chunks of zeros included."""
    root = zarr.open_group(path, mode="w", zarr_format=2)
    with zarr.config.set({"array.write_empty_chunks": True}):
        for name, given in {
            **{f"data/{key}": value for key, value in arrays.items()},
            "meta/episode_ends": ends,
        }.items():
            rows = np.asarray(given)
            shape: Any = (chunk, *rows.shape[1:])
            root.create_array(name, shape=rows.shape, chunks=shape, dtype=rows.dtype)[:] = rows
    return path


def small_arrays(rows: int = 12) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {
        "img": rng.integers(0, 256, (rows, 4, 6, 3)).astype(np.float32),
        "agent_pos": rng.normal(size=(rows, 2)).astype(np.float32),
        "block": rng.normal(size=(rows, 3, 2)),
        "action": rng.uniform(-3, 7, (rows, 2)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_buffer(tmp_path_factory.mktemp("pristine") / "small.zarr", small_arrays(), np.array([5, 6, 12]))


@pytest.fixture
def buffer(pristine: Path, tmp_path: Path) -> Path:
    """A buffer that a test may damage: episodes of 5, 1 and 6 rows."""
    return Path(shutil.copytree(pristine, tmp_path / "small.zarr"))


def sound(store: TrajectoryStore) -> bool:
    """Nothing is wrong that an import could have done; what the signals themselves say of delays is another matter."""
    return not [finding for finding in check_store(store).errors if finding.check != "lag"]


def refused(source: Path, match: str, **options: Any) -> None:
    """The import is refused, names the place, and leaves nothing behind."""
    before = sorted(source.parent.iterdir())
    with pytest.raises(FormatError, match=match) as caught:
        import_replay_buffer(source, source.parent / "out.zarr", ImportOptions(**{"rate_hz": 10, **options}))
    assert str(source.parent) in str(caught.value) or "row" in str(caught.value)
    assert sorted(source.parent.iterdir()) == before


# ------------------------------------------------------------------------------------------------ Push-T as published


@needs_pusht
def test_the_first_episodes_of_push_t_are_the_files_own_values(tmp_path: Path) -> None:
    assert detect(PUSHT) == "replay_buffer"
    seen: list[tuple[int, int]] = []
    store = IMPORTERS["replay_buffer"](
        PUSHT, tmp_path / "pusht", ImportOptions(limit=3), lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    root: Any = zarr.open_group(PUSHT, mode="r")
    offset = 0
    for episode, end in enumerate(root["meta/episode_ends"][:3]):
        state, read = root["data/state"][offset:end], store.episode(episode).streams
        np.testing.assert_array_equal(read["camera.img"].values, root["data/img"][offset:end])
        np.testing.assert_array_equal(read["proprio"].values, state[:, :2])
        np.testing.assert_array_equal(read["privileged.block_pose"].values, state[:, 2:])
        for name in ("keypoint", "n_contacts"):
            np.testing.assert_array_equal(read[f"privileged.{name}"].values, root[f"data/{name}"][offset:end])
        np.testing.assert_array_equal(read["action"].values, root["data/action"][offset:end])
        np.testing.assert_array_equal(read["action"].stamps_ns, np.arange(end - offset) * 100_000_000)
        offset = end
    assert store.env_spec.proprio.names == ("agent_x", "agent_y")
    assert store.env_spec.action.low == (0, 0) and store.env_spec.action.high == (512, 512)
    assert {spec.clock for spec in store.streams.values()} == {"synthetic"}
    assert store.meta["dataset"] == "pusht" and "no" not in store.meta["images"]["img"]
    assert store.episode_info(0)["meta"]["largest_rounding_of_images"] == {"img": 0.0}
    assert sound(store)


@needs_pusht
def test_push_t_has_its_published_counts(tmp_path: Path) -> None:
    # All but the pictures, which would take most of the time of this suite.
    small = tmp_path / "low_dim.zarr"
    shutil.copytree(PUSHT, small, ignore=shutil.ignore_patterns("img"))
    store = import_replay_buffer(small, tmp_path / "store", ImportOptions(rate_hz=10, proprio=("state[0:2]",)))
    lengths = [store.episode_info(i)["lengths"]["action"] for i in range(len(store))]
    assert (len(lengths), sum(lengths)) == (206, 25_650)
    assert count_windows(lengths, 16, 1, 7) == 24_208
    # The same windows are those of ours that have at most 7 padded actions: 2 observations and 15 actions from t on.
    windows = WindowDataset(store, WindowSpec(2, 15), [])
    padded = windows.batch(np.arange(len(windows)))["is_pad"].sum(1)
    assert int((padded <= 7).sum()) == 24_208
    assert store.env_spec.proprio.names == ("state_0", "state_1")
    assert store.streams["privileged.state_2_5"].shape == (3,)


@needs_pusht
@pytest.mark.slow
def test_all_of_push_t_with_its_pictures(tmp_path: Path) -> None:
    store = import_replay_buffer(PUSHT, tmp_path / "pusht")
    assert len(store) == 206 and store.offsets("camera.img")[-1] == 25_650
    root: Any = zarr.open_group(PUSHT, mode="r")
    np.testing.assert_array_equal(store.read_all("action").values, root["data/action"][:])
    np.testing.assert_array_equal(store.read_all("proprio").values, root["data/state"][:][:, :2])
    ends = [0, *root["meta/episode_ends"][:]]
    for episode in range(0, 206, 5):
        pictures = root["data/img"][ends[episode] : ends[episode + 1]]
        np.testing.assert_array_equal(store.read(episode, "camera.img").values, pictures)
    assert sound(store)


# ------------------------------------------------------------------------------------------------------- small buffers


def test_a_small_buffer_comes_in_whole(buffer: Path, tmp_path: Path) -> None:
    arrays = small_arrays()
    store = import_replay_buffer(buffer, tmp_path / "out", ImportOptions(rate_hz=20, instruction="push it, 推"))
    assert [store.episode_info(i)["lengths"]["action"] for i in range(3)] == [5, 1, 6]
    assert store.episode_info(2)["instruction"] == "push it, 推"
    np.testing.assert_array_equal(store.read_all("camera.img").values, arrays["img"])
    np.testing.assert_array_equal(store.read_all("proprio").values, arrays["agent_pos"])
    np.testing.assert_array_equal(store.read_all("privileged.block").values, arrays["block"])
    assert store.streams["privileged.block"].dtype == "float64"
    np.testing.assert_array_equal(store.read_all("action").values, arrays["action"])
    np.testing.assert_array_equal(store.read(2, "proprio").stamps_ns, 50_000_000 * np.arange(6))
    assert sound(store)  # its limits were measured
    assert TrajectoryStore.open(tmp_path / "out").meta["source"] == "small.zarr"


def test_choices_are_followed(buffer: Path, tmp_path: Path) -> None:
    options = ImportOptions(rate_hz=10, limit=2, proprio=("block", "agent_pos[1:]"))
    store = import_replay_buffer(buffer, tmp_path / "out", options)
    assert len(store) == 2 and store.env_spec.proprio.dim == 7
    assert store.env_spec.proprio.names[-2:] == ("block_5", "agent_pos_1")
    assert store.streams["privileged.agent_pos_0_1"].shape == (1,)
    assert "privileged.block" not in store.streams
    refused(buffer, "found no cameras", cameras=("wrist",))
    refused(buffer, "found no numbers 'img'", proprio=("img",))
    refused(buffer, "found no numbers 'a b'", proprio=("a b",))
    refused(buffer, "wanted columns of 'agent_pos'", proprio=("agent_pos[1:3]",))
    refused(buffer, "wanted columns of 'block'", proprio=("block[0:1]",))
    refused(buffer, "wanted each column of 'agent_pos' once", proprio=("agent_pos", "agent_pos[0:1]"))
    with pytest.raises(FormatError, match="found no control rate"):
        import_replay_buffer(buffer, tmp_path / "other")
    with pytest.raises(FormatError, match="found something there"):
        import_replay_buffer(buffer, tmp_path / "out", ImportOptions(rate_hz=10))


def test_nothing_is_taken_for_proprioception_by_guess(tmp_path: Path) -> None:
    arrays = small_arrays()
    source = write_buffer(tmp_path / "b.zarr", {"action": arrays["action"], "state": arrays["agent_pos"]}, [12])
    refused(source, "nothing says which numbers the robot itself knows")


def test_a_recorded_clock_is_kept_as_it_is(tmp_path: Path) -> None:
    times = 1.7e9 + 0.1 * np.arange(12)
    times[[3, 4]] = times[[4, 3]]
    source = write_buffer(tmp_path / "b.zarr", {**small_arrays(), "timestamp": times}, [6, 12])
    store = import_replay_buffer(source, tmp_path / "out")
    assert store.streams["action"].clock == "measured" and store.env_spec.action.rate_hz == pytest.approx(10, abs=0.01)
    np.testing.assert_array_equal(store.stamps("action"), np.rint(times * 1e9).astype(np.int64))
    assert {finding.check for finding in check_store(store).errors} & {"monotonic", "swapped"}
    times[7] = np.nan
    refused(
        write_buffer(tmp_path / "c.zarr", {**small_arrays(), "timestamp": times}, [6, 12]), "wanted a time that fits"
    )


def test_pictures_of_floats_become_uint8(tmp_path: Path) -> None:
    arrays, whole = small_arrays(), np.arange(12 * 72).reshape(12, 4, 6, 3) % 256
    cases: list[tuple[np.ndarray, float]] = [
        (whole.astype(np.uint8), 0.0),
        (whole.astype(np.float32), 0.0),
        (whole.astype(np.int64), 0.0),
        ((whole / 255).astype(np.float32), 0.0),
        (whole + 0.25 * (whole < 255), 0.25),
    ]
    for number, (pictures, rounding) in enumerate(cases):
        source = write_buffer(tmp_path / f"{number}.zarr", {**arrays, "img": pictures}, [12])
        store = import_replay_buffer(source, tmp_path / f"store{number}", ImportOptions(rate_hz=10))
        np.testing.assert_array_equal(store.read_all("camera.img").values, whole)
        found = store.episode_info(0)["meta"]["largest_rounding_of_images"]["img"]
        assert found == pytest.approx(rounding, abs=1e-4)
    for value in (np.nan, -1.0, 256.0):
        pictures = whole.astype(np.float32)
        pictures[7, 1, 1, 1] = value
        refused(
            write_buffer(tmp_path / f"bad{value}.zarr", {**arrays, "img": pictures}, [12]), "wanted pictures of 0 to"
        )


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 20), st.integers(0, 25), st.integers(0, 25))
def test_windows_are_counted_as_they_are_enumerated(lengths: list[int], horizon: int, before: int, after: int) -> None:
    wanted = 0
    for length in lengths:
        for start in range(-horizon, length + horizon):
            rows = range(start, start + horizon)
            inside = [row for row in rows if 0 <= row < length]
            early, late = sum(row < 0 for row in rows), sum(row >= length for row in rows)
            wanted += bool(inside) and early <= before and late <= after
    assert count_windows(lengths, horizon, before, after) == wanted


@given(st.lists(st.integers(0, 22), min_size=2, max_size=12))
def test_rows_are_read_as_they_lie(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.zarr"
    rows = np.arange(23 * 2, dtype=">i4").reshape(23, 2)
    if not path.exists():
        write_buffer(path, {"x": rows}, [23], chunk=4)
    reader = RowReader(path / "data" / "x")
    assert reader.dtype == np.dtype("int32")
    for start, stop in pairwise(cuts):
        if start < stop:
            np.testing.assert_array_equal(reader.read(start, stop), rows[start:stop])


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=4))
def test_proprioception_and_the_rest_are_all_columns_once(spans: list[tuple[int, int]]) -> None:
    texts = [f"state[{a}:{b}]" for a, b in spans]
    try:
        proprio = chosen_proprio(texts, None, {"state": (6,), "other": (2, 2)}, [], "here")
    except FormatError:
        taken = [column for a, b in spans for column in range(a, b)]
        assert any(a >= b for a, b in spans) or len(set(taken)) < len(taken)
        return
    rest = remaining(proprio, None, {"state": (6,), "other": (2, 2)}, ())
    assert rest.pop("privileged.other") == Columns("other")
    columns = [c for part in (*proprio, *rest.values()) for c in range(part.first, part.stop or 0)]
    assert sorted(columns) == list(range(6))


# --------------------------------------------------------------------------------------------- hostile and broken ones


def change_header(path: Path, **fields: Any) -> None:
    header = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps({**header, **fields}))


def link_to(path: Path) -> None:
    """Move a file or folder away and put a link in its place."""
    moved = path.parent.parent.parent / f"elsewhere-{path.name}"
    shutil.move(path, moved)
    path.symlink_to(moved)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:7])


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pickled objects": (lambda b: change_header(b / "data/block", dtype="|O"), "objects are never unpickled"),
    "a filter that unpickles": (
        lambda b: change_header(b / "data/block", filters=[{"id": "pickle"}]), "others may run code"),
    "an unknown compressor": (
        lambda b: change_header(b / "data/block", compressor={"id": "pickle"}), "compressor: found"),
    "text": (lambda b: change_header(b / "data/block", dtype="<U8"), "wanted bool, int or float"),
    "a record dtype": (lambda b: change_header(b / "data/block", dtype=[["a", "<f4"]]), "dtype: found"),
    "a nonsense dtype": (lambda b: change_header(b / "data/block", dtype="<q9"), "dtype"),
    "an absurd number of rows": (
        lambda b: change_header(b / "data/block", shape=[10**15, 3, 2]), "the header is damaged"),
    "absurd chunks": (lambda b: change_header(b / "data/block", chunks=[10**9, 300, 200]), "the header is damaged"),
    "absurd rows of one episode": (
        lambda b: change_header(b / "data/block", shape=[12, 3 * 10**9, 2]), "of .* bytes in one episode"),
    "negative sizes": (lambda b: change_header(b / "data/block", shape=[-1, 3, 2]), "each at least 1"),
    "sizes that are no numbers": (lambda b: change_header(b / "data/block", chunks=[True, 3, 2]), "each at least 1"),
    "chunks of other rank": (lambda b: change_header(b / "data/block", chunks=[5]), "wanted as many sizes"),
    "another zarr format": (lambda b: change_header(b / "data/block", zarr_format=3), "zarr_format: found 3"),
    "an odd separator": (
        lambda b: change_header(b / "data/block", dimension_separator="/../../"), "wanted '.' or '/'"),
    "no JSON": (lambda b: (b / "data/block/.zarray").write_text("{'shape': "), "no readable JSON"),
    "deep JSON": (lambda b: (b / "data/block/.zarray").write_text("[" * 100_000), "no readable JSON"),
    "NaN for a number": (lambda b: (b / "data/block/.zarray").write_text('{"shape": NaN}'), "no readable JSON"),
    "a missing header": (lambda b: (b / "data/block/.zarray").unlink(), "found no zarr v2 array"),
    "a missing chunk": (lambda b: (b / "data/block/1.0.0").unlink(), "wanted a chunk of rows"),
    "a truncated chunk": (lambda b: cut(b / "data/block/1.0.0"), "cannot be decoded"),
    "a truncated picture": (lambda b: cut(b / "data/img/2.0.0.0"), "cannot be decoded"),
    "an array that is a link": (lambda b: link_to(b / "data/block"), "a link is not followed"),
    "a chunk that is a link": (lambda b: link_to(b / "data/block/0.0.0"), "wanted a chunk of rows"),
    "a name with blanks": (lambda b: (b / "data/block").rename(b / "data/b b"), "found the name 'b b'"),
    "a name that climbs": (lambda b: (b / "data/block").rename(b / "data/b..b"), r"found the name 'b\.\.b'"),
    "no actions": (lambda b: shutil.rmtree(b / "data/action"), "'action' .* among them"),
    "no data": (lambda b: shutil.rmtree(b / "data"), "found no folder there"),
    "no ends": (lambda b: shutil.rmtree(b / "meta"), "found no file there"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_and_broken_buffers_are_refused(kind: str, buffer: Path) -> None:
    damage, match = HOSTILE[kind]
    damage(buffer)
    refused(buffer, match)


@pytest.mark.parametrize(
    ("ends", "match"),
    [
        ([5, 5, 12], "wanted rising"), ([7, 5, 12], "wanted rising"), ([-3, 12], "wanted rising"), ([0, 12], "rising"),
        ([5, 11], "found 12 rows, wanted 11"), ([5, 13], "found 12 rows, wanted 13"), ([10**12], "wanted rising"),
        ([5.0, 12.0], "wanted whole numbers"), ([[5], [12]], "wanted whole numbers"),
        (np.array([5, 2**64 - 1], np.uint64), "wanted rising"),
    ],
)  # fmt: skip
def test_episode_ends_must_be_rising_counts_of_rows(ends: Any, match: str, tmp_path: Path) -> None:
    refused(write_buffer(tmp_path / "b.zarr", small_arrays(), ends), match)


@pytest.mark.parametrize("name", ["action", "img", "block"])
def test_arrays_must_have_as_many_rows(name: str, tmp_path: Path) -> None:
    arrays = small_arrays()
    arrays[name] = arrays[name][:-1]
    refused(write_buffer(tmp_path / "b.zarr", arrays, [12]), "found 11 rows, wanted 12")


def test_actions_must_be_rows_of_numbers(tmp_path: Path) -> None:
    arrays = {**small_arrays(), "action": np.zeros((12, 2, 2), np.float32)}
    refused(write_buffer(tmp_path / "b.zarr", arrays, [12]), r"'action' \[rows, A\]")
