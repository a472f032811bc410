"""What a check comes to: good signal, bad signal, or cannot tell; by which rule, and what to look at next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .answers import Answer
from .asking import BACKBONE
from .check import Check

GOOD, BAD, UNSURE = "good signal", "bad signal", "cannot tell"
MARGIN = 0.05  # of what is possible above chance: a smaller gain is not worth a backbone
DECISIVE = ("named_position", "object_position")
RULE = (
    "For each target the gain is the probe's skill (0 at chance, 1 perfect) less that of the best of four baselines: "
    "the same architecture with random weights, raw pixels, proprioception, and the best guess without looking. The "
    f"signal is good where the gain is at least {MARGIN:.2f} and its 95% interval lies above 0, with other episodes "
    "held out and with other scenes held out, and where probes of shuffled labels stay at chance. It is bad where the "
    f"interval of one of these gains ends below {MARGIN:.2f}. Otherwise it cannot be told. The verdict is that of "
    "named_position: where what is told of is to be found told best how often policies on frozen backbones succeed "
    "(docs/probing.md). Where no words enter a backbone it is that of object_position. Without labels for either it is "
    "that of most of two targets or more, and cannot be told where they disagree."
)


@dataclass(frozen=True)
class Verdict:
    """A verdict and its reasons.

    Attributes:
        verdict: `GOOD`, `BAD` or `UNSURE`.
        by_target: the same for each target.
        advice: what to look at next, most telling first; each (data, loss or architecture, why).
    """

    verdict: str
    by_target: dict[str, str]
    advice: list[tuple[str, str]]


def judge(check: Check) -> Verdict:
    """The verdict of a check by `RULE`."""
    by_target = {name: judge_target(answer) for name, answer in check.answers.items()}
    verdicts = list(by_target.values())
    most = [verdict for verdict in (GOOD, BAD) if len(verdicts) > 1 and 2 * verdicts.count(verdict) > len(verdicts)]
    verdict = next((by_target[name] for name in DECISIVE if name in by_target), most[0] if most else UNSURE)
    return Verdict(verdict, by_target, list(_advice(check, by_target)))


def judge_target(answer: Answer) -> str:
    """The verdict of one target."""
    gains = answer.gain, answer.strict_gain
    honest = answer.shuffled.value - answer.shuffled.half <= MARGIN
    if any(gain.value + gain.half < MARGIN for gain in gains):
        return BAD
    if honest and all(gain.value >= MARGIN and gain.value - gain.half > 0 for gain in gains):
        return GOOD
    return UNSURE


def _advice(check: Check, by_target: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What to look at next, from how the numbers lie to each other."""
    answers = check.answers
    leaks = [n for n, a in answers.items() if _clearly_above(a, a.strict["scenes"].value)]
    if leaks:
        yield (
            "data",
            f"{_list(leaks)}: far better with known scenes than with new ones. Episodes share scenes, and what is "
            "learned is which scene it is: collect others, or believe the stricter column alone.",
        )
    made_up = [n for n, a in answers.items() if a.shuffled.value - a.shuffled.half > MARGIN]
    if made_up:
        yield "data", f"{_list(made_up)}: shuffled labels score above chance. Do not believe these numbers."
    hidden = [n for n, a in answers.items() if a.two_layer.value > a.linear_same.value + max(0.1, a.two_layer.half)]
    if hidden:
        yield (
            "architecture",
            f"{_list(hidden)}: two layers read what a line cannot. It is there: give the bridge or the head a hidden "
            "layer, or take another layer of the backbone.",
        )
    early = [
        n for n, a in answers.items() if a.by_reading[a.reading].value > list(a.by_reading.values())[-1].value + 0.1
    ]
    if early:
        yield (
            "loss",
            f"{_list(early)}: {answers[early[0]].reading} says more than what is handed on. What the last layers are "
            "trained for throws it away: take the earlier layer, or add a loss that needs it.",
        )
    rising = [n for n, a in answers.items() if _still_rises(a)]
    if rising:
        yield (
            "data",
            f"{_list(rising)}: still rising with the last half of the frames. More labelled frames would help.",
        )
    lost = [n for n, v in by_target.items() if v == BAD]
    if lost:
        which = {n: max(answers[n].baselines, key=lambda k, n=n: answers[n].baselines[k].value) for n in lost}
        beaten = ", ".join(f"{n} ({which[n]})" for n in lost)
        yield (
            "loss",
            f"no more than the best baseline: {beaten}. Nothing that trained the backbone asked for it, or it does not "
            "reach the pictures: look at the objective first, at resolution and size next.",
        )


def _clearly_above(answer: Answer, stricter: float) -> bool:
    return answer.skill.value - stricter > max(0.1, answer.skill.half)


def _still_rises(answer: Answer) -> bool:
    *_, before, last = answer.curves[BACKBONE].skills
    return last - before > 0.05


def _list(names: list[str]) -> str:
    return ", ".join(names)
