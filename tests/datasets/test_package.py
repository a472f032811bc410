"""The room under a wrong name, and what its light modules may load."""

import subprocess
import sys
from pathlib import Path

import deixis

ROOT = Path(deixis.__file__).parent


def test_import_under_the_bare_name_says_what_happened() -> None:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import datasets"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: `import datasets` found deixis' own folder")
    assert "PYTHONSAFEPATH=1" in last


def test_no_module_loads_torch_and_specs_load_no_numpy() -> None:
    program = (
        "import sys; import deixis.datasets.spec; light = 'numpy' in sys.modules\n"
        "from deixis.datasets import grounding, merge, normalisation, sampling, store, timestamps, windows\n"
        "sys.exit(repr((light, 'torch' in sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "(False, False)"
