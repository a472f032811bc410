"""The benchmark of probes measures what it promises, here on a few episodes."""

from pathlib import Path

import pytest

from deixis.cli import main
from deixis.eval.bench import probe
from deixis.eval.records import Record


def test_it_measures_all_that_is_promised(monkeypatch: pytest.MonkeyPatch, policy_folder: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "EPISODES", 12)
    monkeypatch.setattr(probe, "TURNS", 2)
    target = tmp_path / "bench-probe.json"
    assert main(["bench", "probe", "--policy", str(policy_folder), "--json", str(target)]) == 0
    metrics = Record.read(target).metrics
    assert metrics.keys() == {
        *("bare_frames_per_s", "extract_frames_per_s", "extract_vs_bare", "frames", "bytes_per_frame")
    }
    assert all(value > 0 for value in metrics.values())
