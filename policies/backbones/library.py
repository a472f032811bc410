"""Classes of transformers by their package, and configurations by their place, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def configuration(package: str, name: str) -> Any:
    """The class of a model's configuration."""
    return getattr(import_module(f"transformers.models.{package}.configuration_{package}"), name)


def model(package: str, name: str) -> Any:
    """The class of a model."""
    return getattr(import_module(f"transformers.models.{package}.modeling_{package}"), name)


def options(place: str, missing: str) -> Any:
    """The configuration of what is in a folder or has a name on the hub.

    Raises FileNotFoundError where there is nothing: `missing`, which says what was found and wanted, and why.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"{missing}, or a name on the hub ({str(error).splitlines()[0]})") from error
