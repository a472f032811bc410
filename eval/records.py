"""Measured results as small JSON records, and the tables that documents quote from them.

A record says what was measured, with which command, on what: nobody types a number by hand. Committed records live in
`results/`; `deixis results` writes them into every table that stands between markers in a document:

    <!-- results:demo,demo-without-alignment success_rate ci95 wall_seconds.total -->
    (written by `deixis results`)
    <!-- /results -->

names the records (the columns) and, optionally, the metrics (the rows; all of them when none is named). An interval
(`ci95.low` and `ci95.high`) is one row, `ci95`.

    <!-- results:pusht_state/* score ms_per_chunk -->     a row for each variant, a column for each metric
    <!-- results:particle/*/* success_rate -->            a row for each suite, a column for each variant, one metric

are tables of records whose metrics are named `variant.metric` or `suite.variant.metric`; an interval `METRIC_ci95`
stands beside its metric. `results:particle,particle_token/*/*` puts the variants of two records into one table.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..datasets.atomic import write_text
from .provenance import library_versions

_TABLE = re.compile(r"(<!-- results:(?P<spec>[^>]*?) -->\n)(?P<body>.*?)(<!-- /results -->)", re.DOTALL)


class RecordError(ValueError):
    """A record that cannot be read, or a table that names one that is not there."""


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        name: of the record and of its file.
        command: the command line that measures it again.
        commit: of the code, with "-dirty" when tracked files differ from it; None outside a checkout.
        date: UTC, ISO 8601, to the second.
        hardware: processor, cores, memory in GiB, platform.
        versions: package -> version.
        seeds: the seeds behind the numbers.
        metrics: flat name -> number.
    """

    name: str
    command: str
    commit: str | None
    date: str
    hardware: dict[str, Any]
    versions: dict[str, str]
    seeds: list[int]
    metrics: dict[str, float]

    def write(self, path: str | Path) -> Path:
        """Write the record as JSON; readers never see half of it."""
        return write_text(Path(path), json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Record:
        """Read a record.

        Raises:
            RecordError: the file is missing, is not JSON, or lacks a field.
        """
        try:
            values = json.loads(Path(path).read_text("utf-8"))
        except FileNotFoundError as error:
            raise RecordError(
                f"no record at {path}; `--json {path}` of the command that measures it writes one"
            ) from error
        except ValueError as error:
            raise RecordError(f"{path} is not valid JSON: {error}") from error
        wanted = {item.name for item in fields(cls)}
        found = set(values) if isinstance(values, dict) else set()
        if found != wanted:
            raise RecordError(f"{path}: fields {sorted(found)}, wanted {sorted(wanted)}")
        return cls(**values)


def make_record(name: str, command: str, metrics: Mapping[str, Any], seeds: Sequence[int] = ()) -> Record:
    """A record of `metrics` measured now, on this machine, with this code. Nested metrics become "outer.inner".

    Raises:
        RecordError: a metric is neither a number nor a mapping of numbers.
    """
    return Record(
        name=name,
        command=command,
        commit=commit(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        hardware=hardware(),
        versions=library_versions(),
        seeds=list(seeds),
        metrics=flat_metrics(metrics),
    )


def flat_metrics(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested mappings and pairs of numbers as one flat mapping; None (not measured) is left out."""
    flat: dict[str, float] = {}
    for name, value in metrics.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            flat |= flat_metrics(value, f"{key}.")
        elif isinstance(value, (list, tuple)) and len(value) == 2:  # an interval
            flat |= flat_metrics({"low": value[0], "high": value[1]}, f"{key}.")
        elif isinstance(value, (int, float)):
            flat[key] = float(value) if isinstance(value, float) else int(value)
        elif value is not None:
            raise RecordError(f"metric {key!r}: found {value!r}, wanted a number")
    return flat


def hardware() -> dict[str, Any]:
    """Processor, usable cores, memory in GiB and platform."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        models = re.findall(r"^model name\s*:\s*(.+)$", cpuinfo.read_text("utf-8"), re.MULTILINE)
        processor = models[0] if models else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory and round(memory, 1),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def commit() -> str | None:
    """Commit of the checkout this code runs from, with "-dirty" when tracked files differ; None outside a checkout.

    Records themselves do not count: writing one changes nothing of the code that measures the next.
    """
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
        except OSError:  # git is not installed
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "HEAD") if (root / ".git").exists() else None
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")
    return head and (f"{head}-dirty" if changed else head)


def table(records: Sequence[Record], metrics: Sequence[str] = ()) -> str:
    """A Markdown table: a column for each record, a row for each metric, and below it how each was measured.

    Raises:
        RecordError: no record has one of `metrics`.
    """
    known = dict.fromkeys(re.sub(r"\.(low|high)$", "", name) for record in records for name in record.metrics)
    names = list(metrics) or list(known)
    lines = [f"| | {' | '.join(record.name for record in records)} |", "|---|" + "---:|" * len(records)]
    for name in names:
        if name not in known:
            raise RecordError(
                f"no metric {name!r} in {', '.join(record.name for record in records)}; there are {', '.join(known)}"
            )
        cells = (_cell(name, record.metrics) for record in records)
        lines.append(f"| {name.replace('_', ' ').replace('.', ': ')} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *map(_provenance, records)]) + "\n"


def group_table(records: Sequence[Record], metrics: Sequence[str], across: bool = False) -> str:
    """A Markdown table: a row for each group of the records that has one of the metrics, a column for each metric.

    across: with one metric, groups "suite.variant" become a row for each suite and a column for each variant.

    Raises:
        RecordError: no group has one of `metrics`, two records have the same one, or groups to set across each other
            have no two parts.
    """
    names = ",".join(record.name for record in records)
    found: dict[str, float] = {}
    for record in records:
        twice = sorted(found.keys() & record.metrics)
        if twice:
            raise RecordError(f"{names}: more than one has the metric {twice[0]!r}; name one of them")
        found |= record.metrics
    groups = {name: [key[: -len(name) - 1] for key in found if key.endswith(f".{name}")] for name in metrics}
    missing = [name for name, of in groups.items() if not of]
    if missing or not metrics:
        raise RecordError(f"{names}: no group with the metrics {missing or 'asked for: none was named'}")
    rows = list(dict.fromkeys(group for of in groups.values() for group in of))
    provenance = "\n".join(map(_provenance, records))
    if not across:
        cells = [[group, *(_valued(f"{group}.{name}", found) for name in metrics)] for group in rows]
        return _grid(["", *(name.replace("_", " ").replace(".", ": ") for name in metrics)], cells, provenance)
    if len(metrics) > 1 or any(group.count(".") != 1 for group in rows):
        raise RecordError(f"{names}/*/*: found {list(metrics)} of {rows}, wanted one metric of suite.variant")
    suites, variants = (list(dict.fromkeys(group.split(".")[part] for group in rows)) for part in (0, 1))
    cells = [[s, *(_valued(f"{s}.{v}.{metrics[0]}", found) for v in variants)] for s in suites]
    return _grid([metrics[0].replace("_", " "), *variants], cells, provenance)


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]], provenance: str) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", provenance]) + "\n"


