"""What the report reads from a run's folder; a file that cannot be read is a `ReportError`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ..attribution import Attribution
from ..results import EpisodeRecord, read_table


class ReportError(ValueError):
    """A file of the run cannot be read. The message names it and what is wrong with it."""


def read_episodes(run_dir: Path) -> list[EpisodeRecord]:
    """The run's results table. Raises FileNotFoundError where there is none."""
    table = run_dir / "episodes.parquet"
    if not table.is_file():
        raise FileNotFoundError(f"{table}: not found; `deixis eval` writes it")
    return read_table(table)


def read_chains(run_dir: Path) -> list[list[EpisodeRecord]]:
    """The records of each chain of instructions; nothing where none was run."""
    table = run_dir / "chains.parquet"
    records = read_table(table) if table.is_file() else []
    return [list(chain) for _, chain in groupby(records, key=lambda record: record.index)]


def read_causes(path: Path) -> list[Attribution]:
    """What attribution.jsonl says of each failure; nothing where nothing was attributed."""
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [Attribution(line["cause"], line["evidence"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise ReportError(
            f"{path}: wanted lines with cause and evidence ({error}); `deixis eval --attribute` writes it"
        ) from error


def read_diagnosis(path: Path) -> dict[str, Any] | None:
    """What diagnosis.json says; None where nothing was diagnosed."""
    found = read_json(path)
    try:
        if found is None:
            return None
        rungs = [{key: rung[key] for key in ("name", "holds", "found", "causes")} for rung in found["rungs"]]
        return {"policy_hash": found["policy_hash"], "broken": found["broken"], "rungs": rungs}
    except (KeyError, TypeError) as error:
        raise ReportError(
            f"{path}: wanted policy_hash, broken and rungs ({error}); `deixis diagnose` writes it"
        ) from error


def read_training(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What training.jsonl says of each stage, in the order of steps; nothing where there is no such file.

    Of a step that was logged twice, before a crash and after the resume, the last counts.
    """
    stages: dict[str, dict[int, dict[str, Any]]] = {}
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            stages.setdefault(entry["stage"], {})[int(entry["step"])] = entry
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                continue  # a run that was killed leaves half a line
            raise ReportError(
                f"{path}, line {number}: found {line[:80]!r}, wanted a JSON object with stage and step"
            ) from error
    return {stage: [by_step[step] for step in sorted(by_step)] for stage, by_step in stages.items()}


def read_json(path: Path) -> Any:
    """What a JSON file says; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: is not valid JSON ({error}); run the step that writes it again") from error


def names_of(folders: Sequence[Path]) -> list[str]:
    """A name for each run: the last parts of its path, as many as tell all runs apart.

    Raises ValueError where a folder is given twice.
    """
    paths = [folder.resolve() for folder in folders]
    twice = next((path for place, path in enumerate(paths) if path in paths[:place]), None)
    if twice is not None:
        raise ValueError(f"{twice}: found twice among the runs, wanted each once")
    count = 1
    while len({path.parts[-count:] for path in paths}) < len(paths):
        count += 1
    return ["/".join(path.parts[-count:]) for path in paths]
