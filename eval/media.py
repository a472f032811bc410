"""Films of chosen episodes: an animated WebP and a filmstrip each, with instruction, sub-goal and outcome drawn in.

An episode is a function of (suite, task, index, condition), so nothing is filmed while episodes are counted: the
chosen ones are run again with a larger camera.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import gymnasium
import numpy as np
from PIL import Image, ImageDraw

from ..datasets.atomic import write_text
from . import captions
from .results import EpisodeRecord

CLIP_FOLDER = "media"
INDEX = "index.json"
_STRIP_FRAMES, _STRIP_SIZE, _STRIP_GAP = 6, 180, 6
_FONT_SIZE, _STRIP_FONT_SIZE, _LINES, _MARGIN = 13, 16, 2, 8
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


class Moment(NamedTuple):
    """A frame, uint8 [H, W, 3], its step, and the sub-goal that the policy was about once it had seen it."""

    frame: np.ndarray
    step: int
    said: str


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
    moments = [Moment(frame, step, said[step + 1]) for step, frame in enumerate(frames)]
    drawn = [_with_caption(moment, record) for moment in moments]
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
    _strip(moments, record).save(folder / f"{name}.png", optimize=True)
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


def _with_caption(moment: Moment, record: EpisodeRecord) -> Image.Image:
    """The frame on a bar with the instruction, what the policy says it is about and, at the end, the outcome."""
    height, width, _ = moment.frame.shape
    line = _line_height(_FONT_SIZE)
    image = Image.new("RGB", (width, height + (_LINES + 1) * line + _MARGIN), _BAR)
    image.paste(Image.fromarray(moment.frame), (0, 0))
    draw, room = ImageDraw.Draw(image), width - 2 * _MARGIN
    for number, text in enumerate(captions.wrap(_instruction(record), _FONT_SIZE, room, _LINES), 1):
        captions.draw(draw, (_MARGIN, height + number * line), text, _FONT_SIZE, _INK)
    text, colour = _status(moment, record)
    [text] = captions.wrap(text, _FONT_SIZE, room, 1)
    captions.draw(draw, (_MARGIN, height + (_LINES + 1) * line), text, _FONT_SIZE, colour)
    return image


def _strip(moments: Sequence[Moment], record: EpisodeRecord) -> Image.Image:
    """Evenly spaced frames side by side, the first and the last among them, below the instruction and above what the
    policy said and, at the end, the outcome."""
    chosen = np.linspace(0, len(moments) - 1, _STRIP_FRAMES).round().astype(int)
    statuses = [_status(moments[number], record) for number in chosen]
    below = [captions.wrap(text, _STRIP_FONT_SIZE, _STRIP_SIZE - _MARGIN, _LINES) for text, _ in statuses]
    line, width = _line_height(_STRIP_FONT_SIZE), _STRIP_FRAMES * (_STRIP_SIZE + _STRIP_GAP) - _STRIP_GAP
    top = line + _MARGIN
    strip = Image.new("RGB", (width, top + _STRIP_SIZE + max(map(len, below)) * line + _MARGIN), _BAR)
    draw = ImageDraw.Draw(strip)
    [text] = captions.wrap(_instruction(record), _STRIP_FONT_SIZE, width - 2 * _MARGIN, 1)
    captions.draw(draw, (_MARGIN, line), text, _STRIP_FONT_SIZE, _INK)
    for place, number in enumerate(chosen):
        left = place * (_STRIP_SIZE + _STRIP_GAP)
        picture = Image.fromarray(moments[number].frame)
        strip.paste(picture.resize((_STRIP_SIZE, _STRIP_SIZE), Image.Resampling.LANCZOS), (left, top))
        for number_of_line, text in enumerate(below[place], 1):
            at = (left + _MARGIN, top + _STRIP_SIZE + number_of_line * line)
            captions.draw(draw, at, text, _STRIP_FONT_SIZE, statuses[place][1])
    return strip


def _instruction(record: EpisodeRecord) -> str:
    """The instruction, or what it is about where the fonts lack its letters: then it stands beside the film alone."""
    text = record.instruction if captions.drawable(record.instruction) else f"{record.task} ({record.target})"
    return text or "(no instruction)"


def _status(moment: Moment, record: EpisodeRecord) -> tuple[str, captions.Colour]:
    """What is said of a moment, and in which colour."""
    if moment.step == record.steps:
        return outcome(record.success, record.steps), _GOOD if record.success else _BAD
    said = moment.said and captions.drawable(moment.said)
    return f"step {moment.step}: {moment.said}" if said else f"step {moment.step}", _INK


def _line_height(size: int) -> int:
    return round(1.3 * size)
