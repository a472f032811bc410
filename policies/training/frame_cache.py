"""Encoded frames kept on disk between trainings on one backbone, and found again by all that decides them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from ...datasets.atomic import whole_file
from ..interfaces import SeeingBackbone
from ..serialisation import load_tensors, save_tensors

MOST_BYTES = 2 << 30  # what is larger is encoded again every time: reading it would take as long, and fill the disk


def fingerprint(
    backbone: SeeingBackbone,
    images: Mapping[str, np.ndarray],
    rows: np.ndarray,
    texts: Sequence[str],
    proprio: Tensor,
) -> str:
    """SHA-256 of perception's weights, its precision, every image, and which of them is seen with what text and state.

    images: camera -> all frames. rows, texts, proprio: as `encode_store` takes them.
    """
    digest = hashlib.sha256(f"bf16 {backbone.bf16}\n".encode())

    def take(name: str, values: np.ndarray) -> None:
        digest.update(f"{name} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)

    for part in backbone.perception:
        for name, tensor in backbone.parts[part].state_dict().items():
            take(f"{part}.{name}", tensor.detach().cpu().numpy())
    for camera, frames in images.items():
        take(camera, frames)
    take("rows", rows)
    take("proprio", proprio.cpu().numpy())
    digest.update("\n".join(texts).encode())
    return digest.hexdigest()


def kept(folder: Path, key: str, encode: Callable[[], Tensor]) -> Tensor:
    """What lies in `folder` under this key, or else what `encode` gives, which then lies there.

    A file that cannot be read is written anew; one appears whole or not at all.
    """
    path = folder / f"{key}.safetensors"
    if path.is_file():
        try:
            return load_tensors(path)["frames"]
        except (ValueError, KeyError):
            pass
    frames = encode()
    if frames.numel() * frames.element_size() <= MOST_BYTES:
        with whole_file(path) as beside:
            save_tensors({"frames": frames}, beside)
    return frames
