"""Our reading and writing of chunk files has zarr's result, and says what is wrong with damaged ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec

from deixis.datasets.chunks import ChunkedArray, write_rows
from deixis.datasets.codecs import zarr_codecs
from deixis.datasets.coders import ImageCoder, coder_of
from deixis.datasets.files import LocalFiles
from deixis.datasets.store import Episode, StoreError, Stream, StreamSpec, TrajectoryStore

ROWS = 50
KEYS: Any = {"name": "default", "separator": "."}
ARRAYS = {
    "lz4": ("uint8", (6, 5, 3), 4, 16),
    "zstd": ("uint8", (6, 5, 3), 4, 16),
    "raw": ("int64", (), 8, None),
    "lz4 numbers": ("float32", (3,), 5, 20),
    "zstd numbers": ("float64", (2, 2), 10, None),
    "png": ("uint8", (6, 5, 3), 1, 16),
    "jpeg:80": ("uint8", (6, 5, 3), 1, None),
}


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A folder of arrays that zarr has written, and what zarr reads from them."""
    folder, rng, found = tmp_path_factory.mktemp("arrays"), np.random.default_rng(0), {}
    for name, (dtype, shape, chunk, shard) in ARRAYS.items():
        array = zarr.create_array(
            folder / name, shape=(ROWS, *shape), chunks=(chunk, *shape), shards=(shard, *shape) if shard else None,
            dtype=dtype, chunk_key_encoding=KEYS, **zarr_codecs(name.split()[0], np.dtype(dtype)),
        )  # fmt: skip
        array[:] = rng.integers(1, 200, (ROWS, *shape)).astype(dtype)
        found[name] = np.asarray(array[:])
    return folder, found


