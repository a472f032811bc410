"""The cause of a failure is the stage that the truth heals; what cannot be tested is not guessed."""

from __future__ import annotations

import pytest

from deixis.eval.attribution import MISSED, NOT_TESTABLE, REACHED, STAGES, attribute
from deixis.eval.bench.attribution_planted import SHOWS, causes_of
from deixis.eval.planted import FAULTS


def test_the_first_replacement_that_succeeds_is_the_cause() -> None:
    tried = []

    def play(stage: str) -> bool | None:
        tried.append(stage)
        return {"perception": None, "understanding": False, "grounding": True}[stage]

    found = attribute(play)
    assert found.cause == "grounding" and tried == list(STAGES[:3])
    assert found.evidence == {"perception": NOT_TESTABLE, "understanding": MISSED, "grounding": REACHED}


def test_what_nothing_heals_has_no_cause() -> None:
    found = attribute(lambda stage: None if stage == "planning" else False)
    assert found.cause is None and list(found.evidence) == list(STAGES)
    assert found.evidence["planning"] == NOT_TESTABLE


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault: str) -> None:
    causes = causes_of(fault, SHOWS.get(fault, "correct"), 3, 12)
    assert len(causes) == 3, "it does fail"
    assert causes.count(FAULTS[fault][0]) >= 2, causes


def test_the_expert_is_not_accused() -> None:
    assert not any(causes_of(None, "correct", 3, 9))
