"""What every importer does: check names and sizes before reading, make clocks, write a store whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..episode import Episode, StreamSpec
from ..spec import EnvSpec
from ..store import TrajectoryStore
from .options import FormatError, ImportOptions

MAX_EPISODE_BYTES = 8 << 30  # an episode is held in memory while it is written
MAX_ROWS = 10**8  # of all episodes: 38 days at 30 Hz
MAX_TEXT_BYTES = 64 << 20

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}", re.ASCII)

Progress = Callable[[int, int], None]


def write_store(
    destination: str | Path,
    env_spec: EnvSpec,
    streams: Sequence[StreamSpec],
    meta: dict[str, Any],
    episodes: Iterable[Episode],
    total: int,
    progress: Progress | None = None,
) -> TrajectoryStore:
    """Write `episodes`, one in memory at a time and with their clocks as they come, into a new store at `destination`.

    The destination appears only when it is complete; whatever goes wrong, nothing is left beside it.
    """
    destination = Path(destination)
    if destination.exists() or destination.is_symlink():
        raise FormatError(f"{destination}: found something there, wanted nothing; remove it or choose another path")
    partial = destination.with_name(f".{destination.name}.importing-{os.getpid()}")
    try:
        store = TrajectoryStore.create(partial, env_spec, streams, meta)
        with store.writer(sync=False, ordered=False) as writer:  # the gate judges the clocks
            for done, episode in enumerate(episodes, 1):
                writer.append(episode)
                if progress is not None:
                    progress(done, total)
        os.rename(partial, destination)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return TrajectoryStore.open(destination)


def synthetic_stamps(rows: int, rate_hz: float) -> np.ndarray:
    """The clock of a source that kept none: row i at round(i * 1e9 / rate_hz), int64 [rows] ns."""
    return np.rint(np.arange(rows) * (1e9 / rate_hz)).astype(np.int64)


def stamps_from_seconds(seconds: np.ndarray, where: str) -> np.ndarray:
    """A recorded clock in seconds, float64 [rows], as int64 ns, in the order it came. FormatError if it is none."""
    bad = np.flatnonzero(~(np.abs(seconds) < 9.2e9))  # NaN too
    if len(bad):
        raise FormatError(f"{where}, row {bad[0]}: found {seconds[bad[0]]} s, wanted a time that fits int64 ns")
    return np.rint(seconds.astype(np.float64) * 1e9).astype(np.int64)


def checked_name(name: Any, where: str) -> str:
    """`name` if it may be a part of a stream's name; FormatError for paths, hidden files, blanks and odd letters."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        raise FormatError(f"{where}: found the name {name!r}, wanted letters, digits, '_', '-' or '.', and no path")
    return name


def checked_dtype(dtype: np.dtype, where: str) -> np.dtype:
    """`dtype` in this machine's byte order if a store can hold it; FormatError for objects, strings and records."""
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise FormatError(
            f"{where}: found dtype {dtype}, wanted bool, int or float of at most 8 bytes; objects are never unpickled"
        )
    return dtype.newbyteorder("=")


def checked_size(rows: int, row_bytes: int, where: str) -> None:
    """FormatError where one episode's rows would not be a sane amount to hold in memory."""
    if rows * row_bytes > MAX_EPISODE_BYTES or rows > MAX_ROWS:
        raise FormatError(
            f"{where}: found {rows} rows of {row_bytes} bytes in one episode, wanted at most {MAX_EPISODE_BYTES}; "
            "the header is damaged, or the episode must be cut first"
        )


def parsed_json(text: Any, where: str) -> Any:
    """JSON without NaN and Infinity. FormatError names `where` it stood."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        if len(text) > MAX_TEXT_BYTES:
            raise ValueError(f"{len(text)} bytes are too many")
        return json.loads(text, parse_constant=refuse)
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{where}: found no readable JSON ({error}), wanted an object") from error


def parsed_object(text: Any, where: str) -> dict[str, Any]:
    """`parsed_json` that is an object."""
    value = parsed_json(text, where)
    if not isinstance(value, dict):
        raise FormatError(f"{where}: found {type(value).__name__}, wanted a JSON object")
    return value


def checked_instruction(found: Any, where: str) -> str:
    """`found` if it is text; FormatError for NaN, None, numbers and the like."""
    if not isinstance(found, str):
        raise FormatError(f"{where}: found {found!r}, wanted text; give ImportOptions.instruction to replace it")
    return found.strip()


def chosen_cameras(found: Iterable[str], options: ImportOptions, where: str) -> tuple[str, ...]:
    """The cameras of the data set that `options` keeps. FormatError for one that is not there."""
    found = tuple(found)
    missing = [name for name in options.cameras if name not in found]
    if missing:
        raise FormatError(f"{where}: found no cameras {missing}, wanted some of {list(found)}")
    return options.cameras or found


def needed_rate(options: ImportOptions, found: float | None, where: str) -> float:
    """Control rate, Hz: the user's, or the data set's own. FormatError where neither is known."""
    rate = options.rate_hz if options.rate_hz is not None else found
    if rate is None:
        raise FormatError(f"{where}: found no control rate, wanted one; give ImportOptions.rate_hz")
    return float(rate)
