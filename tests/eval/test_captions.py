"""Captions: every letter of our own sentences can be drawn, and lines keep to their width."""

import re
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

import deixis
from deixis.eval.captions import draw, drawable, wrap

ROOT = Path(deixis.__file__).parent
CHINESE = re.compile("[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


def widest(lines: list[str], size: int) -> int:
    """Pixels to the right end of what is drawn."""
    found = 0
    for line in lines:
        picture = Image.new("RGB", (900, 40))
        draw(ImageDraw.Draw(picture), (0, 30), line, size, (255, 255, 255))
        box = picture.getbbox()
        found = max(found, box[2] if box else 0)
    return found


def test_every_letter_of_our_own_sentences_can_be_drawn() -> None:
    sources = [path for room in ("datasets", "envs") for path in (ROOT / room).rglob("*.py")]
    letters = {letter for path in sources for letter in CHINESE.findall(path.read_text("utf-8"))}
    missing = "".join(sorted(letter for letter in letters if not drawable(letter)))
    assert len(letters) > 100
    assert not missing, f"cut the font again, with {missing} too, by the command in eval/captions.py"
    assert drawable("".join(map(chr, range(32, 127))) + "→…")
    assert not drawable("キ") and not drawable("lift the 鑫 cube")


@pytest.mark.parametrize(
    "text",
    [
        "please lift the red cube that lies to the left of the blue cylinder",
        "把红色的方块放到蓝色圆柱的左边，用手抓起来放到盘子上面",
        "lift the 红色方块 and put it 放到盘子上 → no wait",
        "w" * 200,
        "i",
    ],
)
@pytest.mark.parametrize("most", [1, 2, 3])
def test_lines_keep_to_their_width_and_lose_nothing_without_saying_so(text: str, most: int) -> None:
    lines = wrap(text, 14, 160, most)
    assert 1 <= len(lines) <= most and widest(lines, 14) <= 162
    spoken = text.replace("→", "->").replace(" ", "")
    shown = "".join(lines).replace(" ", "")
    assert shown == spoken or (lines[-1].endswith("…") and spoken.startswith(shown.removesuffix("…")))


def test_a_long_text_gets_the_lines_that_it_needs() -> None:
    assert wrap("lift the red cube", 14, 1000, 3) == ["lift the red cube"]
    assert wrap("lift the red cube", 14, 60, 9) == ["lift the", "red cube"]
    assert wrap("", 14, 60, 2) == [""]
