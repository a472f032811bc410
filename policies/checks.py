"""Checks at the policy's border: what may come in, said in words when it does not fit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .interfaces import Batch, Observation


def check_observation(
    observation: Observation, cameras: Mapping[str, tuple[int, int]], proprio_dim: int, horizon: int
) -> int:
    """The batch size of a well-formed observation.

    Args:
        observation: what is about to enter a policy.
        cameras: camera name -> (height, width) the policy was built for.
        proprio_dim: P.
        horizon: To.

    Raises:
        ValueError: a camera is missing, or a tensor has another shape or dtype; the message names the field.
    """
    if not isinstance(observation.proprio, Tensor) or observation.proprio.ndim != 3:
        raise ValueError(
            f"observation.proprio: found {_describe(observation.proprio)}, wanted [B, {horizon}, {proprio_dim}]"
        )
    batch = observation.proprio.shape[0]
    for camera, size in cameras.items():
        if camera not in observation.images:
            raise ValueError(f"observation.images: camera {camera!r} is missing, found {sorted(observation.images)}")
        _check_tensor(
            f"observation.images[{camera!r}]", observation.images[camera], (batch, horizon, *size, 3), torch.uint8
        )
    _check_tensor("observation.proprio", observation.proprio, (batch, horizon, proprio_dim), torch.float32)
    if not torch.isfinite(observation.proprio).all():
        raise ValueError("observation.proprio: found a value that is not finite; check the sensor or the simulator")
    if isinstance(observation.instruction, str) or len(observation.instruction) != batch:
        found = "one text" if isinstance(observation.instruction, str) else f"{len(observation.instruction)} texts"
        raise ValueError(f"observation.instruction: found {found}, wanted a list of {batch}")
    return batch


def check_batch(batch: Batch, action_dim: int, horizon: int) -> None:
    """Raise ValueError unless actions are float32 [B, Tp, A] and is_pad is bool [B, Tp] for the observation's B."""
    size = batch.observation.proprio.shape[0]
    _check_tensor("batch.actions", batch.actions, (size, horizon, action_dim), torch.float32)
    _check_tensor("batch.is_pad", batch.is_pad, (size, horizon), torch.bool)


def _check_tensor(name: str, value: object, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.dtype != dtype:
        raise ValueError(f"{name}: found {_describe(value)}, wanted {str(dtype).removeprefix('torch.')} {list(shape)}")


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__
