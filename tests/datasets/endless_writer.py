"""Appends episodes to a store until it is killed: `python endless_writer.py STORE`. See test_recorder.py."""

import sys

import numpy as np

from deixis.datasets.spec import ActionSpec, EnvSpec, ProprioSpec
from deixis.datasets.store import Episode, Stream, StreamSpec, TrajectoryStore

SPEC = EnvSpec("a", (), ProprioSpec(("x",), ("m",), 10), ActionSpec(("x",), ("m",), (-1,), (1,), 10))
STREAMS = [
    StreamSpec("action", "float32", (1,), 10, "action", "m"),
    StreamSpec("proprio", "float32", (1,), 10, "proprio", "m"),
    StreamSpec("touch", "uint8", (64, 64), 10, "privileged", "1"),
]


def episode(index: int) -> Episode:
    rng = np.random.default_rng(index)
    rows = int(rng.integers(1, 130))
    stamps = np.cumsum(rng.integers(1, 10**8, rows))
    values = {
        "action": rng.normal(size=(rows, 1)).astype(np.float32),
        "proprio": rng.normal(size=(rows, 1)).astype(np.float32),
        "touch": rng.integers(0, 256, (rows, 64, 64), dtype=np.uint8),
    }
    return Episode({name: Stream(rows, stamps) for name, rows in values.items()}, f"episode {index}", {"seed": index})


if __name__ == "__main__":
    store = TrajectoryStore.open(sys.argv[1])
    with store.writer(sync=sys.argv[2] == "sync") as writer:
        while True:
            print(writer.append(episode(len(store))), flush=True)
