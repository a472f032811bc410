"""Actions as integers: uniform bins between two percentiles of each dimension (RT-2, arXiv:2307.15818)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class ActionBins:
    """`count` bins of equal width between low and high in each dimension; a value beyond them falls into the outermost.

    A bin decodes to its centre, and no two bins of a dimension share one: where a dimension varies,
    encode(decode(i)) == i for every i.

    low, high: [D], finite, low < high where a dimension varies. A constant dimension has one bin, 0.
    Raises ValueError if low, high and count do not fit together.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray, count: int = 256) -> None:
        self.low, self.high, self.count = np.array(low, np.float64), np.array(high, np.float64), int(count)
        if self.low.ndim != 1 or self.low.shape != self.high.shape or self.count < 2:
            raise ValueError(
                f"ActionBins: found low {self.low.shape}, high {self.high.shape} and {count} bins, wanted two [D] and "
                "at least 2 bins"
            )
        if not (np.isfinite(self.low) & np.isfinite(self.high) & (self.low <= self.high)).all():
            raise ValueError(f"ActionBins: found low {self.low}, high {self.high}, wanted finite low <= high")
        self._width = (self.high - self.low) / self.count

    @classmethod
    def fit(cls, actions: np.ndarray, count: int = 256, share: float = 0.01) -> ActionBins:
        """Bins between the `share` and 1 - `share` quantiles of actions [..., D].

        Where these lie closer than 1/256 of the whole range, as in a dimension that hardly ever moves, the bins take
        the whole range: they would all be spent on standing still.
        """
        rows = np.asarray(actions, np.float64).reshape(-1, np.shape(actions)[-1])
        least, low, high, most = np.quantile(rows, [0, share, 1 - share, 1], axis=0)
        seldom = (high - low) * 256 < most - least
        return cls(np.where(seldom, least, low), np.where(seldom, most, high), count)

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Actions [..., D] to bins int64 [..., D] in [0, count). Raises ValueError where one is not finite."""
        if not np.isfinite(actions).all():
            raise ValueError(
                "ActionBins.encode: found values that are not finite, wanted actions as the gate passes them"
            )
        width = np.where(self._width > 0, self._width, 1.0)
        index = np.floor((np.asarray(actions, np.float64) - self.low) / width)
        return np.where(self._width > 0, np.clip(index, 0, self.count - 1), 0).astype(np.int64)

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Bins [..., D] to the centres, float64 [..., D]. Raises ValueError for an integer that is no bin."""
        indices = np.asarray(indices)
        if indices.dtype.kind not in "iu" or ((indices < 0) | (indices >= self.count)).any():
            raise ValueError(f"ActionBins.decode: found {indices.dtype} outside 0 to {self.count - 1}, wanted bins")
        return self.low + (indices + 0.5) * self._width

    def to_dict(self) -> dict[str, Any]:
        return {"low": self.low.tolist(), "high": self.high.tolist(), "count": self.count}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ActionBins:
        """Inverse of `to_dict`. Raises ValueError on a missing or unknown key."""
        if not isinstance(data, Mapping) or set(data) != {"low", "high", "count"}:
            raise ValueError(f"ActionBins: found {data!r}, wanted a mapping with exactly low, high, count")
        return cls(data["low"], data["high"], data["count"])
