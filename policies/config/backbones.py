"""Options of backbones: encoders, bridges and language models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class VisionConfig:
    """An image encoder, of the "modular" and the "compositional" route.

    Attributes:
        kind: "conv" (small convolutions; in "modular" one tower for each camera, of the sizes `image_*`) or a tower of
            transformers for all cameras: "clip", "siglip", "dinov2", "packed" (Qwen2-VL's: images of any sizes in one
            sequence, rotary positions along both axes).
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
class TextConfig:
    """A text encoder, of the "modular" route; where nothing is loaded, its sizes are `text_*` of the backbone.

    Attributes:
        kind: "own", or a tower of transformers: "clip", "siglip", "bert".
        pretrained: folder or hub name to load weights, sizes and tokenizer from. From the same CLIP or SigLIP as the
            image encoder, the space they share comes with them. Empty trains from scratch.
        architecture: transformers' configuration of what was loaded, JSON; filled in when it is.
    """

    kind: Literal["own", "clip", "siglip", "bert"] = "own"
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
class CodebookConfig:
    """Pictures as integers, of the "fusion" route.

    Attributes:
        codes: to choose from.
        patch: pixels along the side of what one code stands for, 4, 8, 16, ...
        width: size of a code.
        channels: of the convolutions.
    """

    codes: int = 512
    patch: int = 8
    width: int = 16
    channels: int = 64


@dataclass(frozen=True)
class DecoderConfig:
    """A causal language model: Qwen3's architecture, with RMSNorm, SwiGLU and query-key norm; of the routes with one.

    Attributes:
        width: of its states.
        layers: of it.
        heads: attention heads.
        hidden: of the SwiGLU layers, as a multiple of the width.
        query_key_norm: normalise queries and keys, which keeps attention logits from growing without bound; what is
            loaded is as it was.
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
    query_key_norm: bool = True
    readouts: int = 8
    lora: int = 0
    prefix: int = 0
    pretrained: str = ""
    architecture: str = ""


@dataclass(frozen=True)
class BackboneConfig:
    """What turns observation and instruction into tokens.

    Attributes:
        kind: "modular" (image and text encoders, and grounding that joins them), "compositional" (an image encoder
            joined to a language model by a bridge), "fusion" (pictures as words of a language model's vocabulary), or
            "state", which sees no camera, reads no text and needs nothing of what follows but `width`. What is not said
            to belong to another is of "modular".
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
        embedding_width: size of the contrastive image-text space; that of what is loaded, where it is.
        intent_queries: learned queries that pool the instruction for the head.
        vision: image encoder of "modular" and "compositional".
        text: text encoder of "modular".
        bridge: of "compositional".
        decoder: language model of "compositional" and "fusion".
        codebook: of "fusion".
    """

    kind: Literal["modular", "compositional", "fusion", "state"] = "modular"
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
    text: TextConfig = field(default_factory=TextConfig)
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    codebook: CodebookConfig = field(default_factory=CodebookConfig)
