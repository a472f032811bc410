"""The gate's findings as one self-contained page: clocks, delays, and a filmstrip with the actions drawn in."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image, ImageDraw

from ..datasets.atomic import write_text
from ..datasets.findings import GateReport
from ..datasets.motion import newest_rows
from ..datasets.spec import ACTION_STREAM, ActionSpec, camera_stream
from ..datasets.store import TrajectoryStore
from ..datasets.trajectories import episode_clocks
from .charts import bars, dots

_FRAMES, _SIZE = 10, 128
_FINDINGS = 200
_BINS = 41
_STRIPS = 3


def write_gate_page(store: TrajectoryStore, report: GateReport, path: Path) -> Path:
    """Write the page of a store's gate report to `path`, whole or not at all, and return it."""
    by_stream: Counter[str] = Counter(f.stream for f in report.errors)
    broken = {f.stream for f in report.errors if f.check in ("type", "rows")}  # their rows cannot be read
    sound = [name for name in store.streams if name not in broken]
    page = _template().render(
        report=report,
        shown=report.findings[:_FINDINGS],
        counts=Counter((f.severity, f.check, f.stream) for f in report.findings).most_common(),
        streams=[_clock(store, name, report) | {"errors": by_stream[name]} for name in sound],
        delays=[_delay(name, report) for name in report.lags],
        strips=[_strip(store, e, sound) for e in _strip_episodes(store, report)] if ACTION_STREAM in sound else [],
    )
    return write_text(path, page)


def _clock(store: TrajectoryStore, name: str, report: GateReport) -> dict[str, Any]:
    """Intervals of all episodes as a histogram, and each episode's largest deviation from the period."""
    spec = store.streams[name]
    clocks = episode_clocks(store, name)
    intervals = np.concatenate([np.diff(stamps) for stamps in clocks]) / 1e6
    period = spec.period_ns / 1e6
    worst = [float(np.abs(np.diff(c) / 1e6 - period).max()) if len(c) > 1 else None for c in clocks]
    wrong = {f.episode for f in report.errors if f.stream == name}
    span = (min(intervals.min(), period), max(intervals.max(), period)) if len(intervals) else (0.0, period)
    spread = max(0.0, 0.02 * period - (span[1] - span[0]) / 2)
    counts, edges = np.histogram(intervals, _BINS, (span[0] - spread, span[1] + spread))
    return {
        "name": name,
        "spec": spec,
        "rows": int(store.offsets(name)[-1]),
        "intervals": bars(edges.tolist(), counts.tolist(), f"intervals of {name}, ms", period),
        "jitter": dots(worst, f"largest deviation of {name}", [episode in wrong for episode in range(len(clocks))]),
    }


def _delay(name: str, report: GateReport) -> dict[str, Any]:
    delays = report.lags[name]
    wrong = {f.episode for f in report.errors if f.stream == name and f.check == "lag"}
    flags = [episode in wrong for episode in range(len(delays))]
    rows = [None if delay is None or delay["rows"] is None else float(delay["rows"]) for delay in delays]
    sure = [None if delay is None else float(delay["confidence"]) for delay in delays]
    told = sum(row is not None for row in rows)
    return {
        "name": name,
        "told": told,
        "episodes": len(delays),
        "rows": dots(rows, f"delay of {name}, rows", flags),
        "confidence": dots(sure, f"confidence of the delay of {name}, nats", flags),
    }


def _strip_episodes(store: TrajectoryStore, report: GateReport) -> list[int]:
    """Episodes with errors first, then the first ones."""
    wrong = dict.fromkeys(f.episode for f in report.errors if f.episode is not None)
    return list(dict.fromkeys([*wrong, *range(len(store))]))[:_STRIPS]


def _strip(store: TrajectoryStore, episode: int, sound: Sequence[str]) -> dict[str, Any]:
    """Frames of every camera at evenly spaced control stamps, each with the action that follows it as an arrow."""
    actions = store.read(episode, ACTION_STREAM)
    rows = np.unique(np.linspace(0, len(actions.values) - 1, _FRAMES).round().astype(int))
    lines = []
    for camera in store.env_spec.cameras:
        if camera_stream(camera.name) not in sound:
            continue
        shown = store.read(episode, camera_stream(camera.name))
        at = newest_rows(shown.stamps_ns, actions.stamps_ns[rows])
        frames = [Image.fromarray(shown.values[row]).resize((_SIZE, _SIZE)) for row in at]
        for frame, row in zip(frames, rows, strict=True):
            _draw_action(frame, actions.values[row], store.env_spec.action)
        line = Image.new("RGB", (len(frames) * (_SIZE + 4) - 4, _SIZE), (255, 255, 255))
        for number, frame in enumerate(frames):
            line.paste(frame, (number * (_SIZE + 4), 0))
        file = io.BytesIO()
        line.save(file, "PNG", optimize=True)
        late = ((actions.stamps_ns[rows] - shown.stamps_ns[at]) / 1e6).round(1)
        lines.append(
            {
                "camera": camera.name,
                "image": f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}",
                "age": f"{late.min():g} to {late.max():g} ms older than the action",
            }
        )
    info = store.episode_info(episode)
    stamps = actions.stamps_ns[rows] - actions.stamps_ns[0]
    return {
        "episode": episode,
        "instruction": info["instruction"],
        "lines": lines,
        "times": [f"{stamp / 1e9:.2f}" for stamp in stamps],
        "arrow": ", ".join(store.env_spec.action.names[:2]),
        "bars": ", ".join(store.env_spec.action.names[2:]),
    }


def _draw_action(frame: Image.Image, action: np.ndarray, spec: ActionSpec) -> None:
    """The first two dimensions as an arrow, the others as bars, each relative to its limits."""
    low, high = np.array(spec.low), np.array(spec.high)
    share = np.clip((np.asarray(action, float).reshape(-1) - low) / (high - low), 0, 1) * 2 - 1
    draw = ImageDraw.Draw(frame)
    ink, centre, reach = (255, 64, 160), (24.0, _SIZE - 24.0), 20.0
    draw.ellipse([centre[0] - 2, centre[1] - 2, centre[0] + 2, centre[1] + 2], fill=ink)
    tip = (centre[0] + reach * share[0], centre[1] - reach * (share[1] if len(share) > 1 else 0.0))
    draw.line([centre, tip], fill=ink, width=3)
    for number, value in enumerate(share[2:10]):
        x = 54 + 7 * number
        draw.rectangle(
            [x, min(centre[1], centre[1] - reach * value), x + 4, max(centre[1], centre[1] - reach * value)], fill=ink
        )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(Path(__file__).with_name("gate.html.jinja").read_text("utf-8"))
