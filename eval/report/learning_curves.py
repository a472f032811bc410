"""Learning curves of a run, from what training logged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ..charts import curve
from .files import read_training


def learning_curves(path: Path) -> list[dict[str, Any]]:
    """Curves by stage from training.jsonl: [{"stage", "steps", "rate", "curves": [{"name", "last", "svg"}]}]."""
    found = []
    looks = read_training(path.with_name("evaluations.jsonl"))
    for stage, entries in read_training(path).items():
        losses = dict.fromkeys(name for entry in entries for name in entry.get("loss", {}))
        rates = [entry["samples_per_s"] for entry in entries if entry.get("samples_per_s")]
        drawn = []
        for name in losses:
            points = [(entry["step"], entry["loss"][name]) for entry in entries if name in entry.get("loss", {})]
            steps, values = zip(*points, strict=True)
            numbers = [math.nan if value is None else float(value) for value in values]
            drawn.append({"name": name, "last": f"{numbers[-1]:.3g}", "svg": curve(steps, numbers, f"{stage} {name}")})
        for name in dict.fromkeys(name for look in looks.get(stage, []) for name in look["evaluations"]):
            seen = [look for look in looks[stage] if name in look["evaluations"]]
            if len(seen) > 1 and not name.endswith("/seconds"):
                values = [float(look["evaluations"][name]) for look in seen]
                svg = curve([look["step"] for look in seen], values, f"{stage} {name}")
                drawn.append({"name": name, "last": f"{values[-1]:.3g}", "svg": svg})
        found.append(
            {
                "stage": stage,
                "steps": entries[-1]["step"],
                "rate": f"{sorted(rates)[len(rates) // 2]:,.0f}" if rates else None,
                "curves": drawn,
            }
        )
    return found
