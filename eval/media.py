"""Films of chosen episodes: an animated WebP and a filmstrip each, with instruction and outcome drawn in.

An episode is a function of (suite, task, index, condition), so nothing is filmed while episodes are counted: the
chosen ones are run again with a larger camera.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import gymnasium
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..datasets.atomic import write_text
from .results import EpisodeRecord

CLIP_FOLDER = "media"
INDEX = "index.json"
_STRIP_FRAMES, _STRIP_SIZE, _STRIP_GAP = 6, 180, 6
_LINES, _LINE_HEIGHT, _FONT_SIZE, _LINE_LENGTH = 2, 17, 13, 36
_BAR_HEIGHT = (_LINES + 1) * _LINE_HEIGHT + 8
_LAST_FRAME_MS = 1200
_INK, _BAR, _GOOD, _BAD = (240, 240, 236), (28, 30, 34), (110, 200, 130), (240, 130, 105)


@dataclass(frozen=True)
class Clip:
    """One filmed episode; `film` and `strip` are file names in the media folder.

    said: the policy's sub-goals, each with the step from which it said so.
    """

    film: str
    strip: str
    task: str
    index: int
    condition: str
    instruction: str
    success: bool
    steps: int
    target: str
    original_target: str
    acted_on: str | None
    said: list[tuple[int, str]] = field(default_factory=list)


def choose_clips(records: Sequence[EpisodeRecord], count: int) -> list[EpisodeRecord]:
    """Up to `count` episodes to film: successes and failures of every condition take turns, and so do the tasks."""
    groups: dict[tuple[str, bool], list[EpisodeRecord]] = {}
    for record in records:
        groups.setdefault((record.condition, record.success), []).append(record)
    # With the scene's own instruction first, successes before failures; a null success is of least interest.
    rank = {("correct", True): 0, ("correct", False): 1, ("swap", True): 2, ("swap", False): 3, ("null", False): 4}
    ordered = [groups[key] for key in sorted(groups, key=lambda key: rank.get(key, len(rank)))]
    chosen: list[EpisodeRecord] = []
    while len(chosen) < count and any(ordered):
        for group in ordered:
            if group and len(chosen) < count:
                shown = [record.task for record in chosen]
                chosen.append(min(group, key=lambda record: (shown.count(record.task), record.index)))
                group.remove(chosen[-1])
    return chosen


def film(
    env: gymnasium.Env, episode: Callable[[Callable[[], None], Callable[[str], None]], EpisodeRecord], folder: Path
) -> Clip:
    """Runs `episode` with a camera and writes its film and strip into `folder`.

    env: made with render_mode "rgb_array"; its `render()` gives uint8 [H, W, 3].
    episode: runs the episode in `env`, calling its first argument after reset and after every step, and its second
    with what the policy says.
    """
    frames: list[np.ndarray] = []
    said: list[str] = [""]

    def shoot() -> None:
        frames.append(np.array(env.render()))
        said.append(said[-1])

    def hear(subgoal: str) -> None:
        said[-1] = subgoal

    record = episode(shoot, hear)
    name = f"{record.condition}-{record.task}-{record.index:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    # What is said once a frame was seen stands in it.
    drawn = [_with_caption(frame, record, step, said[step + 1]) for step, frame in enumerate(frames)]
    rate = float(env.metadata.get("render_fps", 10))
    durations = [round(1000 / rate)] * (len(drawn) - 1) + [_LAST_FRAME_MS]
    drawn[0].save(
        folder / f"{name}.webp",
        save_all=True,
        append_images=drawn[1:],
        duration=durations,
        loop=0,
        quality=75,
        method=4,
    )
    _strip(frames).save(folder / f"{name}.png", optimize=True)
    return Clip(
        film=f"{name}.webp",
        strip=f"{name}.png",
        task=record.task,
        index=record.index,
        condition=record.condition,
        instruction=record.instruction,
        success=record.success,
        steps=record.steps,
        target=record.target,
        original_target=record.original_target,
        acted_on=record.acted_on,
        said=[(step, text) for step, text in enumerate(said[1:]) if text and text != said[step]],
    )


def write_index(clips: Sequence[Clip], folder: Path) -> None:
    """Writes `folder`/index.json and removes what earlier films left there."""
    folder.mkdir(parents=True, exist_ok=True)
    keep = {name for clip in clips for name in (clip.film, clip.strip)}
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_text(folder / INDEX, json.dumps([asdict(clip) for clip in clips], indent=2, ensure_ascii=False) + "\n")


def read_index(folder: Path) -> list[Clip]:
    """The clips of a media folder, in their order; none when nothing was filmed."""
    path = folder / INDEX
    entries = json.loads(path.read_text("utf-8")) if path.is_file() else []
    return [Clip(**{**entry, "said": [(step, text) for step, text in entry.get("said", [])]}) for entry in entries]


def outcome(success: bool, steps: int) -> str:
    """The outcome in words, the same in films and in the report."""
    return f"success in {steps} steps" if success else f"no success in {steps} steps"


def _with_caption(frame: np.ndarray, record: EpisodeRecord, step: int, said: str) -> Image.Image:
    """The frame on a bar with the instruction, what the policy says it is about and, at the end, the outcome."""
    height, width, _ = frame.shape
    image = Image.new("RGB", (width, height + _BAR_HEIGHT), _BAR)
    image.paste(Image.fromarray(frame), (0, 0))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(_FONT_SIZE)
    # Pillow's own font has no Chinese; such an instruction stands beside the film in the report.
    text = record.instruction if record.instruction.isascii() else f"{record.task} ({record.target})"
    lines = textwrap.wrap(text or "(no instruction)", _LINE_LENGTH, max_lines=_LINES, placeholder=" …")
    for number, line in enumerate(lines):
        draw.text((8, height + 4 + number * _LINE_HEIGHT), line, fill=_INK, font=font)
    over = step == record.steps
    status = outcome(record.success, record.steps) if over else f"step {step}"
    if said and said.isascii() and not over:
        status = textwrap.shorten(f"{status}: {said}", _LINE_LENGTH, placeholder=" …")
    colour = (_GOOD if record.success else _BAD) if over else _INK
    draw.text((8, height + 4 + _LINES * _LINE_HEIGHT), status, fill=colour, font=font)
    return image


def _strip(frames: Sequence[np.ndarray]) -> Image.Image:
    """Evenly spaced frames side by side, the first and the last among them."""
    chosen = np.linspace(0, len(frames) - 1, _STRIP_FRAMES).round().astype(int)
    width = _STRIP_FRAMES * (_STRIP_SIZE + _STRIP_GAP) - _STRIP_GAP
    strip = Image.new("RGBA", (width, _STRIP_SIZE))  # the gaps stay transparent
    for place, number in enumerate(chosen):
        picture = Image.fromarray(frames[number]).resize((_STRIP_SIZE, _STRIP_SIZE), Image.Resampling.LANCZOS)
        strip.paste(picture, (place * (_STRIP_SIZE + _STRIP_GAP), 0))
    return strip
