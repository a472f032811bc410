"""Two-layer probes: what is in the features, but not for a linear eye. Small networks, one for each target, at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .labels import Target
from .ridge import Columns

WIDTH, LOOKS, BATCH, RATE, DECAY = 64, 10, 256, 3e-3, 0.05
EPOCHS, FEWEST, MOST = 80, 100, 600  # epochs, and the fewest and most steps that they may be


class _Networks(nn.Module):
    """T networks [D, WIDTH, K] at once; each sees all features and has columns of its own."""

    def __init__(self, inputs: int, owner: np.ndarray) -> None:
        super().__init__()
        self.targets = int(owner.max()) + 1
        self.first = nn.Linear(inputs, WIDTH * self.targets)
        self.second = nn.Linear(WIDTH * self.targets, len(owner))
        mine = torch.arange(self.targets).repeat_interleave(WIDTH)[None] == torch.from_numpy(owner)[:, None]
        self.register_buffer("mine", mine.float())
        self.mine: Tensor
        with torch.no_grad():
            self.second.weight *= math.sqrt(self.targets)

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.gelu(self.first(features))
        return F.linear(hidden, self.second.weight * self.mine, self.second.bias)


def fit_two_layer(
    features: Tensor, targets: Sequence[Target], fold: tuple[np.ndarray, np.ndarray, np.ndarray], seed: int
) -> np.ndarray:
    """Predictions [F, K] in the targets' units, which mean something at the test frames of a fold.

    Losses are those of the linear probes: squared errors on standardised columns.

    Args:
        features: standardised [F, D].
        targets: one network each.
        fold: (train, choose, test), bool [F]; each target keeps the weights that served it best on the frames that
            choose, of several looks.
        seed: of weights and batches.
    """
    columns = Columns.of(targets)
    train, choose, test = (torch.from_numpy(np.flatnonzero(rows)) for rows in fold)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = _Networks(features.shape[1], columns.owner)
    optimizer = torch.optim.AdamW(networks.parameters(), RATE, weight_decay=DECAY)
    steps = min(MOST, max(FEWEST, EPOCHS * len(train) // BATCH)) // LOOKS * LOOKS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    owner = torch.from_numpy(columns.owner)
    nothing = (columns.values[choose].square() * columns.counts[choose]).sum(0)  # of always saying the mean
    best = torch.zeros(networks.targets).index_add(0, owner, nothing)
    predicted = torch.zeros(len(features), len(owner))
    for step in range(1, steps + 1):
        rows = train[torch.randint(len(train), (BATCH,), generator=generator)]
        counts = columns.counts[rows]
        loss = ((networks(features[rows]) - columns.values[rows]).square() * counts).sum() / len(rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % (steps // LOOKS):
            continue
        with torch.no_grad():
            counts = columns.counts[choose]
            squares = ((networks(features[choose]) - columns.values[choose]).square() * counts).sum(0)
            error = torch.zeros(networks.targets).index_add(0, owner, squares)
            better = (error < best)[owner]
            predicted[test[:, None], torch.nonzero(better)[:, 0]] = networks(features[test])[:, better]
            best = torch.minimum(best, error)
    return (predicted * columns.scale.float() + columns.mean.float()).numpy()
