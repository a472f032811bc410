"""What a study says of a variant: means over its trainings, and intervals over scenes."""

import pytest

from deixis.eval.results import EpisodeRecord
from deixis.study_results import Run, metrics_of


def test_controls_are_apart_from_success_and_every_scene_counts_once(make_record) -> None:
    def table(successes: tuple[bool, bool], followed: tuple[bool, bool], right: int) -> list[EpisodeRecord]:
        correct = [
            make_record(
                index=i, success=ok, first_grasped="red cube" if ok else "blue cube", subgoals=4, subgoals_right=right
            )
            for i, ok in enumerate(successes)
        ]
        null = [make_record(index=i, condition="null", success=False) for i in range(2)]
        swap = [
            make_record(
                index=i,
                condition="swap",
                target="blue cube",
                first_grasped="blue cube" if ok else "red cube",
                success=ok,
            )
            for i, ok in enumerate(followed)
        ]
        return [*correct, *null, *swap]

    runs = [
        Run(["policy"], [table((True, True), (True, False), 3)], 1.5, 100.0, 8.0, []),
        Run(["policy"], [table((True, False), (True, False), 1)], 2.5, 200.0, 10.0, []),
    ]
    found = metrics_of(runs)
    assert found["score"] == found["success_rate"] == 0.75, "of the scenes' own instructions alone"
    assert found["starts"] == 2 and found["policies"] == 2
    assert found["score_sd_of_seeds"] == pytest.approx(0.5 / 2**0.5)
    # Scenes have the means 1 and 0.5 over runs: standard error 0.25.
    assert found["score_ci95"] == pytest.approx([0.75 - 1.96 * 0.25, 1.0])
    assert found["wrong_object_rate"] == 0.25
    assert found["null_success_rate"] == 0.0
    assert found["null_success_rate_ci95"] == pytest.approx([0.0, 0.6576], abs=1e-4), "Wilson's of 0 in 2, not none"
    assert found["swap_follow_rate"] == 0.5 and found["swap_original_rate"] == 0.5
    assert found["subgoal_accuracy"] == 0.5 and found["subgoals"] == 16
    assert found["parameters_millions"] == 2.0 and found["train_seconds"] == 150.0 and found["ms_per_chunk"] == 9.0


def test_what_was_not_run_is_not_there(make_record) -> None:
    found = metrics_of(
        [Run(["policy"], [[make_record(index=i, success=bool(i)) for i in range(2)]], 1.0, 1.0, 1.0, [])]
    )
    assert found["score"] == 0.5 and not {"null_success_rate", "swap_follow_rate", "subgoal_accuracy"} & set(found)
