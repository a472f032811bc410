"""Evaluation while training goes on: now and then, on the averaged weights, for no more than a share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..policy import Policy

FALLEN = 0.05  # below the best of a stage: what is looked at varies by less


@dataclass(frozen=True)
class Watcher:
    """Something to know about a policy in training.

    Attributes:
        name: what its numbers are filed under.
        every: steps between two looks.
        look: a policy in evaluation mode to named numbers. It must leave the policy as it is.
        guards: of these the one that should not fall while the loss does; none by default.
    """

    name: str
    every: int
    look: Callable[[Policy], Mapping[str, float]]
    guards: str = ""


class Watch:
    """Watchers of a run, and the time that they have taken.

    A look is left out where it would bring the time of all looks, as long as the last one of its kind took, above
    `share` of the run's; only the first of each kind cannot know. Looks do not change the training: every step draws
    from seeds of its own.

    Args:
        watchers: each with a name of its own.
        share: of the wall-clock time since the start, in (0, 1].
        clock: seconds; replaced in tests.

    Attributes:
        spent: seconds of all looks.
        skipped: watcher -> looks left out.
    """

    def __init__(
        self, watchers: Sequence[Watcher], share: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"watch.share: found {share}, wanted more than 0 and at most 1")
        self.watchers, self.share, self.clock = list(watchers), share, clock
        self.spent = 0.0
        self.skipped = {watcher.name: 0 for watcher in self.watchers}
        self._last: dict[str, float] = {}
        self._best: dict[tuple[str, str], tuple[float, float]] = {}
        self._began = clock()

    def due(self, step: int) -> list[Watcher]:
        """Whose turn it is after `step` steps of a stage, as far as the time allows."""
        found, planned = [], self.spent
        for watcher in self.watchers:
            if step % watcher.every:
                continue
            expected = self._last.get(watcher.name, 0.0)
            # The look itself is time of the run, too.
            if planned + expected > self.share * (self.clock() - self._began + expected):
                self.skipped[watcher.name] += 1
                continue
            planned += expected
            found.append(watcher)
        return found

    def look(self, watcher: Watcher, policy: Policy) -> dict[str, float]:
        """Its numbers, as NAME/NUMBER, and the seconds it took."""
        began = self.clock()
        values = {f"{watcher.name}/{name}": float(value) for name, value in watcher.look(policy).items()}
        took = self.clock() - began
        self.spent += took
        self._last[watcher.name] = took
        return {**values, f"{watcher.name}/seconds": took}

    def warn(self, watcher: Watcher, stage: str, values: Mapping[str, float], loss: float) -> str | None:
        """What to tell the user where a number that is guarded has fallen since its best, and the loss, too."""
        if not watcher.guards:
            return None
        name = f"{watcher.name}/{watcher.guards}"
        value, (best, loss_then) = values[name], self._best.get((watcher.name, stage), (-float("inf"), loss))
        if value > best:
            self._best[watcher.name, stage] = value, loss
        if value >= best - FALLEN or loss >= loss_then:
            return None
        return (
            f"{name} has fallen from {best:.3f} to {value:.3f} while the loss fell from {loss_then:.4g} to {loss:.4g}: "
            "what is trained no longer serves what is probed"
        )
