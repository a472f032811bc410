"""Training on several sources at once, each with its share of the budget, exact at every step.

The schedule says which source the next window comes from. Source k with share w gets its j-th window at a position
from floor(j / w) to ceil((j + 1) / w) - 1, the earliest deadline first; such a schedule always exists (Baruah, Cohen,
Plaxton and Varvel 1996, "Proportionate progress"), and it keeps every source within one window of its share at every
position. Shares are whole parts of one period, so that any step is reached directly.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from .sampling import Order
from .windows import WindowDataset

_LARGEST_PERIOD = 1 << 16


class Schedule:
    """Which of K sources each position 0, 1, 2, ... belongs to, after their weights.

    Weights are taken as the decimals they are written as. Shares whose common denominator is above 65,536 are rounded
    to parts of 65,536, at least one each; `shares` says what holds, exactly.

    Raises ValueError if there are no weights, or one is not a positive finite number.
    """

    def __init__(self, weights: Sequence[float | Fraction]) -> None:
        parts = _whole_parts([_positive(weight) for weight in weights])
        self.period = sum(parts)
        self.shares = [Fraction(part, self.period) for part in parts]
        self._parts = np.array(parts, np.int64)
        self._sources = _one_period(parts)
        drawn = self._sources[:, None] == np.arange(len(parts))
        self._counts = np.concatenate([np.zeros((1, len(parts)), np.int64), np.cumsum(drawn, axis=0)])

    def counts(self, position: int) -> np.ndarray:
        """How many of the positions before `position` belong to each source: int64 [K]."""
        if position < 0:
            raise ValueError(f"Schedule: found position {position}, wanted 0 or more")
        periods, rest = divmod(position, self.period)
        return periods * self._parts + self._counts[rest]

    def sources(self, start: int, stop: int) -> np.ndarray:
        """The source of each position from `start` to `stop`: int64 [stop - start]."""
        return self._sources.take(np.arange(start, stop) % self.period)


@dataclass(frozen=True)
class Source:
    """One source of a mixture: its windows, their order, and its weight among the others.

    tokens: what one window costs of each modality, such as {"image": 128, "text": 12, "action": 16}.
    """

    name: str
    windows: WindowDataset
    order: Order
    weight: float
    tokens: Mapping[str, int] = field(default_factory=dict)


class Mixture:
    """Batches of `batch_size` windows from several sources, a pure function of the step.

    by: what the weights share out: "windows", or "tokens", so that a source whose windows cost twice as much gives half
    as many. Attributes: sources; schedule; batch_size.

    Raises ValueError if a name comes twice, or "tokens" are shared out and a source does not say what it costs.
    """

    def __init__(self, sources: Sequence[Source], batch_size: int, by: str = "windows") -> None:
        names = [source.name for source in sources]
        if len(set(names)) != len(names):
            raise ValueError(f"Mixture: found sources {names}, wanted each name once")
        if batch_size < 1:
            raise ValueError(f"Mixture: found batch_size {batch_size}, wanted 1 or more")
        if by not in ("windows", "tokens"):
            raise ValueError(f"Mixture: found by={by!r}, wanted 'windows' or 'tokens'")
        for source in sources:
            if any(isinstance(cost, bool) or not isinstance(cost, int) or cost < 0 for cost in source.tokens.values()):
                raise ValueError(f"Mixture: source {source.name!r}: found tokens {source.tokens}, wanted whole numbers")
            if by == "tokens" and not sum(source.tokens.values()):
                raise ValueError(f"Mixture: source {source.name!r}: found no tokens, wanted what one window costs")
            if source.order.n != len(source.windows):
                raise ValueError(
                    f"Mixture: source {source.name!r}: found an order of {source.order.n} items, "
                    f"wanted {len(source.windows)}, one a window"
                )
        self.sources, self.batch_size = tuple(sources), batch_size
        costs = [sum(source.tokens.values()) if by == "tokens" else 1 for source in sources]
        self.schedule = Schedule([_positive(s.weight) / cost for s, cost in zip(sources, costs, strict=True)])

    def indices(self, step: int) -> dict[str, np.ndarray]:
        """Which windows of each source are in the batch of `step`: int64, together `batch_size`."""
        if step < 0:
            raise ValueError(f"Mixture: found step {step}, wanted 0 or more")
        starts = self.schedule.counts(step * self.batch_size).tolist()
        stops = self.schedule.counts((step + 1) * self.batch_size).tolist()
        return {
            source.name: source.order.span(start, stop)
            for source, start, stop in zip(self.sources, starts, stops, strict=True)
        }

    def batch(self, step: int) -> dict[str, dict[str, Any]]:
        """The batch of `step`: source -> its windows, as `WindowDataset.batch` has them, without empty ones.

        Sources may have other cameras, actions and rates; `joined` makes one batch of those that agree.
        """
        indices = self.indices(step)
        return {s.name: s.windows.batch(indices[s.name]) for s in self.sources if len(indices[s.name])}

    def __getitem__(self, step: int) -> dict[str, dict[str, Any]]:
        return self.batch(step)

    def budget(self, step: int) -> dict[str, dict[str, int]]:
        """What the steps before `step` have spent: source -> {"windows": ..., and tokens of each modality}."""
        counts = self.schedule.counts(step * self.batch_size).tolist()
        return {
            source.name: {"windows": count, **{name: count * cost for name, cost in source.tokens.items()}}
            for source, count in zip(self.sources, counts, strict=True)
        }


def joined(batches: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One batch of those of several sources, with "source": the name each window comes from.

    Raises ValueError if they have different cameras or shapes.
    """
    parts = list(batches.values())
    found = {name: _shapes(batch) for name, batch in batches.items()}
    if not parts or any(shapes != found[next(iter(found))] for shapes in found.values()):
        raise ValueError(f"joined: found shapes {found}, wanted the same of at least one source; keep them apart")
    whole: dict[str, Any] = {
        key: np.concatenate([part[key] for part in parts]) for key, value in parts[0].items() if hasattr(value, "shape")
    }
    whole["images"] = {
        camera: np.concatenate([part["images"][camera] for part in parts]) for camera in parts[0]["images"]
    }
    whole["instruction"] = [text for part in parts for text in part["instruction"]]
    whole["source"] = [name for name, part in batches.items() for _ in part["instruction"]]
    return whole


