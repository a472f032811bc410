"""Hybrid head: an autoregressive planner proposes coarse actions as tokens, a diffusion executor draws the chunk."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .diffusion import DiffusionHead
from .flow import FlowHead
from .noise import hold
from .shortcut import ShortcutHead
from .token import TokenHead

EXECUTORS: dict[str, type[ActionHead]] = {"diffusion": DiffusionHead, "flow": FlowHead, "shortcut": ShortcutHead}


class HybridHead(ActionHead):
    """Tokens decide which way, diffusion draws how (`HeadConfig.hybrid`). Arguments as `TokenHead`.

    The plan is a few of the chunk's actions, every `stride`-th up to the last: a short `TokenHead` of few bins. The
    executor, a head of its own, reads it as more tokens of the context.

    Both learn at once, the executor from the true plan (teacher forcing) with even noise. Noise of one bin's width
    leaves it as unsure of the true value as rounding to bins does: p(value | noisy value = centre) is then
    p(value | bin). Wider noise keeps it from trusting the plan where the planner errs by a bin.

    Attributes:
        rows: which actions of the chunk the plan holds, int64 [P].

    Raises ValueError if the options do not fit together.
    """

    def __init__(
        self,
        config: HeadConfig,
        horizon: int,
        action_dim: int,
        num_tokens: int,
        token_width: int,
        reader_width: int = 0,
    ) -> None:
        super().__init__()
        self.options = options = config.hybrid
        if options.executor not in EXECUTORS:
            raise ValueError(f"policy.head.hybrid.executor: found {options.executor!r}, wanted {', '.join(EXECUTORS)}")
        if options.stride < 1 or options.noise < 0 or options.plan_weight <= 0:
            raise ValueError(
                f"policy.head.hybrid: found stride {options.stride}, noise {options.noise}, plan_weight "
                f"{options.plan_weight}, wanted at least 1, at least 0 and more than 0"
            )
        self.register_buffer("rows", torch.arange(horizon - 1, -1, -options.stride).flip(0), persistent=False)
        self.rows: Tensor
        token = replace(
            config.token,
            code="bins",
            range="limits",  # the executor's noise is in widths of these bins, and it adds what is finer
            bins=options.bins,
            temperature=options.temperature,
            decoding="autoregressive",
        )
        planner = replace(config, kind="token", token=token)
        self.planner = TokenHead(planner, len(self.rows), action_dim, num_tokens, token_width, reader_width)
        self.embed = nn.Linear(action_dim, token_width)
        self.executor = EXECUTORS[options.executor](
            replace(config, kind=options.executor), horizon, action_dim, num_tokens + len(self.rows), token_width
        )

    def fit(self, actions: Tensor, is_pad: Tensor) -> None:
        """What planner and executor take from the data; see `ActionHead.fit`."""
        self.planner.fit(actions[:, self.rows], is_pad[:, self.rows])
        self.executor.fit(actions, is_pad)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """The planner's cross-entropy on the true plan and the executor's loss around it; see `ActionHead.loss`.

        Parts: the executor's, and the planner's with "plan_" before their names.
        """
        actions = hold(actions, is_pad)
        plan = actions[:, self.rows]
        planner = self.planner.loss(context, plan, is_pad[:, self.rows])
        off = (torch.rand_like(plan) - 0.5) * (2 / self.options.bins) * self.options.noise
        executor = self.executor.loss(self.planned(context, plan + off), actions, is_pad)
        parts = {f"plan_{name}": part for name, part in planner.parts.items()}
        return Losses(executor.total + self.options.plan_weight * planner.total, {**executor.parts, **parts})

    def plan(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """The coarse actions [B, P, A] in [-1, 1], at `rows` of the chunk; draws as `sample` does first of all."""
        return self.planner.sample(context, generators)

    def execute(self, context: TokenGroup, plan: Tensor, generators: Generators = None) -> Tensor:
        """A chunk [B, Tp, A] in [-1, 1] around a plan [B, P, A]."""
        return self.executor.sample(self.planned(context, plan), generators)

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """Plan, then execute; see `ActionHead.sample`."""
        return self.execute(context, self.plan(context, generators), generators)

    def planned(self, context: TokenGroup, plan: Tensor) -> TokenGroup:
        """The context and, after it, the plan [B, P, A] as P more tokens."""
        tokens, valid = self.embed(plan), context.mask.new_ones(plan.shape[:2])
        return TokenGroup(torch.cat([context.tokens, tokens], dim=1), torch.cat([context.mask, valid], dim=1))
