"""Optimiser, learning-rate schedule and weight average of one stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from ..config import StageConfig


def learning_rate_factor(step: int, steps: int, warmup: int, final: float) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then cosine decay to `final`."""
    warmup = min(warmup, steps // 2)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether a stage of this precision ("auto", "fp32", "bf16") trains in bf16 here.

    Measured on two cores with avx512_bf16: towers 1.4 times, head 2.3 times as fast as fp32. Without such instructions
    bf16 is emulated and slower.
    """
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16"))


class Optimisation:
    """AdamW over the modules that a stage trains, and the moving average of their weights.

    Args:
        parts: module name -> module.
        stage: the stage's options.

    Raises:
        ValueError: the stage trains nothing, or names a module that does not exist.
    """

    def __init__(self, parts: Mapping[str, nn.Module], stage: StageConfig) -> None:
        unknown = sorted(set(stage.trainable) - set(parts))
        if unknown:
            raise ValueError(f"trainable: unknown modules {unknown}, wanted some of {sorted(parts)}")
        self.stage = stage
        self.recoveries = 0
        self.parameters: dict[str, nn.Parameter] = {}
        groups = []
        # What two parts share belongs to the later one: an adapter lies within what it adapts.
        owner = {id(parameter): name for name, module in parts.items() for parameter in module.parameters()}
        for name, module in parts.items():
            scale = stage.trainable.get(name, 0.0)
            module.train(scale > 0)
            own = {f"{name}.{key}": p for key, p in module.named_parameters() if owner[id(p)] == name}
            for parameter in own.values():
                parameter.requires_grad_(scale > 0)
            if not scale:
                continue
            self.parameters |= own
            for decay, members in (
                (stage.weight_decay, [p for p in own.values() if p.ndim > 1]),
                (0.0, [p for p in own.values() if p.ndim <= 1]),
            ):
                groups.append({"params": members, "weight_decay": decay, "scale": scale, "lr": 0.0})
        if not self.parameters:
            raise ValueError(f"trainable: found {stage.trainable}, wanted at least one of {sorted(parts)} above 0")
        self.optimizer = torch.optim.AdamW(groups, betas=stage.betas, eps=1e-8, fused=True)
        self.average = (
            EMAModel(
                list(self.parameters.values()),
                decay=stage.ema_decay,
                use_ema_warmup=True,
                power=0.75,
                foreach=True,
            )
            if stage.ema_decay
            else None
        )

    @property
    def slowness(self) -> float:
        """Share of the learning rate that is left after every return to a stable point has halved it."""
        return 0.5**self.recoveries

    def slow_down(self) -> None:
        """Halve the learning rate from here on."""
        self.recoveries += 1

    def forget(self) -> None:
        """Drop the optimiser's moments."""
        self.optimizer.state.clear()

    def set_learning_rate(self, step: int) -> float:
        """Set the rate of every group for this step; returns the unscaled one."""
        stage = self.stage
        rate = (
            self.slowness
            * stage.lr
            * learning_rate_factor(step, stage.steps, stage.warmup_steps, stage.final_lr_fraction)
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        return rate

    def update_average(self) -> None:
        """Move the average towards the weights."""
        if self.average is not None:
            self.average.step(self.parameters.values())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the average is the weights."""
        if self.average is None:
            yield
            return
        self.average.store(self.parameters.values())
        self.average.copy_to(self.parameters.values())
        try:
            yield
        finally:
            self.average.restore(self.parameters.values())

    def adopt_average(self) -> None:
        """End of the stage: the average becomes the weights."""
        if self.average is not None:
            self.average.copy_to(self.parameters.values())

    def state(self) -> dict[str, Tensor]:
        """Moments, step counts, averages and returns to a stable point as named tensors."""
        tensors = {"recoveries": torch.tensor(self.recoveries)} if self.recoveries else {}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        if self.average is not None:
            for name, value in zip(self.parameters, self.average.shadow_params, strict=True):
                tensors[f"average.{name}"] = value
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Take back what `state` returned after `step` steps; ValueError for tensors of another stage."""
        if self.average is not None:
            self.average.optimization_step = step
            shadows = dict(zip(self.parameters, self.average.shadow_params, strict=True))
        else:
            shadows = {}
        for full, value in tensors.items():
            kind, _, name = full.partition(".")
            if full == "recoveries":
                self.recoveries = max(self.recoveries, int(value))
                continue
            if kind == "average" and name in shadows:
                shadows[name].copy_(value)
                continue
            key, _, name = name.partition(".")
            if kind != "optimizer" or name not in self.parameters:
                raise ValueError(f"checkpoint: tensor {full} belongs to no trained parameter of this stage")
            parameter = self.parameters[name]
            # The fused kernel walks memory in the parameter's layout, so the moments must be laid out alike.
            place = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
            self.optimizer.state[parameter][key] = place.detach().copy_(value)
