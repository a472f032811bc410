"""Frozen backbones as sources of features: what every layer of theirs says of frames and texts."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...policies.backbones.image import mean_and_peak
from ...policies.backbones.language import LanguageBackbone
from ...policies.backbones.modular import ModularBackbone
from ...policies.backbones.views import TowerViews
from ...policies.policy import Policy
from .frames import FrameBatch

TOLD = "told:"
RANDOM = 977_131  # added to seeds of random weights: what has been saved untrained has small ones
CELLS = 4  # a grid of tokens is also read as so many squares along each side
_CHANGED = re.compile(r"^(?P<place>.+?)\+(?:(?P<random>random)|noise(?P<noise>\d*\.?\d+))$")


class Source(Protocol):
    """A frozen backbone.

    Attributes:
        name: of it, for people.
    """

    name: str

    @property
    def cameras(self) -> tuple[str, ...] | None:
        """That it looks through, in order; None takes all that a store has."""
        ...

    def digest(self) -> str:
        """SHA-256 of all weights and of how they are used."""
        ...

    def read(self, batch: FrameBatch) -> dict[str, Tensor]:
        """Every reading of B frames, by name, float32 [B, D]; those with `FrameBatch.told` as "told:NAME"."""
        ...

    def worded(self, reading: str) -> bool:
        """Whether the words are part of a reading."""
        ...

    def untrained(self, seed: int) -> Source:
        """The same architecture with random weights."""
        ...


def open_source(checkpoint: str) -> Source:
    """A policy's folder, or a folder or hub name of transformers; "+random" or "+noise0.3" changes its weights.

    "+random" draws them anew, "+noise0.3" adds noise of 0.3 of each tensor's deviation.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: what is there has no backbone that sees.
    """
    found = _CHANGED.match(checkpoint)
    place = found["place"] if found else checkpoint
    if (Path(place) / "spec.json").is_file():
        source: Any = PolicySource(Policy.load(place), place)
    else:
        from .transformers_source import TransformersSource

        source = TransformersSource.load(place)
    if found is None:
        return source
    changed = source.untrained(0) if found["random"] else source.disturbed(float(found["noise"]), 0)
    changed.name = checkpoint
    return changed


def weights_digest(module: nn.Module, how: str) -> str:
    """SHA-256 of a module's state and of a text."""
    digest = hashlib.sha256(how.encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@torch.no_grad()
def disturb(module: nn.Module, share: float, seed: int) -> None:
    """Add noise of a share of each floating tensor's deviation to the module's parameters."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if parameter.is_floating_point() and parameter.numel() > 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=share * float(parameter.std()))


def of_grid(name: str, grid: Tensor) -> dict[str, Tensor]:
    """Readings of features [B, h, w, C]: pooled (mean and maximum), and place by place (the means of a few squares)."""
    side = (min(CELLS, grid.shape[1]), min(CELLS, grid.shape[2]))
    squares = F.adaptive_avg_pool2d(grid.permute(0, 3, 1, 2).float(), side).flatten(1)
    return {f"{name}/pooled": mean_and_peak(grid.float()), f"{name}/places": squares}


class PolicySource:
    """The backbone of a policy: blocks of its eyes or of its language model, and what the action head is given.

    "seen" is the last reading: what perception hands on, with what the instruction points at in every view.
    """

    def __init__(self, policy: Policy, name: str) -> None:
        if not isinstance(policy.backbone, (ModularBackbone, LanguageBackbone)):
            raise ValueError(
                f"{name}: found a policy with backbone {policy.config.backbone.kind!r}, wanted one that sees: modular, "
                "compositional or fusion"
            )
        self.policy, self.name, self.cameras = policy.eval(), name, tuple(policy.cameras)
        self.backbone = policy.backbone
        self.backbone.lends = False
        self.backbone.prepare(())  # nothing is trained: a language model reads ahead
        self._blocks = _blocks(self.backbone)
        self._pictured = self._tokens_of_pictures()

    def worded(self, reading: str) -> bool:
        return reading == "seen" or reading.startswith("decoder")

    def digest(self) -> str:
        return weights_digest(self.backbone, f"{self.cameras} {sorted(self._blocks)} {CELLS}")

    @torch.inference_mode()
    def read(self, batch: FrameBatch) -> dict[str, Tensor]:
        kept: dict[str, list[Tensor]] = {name: [] for name in self._blocks}
        modules = [(kept[name], module) for name, of in self._blocks.items() for module in of]
        hooks = [module.register_forward_hook(_keeping(into)) for into, module in modules]
        try:
            eyes = self.look(batch)
            found = self._collect(kept, self.hear(eyes, batch, batch.texts))
            if batch.told:
                words = self._collect(kept, self.hear(eyes, batch, batch.told))
                found |= {f"{TOLD}{name}": values for name, values in words.items()}
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def look(self, batch: FrameBatch) -> Any:
        """What the eyes see of frames, whatever is said."""
        return self.backbone.look({camera: torch.from_numpy(batch.images[camera]) for camera in self.cameras})

    def hear(self, eyes: Any, batch: FrameBatch, said: Sequence[str]) -> Tensor:
        """What perception hands on of what the eyes see and B texts [B, ...]; as `encode_frames`."""
        backbone = self.backbone
        proprio = self.policy.proprio_normaliser.normalise(torch.from_numpy(batch.proprio))
        distinct = list(dict.fromkeys(said))
        place = {text: row for row, text in enumerate(distinct)}
        rows = torch.tensor([place[text] for text in said])
        if isinstance(backbone, ModularBackbone):
            return backbone.search(eyes, backbone.encode_text(distinct).select(rows), proprio)
        return backbone.understand(eyes, proprio, backbone.encode_text(distinct).select(rows))[0]

    def _collect(self, kept: dict[str, list[Tensor]], seen: Tensor) -> dict[str, Tensor]:
        """Readings of what the layers have given since the last time, and of what is handed on."""
        found: dict[str, Tensor] = {}
        for name, outputs in kept.items():
            each = [self._readings(name, output, len(seen)) for output in outputs]
            found |= {key: torch.cat([one[key] for one in each], dim=1) for key in (each[0] if each else ())}
            outputs.clear()
        return {**found, "seen": seen.float().flatten(1)}

    def untrained(self, seed: int) -> PolicySource:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM + seed)
            of = self.policy
            fresh = Policy(of.config, of.spec, self.cameras, of.proprio_normaliser, of.action_normaliser, of.tokenizer)
        return PolicySource(fresh, f"{self.name} with random weights")

    def disturbed(self, share: float, seed: int) -> PolicySource:
        """With noise of a share of each tensor's deviation."""
        disturb(self.backbone, share, seed)
        return self

    @torch.inference_mode()
    def _tokens_of_pictures(self) -> int:
        """How many tokens the pictures take in a language model's sequence."""
        backbone = self.backbone
        if not isinstance(backbone, LanguageBackbone) or backbone.looks:
            return 0
        nothing = {c: torch.zeros(1, *self.policy.cameras[c], 3, dtype=torch.uint8) for c in self.cameras}
        return len(self.cameras) * backbone.enter(backbone.look(nothing).flatten(0, 1)).shape[1]

    def _readings(self, name: str, output: Tensor, count: int) -> dict[str, Tensor]:
        if output.ndim == 2:  # patches of all images in one sequence, more of them than tokens that are handed on
            return {f"{name}/pooled": mean_and_peak(output.unflatten(0, (count, -1)).float())}
        if output.ndim == 4:  # convolutions: [B, C, h, w]
            return of_grid(name, output.permute(0, 2, 3, 1))
        if isinstance(self.backbone, LanguageBackbone) and name.startswith("decoder"):
            # What lies between pictures and questions is as long as the longest text beside it.
            found = {f"{name}/asked": output[:, -len(self.backbone.asks) :].float().flatten(1)}
            if self._pictured:
                found[f"{name}/pooled"] = mean_and_peak(output[:, : self._pictured].float())
            return found
        grids: Any = self.backbone.grids
        rows, columns = grids[0]
        patches = output[:, output.shape[1] - rows * columns :]
        return of_grid(name, patches.unflatten(1, (rows, columns)))


def _keeping(kept: list[Tensor]) -> Any:
    def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)

    return keep


def _blocks(backbone: ModularBackbone | LanguageBackbone) -> dict[str, list[nn.Module]]:
    """Name of a layer -> the modules that are it: one, or one for each camera."""
    if isinstance(backbone, ModularBackbone):
        if not isinstance(backbone.image, TowerViews):
            towers: list[Any] = list(backbone.image)
            return {f"image.{i}": [tower.blocks[i] for tower in towers] for i in range(len(towers[0].blocks))}
        return _layers("image", backbone.image.encoder)
    found = _layers("vision", getattr(backbone, "vision", nn.Module()))
    layers: Any = backbone.decoder.model.base_model.layers  # pyright: ignore[reportAttributeAccessIssue]
    return found | {f"decoder.{i}": [layer] for i, layer in enumerate(layers)}


def _layers(name: str, encoder: nn.Module) -> dict[str, list[nn.Module]]:
    """The longest list of equal modules within an encoder, which are its layers."""
    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList) and len(module)]
    alike = [layers for layers in lists if len({type(layer) for layer in layers}) == 1]
    longest: Sequence[nn.Module] = max(alike, key=len, default=nn.ModuleList())  # pyright: ignore
    return {f"{name}.{i}": [layer] for i, layer in enumerate(longest)}
