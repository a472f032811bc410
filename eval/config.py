"""What an evaluation does, as data. Imports nothing heavy, so that the command line can show its help at once."""

from __future__ import annotations

from dataclasses import dataclass

CONTROLS = ("correct", "null", "swap")


@dataclass(frozen=True)
class EvalConfig:
    """How a policy is judged.

    Attributes:
        suite: name of a suite in `envs/suites.py`.
        episodes: episodes in total for the condition "correct", spread evenly over the suite's tasks.
        control_episodes: the same for each other condition; None means as many as `episodes`.
        conditions: which of `envs.conditions` to run; "all" is every way to instruct, "challenges" every challenge. The
            same scenes serve those that change the words alone, so they can be compared in pairs.
        workers: processes. Changes how long it takes, never what comes out.
        environments: episodes that a worker runs at once, each in an environment and a thread of its own, all with one
            copy of the policy. Changes how long it takes and how much memory, never what comes out. Comparisons, chains
            and the like run one at a time in every worker.
        videos: episodes to film, failures and successes of every condition.
        exec_horizon: actions of a chunk carried out before the policy looks again; None takes the policy's own.
        error_rate: of comparisons: how often two policies that are equally good may be called different.
    """

    suite: str = "tabletop-demo"
    episodes: int = 200
    control_episodes: int | None = None
    conditions: tuple[str, ...] = CONTROLS
    workers: int = 2
    environments: int = 1
    videos: int = 6
    exec_horizon: int | None = None
    error_rate: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.error_rate < 0.5:
            raise ValueError(f"eval.error_rate: found {self.error_rate}, wanted a number between 0 and 0.5")
        from ..envs.conditions import GROUPS, all_conditions  # whose room brings Gymnasium

        there = (*all_conditions(), *GROUPS)
        named = [each for name in self.conditions for each in GROUPS.get(name, (name,))]
        if any(name in GROUPS for name in self.conditions):
            object.__setattr__(self, "conditions", tuple(dict.fromkeys(named)))
        unknown = [condition for condition in self.conditions if condition not in there]
        if unknown or not self.conditions or len(set(self.conditions)) != len(self.conditions):
            raise ValueError(
                f"eval.conditions: found {list(self.conditions)}, wanted one or more of {list(there)}, each once"
            )
        if "correct" not in self.conditions:
            raise ValueError(
                f"eval.conditions: found {list(self.conditions)}, wanted 'correct' among them: it is the success rate"
            )
        for name, least in (
            ("episodes", 1),
            ("control_episodes", 1),
            ("workers", 1),
            ("environments", 1),
            ("videos", 0),
            ("exec_horizon", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"eval.{name}: found {value}, wanted a whole number of at least {least}")

    def episodes_of(self, condition: str) -> int:
        """Episodes in total for one condition."""
        if condition == "correct" or self.control_episodes is None:
            return self.episodes
        return self.control_episodes


@dataclass(frozen=True)
class WatchConfig:
    """Evaluations while training goes on; what they find stands in `evaluations.jsonl`.

    Attributes:
        suite: whose scenes and episodes; not the one that the policy is judged on in the end.
        alignment_every: steps between two looks at retrieval and classification; 0 never looks.
        scenes: for these.
        rollout_every: steps between two looks at success; 0 never looks. A head that has not begun to learn acts, too.
        episodes: for these.
        probe_every: steps between two checks of the backbone by linear probes (`deixis probe`), on a copy of the
            weights; 0 never looks. The policy that they find best lies in `best_by_probe`, and the user is told where
            probes fall while the loss does.
        probe_frames: for these, of the demonstrations.
        share: of the training's time that all looks may take; what would take more is left out.
    """

    suite: str = "tabletop-demo-validation"
    alignment_every: int = 0
    scenes: int = 40
    rollout_every: int = 0
    episodes: int = 6
    probe_every: int = 0
    probe_frames: int = 2000
    share: float = 0.1

    def __post_init__(self) -> None:
        wanted = {"alignment_every": 0, "rollout_every": 0, "scenes": 2, "episodes": 1}
        wanted |= {"probe_every": 0, "probe_frames": 50}
        for name, least in wanted.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"watch.{name}: found {getattr(self, name)}, wanted a whole number of at least {least}"
                )
        if not 0 < self.share <= 1:
            raise ValueError(f"watch.share: found {self.share}, wanted more than 0 and at most 1")
