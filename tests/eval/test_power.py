"""Planning a comparison: power by hand and by simulation, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from deixis.eval.comparison import mcnemar
from deixis.eval.power import episodes_needed, known_rate, power, show_plan


def test_a_difference_of_ten_points_is_found_with_the_planned_episodes() -> None:
    episodes = episodes_needed(0.87, 0.77, wanted=0.8)
    assert 200 < episodes < 300
    rng, found = np.random.default_rng(1), 0
    for _ in range(2000):
        first, second = rng.random(episodes) < 0.87, rng.random(episodes) < 0.77
        found += mcnemar(int((first & ~second).sum()), int((second & ~first).sum())) <= 0.05
    assert found / 2000 == pytest.approx(power(episodes, 0.87, 0.77), abs=0.03)
    assert found / 2000 >= 0.77


def test_power_by_hand() -> None:
    # All six differ and all for the first: 2/64 is below 0.05, and five of six is not.
    assert power(6, 1.0, 0.0) == pytest.approx(1)
    assert power(5, 1.0, 0.0) == pytest.approx(0), "2/32 is more than 0.05"
    assert power(6, 0.5, 0.0) == pytest.approx(0.5**6)
    assert power(100, 0.3, 0.3) < 0.05, "an exact test errs on the safe side"
    assert power(100, 0.0, 0.0) == 0


@settings(max_examples=25)
@given(st.floats(0.1, 0.95), st.floats(0.1, 0.3))
def test_more_episodes_are_planned_for_smaller_differences(rate: float, difference: float) -> None:
    second = max(0.0, rate - difference)
    episodes = episodes_needed(rate, second)
    assert power(episodes, rate, second) >= 0.8
    assert episodes_needed(rate, rate - (rate - second) / 2) > episodes


@pytest.mark.parametrize("rates", [(0.5, 0.5), (1.2, 0.5), (0.5, -0.1)])
def test_rates_that_cannot_be_planned_for_are_refused(rates: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="found"):
        episodes_needed(*rates)
    with pytest.raises(ValueError, match="power: found"):
        episodes_needed(0.5, 0.4, wanted=0.01)


def test_the_plan_starts_from_what_the_run_has_measured(tmp_path: Path) -> None:
    assert known_rate(tmp_path) == 0.5
    (tmp_path / "summary.json").write_text('{"success_rate": 0.87}')
    assert known_rate(tmp_path) == 0.87
    console = Console(record=True, width=120)
    needed = show_plan(0.1, 0.87, 0.05, console)
    assert "87% against 77%" in console.export_text()
    assert needed["episodes_80"] < needed["episodes_95"]
    assert show_plan(0.3, 0.1, 0.05, Console(quiet=True))["episodes_80"] > 5, "10% against 40%"
    for difference, rate, said in ((0.0, 0.5, "wanted a difference"), (0.6, 0.5, "wanted at most 0.50")):
        with pytest.raises(ValueError, match=said):
            show_plan(difference, rate, 0.05)
