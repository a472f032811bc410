"""The loader's benchmark measures every number that is promised of it, here on a store of a few frames."""

import math

import pytest

from deixis.eval.bench import loader


def test_it_measures_all_that_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"EPISODES": 2, "STEPS": 40, "CACHE": 4 << 20, "LARGE_EPISODES": 2, "LARGE_STEPS": 30, "SECONDS": 0.02}
    for name, value in small.items():
        monkeypatch.setattr(loader, name, value)
    monkeypatch.setattr(loader, "LARGE_CACHE", 20 << 20)
    metrics = loader.run()
    speeds = [
        "state_windows_per_s", "image96_cached_windows_per_s", "image96_streaming_windows_per_s",
        "image256x2_windows_per_s", "write_frames_per_s",
    ]  # fmt: skip
    for name in speeds:
        assert metrics[name] > 0
    assert metrics["state_windows_vs_lerobot"] == metrics["state_windows_per_s"] / 257
    assert metrics["write_frames_vs_lerobot"] == metrics["write_frames_per_s"] / 186
    assert 0 <= metrics["stream_rss_growth_mb"] < 300
    for size in (96, 256):
        stored = {
            codec: metrics[f"codec_{codec}_{size}_bytes_per_frame"] for codec in ("raw", "lz4", "zstd", "png", "jpeg")
        }
        assert stored["raw"] >= 3 * size**2 > 2 * max(stored[codec] for codec in ("lz4", "zstd", "png", "jpeg"))
    assert all(math.isfinite(value) and value >= 0 for value in metrics.values())
