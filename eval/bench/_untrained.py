"""Policies of the tabletop that nothing has trained: as slow as trained ones."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...datasets.spec import EnvSpec
    from ...policies.config import HeadConfig
    from ...policies.policy import Policy


@cache
def tabletop_spec() -> EnvSpec:
    """What the tabletop says of itself with 64-pixel cameras."""
    from ...envs.rendering_backend import select_backend

    select_backend()
    from ...envs.suites import SUITES

    env = SUITES["tabletop"].make(image_size=64, disable_env_checker=True).unwrapped
    spec = env.env_spec  # pyright: ignore[reportAttributeAccessIssue]
    env.close()
    return spec


def policy_or_untrained(folder: str | None, texts: tuple[str, ...]) -> Policy:
    """The policy in a folder; without one, one with the demo's head and a tokenizer that has seen these texts."""
    from ...policies.config import HeadConfig
    from ...policies.policy import Policy

    return untrained_policy(HeadConfig(kind="regression"), texts) if folder is None else Policy.load(Path(folder))


@cache
def untrained_policy(head: HeadConfig, texts: tuple[str, ...] = ("lift the red cube",)) -> Policy:
    """With two 64-pixel cameras, 16 actions of which 8 are executed, and a tokenizer that has seen these texts."""
    import torch

    from ...datasets.normalisation import MinMaxNormaliser
    from ...policies.backbones.tokenizer import TextTokenizer
    from ...policies.config import PolicyConfig
    from ...policies.policy import Policy

    spec, config = tabletop_spec(), PolicyConfig(head=head)
    limits = [MinMaxNormaliser([-1.0] * part.dim, [1.0] * part.dim) for part in (spec.proprio, spec.action)]
    backbone = config.backbone
    tokenizer = TextTokenizer.train(texts, backbone.vocabulary, backbone.max_text_tokens)
    torch.manual_seed(0)
    return Policy(config, spec, spec.camera_names, limits[0], limits[1], tokenizer).eval()
