"""Curation as a whole: the steps that are on, one after the other, and a new store with what they leave.

The order is fixed: repetition, idle, score, duplicates, frames, rarity. Texts cost nothing to judge, so they come
first; duplicates are compared without the waiting around them; rarity comes last, because it is about the shares of
what is trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..episode import Episode, StoreError
from ..files import local_path
from ..slicing import new_places
from ..store import TrajectoryStore
from .config import CurationConfig
from .descriptors import Embed
from .duplicates import drop_duplicates
from .frames import cut_duplicate_frames
from .idle import trim_idle
from .pieces import Piece, cut, whole_episodes
from .rarity import resample
from .repetition import drop_repetitive
from .report import CurationReport, Outcome, StepReport
from .scores import Scorer, drop_low_scores

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, of how many)."""

Step = tuple[str, Any, Callable[[list[Piece]], Outcome]]  # name, settings, what it does to the pieces


def curate(
    store: TrajectoryStore,
    destination: str | Path,
    config: CurationConfig,
    score: Scorer | None = None,
    embed: Embed | None = None,
    progress: Progress | None = None,
) -> CurationReport:
    """Write what the steps of `config` leave of `store` into a new store, and say what was left out and why.

    Clocks, values and the source stay as they are; the destination appears only when it is complete. Each episode's
    `meta["curated_from"]` says of which source episode and action rows it is, the store's `meta["curation"]` how it was
    made.

    Args:
        store: the source.
        destination: where the new store goes; nothing may be there.
        config: which steps are taken, and how.
        score: how well images go with a text, for `config.score`; see `scores.Scorer`.
        embed: vectors of images for `config.duplicates` and `config.frames`; without it, thumbnails are compared.
        progress: called with the name of a step (or "write"), how much is done and how much there is.

    Raises:
        StoreError: the destination exists or lies in the source, no step is on, a scorer is missing or one is given
            that no step uses, or nothing would be left. Nothing is written then.
    """
    destination = local_path(destination)
    _check(store, destination, config, score)
    pieces = whole_episodes(store)
    before, steps = pieces, []
    for number, (name, settings, act) in enumerate(taken := _steps(store, config, score, embed)):
        if progress is not None:
            progress(name, number, len(taken))
        outcome = act(pieces)
        steps.append(_step_report(name, settings, pieces, outcome))
        pieces = outcome.pieces
        if not pieces:
            raise StoreError(f"{store.path}: the step {name!r} leaves no episode; loosen its settings: {steps[-1]}")
    _write(store, pieces, destination, config, progress)
    totals = (len(before), len(pieces)), (_rows(before), _rows(pieces))
    return CurationReport(str(store.path), str(destination), *totals, steps)


def _steps(store: TrajectoryStore, config: CurationConfig, score: Scorer | None, embed: Embed | None) -> list[Step]:
    """The steps that are on, in their order."""
    steps: list[Step] = []
    if config.repetition.on:
        steps.append(("repetition", config.repetition, lambda pieces: drop_repetitive(pieces, config.repetition)))
    if config.idle.on:
        steps.append(("idle", config.idle, lambda pieces: trim_idle(store, pieces, config.idle)))
    if score is not None:
        steps.append(("score", config.score, lambda pieces: drop_low_scores(store, pieces, config.score, score)))
    if config.duplicates.on:
        steps.append(
            ("duplicates", config.duplicates, lambda pieces: drop_duplicates(store, pieces, config.duplicates, embed))
        )
    if config.frames.on:
        steps.append(
            ("frames", config.frames, lambda pieces: cut_duplicate_frames(store, pieces, config.frames, embed))
        )
    if config.rarity.on:
        steps.append(("rarity", config.rarity, lambda pieces: resample(pieces, config.rarity, config.seed)))
    return steps


def _check(store: TrajectoryStore, destination: Path, config: CurationConfig, score: Scorer | None) -> None:
    if not config.on:
        raise StoreError("curation: found no step that is on; set a threshold, such as duplicates.threshold to 0.98")
    if config.score.on != (score is not None):
        found = "a limit but no scorer" if config.score.on else "a scorer but no limit"
        raise StoreError(
            f"curation: found {found}, wanted both: set score.quantile or score.minimum, and hand in a scorer"
        )
    if destination.exists():
        raise StoreError(f"{destination}: found something there, wanted nothing; remove it or choose another path")
    if destination.resolve().is_relative_to(Path(store.path).resolve()):
        raise StoreError(f"{destination}: found a place inside the source {store.path}, wanted one beside it")
    if len(store) == 0:
        raise StoreError(f"{store.path}: found no episodes, wanted at least one")


def _write(
    store: TrajectoryStore, pieces: list[Piece], destination: Path, config: CurationConfig, progress: Progress | None
) -> None:
    earlier = store.meta.get("curation", [])
    curation = [*(earlier if isinstance(earlier, list) else [earlier])]
    curation.append({"source": str(store.path), "episodes": len(store), "config": asdict(config)})
    meta, streams = {**store.meta, "curation": curation}, list(store.streams.values())
    with new_places([destination]) as (partial,):
        curated = TrajectoryStore.create(partial, store.env_spec, streams, meta, store.tolerance)
        with curated.writer(ordered=False) as writer:  # a copy keeps every clock as it is, wrong ones too
            for number, (episode, piece) in enumerate(_sources(store, pieces)):
                writer.append(cut(episode, store.streams, piece))
                if progress is not None:
                    progress("write", number + 1, len(pieces))


def _sources(store: TrajectoryStore, pieces: list[Piece]) -> Iterator[tuple[Episode, Piece]]:
    """Each piece with its source episode, read once for all its pieces, which stand one behind the other."""
    index, episode = -1, None
    for piece in pieces:
        if episode is None or piece.episode != index:
            index, episode = piece.episode, store.episode(piece.episode)
        yield episode, piece


def _step_report(name: str, settings: Any, pieces: list[Piece], outcome: Outcome) -> StepReport:
    episodes, rows = (len(pieces), len(outcome.pieces)), (_rows(pieces), _rows(outcome.pieces))
    return StepReport(name, asdict(settings), episodes, rows, outcome.drops, outcome.notes)


def _rows(pieces: list[Piece]) -> int:
    return sum(piece.rows for piece in pieces)
