"""The protobuf wire format, as far as a model file needs it: fields are found, not decoded.

Source: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from shipway.errors import ModelError

__all__ = [
    "LENGTH_DELIMITED",
    "Buffer",
    "Field",
    "encode_length_delimited",
    "iterate_fields",
    "iterate_numbers",
    "read_number",
]

_VARINT, _FIXED64, LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT_BYTES = 10
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}


class Buffer(Protocol):
    """Bytes that can be read in place: `bytes` or a memory-mapped file."""

    def __getitem__(self, index: int, /) -> int:
        """Return one byte."""

    def __len__(self) -> int:
        """Return how many there are."""


class Field(NamedTuple):
    """One field of a message: where it begins, and where its payload begins and ends."""

    number: int
    kind: int
    start: int
    payload: int
    end: int


def iterate_fields(data: Buffer, begin: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message in `data[begin:end]`, in the order of the file.

    Raises:
        ModelError: The bytes are no protobuf message.
    """
    position = begin
    while position < end:
        tag, payload = _read_varint(data, position, end)
        number, kind = tag >> 3, tag & 7
        if kind == LENGTH_DELIMITED:
            size, payload = _read_varint(data, payload, end)
            after = payload + size
        elif kind == _VARINT:
            after = _read_varint(data, payload, end)[1]
        elif kind in _FIXED_BYTES:
            after = payload + _FIXED_BYTES[kind]
        else:
            raise ModelError(f"is no protobuf: byte {position} begins a field of kind {kind}")
        if after > end or number == 0:
            raise ModelError(f"is truncated or no protobuf: the field at byte {position} ends late")
        yield Field(number, kind, position, payload, after)
        position = after


def read_number(data: bytes, field: Field) -> int:
    """Return the value of a field that is a varint or has a fixed size, as an unsigned number."""
    if field.kind == _VARINT:
        return _read_varint(data, field.payload, field.end)[0]
    return int.from_bytes(data[field.payload : field.end], "little")


def iterate_numbers(data: Buffer, packed: Field) -> Iterator[int]:
    """Yield the varints of a packed field.

    Raises:
        ModelError: The last one is cut off.
    """
    position = packed.payload
    while position < packed.end:
        value, position = _read_varint(data, position, packed.end)
        yield value


def _read_varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    """Return a number and the position behind it."""
    value = 0
    for count in range(min(_LONGEST_VARINT_BYTES, end - position)):
        byte = data[position + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, position + count + 1
    raise ModelError(f"is truncated or no protobuf: no number ends after byte {position}")


def encode_length_delimited(number: int, size: int) -> bytes:
    """Return what stands before the payload of a field: its tag and its length."""
    return _encode_varint(number << 3 | LENGTH_DELIMITED) + _encode_varint(size)


def _encode_varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