def _shapes(batch: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    arrays = {key: value for key, value in batch.items() if hasattr(value, "shape")} | batch["images"]
    return {key: value.shape[1:] for key, value in sorted(arrays.items())}


def _positive(weight: float | Fraction) -> Fraction:
    if isinstance(weight, Fraction) and weight > 0:
        return weight
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
        raise ValueError(f"weight: found {weight!r}, wanted a positive finite number")
    return Fraction(str(weight))


def _whole_parts(weights: list[Fraction]) -> list[int]:
    """Whole numbers in the proportion of the weights, with a sum of at most `_LARGEST_PERIOD`."""
    if not 0 < len(weights) <= _LARGEST_PERIOD:
        raise ValueError(f"Schedule: found {len(weights)} weights, wanted at least one")
    scale = math.lcm(*(weight.denominator for weight in weights))
    parts = [int(weight * scale) for weight in weights]
    parts = [part // math.gcd(*parts) for part in parts]
    if sum(parts) <= _LARGEST_PERIOD:
        return parts
    total = sum(parts)
    rounded = [max(1, part * _LARGEST_PERIOD // total) for part in parts]
    # What rounding down left over goes to those that lost most; what lifting small ones took comes from the largest.
    by_loss = sorted(range(len(parts)), key=lambda k: rounded[k] * total - parts[k] * _LARGEST_PERIOD)
    for k in by_loss[: max(0, _LARGEST_PERIOD - sum(rounded))]:
        rounded[k] += 1
    while sum(rounded) > _LARGEST_PERIOD:
        rounded[rounded.index(max(rounded))] -= 1
    return rounded


def _one_period(parts: list[int]) -> np.ndarray:
    period = sum(parts)
    sources, drawn = np.empty(period, np.int64), [0] * len(parts)
    waiting, ready = [(0, k) for k in range(len(parts))], []  # by first and by last allowed position
    for position in range(period):
        while waiting and waiting[0][0] <= position:
            k = heapq.heappop(waiting)[1]
            heapq.heappush(ready, (-(-(drawn[k] + 1) * period // parts[k]), k))
        k = heapq.heappop(ready)[1]
        sources[position] = k
        drawn[k] += 1
        if drawn[k] < parts[k]:
            heapq.heappush(waiting, (drawn[k] * period // parts[k], k))
    return sources
