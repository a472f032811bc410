"""The benchmark of drawing measures every level beside the package's own renderer, and shows them beside each other."""

from pathlib import Path

import pytest
from PIL import Image

from deixis.envs.drawing.level import LEVELS
from deixis.eval.bench import render

pytest.importorskip("metaworld", reason="metaworld is not here: pip install 'deixis[metaworld]'")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_level_is_measured_and_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(render, "SIZES", (32,))
    monkeypatch.setattr(render, "CAMERAS", (1,))
    monkeypatch.setattr(render, "WORLDS", {"metaworld": render.WORLDS["metaworld"]})
    monkeypatch.setattr(render, "FOLDER", tmp_path)
    found = render.run()
    measured = {f"metaworld_32_1_{way}_{what}" for way in ("own", *LEVELS) for what in ("fps", "steps_per_s")}
    assert measured <= set(found) and min(found[name] for name in measured) > 0
    assert found["metaworld_speedup"] == found["metaworld_32_1_simple_fps"] / found["metaworld_32_1_own_fps"]
    simple, *others = (found[f"metaworld_{level}_differs_from_plain"] for level in ("simple", "coarse", "hulls"))
    assert 0 < simple < min(others) and simple < found["metaworld_plain_differs"], "shadows make more of a difference"
    assert Image.open(tmp_path / "metaworld.png").size == (32 * 3 * len(LEVELS), 32 * 3)
