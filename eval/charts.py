"""Learning curves as inline SVG. Colours are CSS classes, so that the page decides them for light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

WIDTH, HEIGHT = 340, 190  # user units, about CSS pixels: text stays readable because cards are this wide or wider
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 26
_LOG_RANGE = 30.0  # largest value over smallest from which a logarithmic axis shows more
_MAX_POINTS = 400


def curve(steps: Sequence[float], values: Sequence[float], label: str) -> Markup:
    """A curve of one loss over optimiser steps: every value faint, their running mean strong.

    Values that are not finite leave a gap. The axis is logarithmic when positive values span more than `_LOG_RANGE`.
    """
    x, y = np.asarray(steps, float), np.asarray(values, float)
    finite = np.isfinite(y)
    if not finite.any():
        return Markup("<p class='note'>no finite value was logged</p>")
    x, y = x[finite], y[finite]
    every = max(1, math.ceil(len(x) / _MAX_POINTS))
    x, y, mean = x[::every], y[::every], running_mean(y)[::every]
    logarithmic = y.min() > 0 and y.max() / y.min() > _LOG_RANGE
    ticks = _log_ticks(y.min(), y.max()) if logarithmic else nice_ticks(float(y.min()), float(y.max()))
    low, high = min(ticks[0], y.min()), max(ticks[-1], y.max())
    last = max(float(x.max()), 1.0)

    def column(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * value / last

    def row(value: float) -> float:
        share = math.log(value / low) / math.log(high / low) if logarithmic else (value - low) / (high - low)
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share

    def path(heights: np.ndarray) -> str:
        return " ".join(f"{column(a):.1f},{row(b):.1f}" for a, b in zip(x, heights, strict=True))

    shapes = []
    for tick in ticks:
        height = f"{row(tick):.1f}"
        shapes.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>')
        shapes.append(f'<text class="tick" x="{_LEFT - 6}" y="{height}" dy="0.32em" text-anchor="end">{tick:g}</text>')
    for step, anchor in ((0, "start"), (last / 2, "middle"), (last, "end")):
        position = f'x="{column(step):.1f}" y="{HEIGHT - 8}"'
        shapes.append(f'<text class="tick" {position} text-anchor="{anchor}">{step:,.0f}</text>')
    shapes.append(f'<polyline class="raw" points="{path(y)}"/><polyline class="mean" points="{path(mean)}"/>')
    shapes.append(f'<circle class="end" cx="{column(x[-1]):.1f}" cy="{row(mean[-1]):.1f}" r="3"/>')
    description = Markup.escape(f"{label} from {y[0]:.3g} to {mean[-1]:.3g} over {last:.0f} steps")
    frame = f'class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{description}"'
    return Markup(f"<svg {frame}>{''.join(shapes)}</svg>")


def running_mean(values: np.ndarray, share: float = 0.05) -> np.ndarray:
    """Mean of each value [N] and those before it, over a window of `share` of them."""
    window = max(1, round(share * len(values)))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(0, stop - window)
    return (sums[stop] - sums[start]) / (stop - start)


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers that enclose [low, high]."""
    if high <= low:
        low, high = low - 0.5, low + 0.5
    rough = (high - low) / 3
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = max(1, math.ceil((last - first) / 4))
    return [10.0**power for power in range(first, last + every, every)]
