"""The configuration can be read without torch, and says what is wrong with a value."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from deixis.policies.config import TrainConfig, from_dict, to_dict


def test_round_trip_through_plain_values() -> None:
    config = TrainConfig(seed=7, cameras=("front",))
    assert from_dict(TrainConfig, to_dict(config)) == config


def test_importing_the_configuration_does_not_import_torch() -> None:
    code = "import sys, deixis.policies.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"aling": {}}, "config.aling: unknown field; did you mean 'align'"),
        ({"align": {"steps": 1.5}}, "config.align.steps: found 1.5"),
        (
            {"policy": {"head": {"kind": "difusion"}}},
            "config.policy.head.kind: found 'difusion', wanted one of 'diffusion'",
        ),
        ({"align": {"trainable": {"image": "yes"}}}, "config.align.trainable.image: found 'yes'"),
        ({"align": 3}, "config.align: found int, wanted a mapping"),
        ({"align": {"betas": [0.9]}}, "config.align.betas: found"),
        ({"tensorboard": 1}, "config.tensorboard: found 1"),
    ],
)
def test_a_wrong_field_or_value_is_named(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        from_dict(TrainConfig, values)
