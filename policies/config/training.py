"""Options of a policy and of the stages that train it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .backbones import BackboneConfig
from .heads import HeadConfig


@dataclass(frozen=True)
class PolicyConfig:
    """A policy: backbone, head and the three horizons in control steps.

    Attributes:
        backbone: what turns observation and instruction into tokens.
        head: what turns tokens into an action chunk.
        obs_horizon: observation steps the policy sees (To).
        action_horizon: actions it predicts (Tp).
        exec_horizon: actions a rollout executes before it asks again (Ta).
        subgoals: the language model says what to do next, in words, and the policy acts on instruction and sub-goal
            (V -> L -> A); of backbones with a language model, and stores that say what the expert was about.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    obs_horizon: int = 2
    action_horizon: int = 16
    exec_horizon: int = 8
    subgoals: bool = False


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
        drop: share of an image's patches that the contrast does not see, others in each image (FLIP); of image towers
            of transformers.
    """

    kind: Literal["softmax", "sigmoid"] = "softmax"
    soft_labels: float = 0.0
    negatives: int = 0
    queue: int = 0
    anchor_temperature: float = 0.0
    distillation: float = 0.0
    momentum: float = 0.995
    drop: float = 0.0


@dataclass(frozen=True)
class StageConfig:
    """One stage of training.

    Attributes:
        steps: optimiser steps; 0 leaves the stage out.
        batch_size: samples per step (images with a segmentation in "align", windows elsewhere).
        lr: peak learning rate, reached after the warm-up and followed by a cosine decay.
        final_lr_fraction: the learning rate at the end, as a share of the peak.
        warmup_steps: steps of linear warm-up.
        trainable: module name -> scale of the learning rate. Modules: "image" and "text" of the modular route,
            "vision" and "bridge" of the compositional one, "codebook" and "pictures" (what the language model is told
            of a code) of early fusion, "decoder", "adapter" and "joints" (what enters beside words and pictures) of
            both, "grounding", "projector", "head"; in "align" also "contrastive" and "signals" (modular) and "action",
            in "perceive" "points", their own heads. Absent or 0 is frozen.
        losses: loss name -> weight. "align": grounding, contrastive, action, and, off where they have no weight,
            region_phrase, patch_word, masked_text, masked_image; with a language model text, place, grounding, z,
            action and, where pictures are words, image; "codebook": reconstruction; other stages: action.
        gradient_surgery: losses that pull against each other lose what they disagree about (PCGrad); a backward pass
            for each of them.
        betas: AdamW's moments.
        weight_decay: AdamW's decay, on matrices only.
        ema_decay: decay of the moving average of the weights, which the next stage starts from; 0 leaves it out.
        phrases: noun phrases grounded per image, of objects in the scene and, some, of what is not there ("align").
        instructions: instructions grounded per image, drawn from all that could be asked in its scene ("align").
        documents: texts about each image that a language model is to say: captions, answers, places ("align").
        mixture: how often each kind of these is drawn, in proportion: caption, question, place, and with
            policy.subgoals subgoal; empty takes 2 : 3 : 5 (: 5).
        captions: images per batch that also take part in the contrastive loss ("align").
        contrast: how, where the stage has the loss "contrastive" ("align").
        shift_pixels: largest random image shift, pixels ("align").
        colour_jitter: strength of the colour jitter in [0, 1]; up to 0.3 cannot turn one named colour into another.
        proprio_noise: standard deviation of noise added to normalised proprioception (all but "align").
        frame_noise: standard deviation of noise added to what was read from the images, standardised (as above).
        modality_dropout: share of windows that lack one of image, language and proprioception, each as often, so that
            no other can stand for all (all but "align" and "perceive").
        points: privileged streams of points [K, 2] in a picture -> its width in their unit; those of
            `privileged.points.CAMERA` are in that camera's, others in the first camera's
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
    mixture: dict[str, float] = field(default_factory=dict)
    captions: int = 24
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    shift_pixels: int = 2
    colour_jitter: float = 0.2
    proprio_noise: float = 0.01
    frame_noise: float = 0.01
    modality_dropout: float = 0.0
    points: dict[str, float] = field(default_factory=dict)
    precision: Literal["auto", "fp32", "bf16"] = "auto"


def codebook_stage() -> StageConfig:
    """Default training of an image codebook: to draw pictures again; off unless given steps."""
    return StageConfig(
        steps=0,
        batch_size=64,
        lr=2e-3,
        trainable={"codebook": 1.0},
        losses={"reconstruction": 1.0},
        ema_decay=0.0,
    )


def align_stage() -> StageConfig:
    """Default alignment: where in each view is what the words name."""
    return StageConfig(
        steps=900,
        batch_size=64,
        lr=2e-3,
        trainable=dict.fromkeys(("image", "text", "grounding", "projector", "contrastive", "signals", "action"), 1.0),
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
        codebook: training of the "fusion" route's image codebook, before anything else.
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
        encoded_frames: folder where the frames that a frozen backbone has encoded are kept, for other trainings on the
            same backbone and demonstrations; empty keeps none.
        overwrite: throw away a training of another configuration found in the output folder.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    codebook: StageConfig = field(default_factory=codebook_stage)
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
    encoded_frames: str = ""
    overwrite: bool = False
