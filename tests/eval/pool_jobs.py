"""What the workers of test_workers.py do, in a module of its own that a new process can import by name."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from deixis.eval.workers import ONE_THREAD


def make_runner(folder: str) -> Callable[[str], object]:
    """A runner that does what its job says; each worker leaves a file behind when it starts."""
    (Path(folder) / f"worker-{os.getpid()}").touch()

    def run(job: str) -> object:
        marker = Path(folder) / "died"
        if job == "environment":
            return {name: os.environ.get(name) for name in ONE_THREAD}
        if job == "die once" and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "raise":
            raise KeyError("nothing of that name")
        if job.startswith("sleep"):
            time.sleep(float(job.split()[1]))
        return job.upper()

    return run


def broken_runner(folder: str) -> Callable[[str], object]:
    raise FileNotFoundError(f"{folder}: no policy")
