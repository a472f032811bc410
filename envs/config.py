"""What a collection of demonstrations does, as data. Imports nothing heavy: the command line shows its help at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CollectConfig:
    """Which demonstrations the expert gives.

    Attributes:
        suite: name of a suite in `envs/suites.py`.
        episodes: demonstrations in total, spread evenly over the suite's tasks; failures are not recorded.
        split: name of a split in `envs/tabletop/splits.py`: what is left out of the demonstrations.
        languages: languages of the instructions.
        image_size: height and width of every camera, pixels.
        noise: scale of the disturbance of the executed action, as a share of its limits; the clean action is recorded.
        workers: processes, each with one thread. Changes how long it takes, never what comes out.
    """

    suite: str = "tabletop-demo"
    episodes: int = 2400
    split: str = "all"
    languages: tuple[str, ...] = ("en", "zh")
    image_size: int = 64
    noise: float = 0.06
    workers: int = 2

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("image_size", 16), ("noise", 0), ("workers", 1)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"collect.{name}: found {value}, wanted at least {least}")
        unknown = [language for language in self.languages if language not in ("en", "zh")]
        if unknown or not self.languages:
            raise ValueError(f"collect.languages: found {list(self.languages)}, wanted one or both of ['en', 'zh']")
