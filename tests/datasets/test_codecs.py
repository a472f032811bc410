"""Each codec gives back what its declaration promises, and plain zarr reads it too."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from deixis.datasets.codecs import checked_codec
from deixis.datasets.image_codec import JpegCodec, decode_image, encode_image
from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec, SpecError
from deixis.datasets.store import Episode, Stream, StreamSpec, TrajectoryStore

SIZE = 48
ENTRY_POINTS = """
[zarr.codecs]
deixis.png = deixis.datasets.image_codec:PngCodec
deixis.jpeg = deixis.datasets.image_codec:JpegCodec
"""
SPEC = EnvSpec(
    "deixis/Codecs-v0",
    (CameraSpec("front", SIZE, SIZE, 30),),
    ProprioSpec(("x",), ("metre",), 200),
    ActionSpec(("dx",), ("metre",), (-1,), (1,), 20),
)


def _streams(codec: str) -> list[StreamSpec]:
    numbers = codec if codec in ("raw", "lz4", "zstd") else "lz4"
    return [
        StreamSpec("camera.front", "uint8", (SIZE, SIZE, 3), 30, "image", "1", codec=codec),
        StreamSpec("proprio", "float64", (1,), 200, "proprio", "metre", codec=numbers),
        StreamSpec("action", "float32", (1,), 20, "action", "metre", codec=numbers),
        StreamSpec("privileged.map", "int16", (32, 32), 50, "privileged", "1", codec=numbers),
    ]


def _episode(seed: int, seconds: float) -> Episode:
    """A smooth picture with a wandering patch and some noise; other streams random."""
    rng = np.random.default_rng(seed)
    streams = {}
    for spec in _streams("raw"):
        rows = max(1, round(seconds * spec.rate_hz))
        if spec.kind == "image":
            ramp = np.linspace(0, 200, SIZE)[:, None, None] + np.zeros((SIZE, SIZE, 3))
            values = np.repeat(ramp[None], rows, 0) + rng.integers(0, 4, (rows, SIZE, SIZE, 3))
            for row in range(rows):
                values[row, 5:12, row % (SIZE - 8) : row % (SIZE - 8) + 8] = (250, 30, 40)
        else:
            values = rng.normal(0, 100, (rows, *spec.shape))
        stamps = np.round(np.arange(rows) * spec.period_ns).astype(np.int64)
        streams[spec.name] = Stream(values.astype(spec.dtype), stamps)
    return Episode(streams, f"watch {seed}", {"seed": seed})


def _store(path: Path, codec: str, episodes: list[Episode]) -> TrajectoryStore:
    store = TrajectoryStore.create(path, SPEC, _streams(codec))
    with store.writer(sync=False) as writer:
        for episode in episodes:
            writer.append(episode)
    return TrajectoryStore.open(path)


@pytest.mark.parametrize("codec", ["raw", "lz4", "zstd", "png", "jpeg", "jpeg:60"])
def test_what_is_read_is_what_was_written_and_what_zarr_reads(tmp_path: Path, codec: str) -> None:
    episodes = [_episode(0, 0.1), _episode(1, 4.0), _episode(2, 5.3)]
    store = _store(tmp_path / "s", codec, episodes)
    root: Any = zarr.open(store.path, mode="r")
    assert store.streams["camera.front"].lossy == codec.startswith("jpeg")
    for name, spec in store.streams.items():
        starts = store.first_rows(name)
        for index, episode in enumerate(episodes):
            found, wanted = store.read(index, name), episode.streams[name]
            plain = root[f"streams/{name}/values"][starts[index] : starts[index] + len(wanted.values)]
            np.testing.assert_array_equal(found.values, plain)
            np.testing.assert_array_equal(found.stamps_ns, wanted.stamps_ns)
            if not spec.lossy:
                np.testing.assert_array_equal(found.values, wanted.values)
                continue
            error = np.abs(found.values.astype(int) - wanted.values)
            assert 0 < error.mean() < (2 if codec == "jpeg" else 6)


def test_a_lossy_stream_says_so_in_the_store(tmp_path: Path) -> None:
    store = _store(tmp_path / "s", "jpeg", [_episode(0, 0.2)])
    declared = json.loads((store.path / "zarr.json").read_text("utf-8"))["attributes"]["deixis"]["streams"]
    array: Any = zarr.open(store.path, mode="r")["streams/camera.front/values"]  # type: ignore[index]
    for camera in (declared[0], array.attrs.asdict()):
        assert (camera["codec"], camera["lossy"]) == ("jpeg:95", True)
    assert [spec["lossy"] for spec in declared[1:]] == [False] * 3


def test_lossy_rows_are_encoded_once(tmp_path: Path) -> None:
    first = _store(tmp_path / "a", "jpeg:40", [_episode(0, 1.0)])
    copied = first.episode(0)
    second = _store(tmp_path / "b", "jpeg:40", [copied])
    for part in ("values", "encoded"):
        left, right = (getattr(store.read(0, "camera.front"), part) for store in (first, second))
        assert np.array_equal(left, right) if part == "values" else left == right
    # Changed values, or another codec: what was encoded no longer says what they are.
    changed = first.episode(0)
    changed.streams["camera.front"].values[:] = 7
    grey = _store(tmp_path / "c", "jpeg:40", [changed]).read(0, "camera.front").values.astype(int)
    assert np.abs(grey - 7).max() <= 2
    lossless = _store(tmp_path / "d", "png", [copied]).read(0, "camera.front")
    np.testing.assert_array_equal(lossless.values, copied.streams["camera.front"].values)
    assert lossless.encoded is None
    better = _store(tmp_path / "e", "jpeg:90", [copied]).read(0, "camera.front").encoded
    assert better is not None and better.codec == "jpeg:90" and better != copied.streams["camera.front"].encoded


def test_declarations_older_than_codecs_are_read(tmp_path: Path) -> None:
    for spec in _streams("jpeg:80"):
        assert StreamSpec.from_dict(spec.to_dict()) == spec
        older = {
            key: value for key, value in spec.to_dict().items() if key not in ("codec", "lossy", "clock", "arrivals")
        }
        assert StreamSpec.from_dict(older) == replace(spec, codec="lz4" if spec.dtype == "uint8" else "raw")
    with pytest.raises(SpecError, match=r"'camera.front'.lossy: found False, wanted True as for 'jpeg:80'"):
        StreamSpec.from_dict({**_streams("jpeg:80")[0].to_dict(), "lossy": False})


@pytest.mark.parametrize(
    "codec", ["", "gzip", "jpeg:0", "jpeg:101", "jpeg:9x", "jpeg:+9", "jpeg:095", "jpeg:", "png:1", 7, None]
)
def test_unknown_codecs_are_refused(codec: Any) -> None:
    with pytest.raises(SpecError, match=r"StreamSpec 'camera.front'.codec: found .*, wanted one of"):
        StreamSpec("camera.front", "uint8", (8, 8, 3), 30, "image", "1", codec=codec)


@pytest.mark.parametrize("codec", ["png", "jpeg", "jpeg:50"])
@pytest.mark.parametrize("kind", ["proprio", "segmentation", "privileged"])
def test_image_codecs_are_for_images(codec: str, kind: str) -> None:
    with pytest.raises(SpecError, match=rf"found 'jpeg:.*|found 'png' for a stream of kind '{kind}'"):
        checked_codec("codec", codec, kind)


@pytest.mark.parametrize(("form", "quality"), [("PNG", None), ("JPEG", 90)])
def test_damaged_or_other_images_are_refused(form: str, quality: int | None) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    data = encode_image(frame, quality)
    for bad in (b"", data[:20], data[: len(data) // 2], encode_image(frame, 90 if quality is None else None)):
        with pytest.raises(ValueError, match="found"):
            decode_image(bad, form, np.empty((32, 40, 3), np.uint8))
    with pytest.raises(ValueError, match=r"found RGB 32 x 40, wanted RGB \(40, 32\)"):
        decode_image(data, form, np.empty((40, 32, 3), np.uint8))


def test_zarr_refuses_image_codecs_for_anything_else(tmp_path: Path) -> None:
    for shape, chunks, dtype in (((9, 8, 8, 3), (2, 8, 8, 3), "uint8"), ((9, 8, 8, 3), (1, 8, 8, 3), "int16")):
        with pytest.raises(ValueError, match=r"deixis.jpeg: found chunks"):
            zarr.create_array(
                tmp_path / "a", shape=shape, chunks=chunks, dtype=dtype, serializer=JpegCodec(90), compressors=None,
                overwrite=True,
            )  # fmt: skip
    with pytest.raises(ValueError, match="found quality 0, wanted a whole number"):
        JpegCodec.from_dict({"configuration": {"quality": 0}})


@pytest.mark.parametrize("codec", ["png", "jpeg:70"])
def test_a_program_that_does_not_know_deixis_reads_it_with_zarr(tmp_path: Path, codec: str) -> None:
    store = _store(tmp_path / "s", codec, [_episode(0, 0.5)])
    package = tmp_path / "site" / f"entry-{version('deixis')}.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: entry\nVersion: 1\n", "utf-8")
    (package / "entry_points.txt").write_text(ENTRY_POINTS, "utf-8")
    program = (
        "import sys; sys.path.append(sys.argv[1])\n"
        "import zarr\n"
        "values = zarr.open(sys.argv[2], mode='r')['streams/camera.front/values'][:15]\n"
        "sys.stdout.buffer.write(values.tobytes())"
    )
    command = [sys.executable, "-P", "-c", program, str(tmp_path / "site"), str(store.path)]
    output = subprocess.run(command, check=True, capture_output=True).stdout
    assert output == store.read(0, "camera.front").values.tobytes()
