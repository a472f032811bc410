"""deixis: robot policies that see, read and act.

The names most users need, loaded when they are first asked for: `import deixis` itself imports nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["EnvSpec", "Episode", "Observation", "Policy", "Stream", "StreamSpec", "TrajectoryStore", "check_store"]

if TYPE_CHECKING:
    from .datasets.spec import EnvSpec
    from .datasets.store import Episode, Stream, StreamSpec, TrajectoryStore
    from .datasets.timestamps import check_store
    from .policies.policy import Observation, Policy

_HOMES = {
    "EnvSpec": ".datasets.spec",
    "Episode": ".datasets.store",
    "Observation": ".policies.policy",
    "Policy": ".policies.policy",
    "Stream": ".datasets.store",
    "StreamSpec": ".datasets.store",
    "TrajectoryStore": ".datasets.store",
    "check_store": ".datasets.timestamps",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
