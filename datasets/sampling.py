"""The order of training samples as a pure function of (seed, step): any step resumes without replaying the others."""

from __future__ import annotations

import numpy as np


class ShuffledOrder:
    """Batches of `batch_size` indices out of `n` items, shuffled anew each epoch.

    The permutations of epochs 0, 1, 2, ... lie one behind the other and step s takes the positions s * batch_size to
    (s + 1) * batch_size, so each item comes exactly once in each epoch and none is dropped at its end.

    Raises ValueError if n or batch_size is not positive, or seed is negative.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        for name, value, least in (("n", n, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"ShuffledOrder: found {name} {value}, wanted {least} or more")
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self._epoch, self._permutation = -1, np.empty(0, np.int64)  # the last one used: a cache, never a state

    def indices(self, step: int) -> np.ndarray:
        """The batch of `step` (0, 1, 2, ...): int64 [batch_size]."""
        if step < 0:
            raise ValueError(f"ShuffledOrder: found step {step}, wanted 0 or more")
        position, stop = step * self.batch_size, (step + 1) * self.batch_size
        parts = []
        while position < stop:
            epoch, offset = divmod(position, self.n)
            parts.append(self._epoch_order(epoch)[offset : offset + stop - position])
            position += len(parts[-1])
        return np.concatenate(parts)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        if epoch != self._epoch:
            self._permutation = np.random.default_rng((self.seed, epoch)).permutation(self.n).astype(np.int64)
            self._epoch = epoch
        return self._permutation
