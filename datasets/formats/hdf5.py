"""HDF5 files from elsewhere, read without following anything that leads out of the file or out of memory.

Links other than hard ones, external and virtual storage, and every dtype that is not a plain number are refused; sizes
are judged from the header before a byte is read.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .importing import MAX_TEXT_BYTES, checked_dtype, checked_name, checked_size
from .options import FormatError

if TYPE_CHECKING:
    import h5py

MAX_STRINGS = 10**6
_BROKEN = (OSError, RuntimeError, KeyError, ValueError)  # what the HDF5 library says of a damaged file


def load_h5py() -> Any:
    """The h5py module, or an ImportError that says how to get it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 data sets need h5py: pip install 'deixis[formats]'") from error
    return h5py


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """`path` for reading. FormatError if it is no HDF5 file or was cut short."""
    h5py, path = load_h5py(), Path(path)
    if not path.is_file():
        raise FormatError(f"{path}: found no file there, wanted an HDF5 file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(
            f"{path}: found no HDF5 file that can be read ({error}), wanted a whole one; copy it again"
        ) from error
    with file:
        yield file


def place(item: Any) -> str:
    """Where in which file a group or data set is, for messages."""
    return f"{item.file.filename}:{item.name}"


def member_names(group: h5py.Group) -> list[str]:
    """Names of the members of a group, as they are. FormatError if the group is damaged."""
    try:
        return list(group)
    except _BROKEN as error:
        raise FormatError(f"{place(group)}: the group cannot be read ({error}); copy the file again") from error


def member(group: h5py.Group, name: str) -> Any:
    """The group or array `name` of a group, by a hard link: not one that leads elsewhere."""
    h5py, where = load_h5py(), f"{place(group)}/{name}"
    try:
        if name not in group.keys():  # noqa: SIM118  (`in group` would follow a path)
            raise FormatError(f"{where}: found nothing there, wanted it; members are {member_names(group)[:20]}")
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            kind = type(link).__name__
            raise FormatError(f"{where}: found a {kind} to another place, wanted the data in this file itself")
        return group[name]
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(f"{where}: cannot be read ({error}); copy the file again") from error


def subgroup(group: h5py.Group, name: str) -> h5py.Group:
    """The group `name`, by a hard link."""
    found = member(group, name)
    if not isinstance(found, load_h5py().Group):
        raise FormatError(f"{place(group)}/{name}: found {type(found).__name__}, wanted a group")
    return found


def dataset(group: h5py.Group, name: str, rows: int | None = None) -> h5py.Dataset:
    """The array `name` of plain numbers with at least one axis, and with `rows` rows if that is given; not yet read."""
    found, where = member(group, name), f"{place(group)}/{name}"
    if not isinstance(found, load_h5py().Dataset):
        raise FormatError(f"{where}: found {type(found).__name__}, wanted an array")
    try:
        if found.is_virtual or found.external:
            raise FormatError(f"{where}: found data kept in other files, wanted them in this file itself")
        dtype, shape = checked_dtype(found.dtype, where), found.shape
        if not shape or min(shape) == 0:
            raise FormatError(f"{where}: found shape {shape}, wanted [rows, ...] with at least one row")
        if rows is not None and shape[0] != rows:
            raise FormatError(f"{where}: found {shape[0]} rows, wanted {rows}, as many as actions")
        checked_size(shape[0], dtype.itemsize * int(np.prod([float(size) for size in shape[1:]])), where)
        if found.id.get_storage_size() == 0:
            raise FormatError(f"{where}: found shape {shape} declared and no data, wanted data; the file is unfinished")
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(f"{where}: cannot be read ({error}); copy the file again") from error
    return found


def values(array: h5py.Dataset, rows: Any = slice(None)) -> np.ndarray:
    """Rows of an array that `dataset` has checked, in this machine's byte order."""
    try:
        read = array[rows]
    except _BROKEN as error:
        raise FormatError(f"{place(array)}: the data cannot be read ({error}); copy the file again") from error
    return np.ascontiguousarray(read, checked_dtype(array.dtype, place(array)))


def arrays(group: h5py.Group, rows: int, leave: Container[str] = ()) -> dict[str, h5py.Dataset]:
    """The arrays of a group but those in `leave`, each with `rows` rows and a plain name; groups are passed over."""
    h5py, found = load_h5py(), {}
    for name in member_names(group):
        if name not in leave and not isinstance(member(group, name), h5py.Group):
            found[checked_name(name, place(group))] = dataset(group, name, rows)
    return found


def strings(group: h5py.Group, name: str) -> list[str]:
    """The array `name` of text, such as a list of demonstrations."""
    h5py, found, where = load_h5py(), member(group, name), f"{place(group)}/{name}"
    is_text = isinstance(found, h5py.Dataset) and h5py.check_string_dtype(found.dtype) is not None
    if not is_text or found.ndim != 1 or found.shape[0] > MAX_STRINGS:
        raise FormatError(f"{where}: found {found}, wanted a list of at most {MAX_STRINGS} names")
    try:
        return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in found[:]]
    except _BROKEN as error:
        raise FormatError(f"{where}: cannot be read ({error}); copy the file again") from error


def text(item: Any, attribute: str) -> str | None:
    """An attribute that is text, or None if there is none of that name. FormatError if it is not text."""
    where = f"{place(item)}.attrs[{attribute!r}]"
    try:
        if attribute not in item.attrs:
            return None
        size = item.attrs.get_id(attribute).get_storage_size()
        if size > MAX_TEXT_BYTES:
            raise FormatError(f"{where}: found {size} bytes, wanted at most {MAX_TEXT_BYTES}")
        found = item.attrs[attribute]
        found = found.decode("utf-8") if isinstance(found, bytes) else found
    except FormatError:
        raise
    except _BROKEN as error:
        raise FormatError(f"{where}: cannot be read ({error})") from error
    if not isinstance(found, str):
        raise FormatError(f"{where}: found {type(found).__name__} {str(found)[:40]!r}, wanted text")
    return found


def count(item: Any, attribute: str) -> int | None:
    """An attribute that is a whole number, or None if there is none of that name. FormatError if it is not one."""
    where = f"{place(item)}.attrs[{attribute!r}]"
    try:
        found = item.attrs.get(attribute)
    except _BROKEN as error:
        raise FormatError(f"{where}: cannot be read ({error})") from error
    if found is None:
        return None
    if not isinstance(found, int | np.integer) or found < 0:
        raise FormatError(f"{where}: found {str(found)[:40]!r}, wanted a whole number, 0 or more")
    return int(found)
