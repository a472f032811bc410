"""What the workers of test_environments.py do, in a module of its own that a new process can import by name."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import torch

from deixis.envs.suites import suite_named
from deixis.eval.results import EpisodeRecord
from deixis.eval.rollout import make_env, run_episode
from deixis.eval.workers import in_each_thread
from deixis.policies.policy import Policy


class PolicyJob(NamedTuple):
    """An episode of the policy in a folder."""

    folder: str
    task: str
    index: int


def make_runner(folders: list[str], suite_name: str) -> Callable[[PolicyJob], tuple[EpisodeRecord, str]]:
    """Runs an episode as `evaluate` does, of several policies: its record, and a digest of all states on the way."""
    torch.set_num_threads(1)
    suite, policies = suite_named(suite_name), {folder: Policy.load(folder) for folder in folders}
    own_env = in_each_thread(lambda: make_env(suite, policies[folders[0]]))

    def run(job: PolicyJob) -> tuple[EpisodeRecord, str]:
        env, states = own_env(), hashlib.sha256()

        def note() -> None:
            states.update(env.unwrapped.data.qpos.tobytes())  # pyright: ignore[reportAttributeAccessIssue]

        alike = {"policy_hash": "", "versions": {}, "exec_horizon": 16}
        record = run_episode(env, policies[job.folder], suite, job.task, job.index, "correct", on_step=note, **alike)
        return record, states.hexdigest()

    return run
