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
        axes.set_xticks(range(len(suites)), list(suites))
        for marker, name in zip(_MARKERS * len(names), names, strict=False):
            known = [(place, metrics[name]) for place, metrics in enumerate(suites.values()) if name in metrics]
            rates = [100 * values["success_rate"] for _, values in known]
            axes.plot([place for place, _ in known], rates, marker=marker, label=name)
        axes.set_ylim(-3, 103)
        axes.set_ylabel("success, %")
        _names_beside(axes)


def chart_of_speed(metrics: METRICS, path: Path) -> None:
    """Score with its 95% interval against milliseconds for a chunk of actions, a point for every variant, as SVG."""
    from matplotlib.ticker import LogLocator, NullFormatter

    fastest_first = sorted(metrics.items(), key=lambda item: item[1]["ms_per_chunk"])
    with _figure(path) as axes:
        for marker, (name, values) in zip(_MARKERS * len(metrics), fastest_first, strict=False):
            score, (low, high) = values["score"], values["score_ci95"]
            error = [[max(0.0, score - low)], [max(0.0, high - score)]]
            axes.errorbar(values["ms_per_chunk"], score, error, marker=marker, label=name, capsize=3, linestyle="")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("milliseconds for a chunk of actions, batch 1, one core")
        axes.set_ylabel("score")
        _names_beside(axes)


def _names_beside(axes: Any) -> None:
    """Beside the axes: good variants are close to each other, and names among them would hide them."""
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)


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
