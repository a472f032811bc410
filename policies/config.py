"""Configuration of policies and of their training, as plain frozen dataclasses.

Nothing here imports torch, so the command line can describe and check every field quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True)
class VisionConfig:
    """An image encoder, of the "compositional" route.

    Attributes:
        kind: "conv" (the modular route's convolutions) or a tower of transformers: "clip", "siglip", "dinov2", "packed"
            (Qwen2-VL's: images of any sizes in one sequence, rotary positions along both axes).
        patch: pixels along the side of a token; of "packed", of four patches that become one.
        width: of a token.
        layers: of the tower, blocks of "conv".
        heads: attention heads of the tower.
        resolution: pixels to which images are scaled; 0 keeps theirs, or the nearest whole number of patches.
        pretrained: folder or hub name to load weights from; sizes are then those of what is loaded. Empty trains from
            scratch.
        architecture: transformers' configuration of what was loaded, JSON; filled in when it is.
    """

    kind: Literal["conv", "clip", "siglip", "dinov2", "packed"] = "conv"
    patch: int = 16
    width: int = 96
    layers: int = 2
    heads: int = 4
    resolution: int = 0
    pretrained: str = ""
    architecture: str = ""


@dataclass(frozen=True)
class BridgeConfig:
    """What joins image encoder and decoder, of the "compositional" route.

    Attributes:
        kind: "mlp" (every image token becomes one of the decoder's), "qformer" (learned queries of BLIP-2's query
            transformer), "perceiver" (Idefics2's resampler, after Flamingo) or "cross_attention" (gated layers within
            the decoder look at the image tokens, as in Llama 3's vision; the gates start at zero).
        latents: tokens an image becomes; of "qformer" and "perceiver".
        layers: of the query transformer and of the resampler.
        every: a gated layer before every so many layers of the decoder; of "cross_attention".
    """

    kind: Literal["mlp", "qformer", "perceiver", "cross_attention"] = "mlp"
    latents: int = 16
    layers: int = 2
    every: int = 2


@dataclass(frozen=True)
class DecoderConfig:
    """A causal language model: Qwen3's architecture, with RMSNorm, SwiGLU and query-key norm; of the routes with one.

    Attributes:
        width: of its states.
        layers: of it.
        heads: attention heads.
        hidden: of the SwiGLU layers, as a multiple of the width.
        readouts: learned tokens at the end of the sequence, whose states the action head sees.
        lora: rank of low-rank adapters on all of its linear layers (arXiv:2106.09685); 0 has none.
        prefix: learned keys and values before the sequence, in every layer (prefix tuning, arXiv:2101.00190); 0 has
            none. Adapters and prefix are the module "adapter" of a stage.
        pretrained: folder or hub name of a causal language model of transformers; its sizes and its tokenizer are then
            used. Empty trains from scratch.
        architecture: transformers' configuration of what was loaded, JSON; filled in when it is.
    """

    width: int = 128
    layers: int = 4
    heads: int = 4
    hidden: float = 3.0
    readouts: int = 8
    lora: int = 0
    prefix: int = 0
    pretrained: str = ""
    architecture: str = ""


@dataclass(frozen=True)
class BackboneConfig:
    """What turns observation and instruction into tokens.

    Attributes:
        kind: "modular" (one small image tower per camera, a text tower, and grounding that joins them), "compositional"
            (an image encoder joined to a language model by a bridge), or "state", which sees no camera, reads no text
            and needs nothing of what follows but `width`. What is not said to belong to another is of "modular".
        width: size D of every token handed to the head.
        image_channels: channels of the stride-4 feature grid.
        image_blocks: residual blocks on the stride-4 grid.
        text_width: width of the text transformer.
        text_layers: layers of the text transformer.
        text_heads: attention heads of the text transformer.
        vocabulary: largest number of entries of the tokenizer.
        max_text_tokens: longest text in tokens; longer ones are cut.
        grounding_width: size of the space in which phrases and image positions are compared.
        key_points: text-free spatial-softmax key points per camera.
        embedding_width: size of the contrastive image-text space.
        intent_queries: learned queries that pool the instruction for the head.
        vision: image encoder of "compositional".
        bridge: of "compositional".
        decoder: language model of "compositional".
    """

    kind: Literal["modular", "compositional", "state"] = "modular"
    width: int = 128
    image_channels: int = 64
    image_blocks: int = 2
    text_width: int = 128
    text_layers: int = 2
    text_heads: int = 4
    vocabulary: int = 1024
    max_text_tokens: int = 64
    grounding_width: int = 64
    key_points: int = 8
    embedding_width: int = 128
    intent_queries: int = 2
    vision: VisionConfig = field(default_factory=VisionConfig)
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)


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
        width: of the decoder.
        layers: of the decoder.
        heads: attention heads of the decoder.
        label_smoothing: share of the target given to all tokens alike.
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
    width: int = 128
    layers: int = 3
    heads: int = 4
    label_smoothing: float = 0.0
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


@dataclass(frozen=True)
class PolicyConfig:
    """A policy: backbone, head and the three horizons in control steps.

    Attributes:
        backbone: what turns observation and instruction into tokens.
        head: what turns tokens into an action chunk.
        obs_horizon: observation steps the policy sees (To).
        action_horizon: actions it predicts (Tp).
        exec_horizon: actions a rollout executes before it asks again (Ta).
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    obs_horizon: int = 2
    action_horizon: int = 16
    exec_horizon: int = 8


@dataclass(frozen=True)
class ContrastConfig:
    """How images are contrasted with their captions.

    Attributes:
        kind: "softmax" (InfoNCE) or "sigmoid" (each pair judged alone, SigLIP; it takes none of what follows).
        soft_labels: share of a label that goes to captions of scenes with the same objects, as far as they are the
            same.
        negatives: captions an image is contrasted with, those most like its own and others at random, 30 to 70 percent
            at first and 70 to 30 at the end; 0 takes all of the batch.
        queue: embeddings of batches gone by that are negatives, too.
        anchor_temperature: of dynamic anchoring, by which pairs far from what the batch's texts have in common weigh
            more; 0 weighs all alike.
        distillation: share of the targets that a slowly moving copy of backbone and projections decides.
        momentum: share of the copy that a step keeps.
    """

    kind: Literal["softmax", "sigmoid"] = "softmax"
    soft_labels: float = 0.0
    negatives: int = 0
    queue: int = 0
    anchor_temperature: float = 0.0
    distillation: float = 0.0
    momentum: float = 0.995


@dataclass(frozen=True)
class StageConfig:
    """One stage of training.

    Attributes:
        steps: optimiser steps; 0 leaves the stage out.
        batch_size: samples per step (images with a segmentation in "align", windows elsewhere).
        lr: peak learning rate, reached after the warm-up and followed by a cosine decay.
        final_lr_fraction: the learning rate at the end, as a share of the peak.
        warmup_steps: steps of linear warm-up.
        trainable: module name -> scale of the learning rate. Modules: "image", "text", "grounding" of the modular
            route, "vision", "bridge", "decoder" and "adapter" of the compositional one, "projector", "head"; in "align"
            also "contrastive" (modular) and "action", in "perceive" "points", their own heads. Absent or 0 is frozen.
        losses: loss name -> weight. "align": grounding, contrastive, action; with a language model text, place, z and
            action; other stages: action.
        gradient_surgery: losses that pull against each other lose what they disagree about (PCGrad); a backward pass
            for each of them.
        betas: AdamW's moments.
        weight_decay: AdamW's decay, on matrices only.
        ema_decay: decay of the moving average of the weights, which the next stage starts from; 0 leaves it out.
        phrases: noun phrases grounded per image, of objects in the scene and, some, of what is not there ("align").
        instructions: instructions grounded per image, drawn from all that could be asked in its scene ("align").
        documents: texts about each image that a language model is to say: captions, answers, places ("align").
        captions: images per batch that also take part in the contrastive loss ("align").
        contrast: how, where the stage has the loss "contrastive" ("align").
        shift_pixels: largest random image shift, pixels ("align").
        colour_jitter: strength of the colour jitter in [0, 1]; up to 0.3 cannot turn one named colour into another.
        proprio_noise: standard deviation of noise added to normalised proprioception (all but "align").
        frame_noise: standard deviation of noise added to what was read from the images, standardised (as above).
        modality_dropout: share of windows that lack one of image, language and proprioception, each as often, so that
            no other can stand for all (all but "align" and "perceive").
        points: privileged streams of points [K, 2] in the first camera's picture -> width of the picture in their unit
            ("perceive").
        precision: "bf16" trains image tower, text tower and head under autocast, and encodes frames so (a place then
            errs by 0.01 pixel); acting stays fp32. "auto" does so where the processor multiplies bf16 natively.
    """

    steps: int = 0
    batch_size: int = 128
    lr: float = 1e-3
    final_lr_fraction: float = 0.02
    warmup_steps: int = 100
    trainable: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    gradient_surgery: bool = False
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 1e-4
    ema_decay: float = 0.999
    phrases: int = 6
    instructions: int = 2
    documents: int = 6
    captions: int = 24
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    shift_pixels: int = 2
    colour_jitter: float = 0.2
    proprio_noise: float = 0.01
    frame_noise: float = 0.01
    modality_dropout: float = 0.0
    points: dict[str, float] = field(default_factory=dict)
    precision: Literal["auto", "fp32", "bf16"] = "auto"


def align_stage() -> StageConfig:
    """Default alignment: where in each view is what the words name."""
    return StageConfig(
        steps=900,
        batch_size=64,
        lr=2e-3,
        trainable={"image": 1.0, "text": 1.0, "grounding": 1.0, "projector": 1.0, "contrastive": 1.0, "action": 1.0},
        losses={"grounding": 1.0, "contrastive": 0.1, "action": 0.5},
        ema_decay=0.995,
    )


def perceive_stage() -> StageConfig:
    """Default perception: where in the picture the points are; off unless given steps."""
    return StageConfig(
        steps=0,
        batch_size=64,
        lr=2e-3,
        trainable={"image": 1.0, "text": 1.0, "grounding": 1.0, "points": 1.0},
        ema_decay=0.995,
    )


def imitate_stage() -> StageConfig:
    """Default imitation: the head on a frozen backbone, from tokens encoded once."""
    return StageConfig(
        steps=3600,
        batch_size=256,
        lr=1e-3,
        trainable={"projector": 1.0, "head": 1.0},
        losses={"action": 1.0},
        ema_decay=0.999,
    )


def unaligned_stage() -> StageConfig:
    """Default without alignment: every module end to end, for about the time of alignment and imitation together."""
    return StageConfig(
        steps=3300,
        batch_size=32,
        lr=1e-3,
        trainable={"image": 1.0, "text": 1.0, "grounding": 1.0, "projector": 1.0, "head": 1.0},
        losses={"action": 1.0},
        ema_decay=0.995,
    )


def finetune_stage() -> StageConfig:
    """Default fine-tuning: everything together; off unless given steps."""
    return StageConfig(
        steps=0,
        batch_size=64,
        lr=3e-4,
        trainable={"image": 1.0, "text": 1.0, "grounding": 1.0, "projector": 1.0, "head": 1.0},
        losses={"action": 1.0},
    )


@dataclass(frozen=True)
class StabilityConfig:
    """When a training has run away, and what is done about it.

    Attributes:
        tolerance: an alarm sounds where loss or gradient norm is more than so many standard deviations above what was
            usual in this stage, on a logarithmic scale, ...
        patience: ... for so many steps in a row, and at once where one is not finite.
        warm: steps that first tell what is usual.
        monitor_every: steps between two looks at the layers: size of outputs, attention logits and gradients, use of
            codebooks (`monitors.jsonl`); a layer that grows far beyond what is usual is an event in the log. 0 looks at
            none.
        snapshot_every: steps between two points to return to, kept in memory.
        recoveries: how often a stage returns, each time at half the learning rate, before it gives up; 0 gives up at
            once.
    """

    tolerance: float = 8.0
    patience: int = 10
    warm: int = 50
    monitor_every: int = 50
    snapshot_every: int = 100
    recoveries: int = 3


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run: policy, stages, seed and the bookkeeping around them.

    Attributes:
        policy: what is trained.
        align: alignment of vision and language.
        perceive: perception of known points, for stores without scenes to align words with.
        imitate: imitation of the demonstrations on the backbone that alignment, perception or `backbone_from` gave.
        unaligned: replaces imitate where none of them did, so that the backbone is trained by the actions alone.
        finetune: optional last stage, end to end.
        backbone_from: folder of a policy whose backbone this one starts with, and the words and the normaliser of
            proprioception it knows; alignment and perception can then have 0 steps. Empty makes a new one.
        cameras: camera names used, in order; empty means all of the store's.
        seed: of every random choice.
        threads: torch's intra-operation threads.
        gradient_clip: largest global gradient norm.
        stability: alarms and the way back from a runaway.
        log_every: steps between two log records.
        checkpoint_every: steps between two checkpoints.
        keep_checkpoints: how many checkpoints stay on disk.
        policy_every: steps of the last stage between two policies kept in policies/STEP, from the averaged weights, to
            judge how a training went on; 0 keeps the last one alone.
        keep_policies: how many of those stay, the last ones.
        tensorboard: also write TensorBoard events.
        overwrite: throw away a training of another configuration found in the output folder.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    align: StageConfig = field(default_factory=align_stage)
    perceive: StageConfig = field(default_factory=perceive_stage)
    imitate: StageConfig = field(default_factory=imitate_stage)
    unaligned: StageConfig = field(default_factory=unaligned_stage)
    finetune: StageConfig = field(default_factory=finetune_stage)
    backbone_from: str = ""
    cameras: tuple[str, ...] = ()
    seed: int = 0
    threads: int = 2
    gradient_clip: float = 1.0
    stability: StabilityConfig = field(default_factory=StabilityConfig)
    log_every: int = 50
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    policy_every: int = 0
    keep_policies: int = 10
    tensorboard: bool = True
    overwrite: bool = False


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as nested plain dictionaries and lists, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(asdict(config))


def from_dict(kind: type[ConfigT], values: Mapping[str, Any], where: str = "config") -> ConfigT:
    """Build a configuration from nested dictionaries; the inverse of `to_dict`.

    Args:
        kind: the dataclass to build.
        values: field name -> value. Absent fields keep their defaults.
        where: how errors call this place.

    Raises:
        ValueError: an unknown field (the nearest valid one is named) or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: found {type(values).__name__}, wanted a mapping of {kind.__name__} fields")
    types = get_type_hints(kind)
    names = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    for name in values:
        if name not in names:
            near = get_close_matches(str(name), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"valid fields: {', '.join(names)}"
            raise ValueError(f"{where}.{name}: unknown field; {hint}")
    return kind(**{name: _checked(types[name], value, f"{where}.{name}") for name, value in values.items()})


def _checked(wanted: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `wanted`, or an error that names `where`."""
    if is_dataclass(wanted):
        return from_dict(wanted, value, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{where}: found {value!r}, wanted one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple and isinstance(value, (list, tuple)):
        item_types = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(item_types) == len(value):
            return tuple(
                _checked(t, v, f"{where}[{i}]") for i, (t, v) in enumerate(zip(item_types, value, strict=True))
            )
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _checked(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if wanted is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if origin is None and type(value) is wanted:
        return value
    name = getattr(wanted, "__name__", None) if origin is None else None
    raise ValueError(f"{where}: found {value!r} ({type(value).__name__}), wanted {name or wanted}")
