"""Options of action heads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class CompressionConfig:
    """Chunks as byte pairs of their rounded cosine transform (in the spirit of FAST, arXiv:2501.09747).

    Attributes:
        scale: integers per unit of a coefficient. Larger is finer and takes more tokens: a dimension of a chunk errs by
            at most 0.5 / scale, root mean square over time.
        vocabulary: tokens, of which there are at least as many as different integers.
    """

    scale: float = 20.0
    vocabulary: int = 1024


@dataclass(frozen=True)
class AutoencoderConfig:
    """Chunks as codes of an autoencoder with residual vector quantisation, trained on the data before the policy.

    Attributes:
        vectors: latent vectors of a chunk.
        levels: codes of a vector, each taking what those before left; a chunk is vectors * levels tokens.
        codes: to choose from at every level of every vector.
        code_width: size of a code.
        width: of the encoder and the decoder.
        steps: of training, 256 chunks each.
        seed: of the training.
    """

    vectors: int = 4
    levels: int = 2
    codes: int = 256
    code_width: int = 16
    width: int = 128
    steps: int = 2500
    seed: int = 0


@dataclass(frozen=True)
class TokenConfig:
    """Actions as tokens.

    Attributes:
        code: "bins" (a token for every value), "dct_bpe" (compressed: frequent runs of cosine coefficients are one
            token; a chunk takes as many as it needs) or "vq" (learned: codes of an autoencoder).
        bins: tokens of a dimension, uniform in `range`; of "bins".
        range: of a dimension's bins: "percentile" (from the 1st to the 99th of the data; what lies beyond takes the
            outermost bin) or "limits" ([-1, 1]).
        decoding: "autoregressive" (one token after the other, each seeing those before it) or "parallel" (all at once).
        decoder: "own" (a small one that looks at the context) or "backbone" (the backbone's language model reads on).
        width: of the head's own decoder.
        layers: of the head's own decoder.
        heads: attention heads of the head's own decoder.
        label_smoothing: share of the target given to all tokens alike.
        spread: standard deviation, in bins, of targets that neighbouring bins share in (HL-Gauss, arXiv:2403.03950);
            without it nothing says that bins next to each other mean nearly the same. Of "bins"; 0 leaves it out.
        z_loss: weight of the squared logarithm of the softmax's normaliser (PaLM, arXiv:2204.02311).
        temperature: of sampling; 0 takes the likeliest token.
        binary: action dimensions with two values only (a gripper), which are decoded to exactly -1 and 1; of bins they
            use the outermost.
        compression: options of "dct_bpe".
        autoencoder: options of "vq".
    """

    code: Literal["bins", "dct_bpe", "vq"] = "bins"
    bins: int = 256
    range: Literal["percentile", "limits"] = "percentile"
    decoding: Literal["autoregressive", "parallel"] = "autoregressive"
    decoder: Literal["own", "backbone"] = "own"
    width: int = 128
    layers: int = 3
    heads: int = 4
    label_smoothing: float = 0.0
    spread: float = 0.0
    z_loss: float = 0.0
    temperature: float = 0.0
    binary: tuple[int, ...] = ()
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)


@dataclass(frozen=True)
class EnergyConfig:
    """An energy of chunks (implicit behaviour cloning, arXiv:2109.00137).

    Attributes:
        width: of the energy network.
        blocks: of the energy network.
        objective: "ranking" (negatives from a learned proposal, whose log-density is subtracted) or "info_nce"
            (uniform negatives).
        negatives: counter-examples a chunk.
        proposal_components: of the proposal, a conditional mixture of Gaussians.
        sampler: "proposal" (best of its draws, then refined), "derivative_free", "autoregressive" (derivative-free,
            one dimension after the other) or "langevin".
        draw: "mode" (the lowest energy found) or "sample" (one chunk as likely as the energy says).
        samples: candidates of the sampler.
        iterations: of the sampler, "langevin" excepted.
        langevin_iterations: gradient steps of "langevin".
        gradient_penalty: weight of the penalty on steep energies; 0 leaves it out.
        gradient_margin: largest slope along any number of the chunk that is not penalised.
        spectral_norm: limit the layers' largest singular values to 1.
    """

    width: int = 256
    blocks: int = 3
    objective: Literal["ranking", "info_nce"] = "ranking"
    negatives: int = 64
    proposal_components: int = 8
    sampler: Literal["proposal", "derivative_free", "autoregressive", "langevin"] = "proposal"
    draw: Literal["mode", "sample"] = "mode"
    samples: int = 256
    iterations: int = 3
    langevin_iterations: int = 50
    gradient_penalty: float = 0.0
    gradient_margin: float = 1.0
    spectral_norm: bool = False


@dataclass(frozen=True)
class MixtureConfig:
    """A mixture of Gaussians over the chunk.

    Attributes:
        components: Gaussians.
        noise: share of a Gaussian's standard deviation that a draw keeps; 1 draws from the learned density, next to
            nothing is robomimic's low-noise evaluation.
    """

    components: int = 5
    noise: float = 1.0


@dataclass(frozen=True)
class ShortcutConfig:
    """A flow that takes steps of many lengths with one network (shortcut models, arXiv:2410.12557).

    Attributes:
        finest: steps of the shortest length that the network is told of, a power of two; more are steps of the flow.
        share: share of each batch that also learns one step from two of half its length.
    """

    finest: int = 16
    share: float = 0.5


@dataclass(frozen=True)
class HybridConfig:
    """A plan in tokens, and an executor that draws the chunk around it.

    Attributes:
        stride: the plan is every stride-th action of the chunk, counted back from the last.
        bins: tokens of a dimension of the plan; few, as the executor adds what is finer. The rest of the planner is as
            `HeadConfig.token` says.
        temperature: of the plan; 0 takes the likeliest tokens.
        executor: the head that draws the chunk, with the options it has on its own.
        noise: how far off the plan is that the executor learns from, in widths of a bin, spread evenly: 1 is what
            rounding to bins does, 2 lets the executor also correct a planner that slips by half a bin.
        plan_weight: of the planner's loss, in nats, beside the executor's, a squared error.
    """

    stride: int = 4
    bins: int = 32
    temperature: float = 1.0
    executor: Literal["diffusion", "flow", "shortcut"] = "diffusion"
    noise: float = 2.0
    plan_weight: float = 0.1


@dataclass(frozen=True)
class HeadConfig:
    """The action head.

    Attributes:
        kind: name in the head registry.
        context_width: size of the conditioning vector made from the context tokens.
        denoiser: "mlp" (residual FiLM MLP over the flattened chunk, cheap), "unet" (FiLM 1-D convolutions) or
            "transformer" (a token for each action of the chunk); of "diffusion", "flow", "shortcut" and "hybrid".
        denoiser_width: hidden width of the MLP and of the transformer; of "mixture", "regression" and the proposal of
            "energy", too.
        denoiser_blocks: residual blocks of the MLP and of those three, layers of the transformer.
        denoiser_heads: attention heads of the transformer.
        unet_channels: channels of the U-Net's levels.
        prediction_type: what the denoiser predicts (diffusers' names); "flow" and "shortcut" predict the sample or the
            velocity.
        beta_schedule: diffusers' noise schedule.
        train_timesteps: length of the training noise schedule.
        sampler: of "diffusion": "ddim" (deterministic), "ddpm" (draws noise at every step) or "dpm_solver"
            (deterministic, of second order).
        inference_steps: steps of the sampler.
        clip_sample: clip the predicted clean chunk to [-1, 1] at every inference step.
        noise_samples: (noise, timestep) draws per encoded context in the loss; amortises the encoder.
        dropout: dropout on the conditioning vector while training.
        token: options of the "token" head.
        energy: options of the "energy" head.
        mixture: options of the "mixture" head.
        shortcut: options of the "shortcut" head.
        hybrid: options of the "hybrid" head.
    """

    kind: Literal["diffusion", "flow", "shortcut", "hybrid", "token", "energy", "mixture", "regression"] = "diffusion"
    context_width: int = 256
    denoiser: Literal["mlp", "unet", "transformer"] = "mlp"
    denoiser_width: int = 384
    denoiser_blocks: int = 3
    denoiser_heads: int = 4
    unet_channels: tuple[int, ...] = (64, 128)
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "sample"
    beta_schedule: Literal["squaredcos_cap_v2", "linear", "scaled_linear"] = "squaredcos_cap_v2"
    train_timesteps: int = 100
    sampler: Literal["ddim", "ddpm", "dpm_solver"] = "ddim"
    inference_steps: int = 4
    clip_sample: bool = True
    noise_samples: int = 2
    dropout: float = 0.0
    token: TokenConfig = field(default_factory=TokenConfig)
    energy: EnergyConfig = field(default_factory=EnergyConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    shortcut: ShortcutConfig = field(default_factory=ShortcutConfig)
    hybrid: HybridConfig = field(default_factory=HybridConfig)
