"""Monitors see what layers do, change nothing, and sound before a number is no number."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deixis.policies.backbones.decoder import Decoder
from deixis.policies.backbones.text import TextBlock, TextTower
from deixis.policies.config import DecoderConfig, StabilityConfig
from deixis.policies.objectives.next_token import next_token_loss
from deixis.policies.training.log import StageProgress
from deixis.policies.training.monitors import Monitors
from deixis.policies.training.train import train

from .conftest import tiny_config

OPTIONS = StabilityConfig(monitor_every=1)


class Scale(nn.Module):
    """Two layers that multiply."""

    def __init__(self, first: float, second: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4, bias=False) for _ in range(2)])
        for layer, factor in zip(self.layers, (first, second), strict=True):
            layer.load_state_dict({"weight": factor * torch.eye(4)})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_outputs_and_gradients_by_hand() -> None:
    scale = Scale(2.0, 3.0)
    watch = Monitors({"scale": scale}, OPTIONS)
    with watch.looking():
        out = scale(torch.ones(1, 4))
    out.sum().backward()
    assert watch.read() == []
    # d out / d W1 = 3 * ones x ones: 16 entries of 3; d out / d W2 = 2 * ones x ones
    assert watch.values == pytest.approx(
        {
            "output.scale.layers.0": 2.0,
            "output.scale.layers.1": 6.0,
            "gradient.scale.layers.0": 12.0,
            "gradient.scale.layers.1": 8.0,
        }
    )


def test_attention_logits_of_our_own_tower() -> None:
    torch.manual_seed(0)
    tower = TextTower(20, 8, 16, 1, 2).eval()
    watch = Monitors({"text": tower}, OPTIONS)
    ids, mask = torch.randint(0, 20, (2, 5)), torch.ones(2, 5, dtype=torch.bool)
    with watch.looking():
        tower(ids, mask)
    block = tower.blocks[0]
    assert isinstance(block, TextBlock)
    states = tower.embedding(ids) + tower.position[:5]
    packed = block.query_key_value(block.attention_norm(states)).view(2, 5, 3, 2, 8).permute(2, 0, 3, 1, 4)
    expected = (packed[0] @ packed[1].transpose(-2, -1) * 8**-0.5).abs().max().item()
    assert watch.values["attention_logit.text.blocks.0"] == pytest.approx(expected, rel=1e-5)


def test_attention_logits_of_a_language_model_and_the_same_output_with_and_without_a_look() -> None:
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(width=32, layers=2, heads=2), 50).eval()
    watch = Monitors({"decoder": decoder}, OPTIONS)
    embedded, mask = decoder.embed(torch.randint(0, 50, (2, 6))), torch.ones(2, 6, dtype=torch.bool)
    before = decoder(embedded, mask)
    with watch.looking():
        seen = decoder(embedded, mask)
    assert torch.equal(seen, before)
    logits = {name: value for name, value in watch.values.items() if name.startswith("attention_logit")}
    assert list(logits) == [f"attention_logit.decoder.model.model.layers.{i}.self_attn" for i in range(2)]
    # Query-key norm: each has length sqrt(head width), so that no logit exceeds sqrt(head width) = 4.
    assert all(0 < value <= 4.0 + 1e-4 for value in logits.values())
    watch.values = {}
    decoder(embedded, mask)
    assert watch.values == {}, "nothing is watched outside"


def test_a_layer_that_grows_sounds_once_and_long_before_it_is_no_number() -> None:
    scale = Scale(1.0, 1.0)
    watch, told = Monitors({"scale": scale}, OPTIONS), []
    for step in range(60):
        with watch.looking():
            scale(torch.ones(1, 4))
        told += [(step, text) for text in watch.read()]
        if step >= 20:
            scale.layers[1].weight.data.mul_(4.0)  # type: ignore[operator]
    assert [text.partition(" ")[0] for _, text in told] == ["output.scale.layers.1"]
    assert 21 <= told[0][0] <= 25
    assert scale(torch.ones(1, 4)).isfinite().all()


def test_a_training_writes_what_its_layers_did(toy_store: Path, tmp_path: Path) -> None:
    train(tiny_config(stability=OPTIONS), toy_store, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "monitors.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"align", "imitate"}
    first = lines[0]["monitors"]
    assert {name.partition(".")[0] for name in first} == {"output", "attention_logit", "gradient"}
    assert any(name.startswith("attention_logit.text") for name in first)
    assert any(name.startswith("gradient.head") for name in lines[-1]["monitors"])


def test_a_resumed_run_has_each_look_once_and_a_new_one_none_of_the_old(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(self: StageProgress, done: int, loss: dict[str, float], speed: float) -> None:
        if (self.stage, done) == ("imitate", 3):
            raise KeyboardInterrupt

    config = tiny_config(stability=OPTIONS, log_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "update", kill)
        with pytest.raises(KeyboardInterrupt):
            train(config, toy_store, tmp_path)
    (tmp_path / "events.jsonl").write_text('{"stage": "align", "step": 1, "event": "kept"}\n')

    def looks() -> list[tuple[str, int]]:
        lines = (tmp_path / "monitors.jsonl").read_text().splitlines()
        return [(line["stage"], line["step"]) for line in map(json.loads, lines)]

    train(config, toy_store, tmp_path)
    assert looks() == [(stage, step) for stage in ("align", "imitate") for step in range(1, 7)]
    assert (tmp_path / "events.jsonl").exists()
    train(tiny_config(stability=OPTIONS, seed=1, overwrite=True), toy_store, tmp_path)
    assert looks() == [(stage, step) for stage in ("align", "imitate") for step in range(1, 7)]
    assert not (tmp_path / "events.jsonl").exists()


# A configuration of the fusion route's decoder that runs away without query-key norm and z-loss, and trains with them.


def trained(stable: bool, steps: int = 100) -> tuple[list[float], list[float], list[int]]:
    """Losses, largest attention logits, and the steps of alarms about these; counting upwards in steps of 1 to 3."""
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(width=64, layers=2, heads=2, query_key_norm=stable), 200)
    optimiser = torch.optim.AdamW(decoder.parameters(), 0.3, betas=(0.9, 0.95), weight_decay=0.0)
    monitors = Monitors({"decoder": decoder}, StabilityConfig(monitor_every=1))
    generator = torch.Generator().manual_seed(0)
    losses, logits, alarms = [], [], []
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.3 * min(1.0, (step + 1) / 50)
        start = torch.randint(0, 200, (16, 1), generator=generator)
        ids = (start + torch.randint(1, 4, (16, 1), generator=generator) * torch.arange(24)) % 200
        with monitors.looking():
            predicted = decoder.logits(decoder(decoder.embed(ids), torch.ones_like(ids, dtype=torch.bool)))
        loss = next_token_loss(predicted, ids, torch.zeros_like(ids), {"text": 1.0}, 1e-4 if stable else 0.0)
        optimiser.zero_grad()
        loss.total.backward()
        alarms += [step for told in monitors.read() if told.startswith("attention_logit")]
        optimiser.step()
        losses.append(float(loss.parts["text"]))
        logits.append(max(value for name, value in monitors.values.items() if name.startswith("attention_logit")))
    return losses, logits, alarms


def test_query_key_norm_and_z_loss_keep_a_training_that_runs_away_without_them() -> None:
    losses, logits, alarms = trained(stable=True)
    assert np.mean(losses[-10:]) < 1.6 and max(logits) < 500 and not alarms
    losses, logits, alarms = trained(stable=False)
    assert np.mean(losses[-10:]) > min(losses) + 0.2, "the loss has turned and risen again"
    assert np.mean(losses[-10:]) > 2.5
    overflow = next(step for step, value in enumerate(logits) if value > torch.finfo(torch.float16).max)
    assert alarms and alarms[0] < overflow, "told before half precision would have had no number for it"
