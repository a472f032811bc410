"""What a policy is surely bad at, in sentences: each from the number that gives that weakness away.

"Surely": the 95% Wilson interval of a share lies beyond what is named here, so few episodes accuse nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..envs.conditions import CHALLENGES, DISTRACTORS, SEVERITIES
from .results import EpisodeRecord
from .statistics import Proportion, proportion

SELDOM = 0.1  # of episodes in which a policy may act on what it was not asked for
CLUMSY = 0.2  # of episodes in which it may go for the right object and fail
LOST = 0.7  # of episodes in which it should go for the right object
_OWN = ("correct", "swap")  # sentences of training, about an object that is there


@dataclass(frozen=True)
class Weakness:
    """What it is, and the numbers in a sentence."""

    name: str
    sentence: str


def weaknesses(records: Sequence[EpisodeRecord]) -> list[Weakness]:
    """Of one policy, as far as its evaluation had conditions that show them; none where objects are not known."""
    known = [record for record in records if record.target]
    found = [rule(known) for rule in (_deaf, _acts_untold, _sees_ghosts, _half_listens, _new_words, _places)]
    found += [_confused(known, *what) for what in (("colours", -1, "shape"), ("shapes", 0, "colour"))]
    found += [_lost(known), _one_task(records), _clumsy(known)]
    return [weakness for weakness in found if weakness] + [*_worlds(records), *_challenges(records)]


def _act(record: EpisodeRecord) -> str | None:
    """The object it acted on first: who is to touch one neither grasps nor moves it."""
    return record.first_touched if record.task == "touch" else record.acted_on


def _deaf(records: Sequence[EpisodeRecord]) -> Weakness | None:
    share = _share(records, ("swap",), lambda r: _act(r) is not None and _act(r) == r.lure != r.target)
    if share and share.low > SELDOM:
        return Weakness("deaf", f"Told of another object, it acts on the scene's own all the same in {_text(share)}.")
    return None


def _acts_untold(records: Sequence[EpisodeRecord]) -> Weakness | None:
    share = _share(records, ("null",), lambda r: _act(r) is not None)
    if share and share.low > SELDOM:
        return Weakness("acts untold", f"Told nothing, it acts on an object in {_text(share)}.")
    return None


def _sees_ghosts(records: Sequence[EpisodeRecord]) -> Weakness | None:
    share = _share(records, ("false-premise",), lambda r: _act(r) is not None)
    if share and share.low > SELDOM:
        return Weakness("sees ghosts", f"Told of what is not there, it acts on something else in {_text(share)}.")
    return None


def _half_listens(records: Sequence[EpisodeRecord]) -> Weakness | None:
    return _accused(
        records,
        ("negation", "correction", "change"),
        lambda r: _act(r) is not None and _act(r) == r.lure != r.target,
        lambda share: share.low > SELDOM,
        "half listens",
        "Where another object is named before the one that is meant, it acts on that one in {}.",
    )


def _new_words(records: Sequence[EpisodeRecord]) -> Weakness | None:
    return _worse_than_trained(
        records,
        ("paraphrase-en", "paraphrase-zh", "paraphrase-mixed"),
        "new words",
        "In sentences that training does not have it goes for the named object in {}",
    )


def _places(records: Sequence[EpisodeRecord]) -> Weakness | None:
    return _worse_than_trained(
        records,
        ("reference", "ordinal"),
        "places",
        "Where an object is named by where it is, it goes for it in {}",
    )


def _confused(records: Sequence[EpisodeRecord], what: str, same: int, shared: str) -> Weakness | None:
    """Objects that share one word of their name, of "colour shape", with the one that was named."""

    def alike(record: EpisodeRecord) -> bool:
        asked, took = record.target.split(), (_act(record) or "").split()
        return len(took) == len(asked) == 2 and took != asked and took[same] == asked[same]

    wrong = [r for r in records if _act(r) not in (None, r.target)]
    share, of_wrong = _share(records, _OWN, alike), _share(wrong, _OWN, alike)
    # Who takes any other object takes one of that shape, or colour, in about two of five cases: each scene has one.
    if share and of_wrong and share.low > SELDOM / 2 and of_wrong.low > 1 / 2:
        return Weakness(f"confuses {what}", f"It takes another object of the same {shared} in {_text(share)}.")
    return None


def _lost(records: Sequence[EpisodeRecord]) -> Weakness | None:
    share = _share(records, ("correct",), lambda r: _act(r) == r.target)
    if share and share.high < LOST:
        return Weakness("lost", f"Told in its own words, it goes for the named object in only {_text(share)}.")
    return None


def _one_task(records: Sequence[EpisodeRecord]) -> Weakness | None:
    tasks = dict.fromkeys(record.task for record in records)
    success = {
        task: _share([r for r in records if r.task == task], ("correct",), lambda r: r.success) for task in tasks
    }
    rates = {task: share for task, share in success.items() if share}
    if not rates:
        return None
    best = max(rates, key=lambda task: rates[task].rate)
    worse = [task for task, share in rates.items() if share.high < rates[best].low]
    if not worse:
        return None
    told = ", ".join(f"{task} in {_text(rates[task])}" for task in worse)
    return Weakness("tasks", f"It surely does some tasks better than others: {best} in {_text(rates[best])}, {told}.")


def _clumsy(records: Sequence[EpisodeRecord]) -> Weakness | None:
    share = _share(records, ("correct",), lambda r: _act(r) == r.target and not r.success)
    if share and share.low > CLUMSY:
        return Weakness("clumsy", f"It goes for the right object and fails all the same in {_text(share)}.")
    return None


def _worlds(records: Sequence[EpisodeRecord]) -> Iterator[Weakness]:
    for condition in ("pair", "relation", *DISTRACTORS):
        tasks = {record.task for record in records if record.condition == condition}
        usual = _share([record for record in records if record.task in tasks], ("correct",), lambda r: r.success)
        share = _share(records, (condition,), lambda r: r.success)
        if usual and share and share.high < usual.low:
            sentence = f"Under {condition} it succeeds in {_text(share)}, in the usual scenes in {_text(usual)}."
            yield Weakness(f"world: {condition}", sentence)


def _challenges(records: Sequence[EpisodeRecord]) -> Iterator[Weakness]:
    usual = _share(records, ("correct",), lambda r: r.success)
    for kind in CHALLENGES:
        shares = {severity: _share(records, (f"{kind}-{severity}",), lambda r: r.success) for severity in SEVERITIES}
        bad: list[tuple[int, Proportion]] = []
        for severity, share in sorted(shares.items(), reverse=True):
            if usual and share and share.high < usual.low / 2:
                bad.append((severity, share))
            elif share:
                break
        if bad:
            severity, share = bad[-1]
            sentence = f"From severity {severity} of {kind} on, success is surely halved: {_text(share)}."
            yield Weakness(f"challenge: {kind}", sentence)


def _worse_than_trained(
    records: Sequence[EpisodeRecord], conditions: Sequence[str], name: str, sentence: str
) -> Weakness | None:
    trained = _share(records, _OWN, lambda r: _act(r) == r.target)
    if not trained:
        return None
    return _accused(
        records,
        conditions,
        lambda r: _act(r) == r.target,
        lambda share: share.high < trained.low,
        name,
        f"{sentence}; in those of training in {_text(trained)}.",
    )


def _accused(
    records: Sequence[EpisodeRecord],
    conditions: Sequence[str],
    happens: Callable[[EpisodeRecord], bool],
    too_bad: Callable[[Proportion], bool],
    name: str,
    sentence: str,
) -> Weakness | None:
    """One sentence for all conditions under which it is too bad."""
    shares = {condition: _share(records, (condition,), happens) for condition in conditions}
    bad = {condition: share for condition, share in shares.items() if share and too_bad(share)}
    told = ", ".join(f"{_text(share)} ({condition})" for condition, share in bad.items())
    return Weakness(name, sentence.format(told)) if bad else None


def _share(
    records: Sequence[EpisodeRecord], conditions: Sequence[str], happens: Callable[[EpisodeRecord], bool]
) -> Proportion | None:
    chosen = [record for record in records if record.condition in conditions]
    return proportion(sum(map(happens, chosen)), len(chosen)) if chosen else None


def _text(share: Proportion) -> str:
    return f"{100 * share.rate:.0f}%"
