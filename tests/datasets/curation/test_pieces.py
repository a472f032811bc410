"""Cutting every stream to a stretch of actions: nothing that is seen is lost, borders hold, clocks are untouched."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deixis.datasets.curation.clocks import Clocks
from deixis.datasets.curation.pieces import Piece, cut, without
from deixis.datasets.episode import Episode, StreamSpec
from deixis.datasets.motion import stretches
from deixis.datasets.store import TrajectoryStore
from deixis.datasets.timestamps import check_store
from deixis.datasets.tolerance import Tolerance
from deixis.datasets.windows import WindowDataset, WindowSpec

CONTROL_HZ = 10.0
PERIOD = 1e9 / CONTROL_HZ


@given(st.lists(st.booleans(), max_size=30))
def test_stretches_are_the_runs_of_true(mask: list[bool]) -> None:
    found = list(stretches(np.array(mask, bool)))
    rebuilt = np.zeros(len(mask), bool)
    for first, stop in found:
        assert first < stop
        rebuilt[first:stop] = True
    assert rebuilt.tolist() == mask
    assert all(a[1] < b[0] for a, b in pairwise(found)), "runs are as long as they can be"


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 5))
def test_cuts_and_what_is_left_are_the_whole(mask: list[bool], first: int) -> None:
    piece = Piece(7, first, first + len(mask), "", {"success": True, "seed": 3})
    cuts = [(first + a, first + b) for a, b in stretches(np.array(mask))]
    parts = without(piece, cuts)
    left = [row for part in parts for row in range(part.first, part.stop)]
    assert left == [first + row for row, gone in enumerate(mask) if not gone]
    assert all(part.meta == {"seed": 3} for part in parts[:-1]), "only the last part saw the success"
    assert all(part.meta == piece.meta for part in parts[-1:])


@given(
    rate=st.sampled_from([2.5, 5.0, 10.0, 12.0, 30.0, 200.0]),
    lead=st.floats(0, 0.95),
    jitter=st.floats(0, 0.05),
    kind=st.sampled_from(["image", "segmentation"]),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_a_cut_keeps_what_actions_see_and_stands_as_the_episode_did(
    rate: float, lead: float, jitter: float, kind: str, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    period, steps = 1e9 / rate, data.draw(st.integers(8, 40))
    lead = 0.0 if kind == "segmentation" else lead

    def clock(period: float, lead: float) -> np.ndarray:
        rows = max(1, round(steps * PERIOD / period))
        return 10**12 + np.round((np.arange(rows) - lead + rng.uniform(-jitter, jitter, rows)) * period).astype(
            np.int64
        )

    shape = (1, 1, 3) if kind == "image" else (1, 1)
    specs = [
        StreamSpec("seen", "uint8", shape, rate, kind, "1"),
        StreamSpec("action", "float32", (1,), 10, "action", ""),
    ]
    controls, stamps = clock(PERIOD, 0), clock(period, lead)
    clocks = Clocks({"action": controls, "seen": stamps}, {spec.name: spec for spec in specs})
    wanted = data.draw(st.integers(0, steps - 1))
    first = clocks.begin_before(wanted, 0)
    assert first is not None and first <= wanted
    stop = data.draw(st.integers(first + 1, steps))
    start, end = clocks.span("seen", first, stop)
    assert 0 <= start <= end <= len(stamps)
    assert (clocks.empty_stream(first, stop) is None) == (start < end)
    longest = max(period, PERIOD)
    if start < end:  # as far from the first action as ever
        begin = stamps[start] - controls[first]
        assert abs(begin - (stamps[0] - controls[0])) <= 0.2 * longest + 1
    if kind == "segmentation":
        of_actions = (stamps >= controls[first]) & (stamps <= controls[stop - 1])
        if first > 0 and stop < steps:
            assert list(range(start, end)) == np.flatnonzero(of_actions).tolist()
        return
    seen = np.searchsorted(stamps, controls[first:stop], "right") - 1  # what each action sees in the source
    if stamps[0] <= controls[0]:
        assert set(seen) <= set(range(start, end))
    if stop < steps:
        assert abs(stamps[end - 1] + period - controls[stop - 1] - PERIOD) <= Tolerance().border * longest
    if rate == CONTROL_HZ and stop < steps and lead < 1 - 4 * jitter:
        assert end - start == stop - first, "streams of one rate stay of one length"


@given(st.sampled_from([1, 2, 3, 4]), st.integers(0, 23))
def test_a_cut_begins_where_the_slowest_stream_has_a_row(every: int, row: int) -> None:
    controls = 10**12 + np.arange(24, dtype=np.int64) * 100_000_000
    specs = [
        StreamSpec("seen", "uint8", (1, 1, 3), 10 / every, "image", "1"),
        StreamSpec("action", "float32", (1,), 10, "action", ""),
    ]
    clocks = Clocks({"action": controls, "seen": controls[::every] - 10_000_000}, {spec.name: spec for spec in specs})
    assert clocks.begin_before(row, 0) == row - row % every
    assert clocks.begin_before(row, row - row % every + 1) is None or row % every == 0


def test_windows_of_a_cut_are_those_of_the_source(
    moving_store: Callable[..., TrajectoryStore], make_moving: Callable[..., Episode]
) -> None:
    source = moving_store([make_moving(seed) for seed in range(3)])
    bounds = [(0, 13), (12, 31), (8, 40)]
    pieces = [Piece(e, a, b, "push", {"seed": e}) for e, (a, b) in enumerate(bounds)]
    parts = [cut(source.episode(piece.episode), source.streams, piece) for piece in pieces]
    store = moving_store(parts, "cut.zarr")
    assert check_store(store).ok
    assert parts[1].meta == {"seed": 1, "curated_from": {"episode": 1, "rows": [12, 31]}}
    whole = WindowDataset(source, WindowSpec(1, 1), ("front",))
    left = WindowDataset(store, WindowSpec(1, 1), ("front",))
    wanted = np.concatenate([40 * e + np.arange(a, b) for e, (a, b) in enumerate(bounds)])
    found, expected = left.batch(np.arange(len(left))), whole.batch(wanted)
    for key in ("proprio", "actions"):
        np.testing.assert_array_equal(found[key], expected[key])
    np.testing.assert_array_equal(found["images"]["front"], expected["images"]["front"])
    for part, piece in zip(parts, pieces, strict=True):
        stream, before = part.streams["camera.front"], source.read(piece.episode, "camera.front")
        assert stream.arrivals_ns is not None and before.arrivals_ns is not None
        assert np.isin(stream.stamps_ns, before.stamps_ns).all()
        np.testing.assert_array_equal(stream.arrivals_ns - stream.stamps_ns, 5_000_000)
        controls = part.streams["action"].stamps_ns
        assert np.isin(part.streams["segmentation.front"].stamps_ns, controls).all()
