"""Connected components of near neighbours, found exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BLOCK = 1024  # rows of one matrix product: 4 MB of cosines at a time
_ROUNDING = 1e-6  # of a cosine in float32: equal vectors are neighbours at a threshold of 1 too


def components(vectors: np.ndarray, threshold: float, owners: np.ndarray | None = None) -> np.ndarray:
    """Component of each vector, int64 [N], where two are joined if their cosine is at least `threshold`.

    vectors: float32 [N, D] of length 1. owners: int [N]; vectors of one owner are not joined directly. Every pair is
    compared, block by block: N * N / 2 products of length D, and memory for one block. Components are joined as soon as
    they are found, so that many neighbours cost no memory either.
    """
    count = len(vectors)
    labels = np.arange(count)
    for start in range(0, count, _BLOCK):
        rows = slice(start, start + _BLOCK)
        for other in range(start, count, _BLOCK):
            columns = slice(other, other + _BLOCK)
            near = vectors[rows] @ vectors[columns].T >= threshold - _ROUNDING
            if other == start:
                near = np.triu(near, 1)
            if owners is not None:
                near &= owners[rows, None] != owners[None, columns]
            i, j = np.nonzero(near)
            if len(i):
                labels = _join(labels, labels[rows][i], labels[columns][j])
    return labels


def members(labels: np.ndarray) -> list[np.ndarray]:
    """The positions in each component of more than one, each in order: a list of int64 [M]."""
    order = np.argsort(labels, kind="stable")
    borders = np.flatnonzero(np.diff(labels[order])) + 1
    return [group for group in np.split(order, borders) if len(group) > 1]


def same_text(texts: Sequence[str]) -> list[np.ndarray]:
    """The positions of each text that comes more than once."""
    places: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        places.setdefault(text, []).append(index)
    return [np.array(group) for group in places.values() if len(group) > 1]


def _join(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Labels 0 to N - 1 after the components of these labels became one, pair by pair."""
    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(len(labels), len(labels)))
    return connected_components(graph, directed=False)[1].astype(np.int64)[labels]
