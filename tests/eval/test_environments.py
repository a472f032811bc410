"""Whatever the head: the results are those of one environment in one worker, however many there are."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from deixis.envs.suites import suite_named
from deixis.eval.results import table_digest
from deixis.eval.workers import WorkerPool
from deixis.policies.config import AutoencoderConfig, EnergyConfig, HeadConfig, TokenConfig
from deixis.policies.heads import HEADS

from .conftest import save_policy

SUITE, EPISODES = "tabletop-demo", 4
TINY = HeadConfig(
    context_width=16, denoiser_width=32, denoiser_blocks=1, unet_channels=(8, 16), train_timesteps=20, inference_steps=4
)
TINY = replace(
    TINY,
    token=TokenConfig(bins=16, width=16, layers=1, heads=2, temperature=1.0, autoencoder=AutoencoderConfig(steps=2)),
    energy=EnergyConfig(width=16, blocks=1, samples=16, langevin_iterations=8),
)
CONFIGS = {kind: replace(TINY, kind=kind) for kind in HEADS} | {
    "dpm_solver": replace(TINY, sampler="dpm_solver"),
    "langevin": replace(TINY, kind="energy", energy=replace(TINY.energy, sampler="langevin")),
    "vq": replace(TINY, kind="token", token=replace(TINY.token, code="vq")),
}


@pytest.fixture(autouse=True)
def jobs_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """policy_jobs, importable by the workers too: they start with this process's sys.path."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("policy_jobs")


Outcome = tuple[str, tuple[str, ...]]
"""Digests of a policy's results table and of all states of each of its episodes."""


def outcomes(jobs_module: ModuleType, folders: dict[str, Path], workers: int, environments: int) -> dict[str, Outcome]:
    """Of the policy in each folder."""
    episodes = [suite_named(SUITE).turn(number) for number in range(EPISODES)]
    jobs = [jobs_module.PolicyJob(str(path), *episode) for path in folders.values() for episode in episodes]
    arguments = ([str(path) for path in folders.values()], SUITE)
    with WorkerPool(workers, jobs_module.make_runner, arguments, at_once=environments) as pool:
        done = dict(pool.run(jobs))
    results = [done[number] for number in range(len(jobs))]
    each = {name: results[place * EPISODES : (place + 1) * EPISODES] for place, name in enumerate(folders)}
    return {
        name: (table_digest([record for record, _ in of]), tuple(states for _, states in of))
        for name, of in each.items()
    }


def saved(folder: Path, heads: Iterable[str]) -> dict[str, Path]:
    return {head: save_policy(folder / head, CONFIGS[head]) for head in heads}


def test_heads_of_different_nature_do_the_same_in_several_environments(jobs_module: ModuleType, tmp_path: Path) -> None:
    folders = saved(tmp_path, ("dpm_solver", "token", "langevin"))  # a solver with a memory, a decoder, a search
    alone = outcomes(jobs_module, folders, 1, 1)
    assert len({states for _, states in alone.values()}) == len(folders)
    assert outcomes(jobs_module, folders, 1, 4) == alone


@pytest.mark.slow
def test_every_head_does_the_same_with_any_number_of_workers_and_environments(
    jobs_module: ModuleType, tmp_path: Path
) -> None:
    folders = saved(tmp_path, CONFIGS)
    alone = outcomes(jobs_module, folders, 1, 1)
    for workers, environments in ((2, 1), (1, 2), (1, 4), (2, 2)):
        assert outcomes(jobs_module, folders, workers, environments) == alone, (workers, environments)
