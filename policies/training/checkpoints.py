"""Checkpoints: tensors as safetensors, counters as JSON, each folder there whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..serialisation import atomic_folder, load_tensors, save_tensors

FORMAT = "deixis-checkpoint-1"


@dataclass(frozen=True)
class Checkpoint:
    """A point in training: `step` steps of the stage with index `stage` are done.

    Attributes:
        model: state of the stage's objective, or of the bare policy when step is 0.
        optimisation: state of the optimiser and of the weight average; empty when step is 0.
        tokenizer: the tokenizer's JSON.
    """

    stage: int
    step: int
    model: dict[str, Tensor]
    optimisation: dict[str, Tensor]
    tokenizer: str


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are.
        identity: what makes two runs the same: configuration and store. A checkpoint of another identity is refused.
        keep: how many stay on disk.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], keep: int) -> None:
        self.folder, self.keep = folder, max(1, keep)
        self.identity = json.loads(json.dumps(identity))

    def save(self, checkpoint: Checkpoint) -> None:
        """Write one, then forget the oldest."""
        with atomic_folder(self.folder / _name(checkpoint.stage, checkpoint.step)) as scratch:
            save_tensors(checkpoint.model, scratch / "model.safetensors")
            save_tensors(checkpoint.optimisation, scratch / "optimisation.safetensors")
            (scratch / "tokenizer.json").write_text(checkpoint.tokenizer, encoding="utf-8")
            state = {"format": FORMAT, "stage": checkpoint.stage, "step": checkpoint.step, "identity": self.identity}
            (scratch / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        for path in self._paths()[: -self.keep]:
            shutil.rmtree(path)

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, or None.

        Raises:
            ValueError: it belongs to another configuration or store; the message names the first difference.
        """
        paths = self._paths()
        if not paths:
            return None
        path = paths[-1]
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if state.get("format") != FORMAT:
            raise ValueError(f"{path}/state.json: format: found {state.get('format')!r}, wanted {FORMAT!r}")
        difference = first_difference(state["identity"], self.identity)
        if difference:
            raise ValueError(
                f"{path}: this training was started with another configuration: {difference}. "
                "Use another output folder, or --overwrite true to throw it away"
            )
        return Checkpoint(
            stage=int(state["stage"]),
            step=int(state["step"]),
            model=load_tensors(path / "model.safetensors"),
            optimisation=load_tensors(path / "optimisation.safetensors"),
            tokenizer=(path / "tokenizer.json").read_text(encoding="utf-8"),
        )

    def forget_from(self, stage: int, step: int) -> None:
        """Throw away those of this point and after it: the training has gone back."""
        for path in self._paths():
            if path.name >= _name(stage, step):
                shutil.rmtree(path)

    def clear(self) -> None:
        """Throw all checkpoints away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _paths(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _name(stage: int, step: int) -> str:
    return f"{stage}-{step:08d}"


def first_difference(old: Any, new: Any, where: str = "") -> str:
    """The first place where two nested JSON values differ, in words; empty when they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            found = first_difference(old.get(key), new.get(key), f"{where}.{key}" if where else key)
            if found:
                return found
        return ""
    return "" if old == new else f"{where} was {old!r} and is {new!r}"
