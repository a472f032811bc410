"""TFRecords are read to the last bit without TensorFlow, episodes come in as they are, hostile files are refused."""

import contextlib
import io
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deixis.datasets.formats.options import FormatError, ImportOptions
from deixis.datasets.formats.rlds import import_rlds
from deixis.datasets.formats.tfrecord import masked_crc, parse_example, read_records
from deixis.datasets.timestamps import check_store

Example = dict[str, list[bytes] | list[float] | list[int]]
RATE = ImportOptions(rate_hz=5)
STEPS = (4, 6, 3)


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def serialise(example: Example, packed: bool = True) -> bytes:
    """A tf.train.Example by the rules of the wire format alone."""
    entries = b""
    for name, values in example.items():
        if not values:
            feature = b""
        elif isinstance(values[0], bytes):
            feature = field(1, b"".join(field(1, item) for item in values))  # pyright: ignore[reportArgumentType]
        elif isinstance(values[0], float):
            items = [struct.pack("<f", value) for value in values]
            feature = field(2, field(1, b"".join(items)) if packed else b"".join(b"\x0d" + item for item in items))
        else:
            items = [varint(int(value)) for value in values]
            feature = field(3, field(1, b"".join(items)) if packed else b"".join(b"\x08" + item for item in items))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def encoded(image: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


def tensor(shape: list[int], dtype: str = "float32", **more: Any) -> dict[str, Any]:
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {"pythonClassName": "tensor_feature.Tensor", "tensor": {"shape": dimensions, "dtype": dtype, **more}}


def image(shape: list[int], encoding: str, dtype: str = "uint8") -> dict[str, Any]:
    inner = {"shape": {"dimensions": [str(size) for size in shape]}, "dtype": dtype, "encodingFormat": encoding}
    return {"pythonClassName": "image_feature.Image", "image": inner}


def members(**features: Any) -> dict[str, Any]:
    return {"pythonClassName": "features_dict.FeaturesDict", "featuresDict": {"features": features}}


TEXT = {"pythonClassName": "text_feature.Text", "text": {}}
STEP = {
    "observation": members(
        image=image([12, 16, 3], "png"),
        wrist=image([-1, -1, 3], "jpeg"),
        depth=image([12, 16, 1], "png", "uint16"),
        state=tensor([3]),
        joints=tensor([2, 2], "float64"),
    ),
    "action": tensor([2]),
    "reward": tensor([], "float32"),
    "count": tensor([], "uint8"),
    "is_first": tensor([], "bool"),
    "is_last": tensor([], "bool"),
    "language_instruction": TEXT,
    "language_instruction_2": TEXT,
    "ragged": tensor([-1]),
}
OUTSIDE = {"episode_metadata": members(file_path=TEXT, success=tensor([], "bool"))}


def features_of(step: dict[str, Any], **outside: Any) -> dict[str, Any]:
    steps = {"pythonClassName": "dataset_feature.Dataset", "sequence": {"feature": members(**step), "length": "-1"}}
    return members(steps=steps, **outside)


def build(index: int, steps: int) -> tuple[Example, dict[str, np.ndarray]]:
    rng = np.random.default_rng(index)
    frames = rng.integers(0, 256, (steps, 12, 16, 3), dtype=np.uint8)
    wrist = np.broadcast_to(rng.integers(0, 256, (steps, 1, 1, 3), dtype=np.uint8), (steps, 8, 10, 3))
    arrays = {
        "image": frames,
        "wrist": wrist,
        "state": rng.normal(size=(steps, 3)).astype(np.float32),
        "joints": rng.normal(size=(steps, 2, 2)).astype(np.float32),
        "action": rng.uniform(-2, 3, (steps, 2)).astype(np.float32),
        "reward": rng.normal(size=steps).astype(np.float32),
        "count": rng.integers(0, 256, steps),
        "is_first": np.arange(steps) == 0,
        "is_last": np.arange(steps) == steps - 1,
    }
    example: Example = {
        "steps/observation/image": [encoded(frame, "PNG") for frame in frames],
        "steps/observation/wrist": [encoded(frame, "JPEG") for frame in wrist],
        "steps/observation/depth": [b"not looked at"] * steps,
        "steps/language_instruction": [f"push {index}".encode()] * steps,
        "steps/language_instruction_2": ["推".encode(), *[b""] * (steps - 1)],
        "episode_metadata/file_path": [f"raw/{index}".encode()],
        "episode_metadata/success": [1],
    }
    for name in ("state", "joints"):
        example[f"steps/observation/{name}"] = arrays[name].ravel().tolist()
    for name in ("action", "reward"):
        example[f"steps/{name}"] = arrays[name].ravel().tolist()
    for name in ("count", "is_first", "is_last"):
        example[f"steps/{name}"] = arrays[name].astype(int).tolist()
    return example, arrays


def write_set(folder: Path) -> list[dict[str, np.ndarray]]:
    """Three episodes: two in the first shard of "train", one in the second."""
    folder.mkdir(parents=True)
    (folder / "features.json").write_text(json.dumps(features_of(STEP, **OUTSIDE)))
    splits = [{"name": "train", "shardLengths": ["2", "1"], "numBytes": "0"}]
    (folder / "dataset_info.json").write_text(json.dumps({"name": "arm", "version": "1.0.0", "splits": splits}))
    built = [build(index, steps) for index, steps in enumerate(STEPS)]
    for shard, part in enumerate((built[:2], built[2:])):
        path = folder / f"arm-train.tfrecord-{shard:05d}-of-00002"
        path.write_bytes(b"".join(record(serialise(example)) for example, _ in part))
    return [arrays for _, arrays in built]


@pytest.fixture(scope="module")
def example_class() -> Any:
    """tf.train.Example as the protobuf package understands it, described in code."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def message(name: str) -> Any:
        return file.message_type.add(name=name)

    kinds = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", kinds.TYPE_BYTES),
        ("FloatList", kinds.TYPE_FLOAT),
        ("Int64List", kinds.TYPE_INT64),
    ):
        message(name).field.add(name="value", number=1, label=kinds.LABEL_REPEATED, type=kind)
    feature = message("Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("BytesList", "FloatList", "Int64List"), 1):
        lower = {"BytesList": "bytes_list", "FloatList": "float_list", "Int64List": "int64_list"}[name]
        feature.field.add(name=lower, number=number, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_MESSAGE,
                          type_name=f".tensorflow.{name}", oneof_index=0)  # fmt: skip
    features = message("Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_STRING)
    entry.field.add(name="value", number=2, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_MESSAGE,
                    type_name=".tensorflow.Feature")  # fmt: skip
    features.field.add(name="feature", number=1, label=kinds.LABEL_REPEATED, type=kinds.TYPE_MESSAGE,
                       type_name=".tensorflow.Features.FeatureEntry")  # fmt: skip
    message("Example").field.add(name="features", number=1, label=kinds.LABEL_OPTIONAL, type=kinds.TYPE_MESSAGE,
                                 type_name=".tensorflow.Features")  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


VALUES = st.one_of(
    st.lists(st.binary(max_size=200), max_size=5),
    st.lists(st.floats(width=32), max_size=50),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=50),
)


@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=6))
def test_examples_that_protobuf_writes_are_read(example_class: Any, example: Example) -> None:
    message = example_class()
    for name, values in example.items():
        feature = message.features.feature[name]
        if values:
            kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
            getattr(feature, kind).value.extend(values)
    _check_equal(parse_example(message.SerializeToString(), "here"), example)


@given(st.dictionaries(st.text(max_size=20), VALUES, max_size=6), st.booleans())
def test_both_ways_of_writing_repeated_numbers_are_read(example_class: Any, example: Example, packed: bool) -> None:
    data = serialise(example, packed)
    assert set(example_class.FromString(data).features.feature) == set(
        example
    )  # the writer of these tests is no fiction
    _check_equal(parse_example(data, "here"), example)


def _check_equal(found: dict[str, Any], wanted: Example) -> None:
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        if values and isinstance(values[0], bytes):
            assert found[name] == values
        else:
            dtype = np.float32 if values and isinstance(values[0], float) else np.int64
            assert found[name].dtype == dtype
            np.testing.assert_array_equal(found[name], np.array(values, dtype))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_example_or_refused(data: bytes) -> None:
    with contextlib.suppress(FormatError):  # and no other error
        parse_example(data, "here")


@given(st.data())
def test_a_cut_or_changed_record_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    records = data.draw(st.lists(st.binary(max_size=60), min_size=1, max_size=4))
    whole = b"".join(map(record, records))
    path = tmp_path_factory.mktemp("records") / "x.tfrecord"
    path.write_bytes(whole)
    assert list(read_records(path)) == records
    borders = np.cumsum([0, *(len(item) + 16 for item in records)]).tolist()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:cut])
    if cut in borders:
        assert list(read_records(path)) == records[: borders.index(cut)]
    else:
        with pytest.raises(FormatError, match="cut short"):
            list(read_records(path))
    at, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    changed = bytearray(whole)
    changed[at] ^= 1 << bit
    path.write_bytes(bytes(changed))
    with pytest.raises(FormatError, match=r"checksum is wrong|cut short"):
        list(read_records(path))


def test_the_checksum_is_the_one_that_others_compute() -> None:
    # RFC 3720, appendix B.4: CRC-32C of 32 zero bytes is 0x8A9136AA; masked as TensorFlow's crc32c.h says.
    crc = 0x8A9136AA
    assert masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def test_a_data_set_comes_in(tmp_path: Path) -> None:
    episodes = write_set(tmp_path / "arm" / "1.0.0")
    calls: list[tuple[int, int]] = []
    store = import_rlds(tmp_path / "arm", tmp_path / "out.zarr", RATE, lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert store.env_spec.env_id == "rlds/arm" and store.env_spec.action.names == ("action_0", "action_1")
    assert [(camera.name, camera.height, camera.width) for camera in store.env_spec.cameras] == [
        ("image", 12, 16),
        ("wrist", 8, 10),
    ]
    assert set(store.meta["left_out"]) == {"observation/depth", "ragged"}
    for index, arrays in enumerate(episodes):
        found = store.episode(index)
        assert found.instruction == f"push {index}"
        assert found.meta == {
            "split": "train",
            "episode_metadata/file_path": f"raw/{index}",
            "episode_metadata/success": True,
            "instructions": [f"push {index}", "推"],
        }
        names = {"camera.image": "image", "proprio": "state", "action": "action"}
        names |= {f"privileged.{name}": name for name in ("joints", "reward", "count", "is_first", "is_last")}
        assert set(names) | {"camera.wrist"} == set(found.streams)
        for stream, name in names.items():
            np.testing.assert_array_equal(found.streams[stream].values, arrays[name])
        assert found.streams["privileged.joints"].values.dtype == np.float64
        wrist = found.streams["camera.wrist"].values.astype(int)
        assert np.abs(wrist - arrays["wrist"]).max() <= 4  # JPEG of one colour
        for stream in found.streams.values():
            assert stream.stamps_ns.tolist() == [i * 200_000_000 for i in range(STEPS[index])]
    assert {spec.clock for spec in store.streams.values()} == {"synthetic"}
    assert check_store(store).ok


def test_options_choose(tmp_path: Path) -> None:
    write_set(tmp_path / "arm")
    options = ImportOptions(5, instruction="go", cameras=("wrist",), limit=2, proprio=("joints", "reward"))
    store = import_rlds(tmp_path / "arm", tmp_path / "out.zarr", options)
    assert len(store) == 2 and store.env_spec.camera_names == ("wrist",)
    assert store.episode_info(1)["instruction"] == "go"
    assert store.env_spec.proprio.names == ("joints_0", "joints_1", "joints_2", "joints_3", "reward")
    one = import_rlds(tmp_path / "arm" / "arm-train.tfrecord-00001-of-00002", tmp_path / "one.zarr", RATE)
    assert len(one) == 1 and one.episode_info(0)["instruction"] == "push 2"
    with pytest.raises(FormatError, match=r"give ImportOptions\.rate_hz"):
        import_rlds(tmp_path / "arm", tmp_path / "no.zarr")
    with pytest.raises(FormatError, match=r"wanted \['observation/nothing'\]"):
        import_rlds(tmp_path / "arm", tmp_path / "no.zarr", ImportOptions(5, proprio=("nothing",)))


def test_an_action_of_several_parts_is_joined(tmp_path: Path) -> None:
    folder = tmp_path / "arm"
    write_set(folder)
    action = members(world_vector=tensor([2]), open_gripper=tensor([], "bool"))
    step = {"observation": members(state=tensor([3])), "action": action}
    (folder / "features.json").write_text(json.dumps(features_of(step)))
    for path in folder.glob("*.tfrecord*"):
        examples = []
        for data in read_records(path):
            example: Any = parse_example(data, "")
            steps = len(example["steps/action"]) // 2
            examples.append(
                serialise({
                    "steps/observation/state": example["steps/observation/state"].tolist(),
                    "steps/action/world_vector": example["steps/action"].tolist(),
                    "steps/action/open_gripper": [1] * steps,
                })
            )  # fmt: skip
        path.write_bytes(b"".join(map(record, examples)))
    store = import_rlds(folder, tmp_path / "out.zarr", RATE)
    assert store.env_spec.action.names == ("world_vector_0", "world_vector_1", "open_gripper")
    np.testing.assert_array_equal(store.read(0, "action").values[:, :2], build(0, 4)[1]["action"])
    assert (store.read(0, "action").values[:, 2] == 1).all() and store.episode_info(0)["instruction"] == ""


Spoil = Callable[[Path], Any]
SHARD = "arm-train.tfrecord-00000-of-00002"


def _rewrite(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """Change the first example of the first shard; checksums are right again afterwards."""

    def spoil(folder: Path) -> None:
        examples = [parse_example(data, "") for data in read_records(folder / SHARD)]
        plain: list[dict[str, Any]] = [dict(_plain(example)) for example in examples]
        change(plain[0])
        (folder / SHARD).write_bytes(b"".join(record(serialise(example)) for example in plain))

    return spoil


def _plain(example: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, values in example.items():
        yield name, values if isinstance(values, list) else values.tolist()


def _put(name: str, values: Any) -> Spoil:
    return _rewrite(lambda example: example.update({name: values}))


def _step(**changes: Any) -> Spoil:
    return lambda folder: (folder / "features.json").write_text(json.dumps(features_of({**STEP, **changes}, **OUTSIDE)))


def _text(file: str, text: str) -> Spoil:
    return lambda folder: (folder / file).write_text(text)


def _bytes(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda folder: (folder / SHARD).write_bytes(change((folder / SHARD).read_bytes()))


def _deep() -> dict[str, Any]:
    feature: dict[str, Any] = tensor([1])
    for _ in range(40):
        feature = members(x=feature)
    return feature


PICKLED = b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
BOMB = struct.pack(">8sI4sIIBBBBB", b"\x89PNG\r\n\x1a\n", 13, b"IHDR", 60_000, 60_000, 8, 2, 0, 0, 0)

HOSTILE: list[tuple[Spoil, str]] = [
    (_bytes(lambda data: data[:-1]), r"record 1: found .* cut short"),
    (_bytes(lambda data: data[:5]), r"record 0: found 5 bytes at 0, wanted 12"),
    (_bytes(lambda data: b"\x1f\x8b" + data[2:]), r"gzip-compressed: unpack it first"),
    (_bytes(lambda data: data[:200] + b"\0" + data[201:]), r"record 0: found bytes whose checksum is wrong"),
    (_bytes(lambda data: struct.pack("<Q", 2**60) + struct.pack("<I", masked_crc(struct.pack("<Q", 2**60))) + data),
     r"record 0: found a length of 1152921504606846976 with"),
    (_bytes(lambda data: record(b"\x0a\xff\xff\xff\xff\x0f") + data), r"record 0: found a field of 4294967295 bytes"),
    (_bytes(lambda data: record(PICKLED) + data), r"record 0: found"),
    (_bytes(lambda data: b""), r"found 0 episodes, wanted 2 as dataset_info.json says"),
    (_bytes(lambda data: data * 2), r"found 4 episodes, wanted 2"),
    (lambda folder: (folder / SHARD).unlink(), r"found shards \[1\] of 2 of arm-train, wanted all"),
    (lambda folder: (folder / "features.json").unlink(), r"found no features.json"),
    (_text("features.json", "{"), r"features.json: found no readable JSON"),
    (_text("features.json", "[]"), r"features.json: found list"),
    (_text("features.json", json.dumps(members(steps=tensor([2])))), r"wanted RLDS: a data set `steps`"),
    (_step(action=_deep()), r"nested more than 16 deep"),
    (_step(**{"../x": tensor([1])}), r"found a feature named '../x'"),
    (_step(**{"..": tensor([1])}), r"found the name '\.\.'"),
    (_step(action=tensor([0])), r"shape: found \[0\]"),
    (_step(action=tensor([10**12])), r"shape: found \[1000000000000\]"),
    (_step(action={"tensor": {"shape": {"dimensions": ["x"]}, "dtype": "float32"}}), r"shape: found \['x'\]"),
    (_step(action=TEXT), r"wanted `action` of each step"),
    (_step(action=tensor([2], "object")), r"wanted `action` of each step"),
    (_step(action=tensor([2], encoding="zlib")), r"wanted `action` of each step"),
    (_step(action=tensor([3])), r"steps/action: found 8 values, wanted whole steps of shape \[3\]"),
    (_step(action=tensor([1])), r"wanted 8 steps|wanted 8, one for each action"),
    (_step(action=tensor([2], "int64")), r"steps/action: found float32 values, wanted int64"),
    (_step(reward=tensor([2])), r"steps/reward: found 4 values, wanted 4 steps of shape \[2\]"),
    (_text("dataset_info.json", '{"splits": [{"name": "train", "shardLengths": ["2"]}]}'), r"found shard 0 of 2, but"),
    (_text("dataset_info.json", '{"splits": [{"shardLengths": 3}]}'), r"dataset_info.json, splits"),
    (_put("steps/action", [b"x"] * 4), r"steps/action: found 4 byte strings, wanted float32"),
    (_rewrite(lambda example: example.pop("steps/action")), r"steps/action: found nothing"),
    (_put("steps/action", []), r"steps/action: found 0 values"),
    (_put("steps/observation/state", [1.0] * 9), r"steps/observation/state: found 9 values, wanted 4 steps"),
    (_put("steps/count", [1, 2, 3, 256]), r"steps/count: found values that uint8 cannot hold"),
    (_put("steps/is_first", [1, 0, 1, 0]), r"steps/is_first: found true at step 2 of 4"),
    (_put("steps/is_last", [1, 0, 0, 1]), r"steps/is_last: found true at step 0 of 4"),
    (_put("steps/language_instruction", [b"\xff"] * 4), r"found text that is not UTF-8"),
    (_put("steps/language_instruction", [1] * 4), r"found numbers, wanted texts"),
    (_put("steps/observation/image", [PICKLED] * 4), r"step 0: found no image that can be decoded"),
    (_put("steps/observation/image", [encoded(np.zeros((3, 3, 3), np.uint8), "PNG")] * 4), r"an image of \(3, 3\)"),
    (_put("steps/observation/image", [b""] * 3), r"found 3 pictures, wanted 4"),
    (_put("steps/observation/image", [1] * 4), r"found no byte strings, wanted encoded pictures"),
    (_put("steps/observation/wrist", [BOMB] * 4), r"steps/observation/wrist.*found"),
]  # fmt: skip


@pytest.fixture(scope="module")
def clean_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rlds") / "arm"
    write_set(folder)
    return folder


@pytest.mark.parametrize(("spoil", "message"), HOSTILE)
def test_a_broken_or_hostile_set_is_refused(clean_set: Path, tmp_path: Path, spoil: Spoil, message: str) -> None:
    shutil.copytree(clean_set, tmp_path / "arm")
    spoil(tmp_path / "arm")
    with pytest.raises(FormatError, match=message):
        import_rlds(tmp_path / "arm", tmp_path / "out.zarr", RATE)
    assert [path.name for path in tmp_path.iterdir()] == ["arm"]  # nothing half written is left
