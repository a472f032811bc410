"""Records of an imagined evaluation, and a small real policy that nothing has trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deixis.eval.results import EpisodeRecord

OBJECTS = ("red cube", "blue cube", "green ball", "yellow cylinder")


@pytest.fixture
def make_record() -> Callable[..., EpisodeRecord]:
    def make(task: str = "lift", index: int = 0, condition: str = "correct", **changes) -> EpisodeRecord:
        values: dict[str, Any] = {
            "suite": "tabletop-demo",
            "task": task,
            "index": index,
            "seed": 2**32 - 1 - index,
            "condition": condition,
            "instruction": "" if condition == "null" else "拿起红色方块" if index % 2 else "lift the red cube",
            "success": True,
            "steps": 20 + index % 7,
            "target": "red cube",
            "original_target": "red cube",
            "first_touched": "red cube",
            "first_grasped": "red cube",
            "first_moved": "red cube",
            "predicates": {"held": True, "high": True},
            "policy_hash": "0123456789abcdef",
            "versions": {"python": "3.11.2", "torch": "2.13.0"},
            "wall_s": 0.25 + index / 100,
        }
        success: dict[str, Any] = {"score": float(changes.get("success", True))}
        return EpisodeRecord(**(values | success | changes))

    return make


@pytest.fixture
def records(make_record) -> list[EpisodeRecord]:
    """30 episodes of three tasks under three conditions, with every kind of ending."""
    rng, found = np.random.default_rng(0), []
    for condition in ("correct", "null", "swap"):
        for task in ("lift", "push", "place"):
            for index in range(10):
                target = "blue cube" if condition == "swap" else "red cube"
                chance = {"correct": 0.8, "null": 0.1, "swap": 0.7}[condition]
                success = bool(rng.random() < chance)
                acted_on = target if success else (None, target, OBJECTS[2], OBJECTS[0])[int(rng.integers(4))]
                changes = {"target": target, "success": success, "first_touched": acted_on, "first_moved": acted_on}
                changes |= {"first_grasped": None if task == "push" else acted_on, "predicates": {"held": success}}
                found.append(make_record(task, index, condition, **changes))
    return found


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory) -> Path:
    """A small saved policy for the tabletop, never trained, whose actions fill the action limits."""
    import torch

    from deixis.datasets.normalisation import MinMaxNormaliser
    from deixis.envs.suites import suite_named
    from deixis.envs.tabletop.goals import all_goals
    from deixis.envs.tabletop.grammar import instructions
    from deixis.policies.backbones.tokenizer import TextTokenizer
    from deixis.policies.config import BackboneConfig, HeadConfig, PolicyConfig
    from deixis.policies.policy import Policy

    spec = suite_named("tabletop-demo").make(image_size=32, disable_env_checker=True).unwrapped.env_spec  # pyright: ignore
    backbone = BackboneConfig(width=16, image_channels=8, text_width=16, text_layers=1, text_heads=2, grounding_width=8)
    head = HeadConfig(context_width=16, denoiser_width=32, denoiser_blocks=1, inference_steps=2)
    texts = [text for goal in list(all_goals())[:40] for text in instructions(goal)]
    torch.manual_seed(0)
    policy = Policy(
        PolicyConfig(backbone, head),
        spec,
        spec.camera_names,
        MinMaxNormaliser(np.full(spec.proprio.dim, -3.0), np.full(spec.proprio.dim, 3.0)),
        MinMaxNormaliser(spec.action.low, spec.action.high),
        TextTokenizer.train(texts, 300, backbone.max_text_tokens),
    )
    folder = tmp_path_factory.mktemp("run") / "policy"
    policy.save(folder)
    return folder
