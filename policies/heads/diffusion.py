"""Diffusion head: DDPM training, few-step DDIM inference, schedules from diffusers."""

from __future__ import annotations

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .conditioning import Conditioning
from .denoisers import MLPDenoiser, UNetDenoiser


class DiffusionHead(ActionHead):
    """Denoising diffusion over action chunks (Ho et al. 2020; Song et al. 2021; Chi et al. 2023).

    Args:
        config: the head's options.
        horizon: Tp.
        action_dim: A.
        num_tokens: tokens of the context.
        token_width: size of a token.
    """

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        super().__init__()
        self.shape = (horizon, action_dim)
        self.draws = config.noise_samples
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.noise_scheduler = DDPMScheduler(
            num_train_timesteps=config.train_timesteps,
            beta_schedule=config.beta_schedule,
            prediction_type=config.prediction_type,
            clip_sample=config.clip_sample,
        )
        # "trailing" spacing starts at the noisiest step, as training does (Lin et al. 2024).
        self.sampler = DDIMScheduler(
            num_train_timesteps=config.train_timesteps,
            beta_schedule=config.beta_schedule,
            prediction_type=config.prediction_type,
            clip_sample=config.clip_sample,
            timestep_spacing="trailing",
        )
        self.sampler.set_timesteps(config.inference_steps)
        timesteps, width = config.train_timesteps, config.context_width
        if config.denoiser == "mlp":
            self.denoiser = MLPDenoiser(
                horizon, action_dim, width, config.denoiser_width, config.denoiser_blocks, timesteps
            )
        else:
            self.denoiser = UNetDenoiser(horizon, action_dim, width, config.unet_channels, timesteps)

    def loss(self, context: TokenGroup, actions: Tensor, is_pad: Tensor) -> Losses:
        """Mean squared error of the prediction over rows that are not padding; see `ActionHead.loss`.

        Each context serves `noise_samples` independent draws of noise and step, so its encoding is paid once.
        """
        modulation = self.denoiser.modulation(self.conditioning(context))
        clean = actions.expand(self.draws, *actions.shape)
        timestep = torch.randint(0, len(self.noise_scheduler), clean.shape[:2], device=actions.device)
        noise = torch.randn(clean.shape, device=actions.device)
        noisy = self._diffuse(clean, noise, timestep)
        target = self._target(clean, noise, timestep)
        error = (self.denoiser(noisy, timestep, modulation) - target).square().mean(-1)
        keep = (~is_pad).to(error.dtype)
        loss = (error * keep).sum() / (keep.sum() * self.draws).clamp_min(1)
        return Losses(loss, {"diffusion": loss.detach()})

    def _diffuse(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        flat = self.noise_scheduler.add_noise(clean.flatten(0, 1), noise.flatten(0, 1), timestep.flatten())  # pyright: ignore
        return flat.view_as(clean)

    def _target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the denoiser has to predict: [S, B, Tp, A]."""
        kind = self.noise_scheduler.config["prediction_type"]
        if kind == "sample":
            return clean
        if kind == "epsilon":
            return noise
        velocity = self.noise_scheduler.get_velocity(clean.flatten(0, 1), noise.flatten(0, 1), timestep.flatten())  # pyright: ignore
        return velocity.view_as(clean)

    def sample(self, context: TokenGroup, generators: Generators = None) -> Tensor:
        """DDIM with eta 0: the noise of the start is the only randomness; see `ActionHead.sample`."""
        modulation = self.denoiser.modulation(self.conditioning(context))
        device = modulation.device
        if generators is None:
            chunk = torch.randn(modulation.shape[0], *self.shape, device=device)
        else:
            chunk = torch.stack([torch.randn(self.shape, generator=g, device=g.device) for g in generators]).to(device)
        for step in self.sampler.timesteps:
            timestep = step.to(device).expand(1, chunk.shape[0])
            predicted = self.denoiser(chunk[None], timestep, modulation)[0]
            chunk = self.sampler.step(predicted, int(step), chunk, eta=0.0).prev_sample  # pyright: ignore
        return chunk.clamp(-1, 1)
