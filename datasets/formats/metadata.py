"""Small text files that describe a data set, read with a limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .importing import MAX_TEXT_BYTES, parsed_object
from .options import FormatError


def read_text(path: Path) -> str:
    """The UTF-8 text of a file. FormatError where there is none, or far too much for metadata."""
    try:
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            raise FormatError(f"{path}: found {size} bytes, wanted metadata of at most {MAX_TEXT_BYTES}")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: found no readable text ({error}), wanted the data set's metadata") from error


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. FormatError where there is none."""
    return parsed_object(read_text(path), str(path))
