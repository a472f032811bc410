"""The chart of a study: success by suite, or score against the time of a decision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

METRICS = Mapping[str, Mapping[str, Any]]  # variant -> its numbers
_MARKERS = "osD^vPX*<>"


def chart_of_suites(suites: Mapping[str, METRICS], path: Path) -> None:
    """A line of success rates over the suites for every variant, as SVG."""
    names = list(
        dict.fromkeys(name for metrics in suites.values() for name in metrics if "success_rate" in metrics[name])
    )
    with _figure(path) as axes:
        for marker, name in zip(_MARKERS * len(names), names, strict=False):
            known = [suite for suite, metrics in suites.items() if name in metrics]
            rates = [100 * suites[suite][name]["success_rate"] for suite in known]
            axes.plot(known, rates, marker=marker, label=name)
        axes.set_ylim(-3, 103)
        axes.set_ylabel("success, %")
        axes.legend(frameon=False)


def chart_of_speed(metrics: METRICS, path: Path) -> None:
    """Score with its 95% interval against milliseconds for a chunk of actions, a point for every variant, as SVG."""
    with _figure(path) as axes:
        for marker, (name, values) in zip(_MARKERS * len(metrics), metrics.items(), strict=False):
            score, (low, high) = values["score"], values["score_ci95"]
            error = [[max(0.0, score - low)], [max(0.0, high - score)]]
            axes.errorbar(values["ms_per_chunk"], score, error, marker=marker, label=name, capsize=3, linestyle="")
            axes.annotate(name, (values["ms_per_chunk"], score), xytext=(7, 4), textcoords="offset points", fontsize=9)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("milliseconds for a chunk of actions, batch 1, one core")
        axes.set_ylabel("score")


@contextmanager
def _figure(path: Path) -> Iterator[Any]:
    """Axes to draw on, written as SVG when the block ends; the same numbers make the same bytes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "deixis", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        yield axes
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
