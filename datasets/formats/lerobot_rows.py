"""The rows of LeRobot's data files, episode by episode: all of them there, and in order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from . import parquet
from .lerobot_layout import DEFAULT_FEATURES, Entry, Layout
from .options import FormatError


class DataFiles:
    """The data files, one in memory at a time, as columns of an episode. keys: features of numbers beside the clock."""

    def __init__(self, layout: Layout, keys: tuple[str, ...], pictures: tuple[str, ...] = ()) -> None:
        self._layout, self._pictures = layout, pictures
        needed = [key for key in DEFAULT_FEATURES if key != "index"]
        self._shapes = {key: layout.features[key].shape for key in (*needed, *keys)}
        self._rows = Counter[Path]()
        for entry in layout.episodes:
            self._rows[entry.data] += entry.rows
        self._path: Path | None = None
        self._columns: dict[str, np.ndarray] = {}

    def numbers(self, entry: Entry) -> dict[str, np.ndarray]:
        """Columns [rows, ...] of an episode. FormatError where its rows are not all there, or not in order."""
        chosen = self._chosen(entry)
        return {key: values[chosen] for key, values in self._columns.items()}

    def pictures(self, entry: Entry, key: str) -> list[bytes]:
        """Encoded images of an episode."""
        chosen = self._chosen(entry)
        return parquet.pictures(self._table.column(key).take(chosen), f"{entry.data}, column {key!r}")

    def _chosen(self, entry: Entry) -> np.ndarray:
        if entry.data != self._path:
            self._load(entry.data)
        chosen = np.flatnonzero(self._columns["episode_index"][:, 0] == entry.index)
        where = f"{entry.data}, episode {entry.index}"
        if len(chosen) != entry.rows:
            raise FormatError(f"{where}: found {len(chosen)} rows, wanted {entry.rows} as the episodes' metadata says")
        wrong = np.flatnonzero(self._columns["frame_index"][chosen, 0] != np.arange(entry.rows))
        if len(wrong):
            found = self._columns["frame_index"][chosen[wrong[0]], 0]
            raise FormatError(f"{where}: found frame_index {found} at row {wrong[0]}, wanted 0, 1, 2, ... in order")
        return chosen

    def _load(self, path: Path) -> None:
        self._path, self._columns = None, {}
        wanted = {**self._shapes, **dict.fromkeys(self._pictures)}
        self._table = parquet.read_table(path, wanted, self._rows[path])
        for key, shape in self._shapes.items():
            self._columns[key] = parquet.numbers(self._table.column(key), shape, f"{path}, column {key!r}")
        self._path = path
