"""What curation does, as data. Imports nothing heavy: the command line shows its help at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RepetitionConfig:
    """Texts that say the same over and over.

    Attributes:
        repeated_share: drop texts whose share of repeated n-grams, 1 - distinct / all, is above this; null: do not ask.
        compression_ratio: drop texts whose UTF-8 bytes are more than this many times what zlib makes of them; null: do
            not ask.
        n: tokens of an n-gram. A token is a word, or a single Chinese character.
        captions: keys of an episode's meta that hold more texts (a text, a list of texts, or of {"text": ...}). Such a
            text is dropped alone; an instruction is dropped with its episode.
    """

    repeated_share: float | None = None
    compression_ratio: float | None = None
    n: int = 2
    captions: tuple[str, ...] = ("caption", "captions", "other_instructions")

    def __post_init__(self) -> None:
        _within("repetition.repeated_share", self.repeated_share, 0, 1)
        _within("repetition.compression_ratio", self.compression_ratio, 0, math.inf)
        _within("repetition.n", self.n, 1, math.inf)

    @property
    def on(self) -> bool:
        return self.repeated_share is not None or self.compression_ratio is not None


@dataclass(frozen=True)
class IdleConfig:
    """Stretches in which neither the actions nor proprioception move.

    Attributes:
        min_seconds: trim idle stretches at an episode's begin and end that last at least this long; null: leave them.
        inner_seconds: cut idle stretches inside an episode that last at least this long, which splits it; null: leave
            them.
        margin_seconds: how much of an idle stretch stays beside the motion next to it.
        speed: slowest motion, in units a second of each dimension.
        speeds: name of an action or proprioceptive dimension -> its own slowest motion.
        deltas: names of action dimensions that command a displacement each step: they move where they are not zero. All
            others move where they change, as the gripper does.
        shortest_seconds: drop what is left of a cut episode where it is shorter than this.
    """

    min_seconds: float | None = None
    inner_seconds: float | None = None
    margin_seconds: float = 0.2
    speed: float = 0.01
    speeds: dict[str, float] = field(default_factory=dict)
    deltas: tuple[str, ...] = ()
    shortest_seconds: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_seconds", "inner_seconds", "margin_seconds", "speed", "shortest_seconds"):
            _within(f"idle.{name}", getattr(self, name), 0, math.inf)
        for name, speed in self.speeds.items():
            _within(f"idle.speeds[{name!r}]", speed, 0, math.inf)

    @property
    def on(self) -> bool:
        return self.min_seconds is not None or self.inner_seconds is not None


@dataclass(frozen=True)
class ScoreConfig:
    """Episodes whose images do not go with their instruction, judged by a scorer.

    Attributes:
        quantile: drop episodes that score below this quantile of all scores; null: no such limit.
        minimum: drop episodes that score below this; null: no such limit.
        frames: instants of an episode that are scored, evenly spaced, the first among them; the mean counts.
    """

    quantile: float | None = None
    minimum: float | None = None
    frames: int = 1

    def __post_init__(self) -> None:
        _within("score.quantile", self.quantile, 0, 1)
        _within("score.minimum", self.minimum, -math.inf, math.inf)
        _within("score.frames", self.frames, 1, math.inf)

    @property
    def on(self) -> bool:
        return self.quantile is not None or self.minimum is not None


@dataclass(frozen=True)
class DuplicatesConfig:
    """Episodes that show and do nearly the same as another.

    Attributes:
        threshold: cosine of two episodes' descriptors from which they are neighbours, above 0 and up to 1; null: off.
            Of each connected component of neighbours one episode stays.
        same_instruction: only episodes with the same instruction can be duplicates of each other.
    """

    threshold: float | None = None
    same_instruction: bool = True

    def __post_init__(self) -> None:
        _threshold("duplicates.threshold", self.threshold)

    @property
    def on(self) -> bool:
        return self.threshold is not None


@dataclass(frozen=True)
class FramesConfig:
    """Stretches of an episode that show and do nearly the same as a stretch of another.

    Attributes:
        threshold: cosine of two frames' descriptors from which they are neighbours, above 0 and up to 1; null: off.
        same_instruction: only frames of episodes with the same instruction can be duplicates of each other.
        rate_hz: frames that are compared, a second; each stands for the time until the next.
        min_seconds: cut stretches of duplicate frames that last at least this long, and leave shorter ones.
        shortest_seconds: drop what is left of a cut episode where it is shorter than this.
    """

    threshold: float | None = None
    same_instruction: bool = True
    rate_hz: float = 2.0
    min_seconds: float = 1.0
    shortest_seconds: float = 0.5

    def __post_init__(self) -> None:
        _threshold("frames.threshold", self.threshold)
        for name in ("min_seconds", "shortest_seconds"):
            _within(f"frames.{name}", getattr(self, name), 0, math.inf)
        if not 0 < self.rate_hz < math.inf:
            raise ValueError(f"frames.rate_hz: found {self.rate_hz}, wanted a positive finite number")

    @property
    def on(self) -> bool:
        return self.threshold is not None


@dataclass(frozen=True)
class RarityConfig:
    """Instructions that come too often.

    Attributes:
        threshold: the share t of episodes from which an n-gram is frequent; an episode stays with the probability
            min(1, sqrt(t / f)), f being the share of episodes that have its rarest n-gram; null: off.
        n: tokens of an n-gram. A token is a word, or a single Chinese character.
    """

    threshold: float | None = None
    n: int = 2

    def __post_init__(self) -> None:
        _threshold("rarity.threshold", self.threshold)
        _within("rarity.n", self.n, 1, math.inf)

    @property
    def on(self) -> bool:
        return self.threshold is not None


@dataclass(frozen=True)
class CurationConfig:
    """The steps of curation, in the order in which they are taken. Each is off until its threshold is set.

    Attributes:
        repetition: texts that say the same over and over.
        idle: stretches in which nothing moves.
        score: images that do not go with their instruction.
        duplicates: episodes that are nearly the same.
        frames: stretches that are nearly the same.
        rarity: instructions that come too often.
        seed: of the draws of `rarity`, 0 or more.
    """

    repetition: RepetitionConfig = field(default_factory=RepetitionConfig)
    idle: IdleConfig = field(default_factory=IdleConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    duplicates: DuplicatesConfig = field(default_factory=DuplicatesConfig)
    frames: FramesConfig = field(default_factory=FramesConfig)
    rarity: RarityConfig = field(default_factory=RarityConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        _within("seed", self.seed, 0, math.inf)

    @property
    def on(self) -> bool:
        """Whether any step would be taken."""
        return any(
            (self.repetition.on, self.idle.on, self.score.on, self.duplicates.on, self.frames.on, self.rarity.on)
        )


def _within(name: str, value: float | None, low: float, high: float) -> None:
    """Nothing, or a number from `low` to `high`."""
    if value is not None and not low <= value <= high:
        limits = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ValueError(f"{name}: found {value}, wanted a number {limits}")


def _threshold(name: str, value: float | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise ValueError(f"{name}: found {value}, wanted a number above 0 and up to 1")
