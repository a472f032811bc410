"""TFRecord files and the tf.train.Example messages in them, without TensorFlow.

A record is: its length (uint64, little endian), a masked CRC-32C of those 8 bytes, the bytes, a masked CRC-32C of them.
An Example is a map from a name to a list of bytes, of float32 or of int64. Sources: TensorFlow's guide "TFRecord and
tf.train.Example"; the Protocol Buffers documentation, "Encoding". Every length is checked before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from google_crc32c import value as crc32c

from .options import FormatError

MAX_RECORD_BYTES = (2 << 30) - 1  # of a protocol buffer message
_MASK_DELTA = 0xA282EAD8
_MAX_VARINT = 10  # bytes of 7 bits that hold 64

Values = np.ndarray | list[bytes]


def masked_crc(data: bytes) -> int:
    """CRC-32C of `data`, rotated and shifted as TFRecords keep it: uint32."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a file, one at a time. FormatError for a wrong checksum, and for a file that ends too early."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            number = 0
            while file.tell() < size:
                yield _record(file, size, f"{path}, record {number}")
                number += 1
    except OSError as error:
        raise FormatError(f"{path}: found no readable file ({error}), wanted a TFRecord file") from error


def _record(file, size: int, where: str) -> bytes:
    begin = file.tell()
    head = file.read(12)
    if len(head) < 12:
        raise FormatError(f"{where}: found {len(head)} bytes at {begin}, wanted 12; the file is cut short")
    if masked_crc(head[:8]) != int.from_bytes(head[8:], "little"):
        packed = " (the file is gzip-compressed: unpack it first)" if begin == 0 and head[:2] == b"\x1f\x8b" else ""
        raise FormatError(f"{where}: found a length whose checksum is wrong{packed}, wanted a TFRecord; fetch it again")
    length = int.from_bytes(head[:8], "little")
    left = size - file.tell() - 4
    if length > min(left, MAX_RECORD_BYTES):
        raise FormatError(f"{where}: found a length of {length} with {left} bytes left; the file is cut short")
    data, tail = file.read(length), file.read(4)
    if len(data) < length or len(tail) < 4:
        raise FormatError(f"{where}: found the end of the file inside the record; the file is cut short")
    if masked_crc(data) != int.from_bytes(tail, "little"):
        raise FormatError(f"{where}: found bytes whose checksum is wrong; the file is damaged, fetch it again")
    return data


def parse_example(data: bytes, where: str) -> dict[str, Values]:
    """The features of a tf.train.Example: float32 or int64 arrays [n], or lists of bytes; an empty list is int64 [0].

    FormatError where the bytes are no such message.
    """
    features: dict[str, Values] = {}
    for _, entry in _messages(memoryview(data), (1,), where):  # Example.features; repeated messages are joined
        for _, pair in _messages(entry, (1,), where):  # an entry of the map Features.feature
            name, feature = "", memoryview(b"")
            for number, value in _messages(pair, (1, 2), where):
                if number == 1:
                    name = _text(value, where)
                else:
                    feature = value
            features[name] = _values(feature, f"{where}, feature {name!r}")
    return features


def _values(feature: memoryview, where: str) -> Values:
    kinds = list(_messages(feature, (1, 2, 3), where))
    if not kinds:
        return np.empty(0, np.int64)
    kind = kinds[-1][0]  # of a oneof the last one counts, and messages of its kind are joined
    parts = [value for number, value in kinds if number == kind]
    if kind == 1:
        return [bytes(item) for part in parts for _, item in _messages(part, (1,), where)]
    arrays = [_floats(value, where) if kind == 2 else _integers(value, where) for value in parts]
    return np.concatenate(arrays)


def _floats(message: memoryview, where: str) -> np.ndarray:
    parts = []
    for _, kind, value in _fields(message, (1,), where):
        if kind not in (2, 5) or len(value) % 4:
            raise FormatError(f"{where}: found {len(value)} bytes of wire type {kind}, wanted float32 values")
        parts.append(np.frombuffer(value, "<f4"))
    return np.concatenate([np.empty(0, np.float32), *parts])


def _integers(message: memoryview, where: str) -> np.ndarray:
    parts = []
    for _, kind, value in _fields(message, (1,), where):
        if kind not in (0, 2):
            raise FormatError(f"{where}: found wire type {kind}, wanted int64 values")
        parts.append(_varints(value, where))
    return np.concatenate([np.empty(0, np.int64), *parts])


def _varints(data: memoryview, where: str) -> np.ndarray:
    """All varints in `data`, as int64 [n]."""
    raw = np.frombuffer(data, np.uint8)
    last = np.flatnonzero(raw < 0x80)
    if len(raw) and (not len(last) or last[-1] != len(raw) - 1):
        raise FormatError(f"{where}: found a number that never ends, wanted int64 values")
    first = np.concatenate(([0], last[:-1] + 1)) if len(last) else last
    lengths = last - first + 1
    if len(lengths) and lengths.max() > _MAX_VARINT:
        raise FormatError(f"{where}: found a number of {lengths.max()} bytes, wanted at most {_MAX_VARINT}")
    values = np.zeros(len(last), np.uint64)
    for i in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > i)
        values[longer] |= (raw[first[longer] + i].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * i)
    return values.view(np.int64)


def _messages(data: memoryview, wanted: tuple[int, ...], where: str) -> Iterator[tuple[int, memoryview]]:
    """Number and content of the length-delimited fields `wanted`."""
    for number, kind, value in _fields(data, wanted, where):
        if kind != 2:
            raise FormatError(f"{where}: found wire type {kind} for field {number}, wanted a tf.train.Example")
        yield number, value


def _fields(data: memoryview, wanted: tuple[int, ...], where: str) -> Iterator[tuple[int, int, memoryview]]:
    """Number, wire type and bytes of the fields `wanted` of a message; others are passed over."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at, where)
        number, kind = key >> 3, key & 7
        begin = at
        if kind == 0:
            _, end = _varint(data, at, where)
        elif kind == 2:
            length, begin = _varint(data, at, where)
            end = begin + length
        elif kind in (1, 5):
            end = begin + (8 if kind == 1 else 4)
        else:
            raise FormatError(f"{where}: found wire type {kind} at byte {at}, wanted a tf.train.Example")
        if end > len(data):
            raise FormatError(f"{where}: found a field of {end - begin} bytes with {len(data) - begin} left")
        if number in wanted:
            yield number, kind, data[begin:end]
        at = end


def _varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
    """The number at byte `at`, and where it ends."""
    value = 0
    for i in range(_MAX_VARINT):
        if at + i >= len(data):
            raise FormatError(f"{where}: found the end of the message inside a number, wanted a tf.train.Example")
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise FormatError(f"{where}: found a number of more than {_MAX_VARINT} bytes, wanted a tf.train.Example")


def _text(data: memoryview, where: str) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: found a name that is not UTF-8 ({error})") from error
