"""A store at a URL reads like the folder it is a copy of, and is written to by nobody."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deixis.datasets.loader import window_batches
from deixis.datasets.merge import merge
from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec
from deixis.datasets.store import Episode, StoreError, Stream, StreamSpec, TrajectoryStore
from deixis.datasets.windows import WindowSpec

fsspec: Any = pytest.importorskip("fsspec")
EPISODES = 70  # more than are asked for at once
SIDE = 64
SPEC = EnvSpec(
    "deixis/Remote-v0",
    (CameraSpec("front", SIDE, SIDE, 30),),
    ProprioSpec(("x",), ("metre",), 20),
    ActionSpec(("dx",), ("metre",), (-1,), (1,), 20),
)
STREAMS = (
    StreamSpec("camera.front", "uint8", (SIDE, SIDE, 3), 30, "image", "1"),
    StreamSpec("proprio", "float32", (1,), 20, "proprio", "metre"),
    StreamSpec("action", "float32", (1,), 20, "action", "metre"),
)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> TrajectoryStore:
    store = TrajectoryStore.create(tmp_path_factory.mktemp("remote") / "s.zarr", SPEC, STREAMS, {"suite": "tiny"})
    rng = np.random.default_rng(0)
    with store.writer(sync=False) as writer:
        for index in range(EPISODES):
            seconds, streams = (5.0 if index == 3 else 0.3), {}
            for spec in STREAMS:
                rows = round(seconds * spec.rate_hz)
                values = rng.integers(0, 200, (rows, *spec.shape)).astype(spec.dtype)
                streams[spec.name] = Stream(values, np.round(np.arange(rows) * spec.period_ns).astype(np.int64))
            writer.append(Episode(streams, f"do {index}", {"index": index}))
    return store


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Ranges(_Quiet):
    """A server that knows byte ranges, as object stores do; python's own does not."""

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(len(content), int(last) + 1) if first and last else len(content)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(content[start:stop])


def _serve(handler: Any, folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module", params=["memory", "http", "http without ranges", "file"])
def url(request: pytest.FixtureRequest, local: TrajectoryStore) -> Iterator[str]:
    if request.param == "memory":
        system = fsspec.filesystem("memory")
        system.put(str(local.path), "/bucket/s.zarr", recursive=True)
        yield "memory://bucket/s.zarr"
        system.rm("/bucket", recursive=True)
    elif request.param == "file":
        yield local.path.as_uri()
    else:
        pytest.importorskip("aiohttp")
        handler = _Ranges if request.param == "http" else _Quiet
        for base in _serve(handler, local.path.parent):
            yield f"{base}/s.zarr"


@pytest.fixture(scope="module")
def remote(url: str) -> TrajectoryStore:
    return TrajectoryStore.open(url)


def test_a_store_at_a_url_reads_like_its_folder(
    local: TrajectoryStore, remote: TrajectoryStore, request: pytest.FixtureRequest
) -> None:
    store = remote
    assert len(store) == EPISODES
    assert (store.env_spec, store.streams, store.meta, store.tolerance) == (
        local.env_spec, local.streams, local.meta, local.tolerance
    )  # fmt: skip
    for index in (0, 3, EPISODES - 1):
        assert store.episode_info(index) == local.episode_info(index)
        for name in STREAMS:
            found, wanted = store.read(index, name.name), local.read(index, name.name)
            np.testing.assert_array_equal(found.values, wanted.values)
            np.testing.assert_array_equal(found.stamps_ns, wanted.stamps_ns)
    assert not store.missing_rows("camera.front").any()
    if "without ranges" not in request.node.name:  # zarr itself takes what such a server sends for the range
        np.testing.assert_array_equal(store.array("camera.front")[5:9], local.array("camera.front")[5:9])


def test_windows_of_a_url(local: TrajectoryStore, remote: TrajectoryStore) -> None:
    chosen = [1, 3, 5]
    left, right = (
        window_batches(store, WindowSpec(2, 4), ("front",), 16, 0, episodes=chosen, tolerance_ns=10**9)
        for store in (local, remote)
    )
    for step in range(3):
        np.testing.assert_array_equal(left[step]["images"]["front"], right[step]["images"]["front"])
        np.testing.assert_array_equal(left[step]["actions"], right[step]["actions"])


def test_nobody_writes_to_a_url(local: TrajectoryStore, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(local.path), "/other/s.zarr", recursive=True)
    store = TrajectoryStore.open("memory://other/s.zarr")
    with pytest.raises(StoreError, match=r"memory://other/s.zarr: found a URL, which is read-only.* local copy"):
        store.writer()
    with pytest.raises(StoreError, match=r"found a URL, which is read-only"):
        TrajectoryStore.create("memory://other/new.zarr", SPEC, STREAMS)
    with pytest.raises(StoreError, match=r"found a URL, which is read-only"):
        merge([store], "memory://other/new.zarr")
    assert len(merge(["memory://other/s.zarr"], tmp_path / "here")) == EPISODES


def test_what_is_wrong_at_a_url_is_said(local: TrajectoryStore) -> None:
    system = fsspec.filesystem("memory")
    system.put(str(local.path), "/broken/s.zarr", recursive=True)
    with pytest.raises(StoreError, match=r"memory://broken/nothing: found no deixis trajectory store"):
        TrajectoryStore.open("memory://broken/nothing")
    with pytest.raises(StoreError, match=r"nosuch://here: .*install deixis\[remote\]"):
        TrajectoryStore.open("nosuch://here")
    store = TrajectoryStore.open("memory://broken/s.zarr")
    first = store.first_rows("camera.front")[3] // store.chunks("camera.front").layout.file_rows
    system.rm(f"/broken/s.zarr/streams/camera.front/values/c.{first}.0.0.0")
    with pytest.raises(StoreError, match=rf"memory://broken/s.zarr/.*c.{first}.0.0.0: found nothing"):
        store.read(3, "camera.front")
    system.rm("/broken/s.zarr/episodes/000002/zarr.json")
    with pytest.raises(StoreError, match="found 000003 where 000002 was wanted"):
        TrajectoryStore.open("memory://broken/s.zarr")
    system.pipe("/broken/s.zarr/zarr.json", json.dumps({"attributes": {"deixis": {"format": "x"}}}).encode())
    with pytest.raises(StoreError, match="found format"):
        TrajectoryStore.open("memory://broken/s.zarr")


def test_a_server_that_fails_is_not_a_missing_store(local: TrajectoryStore) -> None:
    pytest.importorskip("aiohttp")

    class Failing(_Quiet):
        def do_GET(self) -> None:
            self.send_error(503)

    for base in _serve(Failing, local.path.parent):
        with pytest.raises(StoreError, match=r"s.zarr/zarr.json: the request failed .*503.*; try again"):
            TrajectoryStore.open(f"{base}/s.zarr")