@settings(max_examples=60)
@given(name=st.sampled_from(sorted(ARRAYS)), start=st.integers(0, ROWS - 1), length=st.integers(0, ROWS))
def test_any_rows_are_those_that_zarr_reads(
    arrays: tuple[Path, dict[str, np.ndarray]], name: str, start: int, length: int
) -> None:
    folder, wanted = arrays
    array, stop = ChunkedArray(LocalFiles(folder), name), min(ROWS, start + length)
    assert (array.shape, array.dtype) == (wanted[name].shape, wanted[name].dtype)
    np.testing.assert_array_equal(array.read(start, stop), wanted[name][start:stop])
    size = array.layout.chunk_rows
    chunk = array.chunk(start // size)
    np.testing.assert_array_equal(chunk[start % size], wanted[name][start])


@pytest.mark.parametrize("name", [name for name in ARRAYS if name != "png"])
def test_files_are_those_that_zarr_writes(
    arrays: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, name: str
) -> None:
    folder, rows = arrays
    array = ChunkedArray(LocalFiles(folder), name)
    lossy = isinstance(array.layout.coder, ImageCoder)
    encoded = array.encoded_rows(0, ROWS) if lossy else None  # of what was written, not of what is read back
    whole = ROWS // array.layout.file_rows * array.layout.file_rows
    files = write_rows(tmp_path, array.layout, 0, rows[name][:whole], encoded)
    assert len(files) == whole // array.layout.file_rows >= 2
    for file in files:
        assert file.read_bytes() == (folder / name / file.name).read_bytes()


@pytest.mark.parametrize("name", list(ARRAYS))
def test_zarr_reads_a_last_file_that_is_not_full(
    arrays: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, name: str
) -> None:
    folder, rows = arrays
    shutil.copytree(folder / name, tmp_path / "a")
    layout = ChunkedArray(LocalFiles(tmp_path), "a").layout
    write_rows(tmp_path / "a", layout, 0, rows[name][10:17])
    found: Any = zarr.open_array(tmp_path / "a", mode="r")[:7]
    np.testing.assert_array_equal(found, ChunkedArray(LocalFiles(tmp_path), "a").read(0, 7))
    if name != "jpeg:80":
        np.testing.assert_array_equal(found, rows[name][10:17])


def _store(path: Path, seconds: float = 5.0) -> TrajectoryStore:
    from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec

    spec = EnvSpec(
        "a",
        (CameraSpec("front", 64, 64, 30),),
        ProprioSpec(("x",), ("m",), 20),
        ActionSpec(("x",), ("m",), (-1,), (1,), 20),
    )
    streams = [
        StreamSpec("camera.front", "uint8", (64, 64, 3), 30, "image", "1"),
        StreamSpec("proprio", "float32", (1,), 20, "proprio", "m"),
        StreamSpec("action", "float32", (1,), 20, "action", "m"),
    ]
    store = TrajectoryStore.create(path, spec, streams)
    rng = np.random.default_rng(0)
    with store.writer(sync=False) as writer:
        for _ in range(2):
            episode = {}
            for stream in streams:
                rows = round(seconds * stream.rate_hz)
                values = rng.integers(0, 200, (rows, *stream.shape)).astype(stream.dtype)
                episode[stream.name] = Stream(values, np.arange(rows) * 10**7)
            writer.append(Episode(episode, "", {}))
    return TrajectoryStore.open(path)


def test_frames_lie_in_small_chunks_of_shards(tmp_path: Path) -> None:
    store = _store(tmp_path / "s")
    layout = store.chunks("camera.front").layout
    assert layout.sharded and layout.chunk_rows * 64 * 64 * 3 <= 1 << 18
    assert 120 <= layout.file_rows < 120 + layout.chunk_rows
    assert sorted(file.name for file in (store.path / "streams/camera.front/values").glob("c.*")) == [
        f"c.{number}.0.0.0" for number in range(4)
    ]
    assert not store.chunks("action").layout.sharded


Damage = Callable[[Path], Any]


def _change(at: int, data: bytes) -> Damage:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[at : at + len(data) or None] = data
        file.write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("stream", "damage", "message"),
    [
        ("camera.front", lambda f: f.unlink(), r"c.1.0.0.0: found nothing, wanted the rows of a finished episode"),
        ("camera.front", lambda f: f.write_bytes(b""), "found a damaged shard index"),
        ("camera.front", lambda f: f.write_bytes(f.read_bytes()[:-9]), "found a damaged shard index"),
        ("camera.front", _change(-9, b"abc"), "found a damaged shard index"),
        ("camera.front", lambda f: f.write_bytes(f.read_bytes()[3000:]), "bytes at|rows from"),
        ("camera.front", _change(4, b"\xff\xff\xff\x7f"), r"rows from .*: found 2147483647 bytes of rows, wanted"),
        ("camera.front", _change(0, b"\0" * 40), r"rows from 126 on"),
        ("action", lambda f: f.write_bytes(b"\1\2"), r"rows from 80 on: found 2 bytes, wanted a Blosc buffer"),
        ("action", _change(4, b"\1\0\0\0"), r"rows from 80 on: found 1 bytes of rows, wanted 320"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, stream: str, damage: Damage, message: str) -> None:
    store = _store(tmp_path / "s")
    file = sorted((store.path / "streams" / stream / "values").glob("c.1*"))[0]
    damage(file)
    with pytest.raises(StoreError, match=message):
        TrajectoryStore.open(store.path).read(0, stream)
    TrajectoryStore.open(store.path).read(1, stream)


def test_rows_whose_file_is_gone_are_missing(tmp_path: Path) -> None:
    store = _store(tmp_path / "s")
    (store.path / "streams/camera.front/values/c.1.0.0.0").unlink()
    (store.path / "streams/action/stamps_ns/c.2").unlink()
    front, action = store.missing_rows("camera.front"), store.missing_rows("action")
    assert front.tolist() == [[150 - store.chunks("camera.front").layout.file_rows, 0], [0, 0]]
    assert action.tolist() == [[0, 0], [0, 80]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(codecs=[{"name": "bytes", "configuration": {"endian": "big"}}]), r"codecs \['bytes'\]"),
        (lambda m: m.update(codecs=[{"name": "gzip"}]), r"codecs \['gzip'\]"),
        (lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[10**12, 1]), "chunks of 1000000000000 rows"),
        (lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[0, 1]), r"chunks of shape \(0, 1\)"),
        (lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[80, 2]), r"chunks of shape \(80, 2\)"),
        (lambda m: m.update(data_type="object"), r"found no array of numbers .*data_type 'object'"),
        (lambda m: m.pop("shape"), "found no array of numbers"),
    ],
)
def test_arrays_laid_out_otherwise_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    store = _store(tmp_path / "s", 0.5)
    file = store.path / "streams/action/values/zarr.json"
    metadata = json.loads(file.read_text("utf-8"))
    change(metadata)
    file.write_text(json.dumps(metadata), "utf-8")
    with pytest.raises(StoreError, match=message):
        TrajectoryStore.open(store.path).read(0, "action")


