"""Episodes as they end, a line each, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TextIO

from ..datasets.atomic import write_text
from .results import EpisodeRecord

_FIELDS = {field.name for field in fields(EpisodeRecord)}


class Journal:
    """The episodes of one evaluation so far; a context, after which, where it ends well, the file is no longer needed.

    Args:
        path: a file of JSON lines: what the evaluation is of, then its episodes in the order in which they ended. It is
            there only while the evaluation is not done.
        about: what the evaluation is of. A journal of another one is begun anew.

    Attributes:
        records: the episodes that were there already. A line that was not written to its end is none.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self.path = path
        lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
        parsed = [json.loads(line) for line in lines]
        same = bool(parsed) and parsed[0] == json.loads(json.dumps(about))
        self.records = [EpisodeRecord(**line) for line in parsed[1:] if line.keys() == _FIELDS] if same else []
        self._about = about
        self._file: TextIO | None = None

    def add(self, record: EpisodeRecord) -> None:
        """Note an episode that has ended."""
        if self._file is None:
            self._file = self._begin()
        self._file.write(_line(asdict(record)))
        self._file.flush()

    def _begin(self) -> TextIO:
        """Writes down what is known, without lines that were not written to their end, and opens what follows it."""
        write_text(self.path, "".join(map(_line, [self._about, *map(asdict, self.records)])))
        return self.path.open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None:
            self.path.unlink(missing_ok=True)


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False) + "\n"
