"""What all tests share: one thread per worker, a renderer chosen once, and property tests without deadlines."""

import contextlib
import os

# Before torch or mujoco is imported: two workers on two cores, and none of them with threads of its own.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

from deixis.envs.rendering_backend import RenderingError, select_backend

with contextlib.suppress(RenderingError):  # tests that draw say it themselves; the others need no renderer
    select_backend()

# `make test` draws the same examples every time: a change is judged by what it changed. `make test-slow` searches.
settings.register_profile("deixis", deadline=None, max_examples=50, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=500)
settings.load_profile("deixis")
