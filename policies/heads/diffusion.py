"""Diffusion head: DDPM training, few-step inference, schedules from diffusers.

diffusers is imported where a head is made: it takes as long as torch, which whoever has another head need not wait for.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..config import HeadConfig
from ..interfaces import ActionHead, Generators, Losses, TokenGroup
from .conditioning import Conditioning
from .denoisers import build_denoiser
from .noise import Noise, kept_mean

if TYPE_CHECKING:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    Sampler = DDIMScheduler | DDPMScheduler | DPMSolverMultistepScheduler


class DiffusionHead(ActionHead):
    """Denoising diffusion over action chunks (Ho et al. 2020; Song et al. 2021; Lu et al. 2022; Chi et al. 2023).

    Args:
        config: the head's options.
        horizon: Tp.
        action_dim: A.
        num_tokens: tokens of the context.
        token_width: size of a token.
    """

    def __init__(self, config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int) -> None:
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

        super().__init__()
        self.shape = (horizon, action_dim)
        self.draws, self.inference_steps = config.noise_samples, config.inference_steps
        self.conditioning = Conditioning(num_tokens, token_width, config.context_width, config.dropout)
        self.noise_scheduler = DDPMScheduler(**_schedule(config), clip_sample=config.clip_sample)
        self.sampler = _sampler(config)
        self.sampler_options = {"eta": 0.0} if config.sampler == "ddim" else {}  # the others may draw on the way
        self.denoiser = build_denoiser(config, horizon, action_dim)

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
        loss = kept_mean((self.denoiser(noisy, timestep, modulation) - target).square().mean(-1), is_pad)
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
        """The start is noise; only "ddpm" draws more on the way. See `ActionHead.sample`."""
        modulation = self.denoiser.modulation(self.conditioning(context))
        chunk = Noise(generators, len(modulation), modulation.device).normal(1, *self.shape)[0]
        sampler = copy.copy(self.sampler)  # one that remembers its steps (second order does) is this chunk's alone
        sampler.set_timesteps(self.inference_steps)
        options = self.sampler_options or {"generator": generators if generators is None else list(generators)}
        for step in sampler.timesteps:
            timestep = step.to(modulation.device).expand(1, len(chunk))
            predicted = self.denoiser(chunk[None], timestep, modulation)[0]
            chunk = sampler.step(predicted, step, chunk, **options).prev_sample  # pyright: ignore
        return chunk.clamp(-1, 1)


def _schedule(config: HeadConfig) -> dict[str, Any]:
    return {
        "num_train_timesteps": config.train_timesteps,
        "beta_schedule": config.beta_schedule,
        "prediction_type": config.prediction_type,
    }


def _sampler(config: HeadConfig) -> Sampler:
    """The scheduler of inference. "trailing" spacing begins at the noisiest step, as training does (Lin et al. 2024)"""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    schedule = {**_schedule(config), "timestep_spacing": "trailing"}
    if config.sampler == "ddim":
        return DDIMScheduler(**schedule, clip_sample=config.clip_sample)
    if config.sampler == "ddpm":
        return DDPMScheduler(**schedule, clip_sample=config.clip_sample)
    return DPMSolverMultistepScheduler(**schedule, final_sigmas_type="zero", lower_order_final=True)
