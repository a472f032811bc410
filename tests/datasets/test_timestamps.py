"""The gate finds each planted fault where it was planted, and nothing in clean data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.clocks import clock_findings
from deixis.datasets.findings import Finding, GateError, GateReport
from deixis.datasets.spec import EnvSpec
from deixis.datasets.store import Episode, Stream, StreamSpec, TrajectoryStore
from deixis.datasets.timestamps import check_store, require_ok
from deixis.datasets.tolerance import Tolerance
from deixis.datasets.trajectories import MemoryTrajectories

PERIOD = 100_000_000


def _wrong(report: GateReport) -> list[Finding]:
    """Errors and warnings: what random pictures and numbers leave untold is noted and does not matter here."""
    return [finding for finding in report.findings if finding.severity != "note"]


def test_clean_data_has_no_finding(make_store: Any, make_episode: Any) -> None:
    # 9 and 33 steps end with a segmentation row, 10 to 12 with one, two and three steps after the last.
    store = make_store([make_episode(i, steps, 10**15) for i, steps in enumerate((1, 9, 10, 11, 12, 33, 90))])
    report = require_ok(store)
    assert report.ok and _wrong(report) == []
    assert json.loads(report.to_json())["ok"] is True


def _shift_from(row: int, ns: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda stamps: stamps + np.where(np.arange(len(stamps)) >= row, ns, 0)


def _stamps(episode: Episode, stream: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    episode.streams[stream].stamps_ns = change(episode.streams[stream].stamps_ns).astype(np.int64)


def _value(episode: Episode, stream: str, row: int, dimension: int, value: float) -> None:
    episode.streams[stream].values[row].reshape(-1)[dimension] = value


def _cut(episode: Episode, stream: str, rows: int) -> None:
    old = episode.streams[stream]
    old.values, old.stamps_ns = old.values[:rows], old.stamps_ns[:rows]


@pytest.mark.parametrize(
    ("plant", "stream", "row", "check", "found"),
    [
        (lambda e: _stamps(e, "proprio", _shift_from(5, 3 * PERIOD)), "proprio", 5, "stall", "400 ms after row 4"),
        (lambda e: _stamps(e, "action", _shift_from(5, PERIOD // 2)), "action", 5, "jitter", "150 ms after row 4"),
        (lambda e: _stamps(e, "camera.front", lambda s: s * 11 // 10), "camera.front", None, "drift", "10 % too fast"),
        (lambda e: _stamps(e, "camera.front", lambda s: s + 10**12), "camera.front", 0, "offset", "stamps +1e+06 ms"),
        (lambda e: _stamps(e, "camera.wrist", lambda s: s + 2 * PERIOD), "camera.wrist", 0, "offset", "stamps +200 ms"),
        (lambda e: _cut(e, "camera.wrist", 17), "camera.wrist", 16, "border", "an end -300 ms"),
        (lambda e: _cut(e, "camera.wrist", 17), "camera.wrist", None, "lengths", "17 rows"),
        (lambda e: _value(e, "proprio", 7, 2, np.nan), "proprio", 7, "finite", "nan in dimension 2 (1 such rows)"),
        (lambda e: _value(e, "action", 3, 0, np.inf), "action", 3, "finite", "inf in dimension 0"),
        (lambda e: _value(e, "privileged.objects", 1, 5, -np.inf), "privileged.objects", 1, "finite", "-inf"),
        (lambda e: _value(e, "action", 3, 0, 0.51), "action", 3, "limits", "0.51 in dimension 0"),
        (lambda e: _value(e, "action", 19, 1, -1.01), "action", 19, "limits", "-1.01 in dimension 1"),
    ],
)
def test_a_planted_fault_is_found(
    make_store: Any, make_episode: Any, plant: Any, stream: str, row: int | None, check: str, found: str
) -> None:
    faulty = make_episode(1, 20)
    plant(faulty)
    report = check_store(make_store([make_episode(0, 20), faulty, make_episode(2, 20)]))
    hits = [f for f in report.findings if (f.stream, f.row, f.check) == (stream, row, check)]
    assert len(hits) == 1, report.findings
    assert found in hits[0].found
    assert all(finding.episode == 1 for finding in _wrong(report))
    assert not report.ok


def _tamper(store: TrajectoryStore, array: str, change: Callable[[Any, int], None]) -> TrajectoryStore:
    """Change a stream of episode 1 behind the store's back, as another program would; the store itself refuses it."""
    record: Any = zarr.open(store.path, mode="r")["episodes/000001"].attrs.asdict()  # type: ignore[index]
    change(zarr.open_array(store.path / "streams" / array, mode="r+"), record["spans"][array.split("/")[0]][0])
    return TrajectoryStore.open(store.path)


