"""Specs survive JSON and refuse what makes no sense."""

import json
from typing import Any

import pytest

from deixis.datasets.spec import ActionSpec, CameraSpec, EnvSpec, ProprioSpec, SpecError
from deixis.datasets.store import StreamSpec
from deixis.datasets.tolerance import Tolerance


def test_round_trip_through_json(env_spec: EnvSpec) -> None:
    assert EnvSpec.from_dict(json.loads(json.dumps(env_spec.to_dict()))) == env_spec


def test_names_and_sizes(env_spec: EnvSpec) -> None:
    assert env_spec.camera_names == ("front", "wrist")
    assert env_spec.camera("wrist").stream == "camera.wrist"
    assert (env_spec.action.dim, env_spec.proprio.dim) == (2, 3)
    with pytest.raises(SpecError, match=r"no camera 'camera.front', wanted one of \['front', 'wrist'\]"):
        env_spec.camera("camera.front")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ActionSpec(("dx",), ("metre",), (1.0,), (-1.0,), 10), r"'dx': found low 1.0 and high -1.0"),
        (lambda: ActionSpec(("dx",), ("metre",), (-1.0,), (float("inf"),), 10), r"ActionSpec.high: found inf"),
        (
            lambda: ActionSpec(("dx", "dy"), ("metre",), (-1.0,) * 2, (1.0,) * 2, 10),
            r"units: found 1 entries, wanted 2",
        ),
        (lambda: ActionSpec(("dx", "dx"), ("m",) * 2, (-1.0,) * 2, (1.0,) * 2, 10), r"wanted each name once"),
        (lambda: ProprioSpec("xyz", ("m",) * 3, 10), r"ProprioSpec.names: found 'xyz'"),  # type: ignore[arg-type]
        (lambda: ProprioSpec(("x",), ("m",), 0), r"rate_hz: found 0, wanted a positive"),
        (lambda: CameraSpec("camera.front", 8, 8, 10), r"CameraSpec.name: found 'camera.front'"),
        (lambda: CameraSpec("front", 0, 8, 10), r"CameraSpec.height: found 0"),
        (lambda: StreamSpec("s", "object", (), 10, "privileged", "1"), r"found 'object', wanted a bool, int or float"),
        (lambda: StreamSpec("s", "float32", (3,), 10, "sound", "1"), r"kind: found 'sound'"),
        (lambda: StreamSpec("a/b", "float32", (3,), 10, "privileged", "1"), r"without '/'"),
        (lambda: StreamSpec("c", "float32", (8, 8, 3), 10, "image", "1"), r"wanted uint8 \[H, W, 3\]"),
        (lambda: Tolerance(jitter=-1), r"Tolerance.jitter: found -1"),
        (lambda: Tolerance.from_dict({"jiter": 1}), r"wanted a mapping with keys out of"),
    ],
)
def test_nonsense_is_refused(build: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build()


def test_from_dict_names_missing_and_unknown_keys(env_spec: EnvSpec) -> None:
    data = env_spec.to_dict()
    data["action"]["rate"] = data["action"].pop("rate_hz")
    with pytest.raises(SpecError, match=r"ActionSpec: missing keys \['rate_hz'\], unknown keys \['rate'\]"):
        EnvSpec.from_dict(data)
    with pytest.raises(SpecError, match="EnvSpec: found 3, wanted a mapping"):
        EnvSpec.from_dict(3)  # type: ignore[arg-type]
