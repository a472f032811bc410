"""One stage of a run: its batches, its losses, and the steps, with the way back where they run away."""

from __future__ import annotations

import shutil
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..backbones.language import LanguageBackbone
from ..config import StageConfig, TrainConfig
from ..interfaces import Losses, SeeingBackbone
from ..objectives.gradient_surgery import backward_without_conflict
from ..policy import Policy
from ..serialisation import restore
from .align import AlignBatches, AlignObjective
from .checkpoints import Checkpoint, Checkpoints
from .codebook import CodebookBatches, CodebookObjective
from .describe import DescribeBatches, DescribeObjective
from .imitate import ImitationBatches, ImitationObjective, is_frozen
from .log import Meter, StageProgress, TrainingLog
from .monitors import Monitors
from .optimisation import Optimisation, use_bf16
from .perceive import PerceiveBatches, PerceiveObjective
from .preparation import Prepared
from .stability import Guard
from .watch import Watch

SMOOTH = 0.95  # of the loss that looks are held against: what it keeps with every step


def step_seed(seed: int, *place: int) -> int:
    """A seed for one place of a run, such as (stage, step); every random choice there derives from it."""
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> 1)


@dataclass
class Run:
    """What every stage of a run shares.

    Attributes:
        stages: names of the stages, in order.
        watch: evaluations while training goes on, or None.
    """

    out: Path
    config: TrainConfig
    stages: list[str]
    prepared: Prepared
    policy: Policy
    accelerator: Accelerator
    checkpoints: Checkpoints
    log: TrainingLog
    watch: Watch | None = None


