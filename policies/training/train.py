"""Training from a store to a policy folder: alignment, then imitation, resumable at any step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ...datasets.findings import GateReport
from ..backbones.pretrained import resolve
from ..backbones.tokenizer import TextTokenizer
from ..config import StageConfig, TrainConfig, to_dict
from ..policy import Policy
from ..serialisation import restore
from .checkpoints import Checkpoints
from .log import TrainingLog
from .preparation import Prepared, fit_head, new_policy, prepare, train_tokenizer
from .stage import Run, Stage, step_seed
from .watch import Watch

Hook = Callable[[str, Policy], None]
BOOKKEEPING = (
    *("threads", "log_every", "checkpoint_every", "keep_checkpoints", "policy_every", "keep_policies"),
    *("tensorboard", "overwrite", "encoded_frames"),
)


def plan(config: TrainConfig) -> list[tuple[str, StageConfig]]:
    """The stages that will run, by name. Where nothing makes or gives a backbone, "unaligned" is for "imitate"."""
    prepared = config.align.steps or config.perceive.steps or config.backbone_from
    actions = ("imitate", config.imitate) if prepared else ("unaligned", config.unaligned)
    stages = [("codebook", config.codebook), ("align", config.align), ("perceive", config.perceive)]
    stages += [actions, ("finetune", config.finetune)]
    return [(name, stage) for name, stage in stages if stage.steps]


def train(
    config: TrainConfig,
    store_path: str | Path,
    out_dir: str | Path,
    hooks: Sequence[Hook] = (),
    checked: GateReport | None = None,
    watch: Watch | None = None,
) -> Path:
    """Train a policy on a store; a run that was killed goes on from its last checkpoint to the same weights.

    Args:
        config: the run.
        store_path: a TrajectoryStore.
        out_dir: gets training.jsonl, tensorboard/, checkpoints/, policy/ and, with `policy_every`, policies/.
        hooks: called with (stage name, policy in evaluation mode) after every stage.
        checked: what the gate has just said of the store; it is not asked again.
        watch: evaluations while training goes on, for a share of the time.

    Returns:
        The policy's folder, out_dir/policy.

    Raises:
        GateError: the store does not pass the gate.
        ValueError: nothing to train, a backbone to start with that does not fit, or out_dir holds a training of
            another configuration.
        FileNotFoundError: no policy where `backbone_from` says.
        DivergenceError: loss or gradient ran away as often as `stability.recoveries` says.
    """
    out = Path(out_dir)
    stages = plan(config)
    if not stages:
        raise ValueError(
            "align.steps, perceive.steps, imitate.steps or unaligned.steps, finetune.steps: all are 0, nothing to train"
        )
    torch.set_num_threads(config.threads)
    config = replace(config, policy=replace(config.policy, backbone=resolve(config.policy.backbone)))
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    source = Policy.load(config.backbone_from) if config.backbone_from else None
    prepared = prepare(config, str(store_path), checked)
    checkpoints = Checkpoints(out / "checkpoints", _identity(config, prepared), config.keep_checkpoints)
    if config.overwrite and accelerator.is_main_process:
        checkpoints.clear()
    found = checkpoints.latest()
    first = found.stage if found else 0
    torch.manual_seed(step_seed(config.seed))
    if found:
        tokenizer = TextTokenizer.from_json(found.tokenizer, config.policy.backbone.max_text_tokens)
    else:
        tokenizer = source.tokenizer if source else train_tokenizer(config, prepared)
    policy = new_policy(config, prepared, tokenizer, source).to(accelerator.device)
    log = TrainingLog(out, config.tensorboard, enabled=accelerator.is_main_process)
    if not found:
        fit_head(policy, prepared)
        log.forget_events()
    names = [name for name, _ in stages]
    log.rewind(names, first, found.step if found else 0)
    run = Run(out, config, names, prepared, policy, accelerator, checkpoints, log, watch)
    if found:
        log.say(f"resuming after step {found.step} of stage {first + 1} of {len(stages)}")
        if found.step == 0:
            restore(policy, found.model, checkpoints.folder)
    try:
        for index in range(first, len(stages)):
            Stage(run, index, stages[index][1], found if found and index == first and found.step else None).go()
            policy.eval()
            policy.backbone.bf16 = False
            for hook in hooks:
                hook(stages[index][0], policy)
    finally:
        log.close()
    if accelerator.is_main_process:
        policy.save(out / "policy")
    accelerator.wait_for_everyone()
    return out / "policy"


def _identity(config: TrainConfig, prepared: Prepared) -> dict[str, Any]:
    """What decides the weights: the configuration without bookkeeping, the store, and weights to start with."""
    values = to_dict(replace(config, cameras=prepared.cameras))
    if config.backbone_from:
        with (Path(config.backbone_from) / "model.safetensors").open("rb") as file:
            values["backbone_from"] = hashlib.file_digest(file, "sha256").hexdigest()
    for name in BOOKKEEPING:
        values.pop(name)
    return {"config": values, "episodes": len(prepared.store), "windows": len(prepared.windows)}
