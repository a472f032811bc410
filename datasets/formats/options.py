"""What a user may choose when a foreign data set is read, and the error of every reader and writer of such sets."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..episode import StoreError


class FormatError(StoreError):
    """A foreign data set is not as its format says. The message names the file and field, what was found and wanted."""


@dataclass(frozen=True)
class ImportOptions:
    """Choices for `import_X(source, destination, options)`; the defaults take everything as the data set says it.

    rate_hz: control rate, for formats that keep none (and to declare another one than the file does).
    instruction: the words for every episode, in place of those of the data set.
    cameras: short names of the cameras to keep; () for all.
    limit: read only the first `limit` episodes; None for all.
    proprio: observation keys that are joined, in this order, into the "proprio" stream; () for the format's default.
    What is neither camera, action nor proprioception becomes a privileged stream: nothing numeric is dropped.

    Raises FormatError for a value of another kind.
    """

    rate_hz: float | None = None
    instruction: str | None = None
    cameras: tuple[str, ...] = ()
    limit: int | None = None
    proprio: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rate, limit = self.rate_hz, self.limit
        if rate is not None and (
            isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf
        ):
            raise FormatError(f"ImportOptions.rate_hz: found {rate!r}, wanted a positive number of Hz, or None")
        if self.instruction is not None and not isinstance(self.instruction, str):
            raise FormatError(f"ImportOptions.instruction: found {self.instruction!r}, wanted a string, or None")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise FormatError(f"ImportOptions.limit: found {limit!r}, wanted a number of episodes, or None")
        for field in ("cameras", "proprio"):
            names = getattr(self, field)
            if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
                raise FormatError(f"ImportOptions.{field}: found {names!r}, wanted a tuple of names")
            object.__setattr__(self, field, tuple(names))
