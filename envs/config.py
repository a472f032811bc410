"""What a collection of demonstrations does, as data. Imports nothing heavy: the command line shows its help at once."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class RecordedConfig:
    """Demonstrations that were recorded elsewhere.

    Attributes:
        source: file or folder of a data set to read, as `deixis data import` does, in place of asking an expert; may
            name environment variables ($DEIXIS_DATA/…). Empty asks the expert.
        rate_hz: control rate, for formats that keep none.
        instruction: the words for every episode; None takes those of the data set.
        cameras: cameras to keep; empty keeps all.
        proprio: observation keys joined into the proprioception; empty takes the format's default.
    """

    source: str = ""
    rate_hz: float | None = None
    instruction: str | None = None
    cameras: tuple[str, ...] = ()
    proprio: tuple[str, ...] = ()


@dataclass(frozen=True)
class CollectConfig:
    """Which demonstrations the expert gives.

    `split` and `languages` are the tabletop's alone. The particle's expert has no use for `image_size` and `noise`,
    either: nothing disturbs it.

    Attributes:
        suite: name of a suite in `envs/suites.py`.
        episodes: demonstrations in total, spread evenly over the suite's tasks; failures are not recorded.
        split: name of a split in `envs/tabletop/splits.py`: what is left out of the demonstrations.
        languages: languages of the instructions.
        image_size: height and width of every camera, pixels.
        noise: scale of the disturbance of the executed action, as a share of its limits; the clean action is recorded.
        workers: processes, each with one thread. Changes how long it takes, never what comes out.
        recorded: demonstrations to read instead; then `episodes` is the most that are read and the rest does not count.
    """

    suite: str = "tabletop-demo"
    episodes: int = 2400
    split: str = "all"
    languages: tuple[str, ...] = ("en", "zh")
    image_size: int = 64
    noise: float = 0.06
    workers: int = 2
    recorded: RecordedConfig = field(default_factory=RecordedConfig)

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("image_size", 16), ("noise", 0), ("workers", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"collect.{name}: found {value}, wanted at least {least}")
        unknown = [language for language in self.languages if language not in ("en", "zh")]
        if unknown or not self.languages:
            raise ValueError(f"collect.languages: found {list(self.languages)}, wanted one or both of ['en', 'zh']")
