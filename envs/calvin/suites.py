"""CALVIN as suites, read from the user's own checkout when they are asked for."""

from __future__ import annotations

from ..suites import TRAINING_SEEDS, Suite
from .chains import STARTING
from .checkout import find_checkout

ENV_ID = "deixis/Calvin-v0"
MAX_STEPS = 360  # for each instruction
SENTENCES = {"calvin-d": "own", "calvin-d-original": "calvin"}


def calvin_suite(name: str) -> Suite:
    """The suite "calvin-d", asked for in our words, or "calvin-d-original", in CALVIN's.

    Environment D is where the splits D, ABC and ABCD are all judged. Raises ValueError for another name, ImportError
    where there is no checkout.
    """
    if name not in SENTENCES:
        raise ValueError(f"suite: found {name!r}, wanted one of {', '.join(SENTENCES)}")
    checkout = find_checkout()
    if SENTENCES[name] == "calvin":
        checkout.sentences()  # said now, and not by every worker
    return Suite(name, ENV_ID, STARTING, MAX_STEPS, {"sentences": SENTENCES[name]}, TRAINING_SEEDS)
