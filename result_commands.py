"""`deixis bench` and `deixis results`: measure a number, and carry the numbers on record into the documents."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from .eval import bench as benchmarks
from .eval.records import RecordError, fill_tables


def bench(name: str | None, command: Sequence[str], target: str | None, policy: str | None = None) -> int:
    """Run one benchmark and print its record, or list them all. policy: folder of the one to run, see `eval.bench`."""
    known = benchmarks.names()
    if name is None:
        width = max(map(len, known), default=0) + 2
        print("\n".join(f"{benchmark:{width}}{summary}" for benchmark, summary in known.items()))
        return 0
    if name not in known:
        print(f"deixis bench: no benchmark {name!r}\n  there are: {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        record = benchmarks.run(name, shlex.join(["deixis", *command]), policy)
    except (FileNotFoundError, ValueError) as error:
        if policy is None:
            raise
        print(f"deixis bench: {error}", file=sys.stderr)
        return 1
    if target is not None:
        record = replace(record, name=Path(target).stem)  # as every record is named after its file
    print(json.dumps(asdict(record), indent=2, ensure_ascii=False))
    if target is not None:
        print(f"written to {record.write(target)}", file=sys.stderr)
    return 0


def results(documents: Sequence[str], folder: str | None) -> int:
    """Write the tables between the documents' markers from the records; nothing is written when one cannot be."""
    records = Path(folder or "results")
    paths = [Path(document) for document in documents or ["README.md"]]
    try:
        filled = {path: fill_tables(path.read_text("utf-8"), records) for path in paths}
    except (RecordError, FileNotFoundError) as error:
        print(f"deixis results: {error}", file=sys.stderr)
        return 1
    for path, text in filled.items():
        changed = path.read_text("utf-8") != text
        if changed:
            path.write_text(text, "utf-8")
        print(f"{path}: {'written' if changed else 'up to date'}")
    return 0
