"""A file is there whole or not at all, and nothing is left beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deixis.datasets.atomic import whole_file, write_text


def test_a_text_is_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    assert write_text(path, "红色") == path and path.read_text("utf-8") == "红色"
    write_text(path, "blue\n")
    assert path.read_bytes() == b"blue\n" and list(path.parent.iterdir()) == [path]


def test_what_fails_on_the_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_text(tmp_path / "table", "old")

    def fail_half_way() -> None:
        with whole_file(path) as beside:
            beside.write_text("ne", "utf-8")
            assert path.read_text("utf-8") == "old", "half of it is not seen"
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert path.read_text("utf-8") == "old" and list(tmp_path.iterdir()) == [path]
