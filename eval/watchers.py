"""What training can be asked while it goes on: retrieval and classification on scenes never seen, a few episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..datasets.language import LANGUAGES, caption
from ..envs.suites import Suite, suite_named
from ..policies.policy import Policy
from ..policies.training.watch import Watch, Watcher
from .alignment import classify_objects, recall, require_seeing
from .config import WatchConfig
from .rollout import make_env, run_episode
from .scenes import Scenes, gather_scenes


def make_watch(config: WatchConfig, exec_horizon: int | None, store: Path, out: Path) -> Watch | None:
    """The evaluations that `config` asks for; None where it asks for none.

    store: the demonstrations. out: the run's folder, which gets `best_by_probe`.
    """
    suite = suite_named(config.suite)
    watchers = []
    if config.alignment_every:
        watchers.append(Watcher("alignment", config.alignment_every, _alignment(suite, config.scenes)))
    if config.rollout_every:
        watchers.append(Watcher("rollout", config.rollout_every, _rollout(suite, config.episodes, exec_horizon)))
    if config.probe_every:
        from .probe.watcher import probe_watcher

        watchers.append(probe_watcher(config.probe_every, config.probe_frames, store, out / "best_by_probe"))
    return Watch(watchers, config.share) if watchers else None


def _alignment(suite: Suite, count: int) -> Callable[[Policy], Mapping[str, float]]:
    scenes: list[Scenes] = []

    def look(policy: Policy) -> dict[str, float]:
        backbone = require_seeing(policy)
        if not scenes:
            env = make_env(suite, policy)
            scenes.append(gather_scenes(env, suite, tuple(policy.cameras), count))
            env.close()
        found: dict[str, float] = {}
        for number, language in enumerate(LANGUAGES):
            rng = np.random.default_rng([0, number])
            texts = [caption(objects, rng, language, max_relations=0) for objects in scenes[0].objects]
            found[f"retrieval_{language}"] = recall(backbone.compare(scenes[0].images, texts))["image_to_text_at_1"]
            found[f"objects_{language}"] = classify_objects(backbone, scenes[0], language, rng)["accuracy"]
        return found

    return look


def _rollout(suite: Suite, episodes: int, exec_horizon: int | None) -> Callable[[Policy], Mapping[str, float]]:
    def look(policy: Policy) -> dict[str, float]:
        env = make_env(suite, policy)
        found = [
            run_episode(
                env,
                policy,
                suite,
                *suite.turn(number),
                "correct",
                policy_hash="",
                versions={},
                exec_horizon=exec_horizon,
            )
            for number in range(episodes)
        ]
        env.close()
        score = sum(record.score for record in found) / episodes
        return {"success": sum(record.success for record in found) / episodes, "score": score}

    return look
