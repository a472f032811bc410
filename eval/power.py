"""How many episodes does it take to see that one policy is better than another?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

from .statistics import wilson_interval

POWERS = (0.8, 0.95)


def power(episodes: int, first: float, second: float, error_rate: float = 0.05) -> float:
    """Chance that `comparison.mcnemar` finds two success rates different in so many pairs, at that error rate.

    Outcomes of the two policies in one scene are taken for independent; where the same scenes are hard for both, fewer
    episodes are enough.
    """
    only_first, only_second = first * (1 - second), second * (1 - first)
    differing = only_first + only_second
    if not differing:
        return 0.0
    # Counts that all but never occur, once in 10**12, would take most of the time.
    least, most = binom.ppf([1e-12, 1 - 1e-12], episodes, differing)
    discordant = np.arange(max(least, 0), most + 1)
    likely = binom.pmf(discordant, episodes, differing)
    # The largest count of the rarer side that is rejected: both tails together are at most the error rate.
    largest = binom.ppf(error_rate / 2, discordant, 0.5)
    largest -= 2 * binom.cdf(largest, discordant, 0.5) > error_rate
    share = only_first / differing
    rejected = binom.cdf(largest, discordant, share) + binom.sf(discordant - largest - 1, discordant, share)
    return float((likely * np.where(largest >= 0, rejected, 0.0)).sum())


def episodes_needed(first: float, second: float, wanted: float = 0.8, error_rate: float = 0.05) -> int:
    """The fewest pairs of episodes from which on `power` is at least `wanted`.

    Raises ValueError unless both are success rates and differ, and `wanted` lies between the error rate and 1.
    """
    if not (0 <= first <= 1 and 0 <= second <= 1) or first == second:
        raise ValueError(f"success rates: found {first} and {second}, wanted two different numbers from 0 to 1")
    if not 0 < error_rate < wanted < 1:
        raise ValueError(f"power: found {wanted} at error rate {error_rate}, wanted 0 < error rate < power < 1")
    enough = 1
    while power(enough, first, second, error_rate) < wanted:
        enough *= 2
    low = enough // 2
    while enough - low > 1:
        middle = (low + enough) // 2
        low, enough = (low, middle) if power(middle, first, second, error_rate) >= wanted else (middle, enough)
    # Counts are whole numbers, so power goes up in a saw: take what stays enough over the next teeth.
    teeth = range(enough, enough + 40)
    return max([n + 1 for n in teeth if power(n, first, second, error_rate) < wanted], default=enough)


def show_plan(difference: float, rate: float, error_rate: float, console: Console | None = None) -> dict[str, Any]:
    """Prints, and returns, how many episodes it takes to see that a policy with success rate `rate` is better than one
    by `difference` worse. Raises ValueError unless both are rates."""
    if not 0 < difference <= 1:
        raise ValueError(
            f"--plan: found {difference}, wanted a difference of success rates between 0 and 1, such as 0.1"
        )
    worse = rate - difference if rate >= difference else rate + difference
    if not 0 <= worse <= 1:
        raise ValueError(
            f"--plan: found {difference} beside a success rate of {rate:.2f}, wanted at most {max(rate, 1 - rate):.2f}"
        )
    console = console or Console()
    needed = {f"episodes_{round(100 * share)}": episodes_needed(rate, worse, share, error_rate) for share in POWERS}
    table = Table(
        title=f"{rate:.0%} against {worse:.0%}, called different by mistake at most {error_rate:.0%} of the time"
    )
    table.add_column("episodes of each policy", justify="right")
    table.add_column("seen with a chance of", justify="right")
    table.add_column("interval of one rate", justify="right")
    for share, episodes in zip(POWERS, needed.values(), strict=True):
        low, high = wilson_interval(round(rate * episodes), episodes)
        table.add_row(str(episodes), f"{share:.0%}", f"{low:.1%} to {high:.1%}")
    console.print(table)
    console.print(
        "On the same episodes for both; outcomes are taken for independent, so where the same scenes are hard for both "
        "fewer are enough.\n`deixis eval POLICY --against OTHER --eval.episodes N` stops as soon as it is sure."
    )
    return {"rate": rate, "difference": difference, "error_rate": error_rate, **needed}


def known_rate(out_dir: Path) -> float:
    """The success rate that the run in `out_dir` has measured, else a half, where most episodes are needed."""
    summary = out_dir / "summary.json"
    return float(json.loads(summary.read_text("utf-8"))["success_rate"]) if summary.is_file() else 0.5
