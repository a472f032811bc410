"""EvalConfig: checked values, and no heavy import."""

import subprocess
import sys

import pytest

from deixis.eval.config import EvalConfig


def test_episodes_of_each_condition():
    config = EvalConfig(episodes=200, control_episodes=60)
    assert [config.episodes_of(condition) for condition in config.conditions] == [200, 60, 60]
    assert EvalConfig(episodes=7).episodes_of("swap") == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("conditions", ("right",)),
        ("conditions", ()),
        ("conditions", ("null", "null")),
        ("conditions", ("null",)),
        ("episodes", 0),
        ("control_episodes", 0),
        ("workers", 0),
        ("environments", 0),
        ("videos", -1),
        ("exec_horizon", 0),
    ],
)
def test_bad_values_are_errors_that_name_the_field(field, value):
    with pytest.raises(ValueError, match=rf"eval\.{field}: found"):
        EvalConfig(**{field: value})


def test_nothing_heavy_is_imported():
    program = "import sys, deixis.eval.config; print({'torch', 'numpy', 'mujoco', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
