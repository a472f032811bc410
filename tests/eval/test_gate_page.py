"""The gate's page: whole, self-contained, and it says what the report says."""

import re
from pathlib import Path

import numpy as np

from deixis.datasets.timestamps import check_store
from deixis.envs.collect import collect
from deixis.envs.config import CollectConfig
from deixis.eval.gate_page import write_gate_page


def test_the_page_of_clean_and_of_faulty_demonstrations(tmp_path: Path) -> None:
    store = collect(CollectConfig(episodes=24, workers=1), tmp_path / "store.zarr", seed=3)
    page = write_gate_page(store, check_store(store), tmp_path / "deep" / "gate.html").read_text("utf-8")
    assert "May be trained on" in page and "Delays read from the content" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page), "nothing may be fetched"
    assert page.count("<svg") >= 2 * len(store.streams)
    for name in store.streams:
        assert name in page

    record = store.read_all

    def with_nan(stream: str, *rest, **more):
        rows = record(stream, *rest, **more)
        if stream == "action":
            rows.values[0, 0] = np.nan
        return rows

    store.read_all = with_nan  # type: ignore[method-assign]
    report = check_store(store)
    page = write_gate_page(store, report, tmp_path / "bad.html").read_text("utf-8")
    assert "Refused" in page and "finite" in page
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
