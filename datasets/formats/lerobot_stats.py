"""The statistics that LeRobot keeps of each feature: min, max, mean, std, count and five quantiles.

Those of numbers have the shape of a row; those of pictures are [3, 1, 1], of pixels in 0..1, as LeRobot's normaliser
wants them. All rows and all pixels count: pictures are counted by value, so that nothing must be sampled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_LEVELS = np.arange(256) / 255.0


def number_stats(values: np.ndarray) -> dict[str, Any]:
    """Statistics of rows [T, ...] as plain lists. NaN and infinity do not count; a dimension of nothing else gets 0."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    whole = np.isfinite(rows).all(axis=0)
    measures = {name: np.empty(rows.shape[1]) for name in ("min", "max", "mean", "std", *QUANTILES)}
    for name, found in _measures(rows[:, whole]).items():
        measures[name][whole] = found
    for dim in np.flatnonzero(~whole):
        column = rows[np.isfinite(rows[:, dim]), dim]
        for name, found in _measures(column[:, None] if len(column) else np.zeros((1, 1))).items():
            measures[name][dim] = found[0]
    shape = values.shape[1:] or (1,)
    stats: dict[str, Any] = {name: found.reshape(shape).tolist() for name, found in measures.items()}
    return {**stats, "count": [len(values)]}


def _measures(rows: np.ndarray) -> dict[str, np.ndarray]:
    """Of each dimension of rows [T, D]: name -> [D]."""
    quantiles = np.quantile(rows, list(QUANTILES.values()), axis=0)
    return {
        "min": rows.min(0),
        "max": rows.max(0),
        "mean": rows.mean(0),
        "std": rows.std(0),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def picture_counts(images: np.ndarray) -> np.ndarray:
    """How often each channel has each value: int64 [3, 256] of uint8 [T, H, W, 3]. Counts of several parts add up."""
    return np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(3)])


def picture_stats(counts: np.ndarray, frames: int) -> dict[str, Any]:
    """Statistics of the pictures that were counted, as plain lists [3][1][1]."""
    total = counts.sum(1, keepdims=True)
    shares = counts / total
    mean = (shares * _LEVELS).sum(1)
    spread = np.sqrt((shares * (_LEVELS - mean[:, None]) ** 2).sum(1))
    below = np.cumsum(counts, 1)
    measures = {
        "min": _LEVELS[(counts > 0).argmax(1)],
        "max": _LEVELS[255 - (counts[:, ::-1] > 0).argmax(1)],
        "mean": mean,
        "std": spread,
        **{name: _LEVELS[(below >= share * total).argmax(1)] for name, share in QUANTILES.items()},
    }
    stats: dict[str, Any] = {name: found.reshape(3, 1, 1).tolist() for name, found in measures.items()}
    return {**stats, "count": [frames]}
