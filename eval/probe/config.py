"""What a check of a backbone does, as data. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

LABEL_KINDS = ("regression", "classes", "flags")


@dataclass(frozen=True)
class ProbeConfig:
    """How a frozen backbone is checked.

    Attributes:
        frames: at most so many; whole episodes, drawn by the seed, until they are reached.
        every: control steps between two frames: neighbours look alike, cost as much, and teach little. Where objects
            are is known at every fourth step of the tabletop's demonstrations; other frames serve what else is asked.
        labels: more to ask, "NAME=KIND:STREAM" or "NAME=KIND:meta.KEY": a stream of the store, or what an episode's
            meta says. KIND is "regression" (numbers), "classes" (one of several) or "flags" (each is there or not).
        features: folder where features are kept between checks; None keeps them in the run's folder.
        seed: of the choice of episodes, of the folds and of the shuffled labels.
        threads: of the processor.
        rollouts: episodes in which a small policy on the frozen features is judged; 0 trains none.
        demonstrations: that it learns from, the first ones of the store; None takes all.
        suite: whose episodes these are.
    """

    frames: int = 20_000
    every: int = 4
    labels: tuple[str, ...] = ()
    features: str | None = None
    seed: int = 0
    threads: int = 2
    rollouts: int = 0
    demonstrations: int | None = 25
    suite: str = "tabletop-demo-validation"

    def __post_init__(self) -> None:
        for name, least in (("frames", 50), ("every", 1), ("threads", 1), ("rollouts", 0), ("demonstrations", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"probe.{name}: found {value}, wanted a whole number of at least {least}")
        for label in self.labels:
            name, equals, rest = label.partition("=")
            kind, colon, place = rest.partition(":")
            if not (name.isidentifier() and equals and colon and place) or kind not in LABEL_KINDS:
                raise ValueError(
                    f"probe.labels: found {label!r}, wanted NAME=KIND:STREAM or NAME=KIND:meta.KEY with a KIND of "
                    f"{', '.join(LABEL_KINDS)}"
                )
