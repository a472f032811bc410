"""Columns of parquet files as numpy arrays: how much a file claims to hold is checked before it is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .importing import MAX_EPISODE_BYTES, MAX_ROWS
from .options import FormatError


def read_table(path: Path, shapes: Mapping[str, tuple[int, ...] | None], rows: int | None = None) -> pa.Table:
    """The columns named in `shapes`, all rows.

    shapes: for a column of numbers, the shape of one row, None for other columns. rows: how many there must be.

    Raises FormatError where the file is missing or damaged, lacks a column, or claims more rows or values than that.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_claims(path, file, shapes, rows)
            return file.read(columns=list(shapes))
    except FileNotFoundError as error:
        raise FormatError(f"{path}: found nothing there, wanted a parquet file; fetch the data set again") from error
    except (OSError, pa.ArrowException) as error:
        raise FormatError(f"{path}: found no readable parquet file ({error}); fetch it again") from error


def column_names(path: Path) -> list[str]:
    """Names of the columns of a parquet file. FormatError where it is missing or damaged."""
    return list(read_schema(path).names)


def read_schema(path: Path) -> pa.Schema:
    """The schema of a parquet file. FormatError where it is missing or damaged."""
    try:
        return pq.read_schema(path)
    except FileNotFoundError as error:
        raise FormatError(f"{path}: found nothing there, wanted a parquet file; fetch the data set again") from error
    except (OSError, pa.ArrowException) as error:
        raise FormatError(f"{path}: found no readable parquet file ({error}); fetch it again") from error


def numbers(column: pa.ChunkedArray, shape: tuple[int, ...], where: str) -> np.ndarray:
    """A column as [rows, *shape]: plain values (shape [1]), or lists, nested as deep as `shape` is long.

    Raises FormatError for missing values, lists of another length, and anything but numbers (texts, pickled objects).
    """
    array: Any = column.combine_chunks()
    rows = len(array)
    for depth, size in enumerate(() if shape == (1,) and not _is_list(array.type) else shape):
        array = _storage(array)
        _check_whole(array, where)
        if not _is_list(array.type):
            raise FormatError(f"{where}: found {array.type} at depth {depth}, wanted lists, {list(shape)} a row")
        lengths = pc.list_value_length(array).to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
        wrong = np.flatnonzero(lengths != size)
        if len(wrong):
            row = int(wrong[0]) // max(1, len(array) // max(1, rows))
            raise FormatError(
                f"{where}, row {row}: found {lengths[wrong[0]]} values, wanted {size} as shape {list(shape)} says"
            )
        array = array.flatten()
    array = _storage(array)
    _check_whole(array, where)
    kind = array.type
    if not (pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise FormatError(f"{where}: found {kind}, wanted numbers, {list(shape)} a row; objects are never unpickled")
    return array.to_numpy(zero_copy_only=False).reshape(rows, *shape)


def texts(column: pa.ChunkedArray, where: str) -> list[str]:
    """A column of strings. FormatError for anything else."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)) or column.null_count:
        raise FormatError(f"{where}: found {column.type} with {column.null_count} nulls, wanted strings")
    return column.to_pylist()


def pictures(column: pa.ChunkedArray, where: str) -> list[bytes]:
    """A column of encoded images, as Hugging Face datasets keep them: structs of `bytes` and `path`.

    FormatError for anything else, and for rows that have only a path: a path from data is not followed.
    """
    kind = column.type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise FormatError(f"{where}: found {kind}, wanted images as structs of bytes and path")
    data = pc.struct_field(column, "bytes").to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    for row, item in enumerate(data):
        if not isinstance(item, bytes):
            raise FormatError(f"{where}, row {row}: found no image bytes, wanted the picture itself and not a path")
    return data


def _check_claims(
    path: Path, file: pq.ParquetFile, shapes: Mapping[str, tuple[int, ...] | None], rows: int | None
) -> None:
    found, schema = file.metadata.num_rows, file.schema_arrow
    missing = [name for name in shapes if name not in schema.names]
    if missing:
        raise FormatError(f"{path}: found columns {schema.names}, wanted {missing} too; fetch the data set again")
    if rows is not None and found != rows:
        raise FormatError(f"{path}: found {found} rows, wanted {rows} as the metadata of the episodes says")
    if found > MAX_ROWS:
        raise FormatError(f"{path}: found {found} rows, wanted at most {MAX_ROWS}")
    wanted: list[int | None] = []
    for field in schema:
        shape = shapes.get(field.name)
        wanted += [None if shape is None else found * math.prod(shape)] * _leaves(field.type)
    values, size = [0] * len(wanted), 0
    for group in range(file.num_row_groups):
        metadata = file.metadata.row_group(group)
        for leaf in range(metadata.num_columns):
            values[leaf] += metadata.column(leaf).num_values
            size += metadata.column(leaf).total_uncompressed_size
    for leaf, (claimed, allowed) in enumerate(zip(values, wanted, strict=True)):
        if allowed is not None and claimed > allowed:
            name = file.schema.column(leaf).path
            raise FormatError(f"{path}, column {name!r}: found {claimed} values, wanted {allowed} for {found} rows")
    if size > MAX_EPISODE_BYTES:
        raise FormatError(
            f"{path}: found {size} bytes uncompressed, wanted at most {MAX_EPISODE_BYTES}; split the file"
        )


def _leaves(kind: pa.DataType) -> int:
    """Columns that parquet keeps for a type."""
    fields: Iterable[pa.DataType] = (kind.field(i).type for i in range(kind.num_fields))
    return sum(map(_leaves, fields)) if kind.num_fields else 1


def _is_list(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _storage(array: Any) -> Any:
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _check_whole(array: Any, where: str) -> None:
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise FormatError(f"{where}, row {row}: found no value, wanted one in each row")
