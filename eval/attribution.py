"""Which stage of a policy made an episode fail? The one whose replacement by the simulator's truth lets it succeed.

The episode is run again from the same start with the same noise, each time with one stage replaced, in their order; the
first that succeeds names the cause. Where a policy cannot take a replacement, that stage is "not testable": no guess.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

STAGES = ("perception", "understanding", "grounding", "planning", "execution")
REACHED, MISSED, NOT_TESTABLE = "goal reached", "goal missed", "not testable"


@dataclass(frozen=True)
class Attribution:
    """What became of a failed episode with one stage replaced.

    Attributes:
        cause: the first stage whose replacement reached the goal; None where none of those that can be tested did.
        evidence: stage -> `REACHED`, `MISSED` or `NOT_TESTABLE`, of the stages up to the cause.
    """

    cause: str | None
    evidence: dict[str, str]


def attribute(play: Callable[[str], bool | None], stages: Sequence[str] = STAGES) -> Attribution:
    """play: runs the episode again with a stage replaced; whether it reached the goal, None where that cannot be."""
    evidence: dict[str, str] = {}
    for stage in stages:
        reached = play(stage)
        evidence[stage] = NOT_TESTABLE if reached is None else REACHED if reached else MISSED
        if reached:
            return Attribution(stage, evidence)
    return Attribution(None, evidence)
