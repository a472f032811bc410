"""Milliseconds of one action chunk, batch 1, one core: every head and sampler at equal size, with image encoding."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..decision_time import milliseconds
from ._untrained import tabletop_spec, untrained_policy

if TYPE_CHECKING:
    from ...policies.config import HeadConfig

PARAMETERS = 3_000_000  # of every head, give or take a tenth
LARGE = 28_000_000  # of the U-Net whose latency others publish


def run() -> dict[str, float]:
    """The tabletop's policy (two 64-pixel cameras, 16 actions of 5 numbers, 8 executed), untrained, with each head.

    Metrics, medians: `HEAD_SAMPLER_ms_per_chunk`, from images and text to the chunk; `..._ms_per_action`, that divided
    by the actions executed; `..._head_ms_per_chunk`, the head alone; `..._parameters`, of the head; and `encoding_ms`,
    what all have in common. `diffusion_unet_ddim10_large` has 28 million parameters instead of 3.
    """
    import torch

    torch.set_num_threads(1)
    metrics: dict[str, float] = {}
    chosen = {name: sized(config) for name, config in heads().items()}
    chosen["diffusion_unet_ddim10_large"] = sized(heads()["diffusion_unet_ddim10"], LARGE)
    for name, config in chosen.items():
        policy, observation = untrained_policy(config), _observation()
        shape = (256, policy.config.action_horizon, policy.spec.action.dim)
        policy.head.fit(2 * torch.rand(shape) - 1, torch.zeros(shape[:2], dtype=torch.bool))
        generators = [torch.Generator().manual_seed(0)]
        with torch.inference_mode():
            context = policy.context(observation)
            whole = milliseconds(lambda p=policy, o=observation, g=generators: p.act(o, g))
            alone = milliseconds(lambda p=policy, c=context, g=generators: p.head.sample(c, g))
            if not metrics:
                metrics["encoding_ms"] = milliseconds(lambda p=policy, o=observation: p.context(o))
        metrics[f"{name}_ms_per_chunk"] = whole
        metrics[f"{name}_ms_per_action"] = whole / policy.config.exec_horizon
        metrics[f"{name}_head_ms_per_chunk"] = alone
        metrics[f"{name}_parameters"] = sum(p.numel() for p in policy.head.parameters())
    return metrics


def heads() -> dict[str, HeadConfig]:
    """Every head with every sampler, at their default options otherwise."""
    from ...policies.config import AutoencoderConfig, EnergyConfig, HeadConfig, TokenConfig

    found = {"regression": HeadConfig(kind="regression"), "mixture": HeadConfig(kind="mixture")}
    for denoiser in ("mlp", "unet", "transformer"):
        # The U-Net's levels, as its size cannot be scaled by one number alone.
        base = HeadConfig(denoiser=denoiser, denoiser_width=128 if denoiser == "transformer" else 384)
        for steps in (4, 10):
            found[f"diffusion_{denoiser}_ddim{steps}"] = replace(base, inference_steps=steps)
        found[f"flow_{denoiser}_euler4"] = replace(base, kind="flow", inference_steps=4)
    found["diffusion_mlp_dpm10"] = HeadConfig(sampler="dpm_solver", inference_steps=10)
    found["diffusion_mlp_ddpm100"] = HeadConfig(sampler="ddpm", inference_steps=100)
    for steps in (1, 4):
        found[f"shortcut_mlp_{steps}"] = HeadConfig(kind="shortcut", inference_steps=steps)
    found["hybrid"] = HeadConfig(kind="hybrid")
    for decoding in ("autoregressive", "parallel"):
        found[f"token_{decoding}"] = HeadConfig(kind="token", token=TokenConfig(decoding=decoding))
    # Compressed tokens are left out: how many a chunk takes depends on what the head has learned.
    found["token_vq"] = HeadConfig(kind="token", token=TokenConfig(code="vq", autoencoder=AutoencoderConfig(steps=1)))
    for sampler in ("proposal", "derivative_free", "autoregressive", "langevin"):
        found[f"energy_{sampler}"] = HeadConfig(kind="energy", energy=EnergyConfig(sampler=sampler))
    return found


def sized(config: HeadConfig, parameters: int = PARAMETERS) -> HeadConfig:
    """The head with its widths scaled, by halving the interval, so that it has about as many parameters."""
    low, high = 0.05, 64.0
    for _ in range(24):
        middle = (low * high) ** 0.5
        if _count(_scaled(config, middle)) < parameters:
            low = middle
        else:
            high = middle
    return _scaled(config, low)


def _scaled(config: HeadConfig, factor: float) -> HeadConfig:
    """Widths times a factor, in multiples of 8; the context's width stays, for it is every head's."""

    def width(of: int) -> int:
        return max(8, 8 * round(of * factor / 8))

    return replace(
        config,
        denoiser_width=width(config.denoiser_width),
        unet_channels=tuple(width(channels) for channels in config.unet_channels),
        token=replace(config.token, width=width(config.token.width)),
        energy=replace(config.energy, width=width(config.energy.width)),
        context_width=width(config.context_width) if config.denoiser == "unet" else config.context_width,
    )


def _count(config: HeadConfig) -> int:
    """Parameters of a head, which is described and not made."""
    import torch

    from ...policies.heads import build_head

    policy = untrained_policy(next(iter(heads().values())))
    backbone, horizon, dim = policy.backbone, policy.config.action_horizon, policy.spec.action.dim
    config = replace(config, sampler="ddim")  # another sampler's tables refuse to be described only
    with torch.device("meta"):
        head = build_head(config, horizon, dim, backbone.num_tokens, backbone.width)
    return sum(p.numel() for p in head.parameters())


def _observation() -> Any:
    import torch

    from ...policies.policy import Observation

    spec, generator = tabletop_spec(), torch.Generator().manual_seed(0)
    shape = (1, 2, 64, 64, 3)
    images = {name: torch.randint(256, shape, generator=generator, dtype=torch.uint8) for name in spec.camera_names}
    return Observation(images, torch.zeros(1, 2, spec.proprio.dim), ["lift the red cube"])
