"""What takes the bytes of a model file: its protobuf fields, those of one kind added up.

The wire format is scanned, not decoded, so that a file of any size, or a damaged one, can be looked
at. Names of fields come from ONNX's own definition.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipway.errors import ModelError
from shipway.graph.wire import LENGTH_DELIMITED, Field, iterate_fields
from shipway.source.modelfiles import find_model_file, shown_path

__all__ = ["FieldUse", "Structure", "scan_structure"]

_WIRE_TYPES = {0: "varint", 1: "64-bit", LENGTH_DELIMITED: "length-delimited", 5: "32-bit"}
_TYPES = {  # of fields that hold no message, by descriptor.proto's number
    1: "double",
    2: "float",
    3: "int64",
    4: "uint64",
    5: "int32",
    9: "string",
    12: "bytes",
}
_EXAMPLE_BYTES = 60


@dataclass(frozen=True, slots=True)
class FieldUse:
    """All fields of one kind below their parents: e.g. the names of all nodes.

    Args:
        name: Its name in ONNX's definition; "?" for a number that has none there.
        number: Its tag number.
        wire_type: How it is encoded.
        type: Its type: the message, e.g. "NodeProto", or "int64", "string", "bytes".
        count: How often it occurs.
        size_bytes: Bytes of all occurrences: tags, lengths and content.
        example: Content of the first, where it is a number or text.
        fields: What is inside, down to the depth asked for, the most bytes first.
    """

    name: str
    number: int
    wire_type: str
    type: str
    count: int
    size_bytes: int
    example: str
    fields: tuple[FieldUse, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "number": self.number,
            "wire_type": self.wire_type,
            "type": self.type,
            "count": self.count,
            "size_bytes": self.size_bytes,
            "example": self.example,
            "fields": [one.to_json() for one in self.fields],
        }


@dataclass(frozen=True, slots=True)
class Structure:
    """The protobuf structure of a file.

    Args:
        model: The file.
        size_bytes: Its size.
        fields: Fields of the ModelProto.
        problems: Where the bytes are no protobuf, in words.
    """

    model: str
    size_bytes: int
    fields: tuple[FieldUse, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "model": self.model,
            "size_bytes": self.size_bytes,
            "fields": [one.to_json() for one in self.fields],
            "problems": list(self.problems),
        }


def scan_structure(path: Path, *, depth: int = 3) -> Structure:
    """Scan the protobuf structure of an ONNX file, a truncated one up to where it breaks.

    Args:
        path: The file.
        depth: How many levels of messages to open.

    Raises:
        ModelError: The file is absent or empty, or does not begin like a protobuf.
    """
    import onnx

    path = find_model_file(path)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        scan = _Scan(data)
        whole = Field(0, LENGTH_DELIMITED, 0, 0, len(data))
        fields = scan.inside([whole], onnx.ModelProto.DESCRIPTOR, depth)
        if not fields:
            raise ModelError(
                f"{shown_path(path)} {scan.problems[0]}.", hint="Is it an ONNX file at all?"
            )
        return Structure(shown_path(path), len(data), fields, tuple(scan.problems))


class _Scan:
    """Adds up the fields of an open file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self.problems: list[str] = []

    def inside(self, parents: list[Field], message: Any, depth: int) -> tuple[FieldUse, ...]:
        """Return what is inside some messages of one type, the most bytes first."""
        groups: dict[tuple[int, int], list[Field]] = {}
        for parent in parents:
            for field in self._fields(parent, message.name):
                groups.setdefault((field.number, field.kind), []).append(field)
        found = [self._use(fields, message, depth) for fields in groups.values()]
        return tuple(sorted(found, key=lambda one: -one.size_bytes))

    def _fields(self, parent: Field, name: str) -> Iterator[Field]:
        try:
            yield from iterate_fields(self._data, parent.payload, parent.end)
        except ModelError as error:
            self.problems.append(f"The {name} at byte {parent.start} {error}")

    def _use(self, fields: list[Field], message: Any, depth: int) -> FieldUse:
        first = fields[0]
        known = message.fields_by_number.get(first.number)
        inner: tuple[FieldUse, ...] = ()
        if known is not None and known.message_type is not None and depth > 1:
            inner = self.inside(fields, known.message_type, depth - 1)
        return FieldUse(
            "?" if known is None else known.name,
            first.number,
            _WIRE_TYPES[first.kind],
            _type_name(known),
            len(fields),
            sum(one.end - one.start for one in fields),
            self._example(first, known),
            inner,
        )

    def _example(self, field: Field, known: Any) -> str:
        """Return the content of a number or text."""
        if known is None or known.message_type is not None:
            return ""
        content = self._data[field.payload : min(field.end, field.payload + _EXAMPLE_BYTES)]
        if field.kind == LENGTH_DELIMITED:
            if known.type != known.TYPE_STRING:
                return ""
            text = content.decode("utf-8", "replace")
            return text if field.end - field.payload <= _EXAMPLE_BYTES else f"{text}..."
        if known.enum_type is not None or field.kind == 0:
            number = _varint(content)
            value = (
                None if known.enum_type is None else known.enum_type.values_by_number.get(number)
            )
            return str(number) if value is None else f"{number} ({value.name})"
        return ""


def _varint(content: bytes) -> int:
    value = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(content))
    return value - (1 << 64) if value >= 1 << 63 else value


def _type_name(known: Any) -> str:
    if known is None:
        return "unknown"
    if known.message_type is not None:
        return str(known.message_type.name)
    if known.enum_type is not None:
        return str(known.enum_type.name)
    return _TYPES.get(known.type, "number")
