"""Training: exact resume, refusals, and the cache of encoded frames."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from deixis.datasets.timestamps import GateError
from deixis.policies.config import BackboneConfig, StageConfig, TrainConfig
from deixis.policies.heads import HEADS
from deixis.policies.policy import Batch, Observation, Policy
from deixis.policies.serialisation import load_tensors
from deixis.policies.training.imitate import ImitationBatches, ImitationObjective
from deixis.policies.training.log import StageProgress
from deixis.policies.training.optimisation import learning_rate_factor
from deixis.policies.training.preparation import fit_head, new_policy, prepare, train_tokenizer
from deixis.policies.training.train import plan, train

from .conftest import tiny_config


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole_run(toy_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    train(tiny_config(log_every=1), toy_store, out)
    return out


@pytest.mark.parametrize(("stage", "step"), [("align", 1), ("align", 5), ("imitate", 3), ("imitate", 5)])
def test_a_killed_run_ends_with_the_same_weights(
    toy_store: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, step: int
) -> None:
    def kill(self: StageProgress, done: int, loss: dict[str, float], speed: float) -> None:
        if (self.stage, done) == (stage, step):
            raise KeyboardInterrupt

    config = tiny_config(log_every=1)
    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "update", kill)
        with pytest.raises(KeyboardInterrupt):
            train(config, toy_store, tmp_path)
    assert not (tmp_path / "policy").exists()
    train(config, toy_store, tmp_path)
    assert same(weights(tmp_path / "policy"), weights(whole_run / "policy"))
    places = [(r["stage"], r["step"]) for r in records(tmp_path)]
    assert places == [(r["stage"], r["step"]) for r in records(whole_run)], "no record twice, none missing"
    losses = [r["loss"] for r in records(tmp_path)]
    assert losses == [r["loss"] for r in records(whole_run)]


def test_a_finished_run_is_not_trained_again(toy_store: Path, whole_run: Path) -> None:
    before = weights(whole_run / "policy")
    train(tiny_config(log_every=1), toy_store, whole_run)
    assert same(before, weights(whole_run / "policy"))


def test_another_configuration_needs_another_folder(toy_store: Path, tmp_path: Path) -> None:
    config = tiny_config()
    train(config, toy_store, tmp_path)
    changed = replace(config, imitate=replace(config.imitate, lr=0.5))
    with pytest.raises(ValueError, match=r"config.imitate.lr was 0.001 and is 0.5.*--overwrite"):
        train(changed, toy_store, tmp_path)
    train(replace(changed, overwrite=True), toy_store, tmp_path)


def test_a_half_written_checkpoint_is_not_seen(toy_store: Path, whole_run: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "checkpoints" / ".0-00000002.writing"
    scratch.mkdir(parents=True)
    (scratch / "model.safetensors").write_bytes(b"half")
    train(tiny_config(log_every=1), toy_store, tmp_path)
    assert same(weights(tmp_path / "policy"), weights(whole_run / "policy"))


def test_training_refuses_a_store_that_fails_the_gate(
    toy_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deixis.datasets.store import TrajectoryStore

    read_all = TrajectoryStore.read_all

    def with_nan(self: TrajectoryStore, stream: str, *rest: object, **more: object):
        read = read_all(self, stream, *rest, **more)  # type: ignore[arg-type]
        if stream == "action":
            read.values[3] = np.nan
        return read

    monkeypatch.setattr(TrajectoryStore, "read_all", with_nan)
    with pytest.raises(GateError):
        train(tiny_config(), toy_store, tmp_path)


def prepared_policy(config: TrainConfig, store: Path) -> tuple[Policy, object]:
    prepared = prepare(config, str(store))
    torch.manual_seed(0)
    policy = new_policy(config, prepared, train_tokenizer(config, prepared))
    fit_head(policy, prepared)
    return policy, prepared.windows


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_from_encoded_frames_is_the_loss_from_images(toy_store: Path, head: str) -> None:
    config = tiny_config()
    config = replace(config, policy=replace(config.policy, head=replace(config.policy.head, kind=head)))
    policy, windows = prepared_policy(config, toy_store)
    stage = replace(config.imitate, proprio_noise=0.0, frame_noise=0.0)
    plain = ImitationBatches(windows, stage, policy, 0, cached=False)  # type: ignore[arg-type]
    torch.manual_seed(1)
    before = ImitationObjective(policy, stage)(plain(0)).total.item()
    cached = ImitationBatches(windows, stage, policy, 0, cached=True)  # type: ignore[arg-type]
    torch.manual_seed(1)
    assert ImitationObjective(policy, stage)(plain(0)).total.item() == pytest.approx(before, abs=1e-4)
    objective, indices = ImitationObjective(policy, stage), np.array([0, 1, 40, 95])
    losses = []
    for batch in (cached.from_cache(indices), cached.raw(indices)):
        torch.manual_seed(1)
        losses.append(objective(batch).total.item())
    items = windows.batch(indices)  # type: ignore[attr-defined]
    observation = Observation(
        {camera: torch.from_numpy(images) for camera, images in items["images"].items()},
        torch.from_numpy(items["proprio"]),
        items["instruction"],
    )
    torch.manual_seed(1)
    batch = Batch(observation, torch.from_numpy(items["actions"]), torch.from_numpy(items["is_pad"]))
    losses.append(policy.loss(batch).total.item())
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-4)


@pytest.mark.parametrize("cached", [True, False])
def test_a_window_lacks_one_modality_at_most_and_then_nothing_of_it_is_left(toy_store: Path, cached: bool) -> None:
    config = tiny_config()
    policy, windows = prepared_policy(config, toy_store)
    stage = replace(config.imitate, modality_dropout=0.9, batch_size=64, proprio_noise=0.0, frame_noise=0.0)
    batches = ImitationBatches(windows, stage, policy, 0, cached=cached)  # type: ignore[arg-type]
    indices = batches.order.indices(0)
    whole = batches.from_cache(indices) if cached else batches.raw(indices)
    some, again, other = batches(0), batches(0), batches(1)
    assert some.instructions == again.instructions
    assert torch.equal(some.proprio, again.proprio)
    quiet = torch.tensor([not text for text in some.instructions])
    still = (some.proprio == 0).all(-1).all(-1)
    if cached:
        assert some.frames is not None and whole.frames is not None
        dark = (some.frames == batches.unseen).all(-1).all(-1)
        kept = ~(quiet | dark)
        assert torch.equal(some.frames[kept], whole.frames[kept])
        silent = policy.context(_observation(windows, indices[quiet.numpy()], ""))
        frames = policy.backbone.assemble(some.frames, some.proprio, some.text)  # type: ignore[operator]
        torch.testing.assert_close(frames.tokens[quiet], silent.tokens, atol=1e-4, rtol=1e-4)
    else:
        assert some.images is not None and whole.images is not None
        dark = torch.stack([(x == 128).flatten(1).all(1) for x in some.images.values()]).all(0)
        assert all(torch.equal(some.images[name][~dark], x[~dark]) for name, x in whole.images.items())
    lacking = torch.stack([quiet, still, dark]).long().sum(0)
    assert lacking.max() == 1
    assert 0.75 < lacking.double().mean() <= 1
    assert other.instructions != some.instructions
    assert torch.equal(some.actions, whole.actions)


def _observation(windows: object, indices: np.ndarray, text: str) -> Observation:
    items = windows.batch(indices)  # type: ignore[attr-defined]
    images = {camera: torch.from_numpy(x) for camera, x in items["images"].items()}
    return Observation(images, torch.from_numpy(items["proprio"]), [text] * len(indices))


def test_gradient_surgery_is_logged_and_changes_what_is_learned(
    toy_store: Path, whole_run: Path, tmp_path: Path
) -> None:
    config = tiny_config(log_every=1)
    config = replace(config, align=replace(config.align, gradient_surgery=True))
    train(config, toy_store, tmp_path)
    conflicts = [row["loss"]["conflict"] for row in records(tmp_path) if row["stage"] == "align"]
    assert conflicts
    assert all(0 <= share <= 1 for share in conflicts)
    assert not any("conflict" in row["loss"] for row in records(tmp_path) if row["stage"] == "imitate")
    first, without = records(tmp_path)[0]["loss"], records(whole_run)[0]["loss"]
    assert first["total"] == without["total"], "the first losses are the same, what is made of their gradients is not"
    assert not same(weights(tmp_path / "policy"), weights(whole_run / "policy"))


def test_modality_dropout_needs_more_than_one_modality(toy_store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"modality_dropout: found 1\.5"):
        train(tiny_config(imitate=replace(tiny_config().imitate, modality_dropout=1.5)), toy_store, tmp_path)


def test_stages_train_what_they_name(toy_store: Path, tmp_path: Path) -> None:
    config = tiny_config()
    snapshots: dict[str, dict[str, torch.Tensor]] = {}

    def remember(stage: str, policy: Policy) -> None:
        snapshots[stage] = {name: tensor.clone() for name, tensor in policy.state_dict().items()}

    train(config, toy_store, tmp_path, hooks=[remember])
    changed = {
        n.split(".")[0] + "." + n.split(".")[1]
        for n in snapshots["align"]
        if not torch.equal(snapshots["align"][n], snapshots["imitate"][n])
    }
    assert changed == {"backbone.projector", "head.conditioning", "head.denoiser"}


def test_a_backbone_is_taken_over_whole(toy_store: Path, tmp_path: Path) -> None:
    none = StageConfig(steps=0)
    first = train(tiny_config(imitate=none), toy_store, tmp_path / "first")
    config = tiny_config(align=none, backbone_from=str(first), seed=5)
    config = replace(config, policy=replace(config.policy, head=replace(config.policy.head, kind="mixture")))
    assert [name for name, _ in plan(config)] == ["imitate"]
    second = train(config, toy_store, tmp_path / "second")
    before, after = weights(first), weights(second)
    frozen = [name for name in before if name.startswith("backbone.") and "projector" not in name]
    assert len(frozen) > 10 and all(torch.equal(before[name], after[name]) for name in frozen)
    assert (first / "tokenizer.json").read_text() == (second / "tokenizer.json").read_text()
    assert train(config, toy_store, tmp_path / "second") == second, "a finished training is as it was"
    assert all(torch.equal(tensor, weights(second)[name]) for name, tensor in after.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"obs_horizon": 3}, "policy.obs_horizon: found 2, wanted 3"),
        ({"backbone": BackboneConfig(width=24)}, "policy.backbone.width: found"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused(toy_store: Path, tmp_path: Path, change: dict, said: str) -> None:
    first = train(tiny_config(imitate=StageConfig(steps=0)), toy_store, tmp_path / "first")
    config = tiny_config(align=StageConfig(steps=0), backbone_from=str(first))
    with pytest.raises(ValueError, match=said):
        train(replace(config, policy=replace(config.policy, **change)), toy_store, tmp_path / "second")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(replace(config, backbone_from=str(tmp_path / "nowhere")), toy_store, tmp_path / "third")
    assert not (tmp_path / "second").exists() and not (tmp_path / "third").exists()


def test_without_alignment_the_backbone_learns_from_the_actions(toy_store: Path, tmp_path: Path) -> None:
    config = tiny_config(align=StageConfig(steps=0))
    assert [name for name, _ in plan(config)] == ["unaligned"]
    fresh, _ = prepared_policy(config, toy_store)
    train(config, toy_store, tmp_path)
    trained = weights(tmp_path / "policy")
    assert any(not torch.equal(tensor, trained[n]) for n, tensor in fresh.state_dict().items() if "image" in n)
    assert {record["stage"] for record in records(tmp_path)} == {"unaligned"}


def test_log_records_have_the_agreed_fields(whole_run: Path) -> None:
    lines = records(whole_run)
    assert [line["stage"] for line in lines] == ["align"] * 6 + ["imitate"] * 6
    assert set(lines[0]) == {"stage", "step", "time_s", "loss", "lr", "samples_per_s"}
    assert {"total", "grounding", "contrastive", "action", "place_error"} == set(lines[0]["loss"])


def test_unknown_module_in_trainable_is_refused(toy_store: Path, tmp_path: Path) -> None:
    config = tiny_config()
    config = replace(config, align=replace(config.align, trainable={"vision": 1.0}))
    with pytest.raises(ValueError, match=r"unknown modules \['vision'\]"):
        train(config, toy_store, tmp_path)


def test_learning_rate_warms_up_and_decays() -> None:
    factors = [learning_rate_factor(step, 100, 10, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == 1.0
    assert all(a >= b for a, b in pairwise(factors[9:]))
    assert 0.1 <= factors[-1] < 0.102
