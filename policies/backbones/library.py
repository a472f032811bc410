"""Classes of transformers by their package, imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def configuration(package: str, name: str) -> Any:
    """The class of a model's configuration."""
    return getattr(import_module(f"transformers.models.{package}.configuration_{package}"), name)


def model(package: str, name: str) -> Any:
    """The class of a model."""
    return getattr(import_module(f"transformers.models.{package}.modeling_{package}"), name)
