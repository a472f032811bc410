"""The whole evaluation with real workers: the table does not depend on how many there are or on one that dies."""

import io
import multiprocessing
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from deixis.envs.suites import suite_named
from deixis.eval.config import EvalConfig
from deixis.eval.journal import Journal
from deixis.eval.media import read_index
from deixis.eval.results import EpisodeRecord, read_table, table_digest
from deixis.eval.success import PARTIAL, evaluate, plan
from deixis.eval.workers import WorkerError

CONFIG = EvalConfig(episodes=5, control_episodes=3, workers=2, videos=3)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def evaluated(policy_folder, tmp_path_factory):
    out, console = tmp_path_factory.mktemp("evaluated"), quiet()
    return evaluate(policy_folder, CONFIG, out, console), out, said(console)


def test_plan_is_balanced_and_paired():
    suite = suite_named("tabletop-demo")
    jobs = plan(suite, EvalConfig(episodes=200, control_episodes=50))
    assert len(set(jobs)) == len(jobs) == 300
    by_condition = {c: {(j.task, j.index) for j in jobs if j.condition == c} for c in ("correct", "null", "swap")}
    assert sorted(Counter(task for task, _ in by_condition["correct"]).values()) == [66, 67, 67]
    assert by_condition["null"] == by_condition["swap"] < by_condition["correct"]


def test_the_table_is_complete_ordered_and_on_disk(evaluated, policy_folder):
    records, out, text = evaluated
    tasks = suite_named("tabletop-demo").tasks
    keys = [(CONFIG.conditions.index(r.condition), tasks.index(r.task), r.index) for r in records]
    assert keys == sorted(set(keys))
    assert Counter(r.condition for r in records) == {"correct": 5, "null": 3, "swap": 3}
    assert read_table(out / "episodes.parquet") == records
    assert all(r.wall_s > 0 and len(r.policy_hash) == 16 and "mujoco" in r.versions for r in records)
    assert "episodes 11/11" in text


@pytest.mark.parametrize("environments", [1, 4])
def test_one_worker_gives_the_same_table_as_two(evaluated, policy_folder, tmp_path, environments):
    alone = replace(CONFIG, workers=1, environments=environments)
    assert table_digest(evaluate(policy_folder, alone, tmp_path, quiet())) == table_digest(evaluated[0])
    assert read_index(tmp_path / "media") == read_index(evaluated[1] / "media")


def stop(path: Path, about: dict, records: list[EpisodeRecord]) -> None:
    """What an evaluation leaves that is stopped after these episodes."""
    with suppress(KeyboardInterrupt), Journal(path, about) as journal:
        for record in records:
            journal.add(record)
        raise KeyboardInterrupt


def test_an_evaluation_that_was_stopped_goes_on(evaluated, policy_folder, tmp_path):
    records, _, _ = evaluated
    about = {"suite": "tabletop-demo", "exec_horizon": None, "policy_hash": records[0].policy_hash}
    marked = [replace(record, steps=1000) for record in records[4:9]]  # by which it is known that it was not run again
    stop(tmp_path / PARTIAL, about | {"versions": records[0].versions}, marked)
    with (tmp_path / PARTIAL).open("a") as file:
        file.write('{"suite": "tabletop-demo", "task": "li')  # and that one was not written to its end
    console = quiet()
    again = evaluate(policy_folder, replace(CONFIG, videos=0), tmp_path, console)
    assert "going on after 5 of 11 episodes" in said(console)
    assert [r.steps == 1000 for r in again] == [4 <= place < 9 for place in range(11)]
    restored = [replace(r, steps=old.steps) for r, old in zip(again, records, strict=True)]
    assert table_digest(restored) == table_digest(records), "none is lost and none is there twice"
    assert not (tmp_path / PARTIAL).exists()


def test_another_evaluations_journal_is_begun_anew(evaluated, tmp_path):
    path, records = tmp_path / PARTIAL, evaluated[0]
    stop(path, {"suite": "a"}, records[:2])
    assert Journal(path, {"suite": "a"}).records == records[:2]
    assert Journal(path, {"suite": "b"}).records == []
    assert Journal(path, {"suite": "a"}).records == records[:2], "nothing is lost by looking"
    stop(path, {"suite": "a"}, records[2:3])
    assert Journal(path, {"suite": "a"}).records == records[:3]
    stop(path, {"suite": "b"}, records[:1])
    assert Journal(path, {"suite": "a"}).records == []


@pytest.mark.parametrize("environments", [1, 2])
def test_a_killed_worker_changes_nothing_and_is_said(evaluated, policy_folder, tmp_path, environments):
    killed = []

    def kill_a_worker() -> None:
        while not killed:
            time.sleep(0.5)
            killed.extend(p for p in multiprocessing.active_children() if p.name == "deixis worker")
        killed[0].kill()

    killer, console = threading.Thread(target=kill_a_worker), quiet()
    killer.start()
    records = evaluate(policy_folder, replace(CONFIG, environments=environments, videos=0), tmp_path, console)
    killer.join()
    assert table_digest(records) == table_digest(evaluated[0])
    died = [line for line in said(console).splitlines() if line.startswith("a worker died (exit code -9) in episode")]
    assert len(died) == len(set(died)) == environments
    assert all(line.endswith("running it again in a new worker") for line in died)


def test_films(evaluated):
    records, out, _ = evaluated
    clips = read_index(out / "media")
    assert len(clips) == CONFIG.videos
    files = {path.name for path in (out / "media").iterdir()}
    assert files == {"index.json"} | {name for clip in clips for name in (clip.film, clip.strip)}
    outcomes = {(r.condition, r.task, r.index): (r.success, r.steps) for r in records}
    assert all(outcomes[clip.condition, clip.task, clip.index] == (clip.success, clip.steps) for clip in clips)


def test_a_refusal_in_a_worker_arrives_in_words(tmp_path):
    broken = tmp_path / "policy"
    broken.mkdir()
    (broken / "config.yaml").write_text("format: something else\n")
    with pytest.raises(WorkerError, match=r"config.yaml: format: found 'something else'") as refused:
        evaluate(broken, CONFIG, tmp_path / "out", quiet())
    assert "Traceback" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_no_policy_is_an_error_before_anything_starts(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found no policy there"):
        evaluate(tmp_path / "nothing", CONFIG, tmp_path, quiet())
    assert list(Path(tmp_path).iterdir()) == []
