"""Evaluation in mid-training: when it is due, what it may cost, and that it changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deixis.cli import main
from deixis.eval.report.learning_curves import learning_curves
from deixis.policies.policy import Policy
from deixis.policies.training.train import train
from deixis.policies.training.watch import Watch, Watcher

from .conftest import tiny_config


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def driven(cost: float, share: float, steps: int, every: int = 10, step_time: float = 1.0) -> tuple[Watch, Clock]:
    clock = Clock()

    def look(policy: Policy) -> Mapping[str, float]:
        clock.now += cost
        return {"number": 1.0}

    watch = Watch([Watcher("slow", every, look)], share, clock)
    for step in range(1, steps + 1):
        clock.now += step_time
        for watcher in watch.due(step):
            watch.look(watcher, None)  # pyright: ignore
    return watch, clock


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("cost", [0.1, 2.0, 30.0])
def test_looks_take_no_more_than_their_share_of_the_time(cost: float, share: float) -> None:
    watch, clock = driven(cost, share, 5000)
    assert watch.spent <= share * clock.now
    looks = watch.spent / cost
    assert looks + watch.skipped["slow"] == pytest.approx(500)
    possible = min(500, share * clock.now / cost)
    assert looks >= 0.85 * possible - 1, "and what the share allows is used"


def test_a_cheap_look_is_never_left_out() -> None:
    watch, _ = driven(0.01, 0.1, 1000)
    assert watch.skipped == {"slow": 0} and watch.spent == pytest.approx(1.0)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"watch\.share: found"):
        Watch([], share)


def test_looking_leaves_the_weights_of_a_training_bit_for_bit(toy_store: Path, tmp_path: Path) -> None:
    seen = []

    def look(policy: Policy) -> Mapping[str, float]:
        assert not policy.training and not policy.backbone.bf16
        assert not any(module.training for module in policy.modules())
        seen.append(torch.cat([p.detach().flatten() for p in policy.head.parameters()]).clone())
        torch.rand(5)
        return {"norm": float(seen[-1].norm())}

    config = tiny_config()
    plain = Policy.load(train(config, toy_store, tmp_path / "plain"))
    watched = Policy.load(
        train(config, toy_store, tmp_path / "watched", watch=Watch([Watcher("weights", 2, look)], 1.0))
    )
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    lines = [json.loads(line) for line in (tmp_path / "watched" / "evaluations.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        (stage, step) for stage in ("align", "imitate") for step in range(2, getattr(config, stage).steps + 1, 2)
    ]
    assert set(lines[0]["evaluations"]) == {"weights/norm", "weights/seconds"}
    final = torch.cat([p.detach().flatten() for p in watched.head.parameters()])
    assert torch.equal(seen[-1], final), "a look sees the averaged weights, which the stage leaves behind"
    assert not (tmp_path / "plain" / "evaluations.jsonl").exists()


def test_a_resumed_training_has_each_look_once(toy_store: Path, tmp_path: Path) -> None:
    def look(policy: Policy) -> Mapping[str, float]:
        return {"one": 1.0}

    def stop(stage: str, policy: Policy) -> None:
        raise KeyboardInterrupt

    config = replace(tiny_config(), checkpoint_every=1000)
    watch = [Watcher("steady", 2, look)]
    with pytest.raises(KeyboardInterrupt):
        train(config, toy_store, tmp_path / "run", hooks=[stop], watch=Watch(watch, 1.0))
    train(config, toy_store, tmp_path / "run", watch=Watch(watch, 1.0))
    lines = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    places = [(line["stage"], line["step"]) for line in lines]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (["--watch.share", "0"], "watch.share: found 0.0, wanted more than 0"),
        (["--watch.episodes", "0"], "watch.episodes: found 0"),
        (["--watch.rollout_every", "-1"], "watch.rollout_every: found -1"),
        (["--watch.probe_frames", "10"], "watch.probe_frames: found 10"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    setting: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *setting]) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_looked_at_is_refused_before_anything_is_made(
    tmp_path: Path, toy_store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["demo", "--watch.suite", "nowhere", "--out", str(out)]) == 1
    assert "watch." in capsys.readouterr().err and not out.exists()
    blind = ["--policy.backbone.kind", "state", "--watch.alignment_every", "5", "--out", str(out)]
    assert main(["train", str(toy_store), *blind]) == 1
    assert "watch.alignment_every: the backbone 'state'" in capsys.readouterr().err
    blind[2:4] = ["--watch.probe_every", "5"]
    assert main(["train", str(toy_store), *blind]) == 1
    assert "watch.probe_every: the backbone 'state'" in capsys.readouterr().err
    assert not (out / "training.jsonl").exists()


def test_a_number_that_falls_while_the_loss_does_is_said() -> None:
    guarded = Watcher("probe", 1, lambda policy: {}, guards="mean")
    watch = Watch([guarded], 1.0)

    def warned(value: float, loss: float, stage: str = "align") -> str | None:
        return watch.warn(guarded, stage, {"probe/mean": value}, loss)

    assert warned(0.5, 3.0) is None
    assert warned(0.6, 2.0) is None, "it rises"
    assert warned(0.58, 1.5) is None, "that little is noise"
    told = warned(0.4, 1.0)
    assert told is not None and "fallen from 0.600 to 0.400" in told and "from 2 to 1" in told
    assert warned(0.4, 2.5) is None, "the loss rose, too: that is another trouble"
    assert warned(0.4, 1.0, stage="imitate") is None, "another stage has another loss"
    assert watch.warn(Watcher("plain", 1, lambda policy: {}), "align", {}, 0.0) is None


def test_probes_in_mid_training_are_logged_and_the_best_policy_is_kept(toy_store: Path, tmp_path: Path) -> None:
    from deixis.eval.probe.watcher import probe_watcher

    best, config = tmp_path / "run" / "best_by_probe", tiny_config()
    watch = Watch([probe_watcher(2, 60, toy_store, best)], 1.0)
    plain = Policy.load(train(config, toy_store, tmp_path / "plain"))
    watched = Policy.load(train(config, toy_store, tmp_path / "run", watch=watch))
    for name, value in plain.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    lines = [json.loads(line) for line in (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    looks = [line["evaluations"] for line in lines]
    assert {"probe/mean", "probe/match", "probe/progress", "probe/next_action", "probe/seconds"} <= set(looks[0])
    assert looks[0]["probe/mean"] != looks[2]["probe/mean"], "each look sees the weights of its step"
    assert isinstance(Policy.load(best), Policy)
    page = learning_curves(tmp_path / "run" / "training.jsonl")
    assert "probe/mean" in [item["name"] for item in page[0]["curves"]]
