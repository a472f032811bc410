"""Policies on disk: YAML, JSON and safetensors; strict, and without pickle."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..datasets.normalisation import MinMaxNormaliser
from ..datasets.spec import EnvSpec
from .backbones.tokenizer import TextTokenizer
from .config import PolicyConfig, from_dict, to_dict
from .policy import Policy

FORMAT = "deixis-policy-1"
Parsed = TypeVar("Parsed")


@contextmanager
def atomic_folder(folder: Path):
    """A fresh folder to write into; it replaces `folder` in one rename, and only if the body succeeds."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    yield scratch
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(scratch, folder)
    shutil.rmtree(old, ignore_errors=True)


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, which wants plain memory layouts and no sharing."""
    save_file({name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read safetensors; FileNotFoundError or ValueError name the file."""
    try:
        return load_file(_existing(path))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def restore(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dictionary strictly; ValueError names the file, the tensor, the shape found and the shape wanted."""
    wanted = module.state_dict()
    missing, unknown = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    if missing or unknown:
        raise ValueError(
            f"{path}: missing tensors {missing[:5]}, unknown tensors {unknown[:5]}; is it of this configuration?"
        )
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape or tensor.dtype != wanted[name].dtype:
            raise ValueError(
                f"{path}: tensor {name}: found {tensor.dtype} {list(tensor.shape)}, "
                f"wanted {wanted[name].dtype} {list(wanted[name].shape)}"
            )
    module.load_state_dict(dict(tensors))


def save_policy(policy: Policy, folder: Path) -> None:
    """See `Policy.save`."""
    spec = {
        "env": policy.spec.to_dict(),
        "cameras": list(policy.cameras),
        "proprio_normaliser": policy.proprio_normaliser.to_dict(),
        "action_normaliser": policy.action_normaliser.to_dict(),
    }
    with atomic_folder(folder) as scratch:
        _write_config(policy.config, scratch)
        (scratch / "spec.json").write_text(json.dumps(spec, indent=2, ensure_ascii=False), encoding="utf-8")
        (scratch / "tokenizer.json").write_text(policy.tokenizer.to_json(), encoding="utf-8")
        save_tensors(policy.state_dict(), scratch / "model.safetensors")


def load_policy(folder: Path) -> Policy:
    """See `Policy.load`."""
    config = read_config(folder / "config.yaml")
    path = folder / "spec.json"
    spec = _mapping(path, json.loads, ("env", "cameras", "proprio_normaliser", "action_normaliser"))
    tokenizer_path = folder / "tokenizer.json"
    text = _existing(tokenizer_path).read_text(encoding="utf-8")
    policy = Policy(
        config,
        _parse(f"{path}: env", EnvSpec.from_dict, spec["env"]),
        [str(camera) for camera in spec["cameras"]],
        _parse(f"{path}: proprio_normaliser", MinMaxNormaliser.from_dict, spec["proprio_normaliser"]),
        _parse(f"{path}: action_normaliser", MinMaxNormaliser.from_dict, spec["action_normaliser"]),
        _parse(str(tokenizer_path), lambda t: TextTokenizer.from_json(t, config.backbone.max_text_tokens), text),
    )
    weights = folder / "model.safetensors"
    restore(policy, load_tensors(weights), weights)
    return policy.eval()


def reconfigure(folder: Path, config: PolicyConfig, target: Path) -> None:
    """Copy a policy with another configuration for the same weights, such as other steps of its sampler.

    Raises FileNotFoundError or ValueError, and writes nothing, where the weights do not fit the configuration.
    """
    with atomic_folder(target) as scratch:
        shutil.copytree(folder, scratch, dirs_exist_ok=True)
        _write_config(config, scratch)
        load_policy(scratch)


def _write_config(config: PolicyConfig, folder: Path) -> None:
    text = yaml.safe_dump({"format": FORMAT, **to_dict(config)}, sort_keys=False)
    (folder / "config.yaml").write_text(text, encoding="utf-8")


def read_config(path: Path) -> PolicyConfig:
    """Read a policy's config.yaml."""
    values = _mapping(path, yaml.safe_load, ("format",))
    found = values.pop("format")
    if found != FORMAT:
        raise ValueError(f"{path}: format: found {found!r}, wanted {FORMAT!r}; retrain or convert the policy")
    return from_dict(PolicyConfig, values, where=str(path))


def _mapping(path: Path, parse: Callable[[str], Any], required: tuple[str, ...]) -> dict[str, Any]:
    values = _parse(str(path), parse, _existing(path).read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path}: found {type(values).__name__}, wanted a mapping")
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"{path}: missing fields {missing}")
    return values


def _parse(where: str, parse: Callable[[Any], Parsed], value: Any) -> Parsed:
    """`parse(value)`, with every error turned into a ValueError that says where."""
    try:
        return parse(value)
    except Exception as error:  # parsers raise what they like: the tokenizers library a bare Exception, YAML its own
        raise ValueError(f"{where}: {error}") from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; a policy folder holds config.yaml, model.safetensors, spec.json, tokenizer.json"
        )
    return path
