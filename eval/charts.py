"""Learning curves, histograms and values by episode as inline SVG; the page gives the colours, by CSS class."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from .statistics import Proportion

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
    return _svg(shapes, f"{label} from {y[0]:.3g} to {mean[-1]:.3g} over {last:.0f} steps")


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


def bars(edges: Sequence[float], counts: Sequence[int], label: str, mark: float | None = None) -> Markup:
    """A histogram: counts [N] between edges [N + 1]; heights by the logarithm, so that single outliers show.

    mark: a value to draw a line at, such as the expected one.
    """
    low, high, top = edges[0], edges[-1], math.log1p(max(*counts, 1))

    def column(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / ((high - low) or 1)

    floor = HEIGHT - _BOTTOM
    shapes = [f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>']
    for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:
            height = max(2.0, (floor - _TOP) * math.log1p(count) / top)
            size = f'width="{max(column(right) - column(left) - 1, 1.5):.1f}" height="{height:.1f}"'
            title = f"<title>{left:.4g} to {right:.4g}: {count}</title>"
            shapes.append(f'<rect class="fill" x="{column(left):.1f}" y="{floor - height:.1f}" {size}>{title}</rect>')
    if mark is not None and low <= mark <= high:
        at = f"{column(mark):.1f}"
        shapes.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP}" y2="{floor}"/>')
    for value, anchor in ((low, "start"), (high, "end")):
        place = f'x="{column(value):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}"'
        shapes.append(f'<text class="tick" {place}>{value:.4g}</text>')
    shapes.append(f'<text class="tick" x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{max(counts):,}</text>')
    return _svg(shapes, f"{label}: {sum(counts)} values from {low:.4g} to {high:.4g}")


def dots(values: Sequence[float | None], label: str, wrong: Sequence[bool]) -> Markup:
    """A value for each episode, in order; None leaves a gap, wrong ones stand out."""
    known = [value for value in values if value is not None]
    if not known:
        return Markup("<p class='note'>nothing could be measured</p>")
    ticks = nice_ticks(min(known), max(known))
    low, high = ticks[0], ticks[-1]

    def row(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    shapes = []
    for tick in ticks:
        height = f"{row(tick):.1f}"
        shapes.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>')
        shapes.append(f'<text class="tick" x="{_LEFT - 6}" y="{height}" dy="0.32em" text-anchor="end">{tick:g}</text>')
    last = max(len(values) - 1, 1)
    order = sorted(range(len(values)), key=lambda index: wrong[index])
    every = max(1, len(values) // _MAX_POINTS) | 1  # odd: tasks take turns, an even step would show one of two
    shown = [i for i in order if wrong[i]] + [i for i in order if not wrong[i]][::every]
    for index in sorted(shown, key=lambda index: wrong[index]):
        value = values[index]
        if value is not None:
            place = f'cx="{_LEFT + (WIDTH - _LEFT - _RIGHT) * index / last:.1f}" cy="{row(value):.1f}"'
            kind = "dot-wrong" if wrong[index] else "dot-right"
            shapes.append(f'<circle class="{kind}" {place} r="3"><title>episode {index}: {value:.4g}</title></circle>')
    for index, anchor in ((0, "start"), (len(values) - 1, "end")):
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * index / last
        shapes.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{index}</text>')
    return _svg(shapes, f"{label} of {len(values)} episodes, {sum(wrong)} of them wrong")


def by_severity(rates: Sequence[float], intervals: Sequence[tuple[float, float]], label: str) -> Markup:
    """Success rates in [0, 1] with their intervals, from severity 0, the usual world, on."""
    last = max(len(rates) - 1, 1)

    def column(severity: float) -> float:
        return _LEFT + 8 + (WIDTH - _LEFT - _RIGHT - 16) * severity / last

    def row(rate: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * rate

    shapes = []
    for tick in (0.0, 0.5, 1.0):
        height = f"{row(tick):.1f}"
        shapes.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>')
        shapes.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{height}" dy="0.32em" text-anchor="end">{tick:.0%}</text>'
        )
    points = " ".join(f"{column(severity):.1f},{row(rate):.1f}" for severity, rate in enumerate(rates))
    for severity, (low, high) in enumerate(intervals):
        x = f"{column(severity):.1f}"
        shapes.append(f'<line class="interval" x1="{x}" x2="{x}" y1="{row(low):.1f}" y2="{row(high):.1f}"/>')
        shapes.append(f'<text class="tick" x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{severity}</text>')
    shapes.append(f'<polyline class="mean" points="{points}"/>')
    for severity, rate in enumerate(rates):
        title = f"<title>severity {severity}: {rate:.0%}</title>"
        shapes.append(f'<circle class="end" cx="{column(severity):.1f}" cy="{row(rate):.1f}" r="3.5">{title}</circle>')
    said = ", ".join(f"{rate:.0%}" for rate in rates)
    return _svg(shapes, f"{label}: success {said} from severity 0 to {len(rates) - 1}")


def scatter(across: Sequence[float], rates: Sequence[Proportion], names: Sequence[str], label: str) -> Markup:
    """Rates with their intervals against any number, a point for each name."""
    ticks = nice_ticks(min(across), max(across))
    low, high = ticks[0], ticks[-1]
    top = nice_ticks(0.0, max(rate.high for rate in rates))[-1]

    def column(value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - low) / (high - low)

    def row(rate: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * rate / top

    shapes = []
    for tick in (0.0, top / 2, top):
        height = f"{row(tick):.1f}"
        shapes.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{height}" y2="{height}"/>')
        shapes.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{height}" dy="0.32em" text-anchor="end">{tick:.0%}</text>'
        )
    for tick in ticks:
        shapes.append(
            f'<text class="tick" x="{column(tick):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick:g}</text>'
        )
    for value, rate, name in zip(across, rates, names, strict=True):
        x, title = f"{column(value):.1f}", f"<title>{Markup.escape(name)}: {value:.2f}, {rate.rate:.0%}</title>"
        shapes.append(f'<line class="interval" x1="{x}" x2="{x}" y1="{row(rate.low):.1f}" y2="{row(rate.high):.1f}"/>')
        shapes.append(f'<circle class="dot" cx="{x}" cy="{row(rate.rate):.1f}" r="3.5">{title}</circle>')
    return _svg(shapes, f"{label} of {len(names)}, from {min(across):.2g} to {max(across):.2g}")


def _svg(shapes: Sequence[str], description: str) -> Markup:
    frame = f'class="curve" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{Markup.escape(description)}"'
    return Markup(f"<svg {frame}>{''.join(shapes)}</svg>")
