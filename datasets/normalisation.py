"""Min-max normalisation to [-1, 1], fitted on data and saved with the policy that was trained with it.

The convention of diffusion policies (Chi et al. 2023, arXiv:2303.04137): bounded targets suit samplers that clip.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .spec import ACTION_STREAM, PROPRIO_STREAM
from .store import TrajectoryStore

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", np.ndarray, "Tensor")

# A smaller range has an inverse that float32 cannot hold, so it counts as constant whatever `min_range` says.
_LEAST_RANGE = 4 * float(np.finfo(np.float32).tiny)


class MinMaxNormaliser:
    """Maps [low, high] of each dimension to [-1, 1] and back.

    low, high: [D], finite, low <= high. A dimension whose range is at most `min_range` is constant: it becomes 0, and
    whatever comes back for it is its constant (the middle of low and high). Values outside [low, high] are not clipped.

    Raises ValueError if low and high do not fit together.
    """

    def __init__(self, low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray, min_range: float = 1e-6):
        self.low, self.high = np.array(low, np.float64), np.array(high, np.float64)
        self.min_range = float(min_range)
        if self.low.ndim != 1 or self.low.shape != self.high.shape or len(self.low) == 0:
            raise ValueError(f"MinMaxNormaliser: found low {self.low.shape} and high {self.high.shape}, wanted two [D]")
        if not (np.isfinite(self.low) & np.isfinite(self.high) & (self.low <= self.high)).all():
            raise ValueError(f"MinMaxNormaliser: found low {self.low}, high {self.high}, wanted finite low <= high")
        varies = self.high - self.low > max(self.min_range, _LEAST_RANGE)
        self._center = self.low + (self.high - self.low) / 2  # exactly `low` for a constant, at any magnitude
        self._half = np.where(varies, (self.high - self.low) / 2, 0.0)
        self._inverse = np.where(varies, 1.0 / np.where(varies, self._half, 1.0), 0.0)

    @classmethod
    def fit(cls, values: np.ndarray, min_range: float = 1e-6) -> MinMaxNormaliser:
        """Normaliser of the least and largest `values` [..., D]. ValueError if there are none or not all are finite."""
        rows = np.asarray(values).reshape(-1, np.shape(values)[-1])
        if len(rows) == 0 or not np.isfinite(rows).all():
            raise ValueError(
                f"MinMaxNormaliser.fit: found {len(rows)} rows, wanted at least one and only finite values"
            )
        return cls(rows.min(0), rows.max(0), min_range)

    @property
    def dim(self) -> int:
        return len(self.low)

    def normalise(self, values: Values) -> Values:
        """Data units to [-1, 1]: [..., D], numpy array or torch tensor of floats, same type, dtype and device back."""
        center, _, inverse = self._constants(values)
        return (values - center) * inverse

    def unnormalise(self, values: Values) -> Values:
        """[-1, 1] to data units, the inverse of `normalise`."""
        center, half, _ = self._constants(values)
        return values * half + center

    def to_dict(self) -> dict[str, Any]:
        return {"low": self.low.tolist(), "high": self.high.tolist(), "min_range": self.min_range}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> MinMaxNormaliser:
        """Inverse of `to_dict`. Raises ValueError on a missing or unknown key."""
        if not isinstance(data, Mapping) or set(data) != {"low", "high", "min_range"}:
            raise ValueError(f"MinMaxNormaliser: found {data!r}, wanted a mapping with exactly low, high, min_range")
        return cls(data["low"], data["high"], data["min_range"])

    def _constants(self, values: Any) -> tuple[Any, Any, Any]:
        constants = self._center, self._half, self._inverse
        if np.shape(values)[-1:] != (self.dim,):
            raise ValueError(f"MinMaxNormaliser: found shape {tuple(np.shape(values))}, wanted [..., {self.dim}]")
        torch = sys.modules.get("torch")  # a tensor cannot be here unless torch is
        if torch is not None and isinstance(values, torch.Tensor):
            if not values.is_floating_point():
                raise ValueError(f"MinMaxNormaliser: found a tensor of {values.dtype}, wanted a floating point one")
            return tuple(torch.as_tensor(constant, dtype=values.dtype, device=values.device) for constant in constants)  # type: ignore[return-value]
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            found = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            raise ValueError(f"MinMaxNormaliser: found {found}, wanted a numpy array or torch tensor of floats")
        return tuple(constant.astype(values.dtype) for constant in constants)  # type: ignore[return-value]


def fit_normalisers(store: TrajectoryStore, episodes: Sequence[int] | None = None) -> dict[str, MinMaxNormaliser]:
    """Normalisers of the streams "proprio" and "action" over the given episodes of a store (default all)."""
    return {
        name: MinMaxNormaliser.fit(store.read_all(name, episodes).values) for name in (PROPRIO_STREAM, ACTION_STREAM)
    }
