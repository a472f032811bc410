"""Training from a store to a policy folder: alignment, then imitation, resumable at any step."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...datasets.findings import GateReport
from ..backbones.compositional import CompositionalBackbone
from ..backbones.pretrained import resolve
from ..backbones.tokenizer import TextTokenizer
from ..config import StageConfig, TrainConfig, to_dict
from ..interfaces import Losses
from ..objectives.gradient_surgery import backward_without_conflict
from ..policy import Policy
from ..serialisation import restore
from .align import AlignBatches, AlignObjective
from .checkpoints import Checkpoint, Checkpoints
from .describe import DescribeBatches, DescribeObjective
from .imitate import ImitationBatches, ImitationObjective, is_frozen
from .log import StageProgress, TrainingLog
from .monitors import Monitors
from .optimisation import Optimisation, use_bf16
from .perceive import PerceiveBatches, PerceiveObjective
from .preparation import Prepared, fit_head, new_policy, prepare, train_tokenizer
from .stability import Guard

Hook = Callable[[str, Policy], None]
BOOKKEEPING = (
    *("threads", "log_every", "checkpoint_every", "keep_checkpoints", "policy_every", "keep_policies"),
    *("tensorboard", "overwrite"),
)


def plan(config: TrainConfig) -> list[tuple[str, StageConfig]]:
    """The stages that will run, by name. Where nothing makes or gives a backbone, "unaligned" is for "imitate"."""
    prepared = config.align.steps or config.perceive.steps or config.backbone_from
    actions = ("imitate", config.imitate) if prepared else ("unaligned", config.unaligned)
    stages = [("align", config.align), ("perceive", config.perceive), actions, ("finetune", config.finetune)]
    return [(name, stage) for name, stage in stages if stage.steps]


def step_seed(seed: int, *place: int) -> int:
    """A seed for one place of a run, such as (stage, step); every random choice there derives from it."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)


@dataclass
class Run:
    """What every stage of a run shares."""

    out: Path
    config: TrainConfig
    prepared: Prepared
    policy: Policy
    accelerator: Accelerator
    checkpoints: Checkpoints
    log: TrainingLog


