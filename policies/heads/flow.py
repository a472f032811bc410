"""Flow-matching head: straight paths from noise to actions, a few Euler steps at inference."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .conditioning import Conditioning
from .denoisers import build_denoiser
from .noise import Noise, kept_mean


class FlowHead(ActionHead):
    """Rectified flow over action chunks (Lipman et al. 2023; Liu et al. 2023). Arguments as `DiffusionHead`.

    At time s in [0, 1) the chunk is (1 - s) noise + s action; the denoiser predicts the action ("sample") or the
    velocity, action - noise ("v_prediction").
    """

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        super().__init__()
        if config.prediction_type == "epsilon":
            raise ValueError(
                "policy.head.prediction_type: found 'epsilon', wanted 'sample' or 'v_prediction' for the flow head: at "
                "the start of a path the noise says nothing of the action"
            )
        self.shape, self.draws, self.clip = (horizon, action_dim), config.noise_samples, config.clip_sample
        self.times, self.steps = config.train_timesteps, config.inference_steps
        self.predicts_sample = config.prediction_type == "sample"
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.denoiser = build_denoiser(config, horizon, action_dim)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Mean squared error of the prediction over rows that are not padding; see `DiffusionHead.loss`."""
        modulation = self.denoiser.modulation(self.conditioning(context))
        clean = actions.expand(self.draws, *actions.shape)
        index = torch.randint(0, self.times, clean.shape[:2], device=actions.device)
        noise = torch.randn(clean.shape, device=actions.device)
        noisy = torch.lerp(noise, clean, (index / self.times)[..., None, None])
        target = clean if self.predicts_sample else clean - noise
        loss = kept_mean((self.denoiser(noisy, index, modulation) - target).square().mean(-1), is_pad)
        return Losses(loss, {"flow": loss.detach()})

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """Euler steps of equal length; the start is the only randomness. See `ActionHead.sample`."""
        modulation = self.denoiser.modulation(self.conditioning(context))
        chunk = Noise(generators, len(modulation), modulation.device).normal(1, *self.shape)[0]
        for step in range(self.steps):
            # The time of training that is nearest; the path goes on from there to the next step's.
            begin, end = (round(self.times * k / self.steps) for k in (step, step + 1))
            index = torch.full((1, len(chunk)), begin, device=chunk.device)
            predicted = self.denoiser(chunk[None], index, modulation)[0]
            velocity = predicted
            if self.predicts_sample:
                predicted = predicted.clamp(-1, 1) if self.clip else predicted
                velocity = (predicted - chunk) / (1 - begin / self.times)
            chunk = chunk + velocity * (end - begin) / self.times
        return chunk.clamp(-1, 1)
