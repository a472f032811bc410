"""Text drawn into pictures: Latin letters in Pillow's own font, Chinese in one that lies beside this file.

chinese.ttf holds the characters of our own sentences, cut from Droid Sans Fallback (Copyright Google, Apache-2.0) by
    pyftsubset DroidSansFallbackFull.ttf --text=CHARACTERS --no-hinting --output-file=eval/chinese.ttf
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_CHINESE = Path(__file__).with_name("chinese.ttf")
_UNKNOWN = "\uffff"
_PARTS = re.compile(r"[!-~]+\s*|\S\s*")  # a line may end after a word, and after every Chinese character
_IN_OTHER_LETTERS = {"→": "->"}

Colour = tuple[int, int, int]


def drawable(text: str) -> bool:
    """Whether every character of the text is in one of the fonts."""
    return all(_font_of(_spelt(char), 12) is not None for char in text)


def wrap(text: str, size: int, width: float, most: int) -> list[str]:
    """The text in up to `most` lines of at most `width` pixels; what does not fit ends in an ellipsis."""
    lines = [""]
    for part in _PARTS.findall(_spelt(text)):
        if lines[-1] and _length((lines[-1] + part).rstrip(), size) > width:
            lines.append("")
        lines[-1] += part
    if len(lines) > most:
        lines[most - 1 :] = ["".join(lines[most - 1 :])]
    return [_fit(line.rstrip(), size, width) for line in lines]


def draw(picture: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, colour: Colour) -> None:
    """Draw one line, whose base begins at `place` (x, y in pixels)."""
    x, y = place
    for part, font in _in_fonts(text, size):
        picture.text((x, y), part, fill=colour, font=font, anchor="ls")
        x += font.getlength(part)


def _fit(line: str, size: int, width: float) -> str:
    if _length(line, size) <= width:
        return line
    while line and _length(f"{line} …", size) > width:
        line = line[:-1].rstrip()
    return f"{line} …"


def _length(text: str, size: int) -> float:
    return sum(font.getlength(part) for part, font in _in_fonts(text, size))


def _in_fonts(text: str, size: int) -> list[tuple[str, ImageFont.FreeTypeFont]]:
    """The text in parts of one font each; a character that is in none is drawn as an empty box."""
    fonts = _fonts(size)
    with_font = ((char, _font_of(char, size) or fonts[0]) for char in _spelt(text))
    return [("".join(char for char, _ in group), font) for font, group in groupby(with_font, key=lambda pair: pair[1])]


def _spelt(text: str) -> str:
    return "".join(_IN_OTHER_LETTERS.get(char, char) for char in text)


@cache
def _font_of(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """The first font that has all of it."""
    return next((font for font in _fonts(size) if all(_known(char, font) for char in text)), None)


def _known(char: str, font: ImageFont.FreeTypeFont) -> bool:
    return char == " " or _shape(char, font) != _shape(_UNKNOWN, font)


def _shape(char: str, font: ImageFont.FreeTypeFont) -> bytes:
    picture = Image.new("L", (2 * round(font.size), 2 * round(font.size)))
    ImageDraw.Draw(picture).text((0, 0), char, fill=255, font=font)
    return picture.tobytes()


@cache
def _fonts(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    own = ImageFont.load_default(size)
    if not isinstance(own, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType, which captions need: install a wheel of Pillow")
    return own, ImageFont.truetype(_CHINESE, size)