def _swap(array: Any, first: int) -> None:
    array[first + 4 : first + 6] = array[first + 4 : first + 6][::-1]


def _repeat(array: Any, first: int) -> None:
    array[first + 6] = array[first + 5]


def _shorten(array: Any, first: int) -> None:
    array.resize((first + 7, *array.shape[1:]))


@pytest.mark.parametrize(
    ("array", "change", "row", "check", "found"),
    [
        ("proprio/stamps_ns", _swap, 4, "swapped", "500000000 ns where 400000000 ns belongs (2 such rows)"),
        ("camera.front/stamps_ns", _repeat, 6, "duplicate", "0 ms after row 5"),
        ("action/values", _shorten, None, "rows", "2 values and 0 stamps missing"),
        ("action/stamps_ns", _shorten, None, "rows", "0 values and 2 stamps missing"),
    ],
)
def test_a_clock_changed_on_disk_is_found(
    make_store: Any, make_episode: Any, array: str, change: Any, row: int | None, check: str, found: str
) -> None:
    report = check_store(_tamper(make_store([make_episode(0), make_episode(1)]), array, change))
    hits = [f for f in report.findings if (f.stream, f.row, f.check) == (array.split("/")[0], row, check)]
    assert len(hits) == 1, report.findings
    assert (hits[0].episode, hits[0].severity, hits[0].found) == (1, "error", found)


def test_an_array_of_another_type_is_found(make_store: Any, make_episode: Any) -> None:
    store = make_store([make_episode(0)])
    zarr.create_array(store.path, name="streams/camera.front/values", shape=(9, 6, 8, 3), dtype="uint8", overwrite=True)
    finding = check_store(TrajectoryStore.open(store.path)).findings[0]
    assert (finding.check, finding.stream, finding.found) == ("type", "camera.front", "uint8 [6, 8, 3]")


def test_one_row_more_than_actions_is_a_warning(make_store: Any, make_episode: Any) -> None:
    episode = make_episode(0, 20)
    _cut(episode, "action", 19)
    report = check_store(make_store([episode]))
    assert report.ok
    assert {(f.severity, f.check) for f in _wrong(report)} == {("warning", "lengths")}


def test_an_empty_store_is_refused(make_store: Any) -> None:
    with pytest.raises(GateError, match="found 0 episodes, expected at least one; collect"):
        require_ok(make_store([]))


def test_the_error_reads_like_advice_and_the_report_keeps_all(make_store: Any, make_episode: Any) -> None:
    episodes = [make_episode(i) for i in range(8)]
    for episode in episodes:
        _value(episode, "action", 3, 0, 0.75)
    store = make_store(episodes)
    with pytest.raises(GateError) as raised:
        require_ok(store)
    lines = str(raised.value).splitlines()
    assert lines[0] == f"{store.path}: the gate refuses this store, 8 errors:"
    assert lines[1] == (
        "  error [limits] episode 0, stream 'action', row 3: found 0.75 in dimension 0 (1 such rows), "
        "expected dx from -0.5 to 0.5 metre; "
        "clip the command before it is executed and recorded, or declare the real limits"
    )
    assert lines[-1] == "  ... and 3 more"
    record = json.loads(raised.value.report.to_json())
    assert sum(f["severity"] == "error" for f in record["findings"]) == 8 and record["ok"] is False
    assert record["tolerance"] == Tolerance().to_dict()


