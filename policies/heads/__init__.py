"""Action heads by kind."""

from __future__ import annotations

from ..config import HeadConfig
from ..interfaces import ActionHead
from .diffusion import DiffusionHead
from .energy import EnergyHead
from .flow import FlowHead
from .hybrid import HybridHead
from .mixture import MixtureHead
from .regression import RegressionHead
from .shortcut import ShortcutHead
from .token import TokenHead

HEADS: dict[str, type[ActionHead]] = {
    "diffusion": DiffusionHead,
    "energy": EnergyHead,
    "flow": FlowHead,
    "hybrid": HybridHead,
    "mixture": MixtureHead,
    "regression": RegressionHead,
    "shortcut": ShortcutHead,
    "token": TokenHead,
}


READING: dict[str, type[TokenHead | HybridHead]] = {"hybrid": HybridHead, "token": TokenHead}


def build_head(
    config: HeadConfig, horizon: int, action_dim: int, num_tokens: int, token_width: int, reader_width: int = 0
) -> ActionHead:
    """The head that `config.kind` names; ValueError for an unknown kind."""
    if config.kind not in HEADS:
        raise ValueError(f"policy.head.kind: found {config.kind!r}, wanted one of {sorted(HEADS)}")
    if config.kind in READING:
        return READING[config.kind](config, horizon, action_dim, num_tokens, token_width, reader_width)
    return HEADS[config.kind](config, horizon, action_dim, num_tokens, token_width)


def reads_on(config: HeadConfig) -> bool:
    """Whether this head goes on reading with the backbone's language model."""
    return config.kind in READING and config.token.decoder == "backbone"