def train(
    config: TrainConfig,
    store_path: str | Path,
    out_dir: str | Path,
    hooks: Sequence[Hook] = (),
    checked: GateReport | None = None,
) -> Path:
    """Train a policy on a store; a run that was killed goes on from its last checkpoint to the same weights.

    Args:
        config: the run.
        store_path: a TrajectoryStore.
        out_dir: gets training.jsonl, tensorboard/, checkpoints/, policy/ and, with `policy_every`, policies/.
        hooks: called with (stage name, policy in evaluation mode) after every stage.
        checked: what the gate has just said of the store; it is not asked again.

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
    if not found:
        fit_head(policy, prepared)
    log = TrainingLog(out, config.tensorboard, enabled=accelerator.is_main_process)
    log.rewind([name for name, _ in stages], first, found.step if found else 0)
    run = Run(out, config, prepared, policy, accelerator, checkpoints, log)
    if found:
        log.say(f"resuming after step {found.step} of stage {first + 1} of {len(stages)}")
        if found.step == 0:
            restore(policy, found.model, checkpoints.folder)
    try:
        for index in range(first, len(stages)):
            _run_stage(run, index, *stages[index], found if found and index == first and found.step else None)
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


def _run_stage(run: Run, index: int, name: str, stage: StageConfig, found: Checkpoint | None) -> None:
    """All steps of one stage from its start, or from a checkpoint in its middle."""
    config, policy, accelerator = run.config, run.policy, run.accelerator
    torch.manual_seed(step_seed(config.seed, index))
    bf16 = use_bf16(stage.precision, accelerator.device)
    policy.backbone.bf16 = bf16
    seed, shard = step_seed(config.seed, index) % 2**31, (accelerator.process_index, accelerator.num_processes)
    if name == "align" and run.prepared.grounding is not None:
        speaks = isinstance(policy.backbone, CompositionalBackbone)
        objective: Any = (DescribeObjective if speaks else AlignObjective)(policy, stage).to(accelerator.device)
        gathered = (run.prepared.grounding, stage, policy, run.prepared.vocabulary, seed, *shard)
        batches: Any = DescribeBatches(*gathered) if speaks else AlignBatches(*gathered)
    elif name == "perceive":
        batches = PerceiveBatches(run.prepared.windows, stage, policy, seed, *shard)
        objective = PerceiveObjective(policy, stage, batches.points.shape[1]).to(accelerator.device)
    else:
        cached = is_frozen(stage, policy.backbone)
        objective = ImitationObjective(policy, stage, bf16)
        if found:
            restore(objective, found.model, run.checkpoints.folder)
        began = time.monotonic()
        batches = ImitationBatches(run.prepared.windows, stage, policy, seed, cached, *shard)
        how = f"frames encoded once in {time.monotonic() - began:.1f} s" if cached else "end to end, backbone included"
        run.log.say(f"{name}: {len(run.prepared.windows)} windows, {how}")
    if found:
        restore(objective, found.model, run.checkpoints.folder)
    optimisation = Optimisation(objective.parts, stage)
    start = 0
    if found:
        start = found.step
        optimisation.restore(found.optimisation, start)
    model, optimizer = accelerator.prepare(objective, optimisation.optimizer)
    watch = Monitors(objective.parts, config.stability)
    guard = Guard(config.stability, objective, optimisation, start)
    size, sums, since, mark = batches.order.batch_size, {}, 0, time.monotonic()

    def save(step: int) -> None:
        if accelerator.is_main_process:
            state, tokenizer = objective.state_dict(), policy.tokenizer.to_json()
            run.checkpoints.save(Checkpoint(index, step, state, optimisation.state(), tokenizer))

    with StageProgress(name, start, stage.steps, accelerator.is_main_process) as progress:
        step = start
        while step < stage.steps:
            rate = optimisation.set_learning_rate(step)
            torch.manual_seed(step_seed(config.seed, index, step, accelerator.process_index))
            watched = watch.due(step)
            with watch.looking() if watched else nullcontext():
                losses = model(batches(step))
            if stage.gradient_surgery and len(losses.terms) > 1:
                losses.parts["conflict"] = _operate(accelerator, losses, list(optimisation.parameters.values()))
            else:
                accelerator.backward(losses.total)
            if watched:
                for told in watch.read():
                    run.log.event(name, step + 1, told)
                run.log.watch(name, step + 1, watch.values)
            norm = cast(Tensor, accelerator.clip_grad_norm_(optimisation.parameters.values(), config.gradient_clip))
            loss = cast(Tensor, accelerator.reduce(losses.total.detach(), "mean"))
            trouble = guard.look(float(loss), float(norm))
            if trouble:
                optimizer.zero_grad(set_to_none=True)
                step, told = guard.recover(name, step + 1, trouble)
                _go_back(run, index, step, told)
                if step:
                    save(step)
                sums, since, mark = {}, 0, time.monotonic()
                continue
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            optimisation.update_average()
            step, since = step + 1, since + 1
            if guard.due(step):
                guard.keep(step)
            for part, value in {"total": losses.total.detach(), **losses.parts}.items():
                sums[part] = sums.get(part, 0) + value
            if step % config.log_every == 0 or step == stage.steps:
                mean = {part: float(value) / since for part, value in sums.items()}
                now = time.monotonic()
                speed = since * size / (now - mark)
                run.log.record(name, step, mean, rate, speed)
                progress.update(step, mean, speed)
                sums, since, mark = {}, 0, now
            if step % config.checkpoint_every == 0 and step < stage.steps:
                save(step)
            if _keeps_policy(config, name, step) and accelerator.is_main_process:
                with optimisation.averaged():
                    _keep_policy(policy, run.out / "policies", step, config.keep_policies)
    optimisation.adopt_average()
    policy.requires_grad_(False)
    if accelerator.is_main_process:
        run.checkpoints.save(Checkpoint(index + 1, 0, policy.state_dict(), {}, policy.tokenizer.to_json()))


def _operate(accelerator: Accelerator, losses: Losses, parameters: list[nn.Parameter]) -> Tensor:
    """Gradients without what the losses disagree about, by each process for itself; the share of pairs that did."""
    conflict = backward_without_conflict(losses.terms, parameters)
    for parameter in parameters:
        parameter.grad = cast(Tensor, accelerator.reduce(cast(Tensor, parameter.grad), "mean"))
    return torch.tensor(conflict)


def _go_back(run: Run, index: int, step: int, told: str) -> None:
    """Log and checkpoints as they were after `step` steps of a stage; its end and its start are one checkpoint."""
    stages = [name for name, _ in plan(run.config)]
    run.log.event(stages[index], step, told)
    run.log.rewind(stages, index, step)
    if run.accelerator.is_main_process:
        run.checkpoints.forget_from(index, max(1, step))


def _keeps_policy(config: TrainConfig, stage: str, done: int) -> bool:
    return bool(config.policy_every) and stage == plan(config)[-1][0] and done % config.policy_every == 0


def _keep_policy(policy: Policy, folder: Path, step: int, keep: int) -> None:
    policy.save(folder / f"{step:08d}")
    for old in sorted(folder.glob("[0-9]*"))[:-keep]:
        shutil.rmtree(old)


def _identity(config: TrainConfig, prepared: Prepared) -> dict[str, Any]:
    """What decides the weights: the configuration without bookkeeping, the store, and weights to start with."""
    values = to_dict(replace(config, cameras=prepared.cameras))
    if config.backbone_from:
        with (Path(config.backbone_from) / "model.safetensors").open("rb") as file:
            values["backbone_from"] = hashlib.file_digest(file, "sha256").hexdigest()
    for name in BOOKKEEPING:
        values.pop(name)
    return {"config": values, "episodes": len(prepared.store), "windows": len(prepared.windows)}
