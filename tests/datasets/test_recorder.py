"""An episode is there whole or not at all, however its writer dies; and there is one writer at a time."""

import importlib.util
import json
import math
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deixis.datasets.recorder import EpisodeWriter
from deixis.datasets.store import StoreError, TrajectoryStore

PROGRAM = Path(__file__).with_name("endless_writer.py")


def _load_program() -> Any:
    spec = importlib.util.spec_from_file_location("endless_writer", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _lines(process: subprocess.Popen[bytes], seconds: float) -> list[bytes]:
    """Lines of the process's output, until `seconds` after the first of them."""
    assert process.stdout is not None
    text, end = b"", math.inf
    while time.monotonic() < end:
        if select.select([process.stdout], [], [], 0.002)[0]:
            part = os.read(process.stdout.fileno(), 65536)
            assert part, "the writer ended by itself"
            text += part
            end = min(end, time.monotonic() + seconds)
    return text.split(b"\n")[:-1]


@pytest.mark.parametrize("sync", ["sync", "no-sync"])
def test_killed_writers_leave_only_whole_episodes(tmp_path: Path, assert_same: Any, sync: str) -> None:
    program, path, rng = _load_program(), tmp_path / "s.zarr", random.Random(7)
    TrajectoryStore.create(path, program.SPEC, program.STREAMS)
    finished = rounds = torn = 0
    while rounds < 5 or (torn < 2 and rounds < 20):
        rounds += 1
        with subprocess.Popen([sys.executable, "-P", str(PROGRAM), str(path), sync], stdout=subprocess.PIPE) as process:
            acknowledged = _lines(process, rng.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
        store = TrajectoryStore.open(path)
        assert int(acknowledged[0]) == finished  # it went on where the previous one was killed
        assert len(store) > int(acknowledged[-1])
        finished = len(store)
        # Actions are written first: a chunk of them beyond the last record is what a torn episode has left.
        last_row = sum(store._records[-1].spans["action"])
        chunks = [
            int(file.name.removeprefix("c.").split(".")[0]) for file in (path / "streams/action/values").glob("c.*")
        ]
        torn += 40 * max(chunks) >= last_row
        for i in range(finished):
            assert_same(store.episode(i), program.episode(i))
    with store.writer() as writer:
        writer.append(program.episode(finished))
    assert_same(store.episode(finished), program.episode(finished))
    assert torn >= 2, "no kill fell into an episode: the test has not seen what it is for"


@pytest.mark.parametrize("moment", ["_write", "_publish"])
def test_an_append_that_fails_midway_leaves_nothing(
    make_store: Any, make_episode: Any, assert_same: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = make_store([make_episode(0)])
    calls, real = 0, getattr(EpisodeWriter, moment)

    def fail_halfway(self: EpisodeWriter, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if moment == "_publish" or calls == 7:
            (store.path / "episodes" / ".partial-000001").mkdir(exist_ok=True)
            raise OSError("the disk is full")
        return real(self, *arguments)

    with store.writer() as writer:
        monkeypatch.setattr(EpisodeWriter, moment, fail_halfway)
        with pytest.raises(OSError, match="disk is full"):
            writer.append(make_episode(1, 60))
        monkeypatch.undo()
        assert len(store) == len(TrajectoryStore.open(store.path)) == 1
        writer.append(make_episode(2, 5))
    assert_same(TrajectoryStore.open(store.path).episode(1), make_episode(2, 5))


def test_the_writer_trims_the_arrays_to_the_last_episode(make_store: Any, make_episode: Any) -> None:
    store = make_store([make_episode(0), make_episode(1)])
    assert store.array("action").shape == (49, 2)  # the second begins at the second chunk of 40 rows
    np.testing.assert_array_equal(store.array("action")[40:49], make_episode(1).streams["action"].values)


def test_two_writers_are_one_too_many(make_store: Any, make_episode: Any) -> None:
    store = make_store([])
    with store.writer() as writer:
        with pytest.raises(StoreError, match=rf"found a writer at work \(process {os.getpid()} on "), store.writer():
            pass
        writer.append(make_episode(0))
    with pytest.raises(StoreError, match="append on a closed writer"):
        writer.append(make_episode(1))
    assert not (store.path / ".writer.lock").exists()


def test_the_lock_of_a_dead_process_is_taken_over(make_store: Any, make_episode: Any) -> None:
    store = make_store([])
    lock = store.path / ".writer.lock"
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    for left_behind in (json.dumps({"pid": dead.pid, "host": socket.gethostname()}), "", '{"pid": 3'):
        lock.write_text(left_behind, "utf-8")
        with store.writer() as writer:
            writer.append(make_episode(0))
    assert len(store) == 3


def test_the_lock_of_another_host_is_respected(make_store: Any) -> None:
    store = make_store([])
    (store.path / ".writer.lock").write_text(json.dumps({"pid": 1, "host": "elsewhere"}), "utf-8")
    with pytest.raises(StoreError, match=r"process 1 on another host, elsewhere; .* delete this file"), store.writer():
        pass
