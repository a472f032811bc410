"""Shortcut head: a flow that is told how long its step is, so one network draws in 1, 2, 4... steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..config import HeadConfig
from ..interfaces import Generators, Losses, TokenGroup
from .flow import FlowHead, on_path
from .noise import hold, kept_mean


class ShortcutHead(FlowHead):
    """Shortcut models of action chunks (Frans et al. 2024, arXiv:2410.12557). Arguments as `DiffusionHead`.

    The denoiser knows time and step length, and predicts the mean velocity from the one to the end of the other: with
    length 0 it is the flow itself, learned by flow matching; a step of length 2d is learned from two of length d. As in
    `FlowHead`, "sample" predicts an action instead, here the one towards which a straight line goes where the flow is
    after the step: a weighted mean of what the flow predicts on the way, and so within the actions' limits.

    The lengths are 1, 1/2, 1/4... down to 1 / `config.shortcut.finest`; so many steps `sample` can take, or more than
    `finest`, which are Euler steps of the flow.

    The teacher is the network itself, as it is: a moving average of the weights would be a second denoiser to keep.

    Raises ValueError if the options do not fit together.
    """

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        options, steps = config.shortcut, config.inference_steps
        if not _is_power_of_two(options.finest) or not 0 < options.share <= 1:
            raise ValueError(
                f"policy.head.shortcut: found finest {options.finest}, share {options.share}, wanted a power of two "
                "and more than 0, at most 1"
            )
        if steps <= options.finest and not _is_power_of_two(steps):
            raise ValueError(
                f"policy.head.inference_steps: found {steps}, wanted a power of two for the shortcut head, or more "
                f"than shortcut.finest, {options.finest}"
            )
        longest = int(math.log2(options.finest)) + 1
        super().__init__(config, horizon, action_dim, num_tokens, token_width, levels=longest + 1)
        self.finest, self.share = options.finest, options.share
        self.longest = longest  # the level of a single step

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Flow matching on every chunk, and self-consistency on a share of them; see `DiffusionHead.loss`."""
        modulation, actions = self.denoiser.modulation(self.conditioning(context)), hold(actions, is_pad)
        flow = self.matching_loss(modulation, actions, is_pad)
        few = torch.randperm(len(actions), device=actions.device)[: math.ceil(self.share * len(actions))]
        consistency = self.consistency_loss(modulation[few], actions[few], is_pad[few])
        return Losses(flow + consistency, {"flow": flow.detach(), "consistency": consistency.detach()})

    def consistency_loss(self, modulation: Tensor, actions: Tensor, is_pad: Tensor) -> Tensor:
        """Mean squared error of one step against two of half its length, at levels and times drawn evenly."""
        clean = actions.expand(self.draws, *actions.shape)
        level = torch.randint(1, self.longest + 1, clean.shape[:2], device=actions.device)
        length = self.length(level)
        time = (torch.rand(level.shape, device=actions.device) / length).floor() * length  # where such steps begin
        begin = on_path(torch.randn(clean.shape, device=actions.device), clean, time)
        with torch.no_grad():
            target = self.two_steps(begin, time, modulation, level)
            if self.predicts_sample:
                target = begin + (1 - time)[..., None, None] * target
        predicted = self.predict(begin, time, modulation, level)
        return kept_mean((predicted - target).square().mean(-1), is_pad)

    def two_steps(self, begin: Tensor, time: Tensor, modulation: Tensor, level: Tensor) -> Tensor:
        """Mean velocity [S, B, Tp, A] over two steps that together have the length of a level [S, B].

        The shortest length is taught by the flow's midpoint rule: two Euler steps cost as much and, where actions
        spread little, lose a good part of their spread (of 0.05 a quarter, with `finest` 16; the midpoint rule 3%).
        """
        half = self.length(level) / 2
        first = self.velocity(begin, time, modulation, level - 1)
        second = self.velocity(begin + half[..., None, None] * first, time + half, modulation, level - 1)
        return torch.where((level == 1)[..., None, None], second, (first + second) / 2)

    def length(self, level: Tensor) -> Tensor:
        """Step lengths of levels from 1 on; level 0 is the flow's, 0."""
        return 2.0 ** (level - 1) / self.finest

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """Steps of equal length, which the denoiser is told; see `FlowHead.sample`."""
        modulation = self.denoiser.modulation(self.conditioning(context))
        level = self.longest - int(math.log2(self.steps)) if self.steps <= self.finest else 0
        return self.walk(modulation, generators, torch.full((1, len(modulation)), level, device=modulation.device))


def _is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0
