"""The order of training samples as a pure function of (seed, step): any step resumes without replaying the others."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Order(Protocol):
    """The permutations of epochs 0, 1, 2, ... of `n` items lie one behind the other; a batch is a run of positions.

    n: items in an epoch. batch_size: of one step.
    """

    @property
    def n(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    def indices(self, step: int) -> np.ndarray: ...
    def span(self, start: int, stop: int) -> np.ndarray: ...


class _EpochOrder:
    """Positions made of pieces: permutations that lie one behind the other, each a function of seed and number."""

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        for name, value, least in (("n", n, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{type(self).__name__}: found {name} {value}, wanted {least} or more")
        self.n, self.batch_size, self.seed = n, batch_size, seed

    def indices(self, step: int) -> np.ndarray:
        """The batch of `step` (0, 1, 2, ...): int64 [batch_size]."""
        if step < 0:
            raise ValueError(f"{type(self).__name__}: found step {step}, wanted 0 or more")
        return self.span(step * self.batch_size, (step + 1) * self.batch_size)

    def span(self, start: int, stop: int) -> np.ndarray:
        """The items at positions `start` to `stop` of all epochs: int64 [stop - start]."""
        parts = [np.empty(0, np.int64)]
        while start < stop:
            piece, offset = self._piece(start)
            parts.append(piece[offset : offset + stop - start])
            start += len(parts[-1])
        return np.concatenate(parts)

    def _piece(self, position: int) -> tuple[np.ndarray, int]:
        """The permutation that `position` lies in, int64, and where in it."""
        raise NotImplementedError


class ShuffledOrder(_EpochOrder):
    """Batches of `batch_size` indices out of `n` items, shuffled anew each epoch.

    Step s takes the positions s * batch_size to (s + 1) * batch_size of all epochs, so each item comes exactly once in
    each epoch and none is dropped at its end.

    Raises ValueError if n or batch_size is not positive, or seed is negative.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        super().__init__(n, batch_size, seed)
        # The last permutation used, in one assignment, because threads share it: a cache, never a state.
        self._last = (-1, np.empty(0, np.int64))

    def _piece(self, position: int) -> tuple[np.ndarray, int]:
        epoch, offset = divmod(position, self.n)
        last, permutation = self._last
        if epoch != last:
            permutation = np.random.default_rng((self.seed, epoch)).permutation(self.n).astype(np.int64)
            self._last = (epoch, permutation)
        return permutation, offset


class BlockShuffledOrder(_EpochOrder):
    """Shuffled with locality, for items that are read from disk: whoever follows the order needs few blocks at a time.

    bounds: int64 [K + 1], 0 to n; block k is the items bounds[k] to bounds[k + 1], which lie together on disk. Each
    epoch shuffles the blocks, takes `buffer` of them after the other, and shuffles the items of each such group. Every
    item comes exactly once in each epoch, as in `ShuffledOrder`, and with `buffer` >= K the epoch is one group.

    Raises ValueError if the bounds do not ascend from 0, or another argument is not positive.
    """

    def __init__(self, bounds: np.ndarray, buffer: int, batch_size: int, seed: int) -> None:
        bounds = np.asarray(bounds, np.int64)
        if bounds.ndim != 1 or len(bounds) < 2 or bounds[0] != 0 or (np.diff(bounds) < 1).any():
            raise ValueError(f"BlockShuffledOrder: found bounds {bounds}, wanted them ascending from 0")
        if buffer < 1:
            raise ValueError(f"BlockShuffledOrder: found buffer {buffer}, wanted 1 or more blocks")
        super().__init__(int(bounds[-1]), batch_size, seed)
        self.bounds, self.buffer = bounds, buffer
        self._plan = (-1, np.empty(0, np.int64), np.empty(0, np.int64))
        self._last = ((-1, -1), np.empty(0, np.int64))

    def _piece(self, position: int) -> tuple[np.ndarray, int]:
        epoch, offset = divmod(position, self.n)
        planned, blocks, begins = self._plan
        if epoch != planned:
            blocks = np.random.default_rng((self.seed, epoch)).permutation(len(self.bounds) - 1)
            ends = np.cumsum(np.diff(self.bounds)[blocks])
            begins = np.concatenate([[0], ends[self.buffer - 1 : -1 : self.buffer]])  # of each group, in the epoch
            self._plan = (epoch, blocks, begins)
        group = int(np.searchsorted(begins, offset, side="right")) - 1
        key, items = self._last
        if key != (epoch, group):
            chosen = blocks[group * self.buffer : (group + 1) * self.buffer].tolist()
            items = np.concatenate([np.arange(*self.bounds[block : block + 2].tolist()) for block in chosen])
            items = np.random.default_rng((self.seed, epoch, 1 + group)).permutation(items)
            self._last = ((epoch, group), items)
        return items, offset - int(begins[group])
