"""The benchmark of experts counts what they do: a failure is one, and a length is the step of success."""

import numpy as np
import pytest

from deixis.eval.bench import experts
from deixis.eval.bench.experts import Episodes


def test_an_experts_episodes_end_where_the_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "STARTS", {"metaworld-reach": 2})
    found = experts.run()
    assert found["metaworld_reach_success"] == found["metaworld_reach_reach_success"] == 1.0
    assert 5 < found["metaworld_reach_reach_steps"] < 500
    assert len(found) == 3


def test_who_does_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    env = experts._unseen_world("metaworld-reach")
    monkeypatch.setattr(env, "expert", lambda rng: lambda: np.zeros(4))
    assert experts.episode_lengths(env, Episodes("metaworld-reach", "reach", 2)) == [None, None]
