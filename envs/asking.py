"""What a reset may ask for, and in which words: shared by the worlds of other packages, whatever simulates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np

from ..datasets.spec import ActionSpec, EnvSpec, camera_stream

CONDITIONS = ("correct", "null", "paraphrase-en")

_CHARACTERS = "".join(map(chr, range(32, 127)))
_TEXT_LENGTH = 300


def observation_space(spec: EnvSpec) -> gymnasium.spaces.Dict:
    """What is seen, felt and read: a picture of each camera, proprioception, and any English instruction or none."""
    box = gymnasium.spaces.Box
    cameras = {camera_stream(c.name): box(0, 255, (c.height, c.width, 3), np.uint8) for c in spec.cameras}
    proprio = box(-np.inf, np.inf, (spec.proprio.dim,), np.float32)
    instruction = gymnasium.spaces.Text(_TEXT_LENGTH, min_length=0, charset=_CHARACTERS)
    return gymnasium.spaces.Dict({**cameras, "proprio": proprio, "instruction": instruction})


def action_space(spec: ActionSpec) -> gymnasium.spaces.Box:
    """float32 [A] within the limits."""
    return gymnasium.spaces.Box(np.asarray(spec.low, np.float32), np.asarray(spec.high, np.float32))


def checked_options(
    options: Mapping[str, Any] | None, tasks: Sequence[str], conditions: Sequence[str]
) -> tuple[str, str, str | None]:
    """Task, condition and the text to show instead, if any, of a reset's options; ValueError says what is wrong."""
    left = dict(options or {})
    task, condition = left.pop("task", tasks[0]), left.pop("condition", "correct")
    instruction = left.pop("instruction", None)
    if left:
        raise ValueError(f"reset options: found {sorted(left)}, wanted some of task, condition, instruction")
    for name, value, known in (("task", task, tasks), ("condition", condition, conditions)):
        if value not in known:
            raise ValueError(f"reset option {name!r}: found {value!r}, wanted one of {', '.join(known)}")
    return task, condition, None if instruction is None else str(instruction)


def shown(instruction: str | None, condition: str, asked: str) -> str:
    """What the policy reads: the text that was given, else nothing under "null", else what is asked."""
    if instruction is not None:
        return instruction
    return "" if condition == "null" else asked


def say(texts: Sequence[str], condition: str, rng: np.random.Generator, held_out: int) -> str:
    """One of several phrasings; the last `held_out` are kept for the condition "paraphrase-en"."""
    if condition == "paraphrase-en":
        return texts[len(texts) - held_out + int(rng.integers(held_out))]
    return texts[int(rng.integers(len(texts) - held_out))]


def checked_action(action: Any, spec: ActionSpec) -> np.ndarray:
    """float64 [A], clipped to the limits; ValueError where it has another shape or is not finite."""
    action = np.asarray(action, np.float64)
    if action.shape != (spec.dim,) or not np.isfinite(action).all():
        raise ValueError(f"action: found {action!r}, wanted {(spec.dim,)} finite numbers")
    return action.clip(spec.low, spec.high)