def test_the_tolerance_is_the_store_s_own(make_store: Any, make_episode: Any) -> None:
    episode = make_episode(0, 20)
    for name in episode.streams:
        if len(episode.streams[name].values) == 20:
            _stamps(episode, name, _shift_from(5, PERIOD // 2))
    assert not check_store(make_store([episode], "strict")).ok
    assert check_store(make_store([episode], "lax", tolerance=Tolerance(jitter=0.6))).ok


@given(
    rate=st.sampled_from([1.0, 2.5, 10.0, 30.0, 59.94, 500.0]),
    jitters=st.lists(st.floats(-0.115, 0.115), min_size=6, max_size=40),
    start=st.integers(0, 2**62),
    data=st.data(),
)
def test_clocks_with_jitter_pass_and_one_late_row_is_found(
    env_spec: EnvSpec, rate: float, jitters: list[float], start: int, data: st.DataObject
) -> None:
    spec = StreamSpec("s", "float32", (1,), rate, "privileged", "1")
    period = spec.period_ns
    tolerance = Tolerance(rate=0.24)  # few rows of much jitter: the median interval is as uncertain as an interval
    stamps = start + np.array([round((i + j) * period) for i, j in enumerate(jitters)], np.int64)
    stamps -= min(0, stamps.min())

    def findings_of(stamps: np.ndarray) -> list[Finding]:
        episode = Episode({"s": Stream(np.zeros((len(stamps), 1), np.float32), stamps)}, "", {})
        return clock_findings(MemoryTrajectories([episode], env_spec, {"s": spec}, tolerance), ["s"])

    assert findings_of(stamps) == []
    row = data.draw(st.integers(1, len(stamps) - 1))
    stamps[row:] += round(period)
    findings = findings_of(stamps)
    assert [(f.check, f.row) for f in findings if f.check != "rate"] == [("stall", row)]


@pytest.mark.parametrize("rate", [24, 30, 60, 90, 144, 240])
def test_clocks_that_count_milliseconds_have_the_rate_they_declare(env_spec: EnvSpec, rate: int) -> None:
    """240 Hz are intervals of 4 and 5 ms: their median would be 250 Hz."""
    stamps = (np.arange(60) * 1000 // rate).astype(np.int64) * 10**6
    episode = Episode({"s": Stream(np.zeros((60, 1), np.float32), stamps)}, "", {})

    def findings(declared: float) -> list[str]:
        spec = StreamSpec("s", "float32", (1,), declared, "privileged", "1")
        return [f.check for f in clock_findings(MemoryTrajectories([episode], env_spec, {"s": spec}), ["s"])]

    assert findings(rate) == []
    assert findings(rate * 1.04) == ["rate"]


def test_a_report_stands_for_the_gate_only_for_its_own_store(make_store: Any, make_episode: Any) -> None:
    store = make_store([make_episode(1, 9)])
    other = MemoryTrajectories([store.episode(0)] * 2, store.env_spec, store.streams)
    report = check_store(store)
    assert require_ok(store, report) is report
    assert require_ok(other, report).episodes == 2
    report.findings.append(Finding("error", None, "", None, "planted", "", "", ""))
    with pytest.raises(GateError, match="planted"):
        require_ok(store, report)


@pytest.mark.parametrize("late", [-100, 60, 250])
def test_all_streams_against_the_actions_blame_the_actions(make_store: Any, make_episode: Any, late: int) -> None:
    """Slow streams, too coarse to tell 60 ms, do not stand in the way."""
    episodes = [make_episode(i, 20, 10**15) for i in range(5)]
    _stamps(episodes[3], "action", lambda s: s + late * 10**6)
    found = [(f.check, f.episode, f.stream) for f in check_store(make_store(episodes)).errors]
    assert found == [("offset", 3, "action")]


def test_a_stream_with_the_ends_of_another_episode_is_named_with_it(make_store: Any, make_episode: Any) -> None:
    episodes = [make_episode(i, steps, 10**15) for i, steps in enumerate((20, 33, 26, 20))]
    one, two = episodes[0].streams, episodes[1].streams
    one["camera.wrist"], two["camera.wrist"] = two["camera.wrist"], one["camera.wrist"]
    errors = check_store(make_store(episodes)).errors
    assert [(f.check, f.episode, f.stream) for f in errors] == [
        ("mismatch", 0, "camera.wrist"),
        ("mismatch", 1, "camera.wrist"),
    ]
    assert "those of episode 1" in errors[0].found and "those of episode 0" in errors[1].found


def test_a_stream_that_could_be_of_two_episodes_is_wrong_without_a_name(make_store: Any, make_episode: Any) -> None:
    episodes = [make_episode(i, steps, 10**15) for i, steps in enumerate((20, 33, 26, 20))]
    one, two = episodes[0].streams, episodes[1].streams
    one["camera.wrist"], two["camera.wrist"] = two["camera.wrist"], one["camera.wrist"]
    three, four = make_episode(0, 20, 10**15), make_episode(3, 33, 10**15)
    three.streams["camera.wrist"], four.streams["camera.wrist"] = (
        four.streams["camera.wrist"],
        three.streams["camera.wrist"],
    )
    errors = check_store(make_store([*episodes, three, four])).errors
    assert {f.episode for f in errors} == {0, 1, 4, 5} and "mismatch" not in {f.check for f in errors}


def test_the_gate_is_exported(tmp_path: Path) -> None:
    import deixis

    assert deixis.check_store is check_store