def _valued(name: str, metrics: Mapping[str, float]) -> str:
    """A metric and, where there is one, its interval."""
    low, high = metrics.get(f"{name}_ci95.low"), metrics.get(f"{name}_ci95.high")
    if low is None or high is None:
        return format_metric(name, metrics.get(name))
    as_share = "rate" in re.split(r"[._]", name)
    value, low, high = (f"{100 * x:.1f}%" if as_share else f"{x:.3f}" for x in (metrics[name], low, high))
    return f"{value} ({low} to {high})"


def _provenance(record: Record) -> str:
    """How it was measured; the two spaces end the line."""
    code = f"commit {record.commit[:12]}" if record.commit else "no commit"
    cores = record.hardware["cores"]
    on = f"{cores} core{'s' * (cores != 1)}, {record.hardware['processor']}"
    return f"`{record.command}` ({record.date[:10]}, {on}, {code})  "


def _cell(name: str, metrics: Mapping[str, float]) -> str:
    if f"{name}.low" in metrics:
        return f"{format_metric(name, metrics[f'{name}.low'])} to {format_metric(name, metrics[f'{name}.high'])}"
    return format_metric(name, metrics.get(name))


def format_metric(name: str, value: float | None) -> str:
    """A number as a reader wants it: rates as percentages, correlations not, seconds with their unit, four digits."""
    if value is None:
        return "-"
    words = set(re.split(r"[._]", name))
    if words & {"rate", "ci95"} and "spearman" not in words and 0 <= value <= 1:
        return f"{100 * value:.1f}%"
    text = str(value) if isinstance(value, int) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{text} s" if "seconds" in words else text


def fill_tables(document: str, results: Path) -> str:
    """`document` with every table between markers written from the records in the folder `results`.

    Raises:
        RecordError: a marker is not closed, or names a record or metric that is not there.
    """
    if document.count("<!-- results:") != len(_TABLE.findall(document)):
        raise RecordError("a `<!-- results:NAME -->` marker has no `<!-- /results -->` after it")

    def filled(match: re.Match[str]) -> str:
        names, *metrics = match["spec"].split()
        names, *groups = names.split("/")
        records = [Record.read(results / f"{name}.json") for name in names.split(",")]
        written = group_table(records, metrics, across=len(groups) == 2) if groups else table(records, metrics)
        return f"{match[1]}{written}{match[4]}"

    return _TABLE.sub(filled, document)
