"""Image encoders: images to tokens, by the modular route's tower or by a tower of transformers, small or loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import VisionConfig
from . import library
from .image import STRIDE, GridPlaces, ImageTower, mean_and_peak, to_unit_range

CLIP_PIXELS = ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758))  # mean and deviation that CLIP was trained with
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TOWERS = {  # kind -> transformers' package, configuration and model, pixels, tokens before the patches
    "clip": ("clip", "CLIPVisionConfig", "CLIPVisionModel", CLIP_PIXELS, 1),
    "siglip": ("siglip", "SiglipVisionConfig", "SiglipVisionModel", HALF, 0),
    "dinov2": ("dinov2", "Dinov2Config", "Dinov2Model", IMAGENET, 1),
    "packed": ("qwen2_vl", "Qwen2VLVisionConfig", "Qwen2VisionTransformerPretrainedModel", CLIP_PIXELS, 0),
}


class Seen(NamedTuple):
    """What an encoder says of images: `tokens` [F, P, width], or as a grid [F, h, w, width], and of each as a whole,
    `summary` [F, summary_width].
    """

    tokens: Tensor
    summary: Tensor


class VisionEncoder(nn.Module):
    """Images [F, H, W, 3], uint8 or float in [0, 1], to tokens [F, P, width].

    Attributes:
        grid: (rows, columns) of the tokens; P is their product.
        width: of a token.
    """

    grid: tuple[int, int]
    width: int

    @property
    def summary_width(self) -> int:
        """Size of what `see` says of an image as a whole."""
        return 2 * self.width

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def see(self, images: Tensor) -> Seen:
        """Tokens, and their mean and maximum, or what the encoder was made to sum an image up with."""
        tokens = self(images)
        return Seen(tokens, mean_and_peak(tokens))


class ConvEncoder(VisionEncoder):
    """The modular route's convolutions, squares of their grid joined into a token each.

    Arguments as `build_vision`.
    """

    def __init__(self, config: VisionConfig, size: tuple[int, int]) -> None:
        super().__init__()
        if config.resolution:
            raise ValueError('policy.backbone.vision.resolution: "conv" takes images as they are; wanted 0')
        if config.patch % STRIDE or any(side % config.patch for side in size):
            raise ValueError(
                f"policy.backbone.vision.patch: found {config.patch} for images of {size}, wanted a multiple of "
                f"{STRIDE} that divides both sides"
            )
        self.merge, self.width = config.patch // STRIDE, config.width
        self.grid = (size[0] // config.patch, size[1] // config.patch)
        self.tower = ImageTower(size, config.width, config.layers)
        self.join = nn.Linear(config.width * self.merge**2, config.width)
        self.places = GridPlaces(self.grid, config.width)

    def forward(self, images: Tensor) -> Tensor:
        features = self.tower(images)
        squares = features.unfold(1, self.merge, self.merge).unfold(2, self.merge, self.merge)
        return self.join(squares.flatten(3).flatten(1, 2)) + self.places()


class TowerEncoder(VisionEncoder):
    """A vision transformer of transformers with learned positions, which are interpolated to the images' size.

    Arguments as `build_vision`. Images are scaled to `VisionConfig.resolution`, or else to the nearest whole number of
    patches.
    """

    def __init__(self, config: VisionConfig, size: tuple[int, int]) -> None:
        super().__init__()
        self.tower, self.before = _tower(config, size), TOWERS[config.kind][4]
        patch = self.tower.config.patch_size
        self.size = _fitting(config, size, patch)
        self.grid, self.width = (self.size[0] // patch, self.size[1] // patch), self.tower.config.hidden_size
        self.pixels = Pixels(*TOWERS[config.kind][3])
        self.sums_up = getattr(self.tower.config, "vision_use_head", True)

    @property
    def summary_width(self) -> int:
        return self.width if self.sums_up else super().summary_width

    def forward(self, images: Tensor) -> Tensor:
        return self._run(images).last_hidden_state[:, self.before :]

    def see(self, images: Tensor) -> Seen:
        found = self._run(images)
        tokens = found.last_hidden_state[:, self.before :]
        return Seen(tokens, found.pooler_output if self.sums_up else mean_and_peak(tokens))

    def _run(self, images: Tensor) -> Any:
        return self.tower(pixel_values=self.pixels(images, self.size), **self._options)

    @property
    def _options(self) -> dict[str, Any]:
        # DINOv2 always interpolates and takes no option.
        return {} if self.tower.config.model_type == "dinov2" else {"interpolate_pos_encoding": True}

    @contextmanager
    def dropping(self, share: float) -> Iterator[None]:
        """Within, a random share of an image's patches is left out, other ones for each image: a cheaper pass for
        contrast (Li et al. 2023, FLIP, arXiv:2212.00794). Drawn from torch's global generator.
        """

        def drop(_module: nn.Module, _arguments: Any, embedded: Tensor) -> Tensor:
            first, patches = embedded[:, : self.before], embedded[:, self.before :]
            kept = max(1, round(patches.shape[1] * (1 - share)))
            chosen = torch.rand(patches.shape[:2], device=patches.device).topk(kept, dim=1).indices.sort(dim=1).values
            return torch.cat([first, patches.gather(1, chosen[..., None].expand(-1, -1, patches.shape[2]))], dim=1)

        hook = self.tower.embeddings.register_forward_hook(drop)
        try:
            yield
        finally:
            hook.remove()


class PackedEncoder(VisionEncoder):
    """Qwen2-VL's tower: patches of images of any sizes in one sequence, rotary positions along both axes.

    Arguments as `build_vision`. Squares of patches are joined into one token, as the tower was trained.
    """

    def __init__(self, config: VisionConfig, size: tuple[int, int]) -> None:
        super().__init__()
        self.tower = _tower(config, size)
        options = self.tower.config
        self.patch, self.merge, self.frames = (
            options.patch_size,
            options.spatial_merge_size,
            options.temporal_patch_size,
        )
        self.side = self.patch * self.merge
        self.size, self.width = _fitting(config, size, self.side), options.hidden_size
        self.grid = (self.size[0] // self.side, self.size[1] // self.side)
        self.pixels = Pixels(*TOWERS[config.kind][3])

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack(self.encode([self.pixels(image[None], self.size)[0] for image in images]))

    def encode(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Normalised images [3, H, W] of different sizes, multiples of `side`, in one pass: [P, width] for each."""
        for image in images:
            if image.shape[1] % self.side or image.shape[2] % self.side:
                raise ValueError(f"image of {tuple(image.shape[1:])}: wanted sides that are multiples of {self.side}")
        grids = torch.tensor([[1, image.shape[1] // self.patch, image.shape[2] // self.patch] for image in images])
        patches = torch.cat([self._patches(image) for image in images])
        tokens = self.tower(patches, grid_thw=grids.to(patches.device)).pooler_output
        return list(tokens.split((grids.prod(1) // self.merge**2).tolist()))

    def _patches(self, image: Tensor) -> Tensor:
        """[3, H, W] to [patches, 3 * frames * patch * patch], those that become one token next to each other."""
        rows, columns = image.shape[1] // self.side, image.shape[2] // self.side
        split = image.reshape(3, rows, self.merge, self.patch, columns, self.merge, self.patch)
        split = split.permute(1, 4, 2, 5, 0, 3, 6).flatten(0, 3)
        return split[:, :, None].expand(-1, -1, self.frames, -1, -1).flatten(1)


class Pixels(nn.Module):
    """Images [F, H, W, 3] to what a tower was trained with: [F, 3, h, w], of that mean and deviation."""

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation), persistent=False)
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        pixels = ((to_unit_range(images) - self.mean) / self.deviation).permute(0, 3, 1, 2)
        if pixels.shape[2:] == size:
            return pixels
        return F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)


def shared_size(config: VisionConfig, cameras: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """The size of all cameras' images that go through one encoder; ValueError where they have none in common."""
    sizes = list(dict.fromkeys(cameras.values()))
    if not sizes or (len(sizes) > 1 and not config.resolution):
        raise ValueError(
            f"policy.backbone.vision: found cameras {dict(cameras)}, wanted at least one, and of different sizes only "
            "with a vision.resolution to scale them to"
        )
    return sizes[0]


def build_vision(config: VisionConfig, size: tuple[int, int]) -> VisionEncoder:
    """The encoder that `config.kind` names, for images of this height and width; ValueError for an unknown kind."""
    if config.kind == "conv":
        return ConvEncoder(config, size)
    if config.kind == "packed":
        return PackedEncoder(config, size)
    if config.kind in TOWERS:
        return TowerEncoder(config, size)
    raise ValueError(f"policy.backbone.vision.kind: found {config.kind!r}, wanted one of {['conv', *TOWERS]}")


def _fitting(config: VisionConfig, size: tuple[int, int], side: int) -> tuple[int, int]:
    wanted = (config.resolution, config.resolution) if config.resolution else size
    return max(1, round(wanted[0] / side)) * side, max(1, round(wanted[1] / side)) * side


def _tower(config: VisionConfig, size: tuple[int, int]) -> Any:
    """An untrained tower, of the architecture that was loaded or else of the sizes in `config`."""
    package, kind, model = TOWERS[config.kind][:3]
    kind, model = library.configuration(package, kind), library.model(package, model)
    if config.architecture:
        return model(kind.from_dict(json.loads(config.architecture)))
    if config.kind == "packed":
        sizes = {"depth": config.layers, "embed_dim": config.width, "num_heads": config.heads, "mlp_ratio": 4}
        joined = {"hidden_size": config.width, "spatial_merge_size": 2, "temporal_patch_size": 1}
        return model(kind(**sizes, **joined, patch_size=config.patch // 2))
    sizes = {"num_hidden_layers": config.layers, "hidden_size": config.width, "num_attention_heads": config.heads}
    hidden = {"mlp_ratio": 4} if config.kind == "dinov2" else {"intermediate_size": 4 * config.width}
    head = {"vision_use_head": False} if config.kind == "siglip" else {}
    return model(kind(**sizes, **hidden, **head, image_size=max(size), patch_size=config.patch))
