"""Records of an imagined evaluation, and a small real policy that nothing has trained."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deixis.envs.suites import suite_named
from deixis.envs.tabletop.env import TabletopEnv
from deixis.eval.media import Clip, write_index
from deixis.eval.results import EpisodeRecord, write_table

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


HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def run_dir(tmp_path: Path, records: list[EpisodeRecord], make_record: Callable[..., EpisodeRecord]) -> Path:
    """A run folder with every file that a run leaves, some of them hostile."""
    failed = make_record("place", 99, success=False, instruction=HOSTILE, first_grasped="green ball")
    return write_whole_run(tmp_path / "run", [*records, failed], HOSTILE)


def write_whole_run(folder: Path, records: list[EpisodeRecord], hostile: str) -> Path:
    """Writes these episodes and all else that a run may leave: what trained it, two chains, causes, a
    diagnosis, a film."""
    write_table(records, folder / "episodes.parquet")
    chains = [replace(records[0], index=n // 2, condition=f"chain-{n % 2 + 1}", success=n < 3) for n in range(4)]
    write_table(chains, folder / "chains.parquet")
    causes = [{"cause": cause, "evidence": {"perception": "not testable"}} for cause in ("grounding", None)]
    (folder / "attribution.jsonl").write_text("".join(json.dumps(cause) + "\n" for cause in causes))
    rungs = [("replay", True, []), ("views", False, [f"flipped image: {hostile}"]), ("exact start", None, [])]
    ladder = [{"name": name, "holds": holds, "found": hostile, "causes": why} for name, holds, why in rungs]
    diagnosis = {"policy_hash": records[0].policy_hash, "broken": "views", "rungs": ladder}
    (folder / "diagnosis.json").write_text(json.dumps(diagnosis))
    (folder / "timings.json").write_text('{"collect": 42.3, "check": 3.2, "train": 388.1, "eval": 3700}')
    lines = [
        {"stage": stage, "step": step, "time_s": step, "lr": 1e-3, "samples_per_s": 400.0, "loss": loss}
        for stage, names in (("align", ("grounding", "contrastive")), (hostile, ("action",)))
        for step in range(10, 510, 10)
        for loss in [dict.fromkeys(names, 100.0 / step)]
    ]
    text = "\n".join(json.dumps(line) for line in [*lines, lines[3]])
    (folder / "training.jsonl").write_text(text + '\n{"stage": "align", "st')
    (folder / "config.yaml").write_text(f"seed: 0 # {hostile}\n")
    finding = {"severity": "warning", "episode": 3, "stream": "camera.front", "row": 12, "check": "jitter"}
    finding |= {"found": hostile, "expected": "less", "action": "look"}
    (folder / "gate.json").write_text(json.dumps({"ok": True, "episodes": 1000, "findings": [finding] * 30}))
    record = {"command": f"deixis demo {hostile}", "commit": None, "date": "2026-01-01", "hardware": {"cores": 2}}
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "media").mkdir()
    for name in ("a.webp", "a.png"):
        Image.new("RGB", (8, 8)).save(folder / "media" / name)
    said = [(0, hostile)]
    clip = Clip("a.webp", "a.png", "lift", 0, "swap", hostile, False, 80, "red cube", "ball", None, said)
    write_index([clip], folder / "media")
    return folder


@pytest.fixture(scope="session")
def policy_folder(tmp_path_factory) -> Path:
    """A small saved policy for the tabletop, never trained, whose actions fill the action limits."""
    from deixis.policies.config import HeadConfig

    head = HeadConfig(context_width=16, denoiser_width=32, denoiser_blocks=1, inference_steps=2)
    return save_policy(tmp_path_factory.mktemp("run") / "policy", head)


def save_policy(folder: Path, head: Any) -> Path:
    """Saves such a policy with this head."""
    import torch

    from deixis.datasets.normalisation import MinMaxNormaliser
    from deixis.envs.suites import suite_named
    from deixis.envs.tabletop.goals import all_goals
    from deixis.envs.tabletop.grammar import instructions
    from deixis.policies.backbones.tokenizer import TextTokenizer
    from deixis.policies.config import BackboneConfig, PolicyConfig
    from deixis.policies.policy import Policy

    spec = suite_named("tabletop-demo").make(image_size=32, disable_env_checker=True).unwrapped.env_spec  # pyright: ignore
    backbone = BackboneConfig(width=16, image_channels=8, text_width=16, text_layers=1, text_heads=2, grounding_width=8)
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
    chunks = torch.rand(200, policy.config.action_horizon, spec.action.dim) * 2 - 1
    policy.head.fit(chunks, torch.zeros(chunks.shape[:2], dtype=torch.bool))
    policy.save(folder)
    return folder


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    """The demo's tabletop with pictures too small to cost anything: planted policies look at the simulator."""
    made = suite_named("tabletop-demo").make(disable_env_checker=True, image_size=16)
    yield made.unwrapped  # pyright: ignore[reportReturnType]
    made.close()
