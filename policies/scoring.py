"""How well images go with an instruction, judged by an aligned policy: a scorer for curation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from .backbones.modular import ModularBackbone
from .backbones.text import ROLES
from .policy import Policy


def grounding_scorer(policy: Policy | str | Path) -> Callable[[Mapping[str, np.ndarray], Sequence[str]], np.ndarray]:
    """A scorer made from a policy whose backbone grounds words in pictures.

    The score of a view and an instruction is the log probability that what the instruction names as its target can be
    seen: log(1 - p("not visible")) of the target's heat map, at most 0. It is read from the policy's first camera, the
    one that searches by the words alone. It judges whether the named thing is there, not whether the actions fit.

    Args:
        policy: a policy, or the folder of a saved one.

    Returns:
        score({camera: uint8 [B, H, W, 3]}, B texts) -> float64 [B]. It raises ValueError if the first camera is missing
        or its images have another size or type than the policy's.

    Raises:
        ValueError: the policy's backbone has no grounding.
    """
    policy = policy if isinstance(policy, Policy) else Policy.load(policy)
    backbone = policy.backbone
    if not isinstance(backbone, ModularBackbone):
        raise ValueError(
            f"scorer: found a backbone of kind {policy.config.backbone.kind!r}, wanted 'modular', trained with its "
            "alignment stage: only that one says where a named thing is"
        )
    camera, size = next(iter(policy.cameras.items()))
    target = ROLES.index("target")

    @torch.inference_mode()
    def score(images: Mapping[str, np.ndarray], texts: Sequence[str]) -> np.ndarray:
        seen = images.get(camera)
        if seen is None or seen.dtype != np.uint8 or seen.shape != (len(texts), *size, 3):
            found = sorted(images) if seen is None else f"{seen.dtype} {list(seen.shape)}"
            raise ValueError(
                f"scorer: camera {camera!r}: found {found}, wanted uint8 {[len(texts), *size, 3]}, as the policy saw it"
            )
        phrases = backbone.encode_text(texts).roles[:, [target]]
        grid = backbone.image_features(0, torch.from_numpy(np.ascontiguousarray(seen)).to(backbone.device))
        logits = backbone.grounding.view(0).scores(grid, phrases)[:, 0].double()
        return (logits[:, :-1].logsumexp(-1) - logits.logsumexp(-1)).cpu().numpy()

    return score