def test_absurd_numbers_of_rows_are_refused(tmp_path: Path) -> None:
    store = _store(tmp_path / "s", 0.5)
    record = store.path / "episodes/000001/zarr.json"
    content = json.loads(record.read_text("utf-8"))
    content["attributes"]["spans"]["camera.front"][1] = 10**15
    record.write_text(json.dumps(content), "utf-8")
    with pytest.raises(StoreError, match=r"camera.front/values: found \d+ rows, wanted 1000000000"):
        TrajectoryStore.open(store.path).read(1, "camera.front")
    array = store.path / "streams/camera.front/values/zarr.json"
    content = json.loads(array.read_text("utf-8"))
    content["shape"][0] = 10**18
    array.write_text(json.dumps(content), "utf-8")
    with pytest.raises(StoreError, match=r"found 1000000000000000 rows of \(64, 64, 3\)"):
        TrajectoryStore.open(store.path).read(1, "camera.front")


def test_a_store_from_before_shards_opens_and_grows(tmp_path: Path) -> None:
    """Its arrays: chunks of 4 s, one a file, pictures as Blosc LZ4, numbers raw, and no codec in the declaration."""
    store, episodes = _store(tmp_path / "s", 4.5), []
    for index in range(2):
        episodes.append(store.episode(index))
    old = TrajectoryStore.create(tmp_path / "old", store.env_spec, list(store.streams.values()))
    raw: Any = {"compressors": None}
    for name, spec in old.streams.items():
        codecs: Any = {
            "compressors": BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle") if spec.kind == "image" else None
        }
        chunk = 84 if spec.kind == "image" else 80
        earlier = {k: v for k, v in spec.to_dict().items() if k not in ("codec", "lossy", "clock", "arrivals")}
        for part, shape, dtype in (("values", spec.shape, spec.dtype), ("stamps_ns", (), "int64")):
            zarr.create_array(
                old.path, name=f"streams/{name}/{part}", shape=(0, *shape), chunks=(chunk, *shape), dtype=dtype,
                chunk_key_encoding=KEYS, attributes=earlier, overwrite=True,
                **(codecs if part == "values" else raw),
            )  # fmt: skip
    file = old.path / "zarr.json"
    metadata = json.loads(file.read_text("utf-8"))
    for spec in metadata["attributes"]["deixis"]["streams"]:
        for key in ("codec", "lossy", "clock", "arrivals"):
            del spec[key]
    file.write_text(json.dumps(metadata), "utf-8")
    old = TrajectoryStore.open(old.path)
    assert [spec.codec for spec in old.streams.values()] == ["lz4", "raw", "raw"]
    for episode in episodes:
        with old.writer() as writer:
            writer.append(episode)
    root: Any = zarr.open(old.path, mode="r")
    for index, episode in enumerate(episodes):
        for name, stream in episode.streams.items():
            np.testing.assert_array_equal(TrajectoryStore.open(old.path).read(index, name).values, stream.values)
            first = old.first_rows(name)[index]
            np.testing.assert_array_equal(
                root[f"streams/{name}/values"][first : first + len(stream.values)], stream.values
            )


@pytest.mark.parametrize("data", [b"", b"(\xb5/\xfd", b"\x28\xb5\x2f\xfd\x00\x58", b"nothing of the kind"])
def test_no_zstandard_frame_is_an_error(data: bytes) -> None:
    coder = coder_of([{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 3}}], np.dtype(np.uint8))
    with pytest.raises(ValueError, match="found no Zstandard frame"):
        coder.decode(data, np.empty(10, np.uint8))


@pytest.mark.parametrize("size", [1, 200, 256, 70_000, 1_000_000])
def test_a_zstandard_frame_of_another_size_is_an_error(size: int) -> None:
    coder = coder_of([{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 3}}], np.dtype(np.uint8))
    data = coder.encode(np.arange(size, dtype=np.uint64).astype(np.uint8))
    coder.decode(data, np.empty(size, np.uint8))
    for other in (size - 1, size + 1):
        with pytest.raises(ValueError, match=f"found {size} bytes of rows, wanted {other}"):
            coder.decode(data, np.empty(other, np.uint8))
