"""Flow-matching head: straight paths from noise to actions, a few Euler steps at inference."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .conditioning import Conditioning
from .denoisers import build_denoiser
from .noise import Noise, hold, kept_mean


class FlowHead(ActionHead):
    """Rectified flow over action chunks (Lipman et al. 2023; Liu et al. 2023). Arguments as `DiffusionHead`.

    At time s in [0, 1) the chunk is (1 - s) noise + s action; the denoiser predicts the action ("sample") or the
    velocity, action - noise ("v_prediction"). `levels` is for heads whose denoiser is told the step length.
    """

    def __init__(
        self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int, levels: int = 0
    ) -> None:
        super().__init__()
        if config.prediction_type == "epsilon":
            raise ValueError(
                "policy.head.prediction_type: found 'epsilon', wanted 'sample' or 'v_prediction' for the "
                f"{config.kind} head: at the start of a path the noise says nothing of the action"
            )
        self.shape, self.draws, self.clip = (horizon, action_dim), config.noise_samples, config.clip_sample
        self.times, self.steps = config.train_timesteps, config.inference_steps
        self.predicts_sample = config.prediction_type == "sample"
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.denoiser = build_denoiser(config, horizon, action_dim, levels)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Mean squared error of the prediction over rows that are not padding; see `DiffusionHead.loss`."""
        modulation = self.denoiser.modulation(self.conditioning(context))
        loss = self.matching_loss(modulation, hold(actions, is_pad), is_pad)
        return Losses(loss, {"flow": loss.detach()})

    def matching_loss(self, modulation: Tensor, actions: Tensor, is_pad: Tensor) -> Tensor:
        """Flow matching at times drawn evenly, given the context's modulation [B, M]."""
        clean = actions.expand(self.draws, *actions.shape)
        time = torch.rand(clean.shape[:2], device=actions.device)
        noise = torch.randn(clean.shape, device=actions.device)
        target = clean if self.predicts_sample else clean - noise
        predicted = self.predict(on_path(noise, clean, time), time, modulation)
        return kept_mean((predicted - target).square().mean(-1), is_pad)

    def predict(self, chunk: Tensor, time: Tensor, modulation: Tensor, *told: Tensor) -> Tensor:
        """The action or the velocity at chunks [S, B, Tp, A] and times [S, B] in [0, 1).

        `told` is what else the denoiser takes: nothing here, the step length in heads that know it.
        """
        return self.denoiser(chunk, self.times * time, modulation, *told)

    def velocity(self, chunk: Tensor, time: Tensor, modulation: Tensor, *told: Tensor) -> Tensor:
        """The velocity [S, B, Tp, A]; arguments as `predict`."""
        predicted = self.predict(chunk, time, modulation, *told)
        if not self.predicts_sample:
            return predicted
        predicted = predicted.clamp(-1, 1) if self.clip else predicted
        return (predicted - chunk) / (1 - time)[..., None, None]

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """Euler steps of equal length; the start is the only randomness. See `ActionHead.sample`."""
        return self.walk(self.denoiser.modulation(self.conditioning(context)), generators)

    def walk(self, modulation: Tensor, generators: Generators, *told: Tensor) -> Tensor:
        """From noise to actions [B, Tp, A] in [-1, 1], given the context's modulation [B, M]."""
        chunk = Noise(generators, len(modulation), modulation.device).normal(1, *self.shape)
        for step in range(self.steps):
            time = torch.full(chunk.shape[:2], step / self.steps, device=chunk.device)
            chunk = chunk + self.velocity(chunk, time, modulation, *told) / self.steps
        return chunk[0].clamp(-1, 1)


def on_path(noise: Tensor, actions: Tensor, time: Tensor) -> Tensor:
    """Where the straight path from noise to actions [S, B, Tp, A] is at times [S, B]."""
    return torch.lerp(noise, actions, time[..., None, None])
