"""What a rung of the ladder has found, and what all rungs need to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import gymnasium

from ...datasets.normalisation import MinMaxNormaliser
from ...datasets.spec import EnvSpec
from ...datasets.store import TrajectoryStore
from ...envs.suites import Suite
from ..rollout import Acting
from .suspects import ADVICE, Suspect
from .tracks import Recording

Item = TypeVar("Item")
TELLS = 0.5  # of what disagrees has to go when a fault is undone, for the fault to be named


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        holds: None where it was not climbed, or cannot be.
        found: what was found, in a sentence.
        causes: what explains it, the likeliest first.
        numbers: what was measured.
    """

    name: str
    holds: bool | None
    found: str
    causes: tuple[str, ...] = ()
    numbers: dict[str, Any] = field(default_factory=dict)


def untestable(name: str, why: str) -> Rung:
    """A rung that cannot be climbed."""
    return Rung(name, None, f"not testable: {why}")


class Patient(Acting, Protocol):
    """What of a policy it takes to be diagnosed."""

    spec: EnvSpec
    proprio_normaliser: MinMaxNormaliser
    action_normaliser: MinMaxNormaliser


@dataclass(frozen=True)
class Case:
    """What is examined.

    Attributes:
        store: what the policy learned from; recordings: episodes of it.
        suite: of the recordings; env: a world of theirs. None where nobody knows it.
        again: the recordings that can be started again in `env`; excuse: why the first of the others cannot.
        exec_horizon: actions of each chunk that are carried out.
        progress: called with what is done, how often it was, and how often it will be.
    """

    policy: Patient
    store: TrajectoryStore
    recordings: Sequence[Recording]
    suite: Suite | None
    env: gymnasium.Env | None
    exec_horizon: int
    progress: Callable[[str, int, int], None]
    again: Sequence[Recording] = ()
    excuse: str = ""

    @property
    def world(self) -> tuple[Suite, gymnasium.Env]:
        """Suite and environment of the recordings. Raises ValueError where nobody knows them."""
        if self.suite is None or self.env is None:
            raise ValueError("world: found none, wanted the suite that the recordings are from")
        return self.suite, self.env

    @property
    def cameras(self) -> tuple[str, ...]:
        return tuple(self.policy.cameras)

    def each(self, what: str, items: Sequence[Item]) -> Iterator[Item]:
        """The items, one after the other, with progress."""
        for number, item in enumerate(items):
            self.progress(what, number, len(items))
            yield item
        self.progress(what, len(items), len(items))


def named(suspect: Suspect, between: str) -> str:
    """A fault that was found, where it is, and what to do about it."""
    return f"{suspect} (between the recordings and the {between}): {ADVICE[suspect.fault]}"


def percent(share: float) -> str:
    return f"{100 * share:.0f}%"
