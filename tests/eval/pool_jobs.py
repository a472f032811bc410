"""What the workers of test_workers.py do, in a module of its own that a new process can import by name."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

from deixis.eval.workers import ONE_THREAD, in_each_thread


def make_runner(folder: str) -> Callable[[str], object]:
    """A runner that does what its job says; each worker leaves a file behind when it starts."""
    (Path(folder) / f"worker-{os.getpid()}").touch()
    barrier, own_number = threading.Barrier(3), in_each_thread(partial(next, count()))

    def run(job: str) -> object:
        marker = Path(folder) / "died"
        if job == "environment":
            return {name: os.environ.get(name) for name in ONE_THREAD}
        if job == "die once" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.startswith("linger") and not (held := Path(folder) / job).exists():
            held.touch()
            time.sleep(60)  # until what is done beside it kills the worker
        if job == "die once beside 2" and not marker.exists():
            while len(list(Path(folder).glob("linger*"))) < 2:
                time.sleep(0.01)
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "meet 2":
            barrier.wait(timeout=60)  # for two others, that are done at the same time
        if job == "thread":
            return own_number(), own_number(), threading.get_ident()
        if job == "leave":
            raise SystemExit("as nothing should")
        if job == "unspeakable":
            return threading.Lock()
        if job == "raise":
            raise KeyError("nothing of that name")
        if job.startswith("sleep"):
            time.sleep(float(job.split()[1]))
        return job.upper()

    return run


def broken_runner(folder: str) -> Callable[[str], object]:
    raise FileNotFoundError(f"{folder}: no policy")
