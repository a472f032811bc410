"""Rows of streams as arrow columns, in the types in which LeRobot, through Hugging Face datasets, reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..episode import StreamSpec
from .options import FormatError

MAX_AXES = 5  # of Hugging Face's array features
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def arrow_type(spec: StreamSpec) -> pa.DataType:
    """A value, a list of fixed length, or lists of lists. FormatError for a shape of more than MAX_AXES axes."""
    if len(spec.shape) > MAX_AXES:
        raise FormatError(f"stream {spec.name!r}: found shape {spec.shape}, wanted at most {MAX_AXES} axes for LeRobot")
    kind = pa.from_numpy_dtype(np.dtype(spec.dtype))
    shape = spec.shape or (1,)
    if shape == (1,):
        return kind
    if len(shape) == 1:
        return pa.list_(kind, shape[0])
    for _ in shape:
        kind = pa.list_(kind)
    return kind


def arrow(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Rows [T, ...] as an arrow array of `kind`, without going through Python objects."""
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size, level in reversed(list(_levels(values.shape[1:], kind))):
        if pa.types.is_fixed_size_list(level):
            array = pa.FixedSizeListArray.from_arrays(array, size)
        else:
            offsets = pa.array(np.arange(0, len(array) + 1, size), pa.int32())
            array = pa.ListArray.from_arrays(offsets, array)
    return array.cast(kind)


def _levels(shape: tuple[int, ...], kind: pa.DataType) -> Iterator[tuple[int, pa.DataType]]:
    for size in shape:
        if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
            return
        yield size, kind
        kind = kind.value_type


def write_tasks(path: Path, tasks: list[str]) -> None:
    """Numbers and texts, the text being the index, as pandas, with which LeRobot reads them, writes such a table."""
    described = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    columns = {"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())}
    table = pa.table(columns).replace_schema_metadata({"pandas": json.dumps(described)})
    pq.write_table(table, path)
