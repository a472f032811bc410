"""A training that runs away is noticed, brought back, and given up on with a clear error."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deixis.policies.config import StabilityConfig, StageConfig
from deixis.policies.policy import Policy
from deixis.policies.training.imitate import ImitationObjective
from deixis.policies.training.optimisation import Optimisation
from deixis.policies.training.stability import Alarm, DivergenceError, Guard
from deixis.policies.training.train import train

from .conftest import tiny_config

STAGE = StageConfig(steps=100, lr=0.1, warmup_steps=0, trainable={"all": 1.0}, weight_decay=0.0)
QUICK = StabilityConfig(tolerance=8, patience=3, warm=10, snapshot_every=10, recoveries=2)


def sounds(values: np.ndarray, patience: int = 3) -> list[int]:
    """Steps at which an alarm sounds."""
    alarm = Alarm("loss", 8.0, patience, 20)
    return [step for step, value in enumerate(values) if alarm(float(value))]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.01, 0.3, 1.0])
def test_noise_and_a_falling_loss_are_no_alarm(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    steps = np.arange(3000)
    assert sounds(np.exp(-steps / 500) * rng.lognormal(0, spread, 3000)) == []


def test_single_spikes_are_no_alarm_and_growth_is_within_patience() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 0.2, 500)
    values[[100, 101, 200, 350]] = 1e6
    assert sounds(values) == []
    values[400:] *= np.exp(np.arange(100) * 0.5)
    first = sounds(values)[0]
    assert 403 <= first <= 412


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_sounds_at_once(value: float) -> None:
    assert "is" in (Alarm("loss", 8.0, 10, 50)(value) or "")


def test_before_the_usual_is_known_nothing_is_far() -> None:
    assert sounds(np.exp(np.arange(20.0))) == []


def test_gradients_may_grow_while_the_loss_falls_and_below_the_clip() -> None:
    """As measured of a token head: from step 150 on it learned, and its gradient's norm rose from 0.05 to 0.84."""
    *_, guard = guarded()
    for step in range(300):
        growth = 0.05 * math.exp(max(0, step - 150) / 10)
        assert guard.look(5.5 * math.exp(-step / 100), growth) is None, step
    *_, guard = guarded()
    sounded = [step for step in range(300) if guard.look(5.5, 0.05 * math.exp(max(0, step - 150) / 10))]
    assert sounded, "where the loss stands still, such gradients are a runaway"
    bowl, optimisation, _ = guarded()
    clipped = Guard(QUICK, bowl, optimisation, gradient_clip=1.0)
    for step in range(300):
        assert clipped.look(5.5, 0.05 if step < 150 else 0.9) is None, "up to the clip they are left as they are"