class Stage:
    """A stage, from its start or from a checkpoint in its middle.

    Args:
        run: of which it is one.
        index: its place among the stages.
        options: of the stage.
        found: the checkpoint to go on from; None starts it.
    """

    def __init__(self, run: Run, index: int, options: StageConfig, found: Checkpoint | None) -> None:
        self.run, self.index, self.name, self.options = run, index, run.stages[index], options
        torch.manual_seed(step_seed(run.config.seed, index))
        run.policy.backbone.bf16 = use_bf16(options.precision, run.accelerator.device)
        if isinstance(run.policy.backbone, SeeingBackbone):
            run.policy.backbone.prepare([part for part, scale in options.trainable.items() if scale])
        self.objective, self.batches = self._parts(found)
        if found:
            restore(self.objective, found.model, run.checkpoints.folder)
        self.optimisation = Optimisation(self.objective.parts, options)
        self.start, self.loss = 0, float("nan")
        if found:
            self.start = found.step
            self.optimisation.restore(found.optimisation, found.step)
        self.model, self.optimizer = run.accelerator.prepare(self.objective, self.optimisation.optimizer)
        self.watch = Monitors(self.objective.parts, run.config.stability)
        self.guard = Guard(
            run.config.stability, self.objective, self.optimisation, self.start, run.config.gradient_clip
        )

    def _parts(self, found: Checkpoint | None) -> tuple[Any, Any]:
        """The stage's losses and its batches."""
        run, name, options, policy = self.run, self.name, self.options, self.run.policy
        device, prepared = run.accelerator.device, run.prepared
        seed = step_seed(run.config.seed, self.index) % 2**31
        shard = (run.accelerator.process_index, run.accelerator.num_processes)
        if name == "align" and prepared.grounding is not None:
            gathered = (prepared.grounding, options, policy, prepared.vocabulary, seed, *shard)
            if isinstance(policy.backbone, LanguageBackbone):
                return DescribeObjective(policy, options).to(device), DescribeBatches(*gathered)
            return AlignObjective(policy, options).to(device), AlignBatches(*gathered)
        if name == "codebook":
            return CodebookObjective(policy, options).to(device), CodebookBatches(
                prepared.windows, options, policy, seed, *shard
            )
        if name == "perceive":
            points = PerceiveBatches(prepared.windows, options, policy, seed, *shard)
            return PerceiveObjective(policy, options, points.camera_of).to(device), points
        objective = ImitationObjective(policy, options, policy.backbone.bf16)
        if found:  # the frames are encoded by what it holds
            restore(objective, found.model, run.checkpoints.folder)
        began, cached = time.monotonic(), is_frozen(options, policy.backbone)
        folder = Path(run.config.encoded_frames) if run.config.encoded_frames else None
        windows = ImitationBatches(prepared.windows, options, policy, seed, cached, *shard, folder)
        how = f"frames encoded once in {time.monotonic() - began:.1f} s" if cached else "end to end, backbone included"
        run.log.say(f"{name}: {len(prepared.windows)} windows, {how}")
        return objective, windows

    def go(self) -> None:
        """Take all steps, and leave the averaged weights in the policy."""
        run, steps = self.run, self.options.steps
        meter = Meter(self.batches.order.batch_size)
        step = self.start
        with StageProgress(self.name, step, steps, run.accelerator.is_main_process) as progress:
            while step < steps:
                rate = self.optimisation.set_learning_rate(step)
                losses, trouble = self._descend(step)
                if trouble:
                    step = self._go_back(step + 1, trouble)
                    meter.restart()
                    continue
                step += 1
                meter.add(losses)
                if step % run.config.log_every == 0 or step == steps:
                    mean, speed = meter.read()
                    run.log.record(self.name, step, mean, rate, speed)
                    progress.update(step, mean, speed)
                self._keep(step)
                if self._look(step):
                    meter.restart()
        self.optimisation.adopt_average()
        run.policy.requires_grad_(False)
        if run.accelerator.is_main_process:
            whole, tokenizer = run.policy.state_dict(), run.policy.tokenizer.to_json()
            run.checkpoints.save(Checkpoint(self.index + 1, 0, whole, {}, tokenizer))

    def _descend(self, step: int) -> tuple[Losses, str | None]:
        """One step; what is wrong with it, in words, and then it has not been taken."""
        accelerator, optimisation = self.run.accelerator, self.optimisation
        torch.manual_seed(step_seed(self.run.config.seed, self.index, step, accelerator.process_index))
        watched = self.watch.due(step)
        with self.watch.looking() if watched else nullcontext():
            losses: Losses = self.model(self.batches(step))
        if self.options.gradient_surgery and len(losses.terms) > 1:
            losses.parts["conflict"] = self._operate(losses)
        else:
            accelerator.backward(losses.total)
        if watched:
            for told in self.watch.read():
                self.run.log.event(self.name, step + 1, told)
            self.run.log.watch(self.name, step + 1, self.watch.values)
        parameters = optimisation.parameters.values()
        norm = cast(Tensor, accelerator.clip_grad_norm_(parameters, self.run.config.gradient_clip))
        loss = cast(Tensor, accelerator.reduce(losses.total.detach(), "mean"))
        trouble = self.guard.look(float(loss), float(norm))
        if not trouble:
            self.loss = SMOOTH * self.loss + (1 - SMOOTH) * float(loss) if self.loss == self.loss else float(loss)
            self.optimizer.step()
            optimisation.update_average()
        self.optimizer.zero_grad(set_to_none=True)
        return losses, trouble

    def _operate(self, losses: Losses) -> Tensor:
        """Gradients without what the losses disagree about, by each process for itself; the share of pairs that did."""
        parameters = list(self.optimisation.parameters.values())
        conflict = backward_without_conflict(losses.terms, parameters)
        for parameter in parameters:
            parameter.grad = cast(Tensor, self.run.accelerator.reduce(cast(Tensor, parameter.grad), "mean"))
        return torch.tensor(conflict)

    def _go_back(self, step: int, trouble: str) -> int:
        """Return to the last stable point, with log and checkpoints as they were then; the step to go on from."""
        run = self.run
        step, told = self.guard.recover(self.name, step, trouble)
        run.log.event(self.name, step, told)
        run.log.rewind(run.stages, self.index, step)
        if run.accelerator.is_main_process:
            run.checkpoints.forget_from(self.index, max(1, step))  # that of step 0 is the end of the stage before
        if step:
            self._save(step)
        return step

    def _keep(self, step: int) -> None:
        """What is kept after this step: a point to return to, a checkpoint, a policy to judge."""
        run = self.run
        if self.guard.due(step):
            self.guard.keep(step)
        if step % run.config.checkpoint_every == 0 and step < self.options.steps:
            self._save(step)
        every, last = run.config.policy_every, self.name == run.stages[-1]
        if every and last and step % every == 0 and run.accelerator.is_main_process:
            with self.optimisation.averaged():
                run.policy.save(run.out / "policies" / f"{step:08d}")
            for old in sorted((run.out / "policies").glob("[0-9]*"))[: -run.config.keep_policies]:
                shutil.rmtree(old)

    def _look(self, step: int) -> bool:
        """Evaluate what is due on the averaged weights; whether anything was."""
        run = self.run
        due = run.watch.due(step) if run.watch is not None and run.accelerator.is_main_process else []
        if not due or run.watch is None:
            return False
        policy, modes, bf16 = run.policy, self._modes(), run.policy.backbone.bf16
        policy.eval()
        policy.backbone.bf16 = False
        try:
            with self.optimisation.averaged():
                for watcher in due:
                    values = run.watch.look(watcher, policy)
                    run.log.look(self.name, step, values)
                    warning = run.watch.warn(watcher, self.name, values, self.loss)
                    if warning:
                        run.log.event(self.name, step, warning)
        finally:
            policy.backbone.bf16 = bf16
            for module, training in modes:
                module.training = training
        return True

    def _modes(self) -> list[tuple[nn.Module, bool]]:
        return [(module, module.training) for module in self.run.policy.modules()]

    def _save(self, step: int) -> None:
        if self.run.accelerator.is_main_process:
            state, tokenizer = self.objective.state_dict(), self.run.policy.tokenizer.to_json()
            self.run.checkpoints.save(Checkpoint(self.index, step, state, self.optimisation.state(), tokenizer))
