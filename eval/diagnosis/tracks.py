"""Tracks: an episode as a policy sees it, a row for each control step, as recorded and as a world shows it now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch

from ...datasets.spec import ACTION_STREAM, EXECUTED_STREAM
from ...datasets.store import TrajectoryStore
from ...datasets.windows import WindowDataset, WindowSpec
from ...envs.replaying import restart
from ...policies.interfaces import Observation
from ..rollout import visible


@dataclass(frozen=True)
class Track:
    """What was seen before each of T actions.

    Attributes:
        images: camera name -> uint8 RGB [T, H, W, 3].
        proprio: float32 [T, P].
        instruction: of all rows.
    """

    images: dict[str, np.ndarray]
    proprio: np.ndarray
    instruction: str

    def __len__(self) -> int:
        return len(self.proprio)

    def observation(self, rows: np.ndarray, obs_horizon: int) -> Observation:
        """What a policy sees at `rows` int [B], each with the rows before it; the first row repeats itself."""
        seen = np.clip(rows[:, None] + np.arange(1 - obs_horizon, 1), 0, len(self) - 1)
        images = {name: torch.from_numpy(frames[seen]) for name, frames in self.images.items()}
        return Observation(images, torch.from_numpy(self.proprio[seen]), [self.instruction] * len(rows))


@dataclass(frozen=True)
class Recording:
    """One recorded episode.

    Attributes:
        track: what was seen.
        chunks: float32 [T, Tp, A], the actions from each row on, the last one repeated past the end; is_pad: bool
            [T, Tp], where it is.
        executed: float32 [T, A], what was done in each row.
        succeeded: None where the store does not say.
    """

    episode: int
    track: Track
    chunks: np.ndarray
    is_pad: np.ndarray
    executed: np.ndarray
    succeeded: bool | None


def read_recording(store: TrajectoryStore, episode: int, cameras: tuple[str, ...], action_horizon: int) -> Recording:
    """Episode `episode` of a store; raises as `WindowDataset` does where its streams do not fit together."""
    windows = WindowDataset(store, WindowSpec(1, action_horizon), cameras, cache=False, episodes=[episode])
    batch = windows.batch(np.arange(len(windows)))
    done = EXECUTED_STREAM if EXECUTED_STREAM in store.streams else ACTION_STREAM
    track = Track({c: x[:, 0] for c, x in batch["images"].items()}, batch["proprio"][:, 0], batch["instruction"][0])
    return Recording(
        episode=episode,
        track=track,
        chunks=batch["actions"],
        is_pad=batch["is_pad"],
        executed=store.read(episode, done).values.astype(np.float32),
        succeeded=store.episode_info(episode)["meta"].get("success"),
    )


def drive(
    env: gymnasium.Env, store: TrajectoryStore, episode: int, actions: np.ndarray, cameras: tuple[str, ...]
) -> tuple[Track, bool]:
    """Carry out actions [T, A] from the start of an episode: what is seen before each of them, and whether it succeeds.

    The track ends where the world calls the episode over. Raises StoreError as `restart` does.
    """
    set_observing = getattr(env.unwrapped, "set_observing", lambda observing: None)
    set_observing(bool(cameras))
    observation, info = restart(env, store, episode)
    text = str(observation["instruction"])
    seen: list[dict[str, Any]] = []
    for action in actions:
        seen.append(visible(observation, cameras))
        observation, _, terminated, truncated, info = env.step(action.astype(np.float32))
        if terminated or truncated:
            break
    set_observing(True)
    images = {camera: np.stack([row[camera] for row in seen]) for camera in cameras}
    return Track(images, np.stack([row["proprio"] for row in seen]), text), bool(info["success"])