class Bowl(nn.Module):
    """A parabola that Adam leaves no doubt about: the loss is the distance from 3, squared."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(4))

    def forward(self) -> Tensor:
        return (self.place - 3).square().sum()


def guarded(config: StabilityConfig = QUICK) -> tuple[Bowl, Optimisation, Guard]:
    bowl = Bowl()
    optimisation = Optimisation({"all": bowl}, replace(STAGE, ema_decay=0.9))
    return bowl, optimisation, Guard(config, bowl, optimisation)


def step_once(bowl: Bowl, optimisation: Optimisation, guard: Guard, step: int) -> str | None:
    optimisation.set_learning_rate(step)
    loss = bowl()
    loss.backward()
    norm = nn.utils.get_total_norm([p.grad for p in bowl.parameters() if p.grad is not None])
    trouble = guard.look(float(loss.detach()), float(norm))
    if not trouble:
        optimisation.optimizer.step()
        optimisation.update_average()
    optimisation.optimizer.zero_grad()
    return trouble


def test_it_returns_to_the_point_before_the_last_one_bit_for_bit_at_half_the_rate() -> None:
    bowl, optimisation, guard = guarded()
    kept: dict[int, dict[str, Tensor]] = {}
    for step in range(30):
        if guard.due(step) and step:
            guard.keep(step)
            kept[step] = {k: v.clone() for k, v in {**bowl.state_dict(), **optimisation.state()}.items()}
        assert step_once(bowl, optimisation, guard, step) is None
    with torch.no_grad():
        bowl.place.fill_(math.nan)
    trouble = step_once(bowl, optimisation, guard, 30)
    assert trouble == "loss is nan"
    step, told = guard.recover("align", 31, trouble)
    assert step == 10, "the point at 20 has no other after it yet"
    now = {**bowl.state_dict(), **optimisation.state()}
    assert now.pop("recoveries").item() == 1
    assert now.keys() == kept[10].keys()
    assert all(torch.equal(now[name], value) for name, value in kept[10].items())
    full = Optimisation({"all": Bowl()}, STAGE).set_learning_rate(10)
    assert optimisation.set_learning_rate(10) == 0.5 * full
    assert told == "align step 31: loss is nan; back to step 10 at 0.5 of the learning rate (return 1 of 2)"


def test_a_point_on_the_way_up_is_not_kept() -> None:
    bowl, optimisation, guard = guarded()
    for step in range(1, 25):
        step_once(bowl, optimisation, guard, step)
    guard.keep(10)
    guard.keep(20)
    assert guard.look(1e9, 1.0) is None, "one far value is no alarm yet"
    guard.keep(21)
    assert [snapshot.step for snapshot in guard.snapshots] == [10, 20]


def test_it_gives_up_with_an_error_that_says_what_to_do() -> None:
    _, _, guard = guarded()
    for time in (1, 2):
        assert guard.recover("align", 5, "loss is nan")[1].endswith(f"(return {time} of 2)")
    with pytest.raises(DivergenceError, match=r"align step 7: loss is inf, after 2 returns .* lower align\.lr"):
        guard.recover("align", 7, "loss is inf")


def test_the_number_of_returns_is_part_of_a_checkpoint() -> None:
    bowl, optimisation, guard = guarded()
    step_once(bowl, optimisation, guard, 0)
    guard.recover("align", 1, "loss is nan")
    again = Optimisation({"all": Bowl()}, replace(STAGE, ema_decay=0.9))
    again.restore(optimisation.state(), 0)
    assert again.slowness == 0.5


def poison(monkeypatch: pytest.MonkeyPatch, at: int, times: int) -> list[int]:
    """From the given call on, and for so many times, the loss of imitation is not a number."""
    calls: list[int] = []
    whole = ImitationObjective.forward

    def forward(self: ImitationObjective, batch: Any) -> Any:
        losses = whole(self, batch)
        calls.append(len(calls))
        if at <= len(calls) - 1 < at + times:
            return replace(losses, total=losses.total * math.nan)
        return losses

    monkeypatch.setattr(ImitationObjective, "forward", forward)
    return calls


def test_a_run_goes_on_after_a_loss_that_is_not_a_number(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(stability=replace(QUICK, snapshot_every=1), log_every=1, checkpoint_every=1)
    calls = poison(monkeypatch, at=4, times=1)
    policy = Policy.load(train(config, toy_store, tmp_path))
    assert all(value.isfinite().all() for value in policy.state_dict().values())
    assert len(calls) == 6 + 1 + 1, "one step was poisoned, and one before it is done again"
    (event,) = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    assert event == {
        "stage": "imitate",
        "step": 3,
        "event": "imitate step 5: loss is nan; back to step 3 at 0.5 of the learning rate (return 1 of 2)",
    }
    logged = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    imitated = [row for row in logged if row["stage"] == "imitate"]
    assert [row["step"] for row in imitated] == [1, 2, 3, 4, 5, 6]
    undisturbed = train(config, toy_store, tmp_path / "undisturbed")
    rates = [
        json.loads(line)["lr"]
        for line in (undisturbed.parent / "training.jsonl").read_text().splitlines()
        if json.loads(line)["stage"] == "imitate"
    ]
    assert [row["lr"] for row in imitated] == pytest.approx([*rates[:3], *(0.5 * rate for rate in rates[3:])])


def test_a_run_that_never_gets_better_ends_with_the_reason_and_without_a_policy(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, at=3, times=100)
    with pytest.raises(DivergenceError, match="imitate step 1: loss is nan, after 2 returns"):
        train(tiny_config(stability=QUICK), toy_store, tmp_path)
    assert not (tmp_path / "policy").exists()
