"""Chunks of actions to code: smooth ones of any number, and those of Push-T's demonstrations."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from torch import Tensor

DATA = Path(os.environ.get("DEIXIS_DATA", Path(__file__).parents[3] / "shared" / "data"))


def smooth_chunks(count: int, horizon: int, dim: int, seed: int = 0) -> Tensor:
    """Offsets, slopes and slow waves [count, horizon, dim] within [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    offset, slope, height, phase = torch.rand(4, count, 1, dim, generator=generator) * 2 - 1
    time = torch.linspace(-1, 1, horizon)[:, None]
    return (offset / 2 + slope * time / 4 + height * torch.sin(3 * (time + phase)) / 4).clamp(-1, 1)


@cache
def pusht_chunks(horizon: int = 16) -> tuple[Tensor, Tensor]:
    """All chunks of the human demonstrations, min-max normalised [N, horizon, 2], and which rows are padding."""
    source = DATA / "pusht_cchi_v7_replay.zarr"
    if not source.exists():
        pytest.skip(f"{source} is not here: the Push-T demonstrations of Chi et al. 2023")
    actions = np.asarray(zarr.open_array(source / "data" / "action", mode="r")[:])
    ends = np.asarray(zarr.open_array(source / "meta" / "episode_ends", mode="r")[:])
    low, high = actions.min(0), actions.max(0)
    end = ends[np.searchsorted(ends, np.arange(len(actions)), side="right")]
    rows = np.arange(len(actions))[:, None] + np.arange(horizon)
    chunks = ((actions - low) / (high - low) * 2 - 1)[np.minimum(rows, end[:, None] - 1)]
    return torch.from_numpy(chunks), torch.from_numpy(rows >= end[:, None])
