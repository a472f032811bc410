"""The registry: names, recognition of a format from its files, and how little it loads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deixis.datasets.formats import EXPORTERS, IMPORTERS, detect
from deixis.datasets.formats.options import FormatError, ImportOptions
from deixis.datasets.store import StoreError

from .hdf5_files import robomimic_demo, robosuite_demo, write_demos


def test_importing_the_registry_loads_nothing_heavy() -> None:
    program = (
        "import sys; import deixis.datasets.formats; "
        "sys.exit(repr(sorted({'numpy', 'zarr', 'h5py', 'torch', 'av', 'pyarrow'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_every_name_leads_to_a_function(tmp_path: Path) -> None:
    assert set(EXPORTERS) <= set(IMPORTERS)
    for name, importer in IMPORTERS.items():
        assert importer.__name__ == f"import_{name}"
        with pytest.raises(StoreError):  # the real function, refusing what is not there
            importer(tmp_path / "nothing", tmp_path / "store", ImportOptions())


def test_formats_are_known_by_their_files(tmp_path: Path) -> None:
    made: dict[str, Path] = {name: tmp_path / name for name in ("lerobot", "rlds", "versions", "buffer", "raw")}
    for name, inner in (("lerobot", "meta/info.json"), ("rlds", "features.json"), ("versions", "1.0.0/features.json"),
                        ("buffer", "meta/episode_ends/.zarray"), ("buffer", "data/.zgroup")):  # fmt: skip
        (made[name] / inner).parent.mkdir(parents=True, exist_ok=True)
        (made[name] / inner).touch()
    made["raw"].mkdir()
    write_demos(made["raw"] / "demo.hdf5", {"demo_1": robosuite_demo(2, 0)}, {})
    mimic = write_demos(tmp_path / "any.name", {"demo_0": robomimic_demo(2, 0)})
    record = tmp_path / "x.tfrecord-00000-of-00001"
    record.touch()
    wanted = {
        "lerobot": "lerobot",
        "rlds": "rlds",
        "versions": "rlds",
        "buffer": "replay_buffer",
        "raw": "robosuite_raw",
    }
    assert {name: detect(path) for name, path in made.items()} == wanted
    assert (detect(mimic), detect(str(record)), detect(made["raw"] / "demo.hdf5")) == (
        "robomimic",
        "rlds",
        "robosuite_raw",
    )


def test_what_is_not_known_is_said(tmp_path: Path, make_store: Any) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for path, match in ((tmp_path / "nothing", "found nothing there"), (tmp_path / "notes.txt", "found no format"),
                        (tmp_path / "array.npy", "found no format"),
                        (make_store([]).path, "needs no import")):  # fmt: skip
        with pytest.raises(FormatError, match=match):
            detect(path)


@pytest.mark.parametrize(
    "wrong",
    [{"rate_hz": 0}, {"rate_hz": float("nan")}, {"rate_hz": True}, {"rate_hz": "10"}, {"limit": 0}, {"limit": 1.5},
     {"instruction": float("nan")}, {"instruction": 3}, {"cameras": "front"}, {"proprio": ("",)}, {"proprio": (3,)}],
)  # fmt: skip
def test_choices_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=rf"ImportOptions\.{next(iter(wrong))}"):
        ImportOptions(**wrong)
