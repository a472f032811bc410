"""`deixis/PushT-v0`: Push-T by the rules of Diffusion Policy (Chi et al. 2023, arXiv:2303.04137)."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np

from ..datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec, camera_stream
from .pusht import NAMES, drawn_start, make_pusht, told

RATE_HZ = 10.0
INSTRUCTION = "push the T-shaped block onto its outline"
TASK = "push-t"
CAMERA = "img"
ACTION = ActionSpec(("target_x", "target_y"), ("pixel", "pixel"), (0.0, 0.0), (512.0, 512.0), RATE_HZ)
AGENT = ProprioSpec(NAMES[:2], ("pixel", "pixel"), RATE_HZ)
# A half turn of the block must not be a jump, so its angle is told by cosine and sine.
STATE = ProprioSpec((*NAMES[:4], f"cos({NAMES[4]})", f"sin({NAMES[4]})"), (*("pixel",) * 4, "1", "1"), RATE_HZ)


class PushTTask(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Push the grey T onto its green outline with a round tip.

    Observation: `proprio` float32, with observation "state" [6] (tip and block, `STATE`), with "image" [2] (the tip
    alone) beside `camera.img` uint8 [image_size, image_size, 3]; and `instruction`. Action: float32 [2], where the tip
    should go, pixels of a 512 pixel arena. Reward: covered share of the outline, over 0.95, at most 1. The episode ends
    in success where that share exceeds 0.95. info: success, coverage, score (the best reward so far) and what the
    results table wants.

    A start is drawn as the benchmark's own environment does, from numpy's old generator with the reset's seed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(RATE_HZ)}

    def __init__(
        self, observation: Literal["state", "image"] = "state", image_size: int = 96, render_mode: str | None = None
    ) -> None:
        if observation not in ("state", "image"):
            raise ValueError(f"observation: found {observation!r}, wanted 'state' or 'image'")
        self.render_mode = render_mode
        self._sees = observation == "image"
        self._env = make_pusht(obs_type="state", observation_width=image_size, observation_height=image_size)
        self._observing = True
        cameras = (CameraSpec(CAMERA, image_size, image_size, RATE_HZ),) if self._sees else ()
        self.env_spec = EnvSpec("deixis/PushT-v0", cameras, AGENT if self._sees else STATE, ACTION)
        box, dim = gymnasium.spaces.Box, self.env_spec.proprio.dim
        self.action_space = box(0.0, 512.0, (2,), np.float32)
        spaces: dict[str, gymnasium.Space[Any]] = {
            "proprio": box(-512.0, 1024.0, (dim,), np.float32),
            "instruction": gymnasium.spaces.Text(200, charset="".join(sorted(set(INSTRUCTION)))),
        }
        if self._sees:
            spaces[camera_stream(CAMERA)] = box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(spaces)

    def set_observing(self, observing: bool) -> None:
        """Whether the next observation's picture will be looked at; one that is not repeats the last."""
        self._observing = observing

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """options: task ("push-t") and condition ("correct"): there is one of each."""
        super().reset(seed=seed)
        for name, only in (("task", TASK), ("condition", "correct")):
            found = (options or {}).get(name, only)
            if found != only:
                raise ValueError(f"reset option {name!r}: found {found!r}, wanted {only!r}: Push-T has one of them")
        start = drawn_start(int(self.np_random.integers(2**31)) if seed is None else seed)
        state, _ = self._env.reset(seed=0, options={"reset_to_state": start})
        self._score, self._picture = 0.0, None
        return self._observe(state), self._info(False, self._env._get_coverage())

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        state, reward, terminated, _, info = self._env.step(np.asarray(action, np.float64))
        self._score = max(self._score, float(reward))
        return self._observe(state), float(reward), bool(terminated), False, self._info(terminated, info["coverage"])

    def render(self) -> np.ndarray:
        """The arena, uint8 [340, 340, 3]."""
        screen = self._env._draw()
        return self._env._get_img(screen, width=340, height=340, render_action=True)

    def close(self) -> None:
        self._env.close()

    def _observe(self, state: np.ndarray) -> dict[str, Any]:
        known = state[:2] if self._sees else told(state[None])[0]
        seen: dict[str, Any] = {"proprio": known.astype(np.float32), "instruction": INSTRUCTION}
        if self._sees:
            if self._observing or self._picture is None:
                self._picture = np.asarray(self._env._render(), np.uint8)
            seen[camera_stream(CAMERA)] = self._picture
        return seen

    def _info(self, success: bool, coverage: float) -> dict[str, Any]:
        return {
            "success": bool(success),
            "coverage": float(coverage),
            "score": self._score,
            "predicates": {"coverage": round(float(coverage), 6)},
            "instruction": INSTRUCTION,
        }
