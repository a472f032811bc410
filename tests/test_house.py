"""The layout of the repository: who may import whom, what is packaged, and what never stands in a file."""

import ast
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import deixis

ROOT = Path(deixis.__file__).parent
ROOMS = {
    "datasets": {"datasets"},
    "envs": {"envs", "datasets"},
    "policies": {"policies", "datasets"},
    "eval": {"eval", "datasets", "envs", "policies"},
}
BINARY = (".png", ".jpg", ".gif", ".webp", ".npz", ".ttf")


def sources() -> list[Path]:
    """Every module of the package, without tests."""
    return sorted([*ROOT.glob("*.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))])


def texts() -> Iterator[Path]:
    """Every text file that belongs to the repository."""
    kept = (".ci", ".gitignore")
    generated = ("runs", "build", "dist", "deixis.egg-info", "shared")
    for top in sorted(ROOT.iterdir()):
        if (top.name.startswith(".") and top.name not in kept) or top.name in generated:
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in BINARY:
                yield path


def imported_modules(path: Path) -> Iterator[str]:
    """Dotted names, below the root package, of what a module imports from it: "datasets.spec", "eval"."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (".".join((*base, name)) for name in names)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"absolute import of {name}" for name in names if name.partition(".")[0] == "deixis")


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_follow_the_arrows(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for module in imported_modules(path):
        assert not module.startswith("absolute"), f"{path}: {module}; code inside uses relative imports"
        if room in ROOMS:
            assert module.partition(".")[0] in ROOMS[room], (
                f"{path} imports {module}: {room} may know {sorted(ROOMS[room])}"
            )


def test_every_package_is_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    found = {"deixis"} | {
        ".".join(("deixis", *path.parent.relative_to(ROOT).parts)) for path in sources() if path.parent != ROOT
    }
    assert set(settings["packages"]) == found
    assert all((ROOT / name.replace(".", "/")[7:] / "__init__.py").is_file() for name in found)


def test_licence_is_apache() -> None:
    licence = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["license"] == "Apache-2.0"


def test_version_is_the_same_everywhere() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"] == deixis.__version__
    assert f"## {deixis.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    program = (
        "import sys; from deixis.cli import main; main(['--help']); "
        "sys.exit(repr(sorted({'torch', 'numpy', 'mujoco', 'jsonargparse', 'rich', 'gymnasium'} & set(sys.modules))))"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
    assert "usage: deixis" in done.stdout
    assert time.perf_counter() - started < 2  # 0.03 s alone; the rest is for a machine that runs other tests beside it


@pytest.mark.parametrize("command", ["demo", "collect", "data check", "train", "eval", "report", "bench", "results"])
def test_help_of_a_command_imports_no_torch(command: str) -> None:
    program = (
        "import sys; from deixis.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "sys.exit(repr(sorted({'torch', 'mujoco'} & set(sys.modules))))"
    )
    arguments = [sys.executable, "-P", "-c", program, *command.split(), "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
    assert f"usage: deixis {command}" in done.stdout


def test_lazy_names_exist() -> None:
    for name in deixis.__all__:
        assert getattr(deixis, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        deixis.no_such_name  # noqa: B018  (the access is the test)


FORBIDDEN = {
    "a path of one machine": r"/(?:root|home|Users|work|opt)/\w",
    "the host of a package registry": r"(?:pypi|pythonhosted|anaconda|npmjs|debian)\.(?:org|com)|download\.pytorch",
    "an unfinished note": r"\b(?:TODO|FIXME|XXX|HACK)\b",
    "pickle": r"\b(?:import pickle|from pickle|pickle\.loads?|allow_pickle=True|weights_only=False)\b",
    "evaluation of text as code": r"(?<![\w.])(?:eval|exec)\(",
    "torchvision": r"\bimport torchvision|from torchvision\b",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    this = Path(__file__).name
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in texts()
        if path.name != this
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
    ]
    assert not found, f"{what}:\n" + "\n".join(found)
