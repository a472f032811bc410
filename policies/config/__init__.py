"""Configuration of policies and of their training, as plain frozen dataclasses.

Nothing here imports torch, so the command line can describe and check every field quickly.
"""

from .backbones import BackboneConfig, BridgeConfig, CodebookConfig, DecoderConfig, TextConfig, VisionConfig
from .conversion import from_dict, to_dict
from .heads import (
    AutoencoderConfig,
    CompressionConfig,
    EnergyConfig,
    HeadConfig,
    HybridConfig,
    MixtureConfig,
    ShortcutConfig,
    TokenConfig,
)
from .training import ContrastConfig, PolicyConfig, StabilityConfig, StageConfig, TrainConfig

__all__ = [
    "AutoencoderConfig",
    "BackboneConfig",
    "BridgeConfig",
    "CodebookConfig",
    "CompressionConfig",
    "ContrastConfig",
    "DecoderConfig",
    "EnergyConfig",
    "HeadConfig",
    "HybridConfig",
    "MixtureConfig",
    "PolicyConfig",
    "ShortcutConfig",
    "StabilityConfig",
    "StageConfig",
    "TextConfig",
    "TokenConfig",
    "TrainConfig",
    "VisionConfig",
    "from_dict",
    "to_dict",
]
