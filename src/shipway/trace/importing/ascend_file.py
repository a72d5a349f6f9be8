"""One file of an Ascend dump, read without CANN: a header, and the bytes of each tensor.

The file is a little-endian u64, the length of the header; the header, a protobuf message
`toolkit.dump.DumpData` without the data; then the bytes of the inputs, outputs, buffers and work
spaces, one after another.

Source: dump_data.proto in hicann/runtime, and big_dump_data.py of msaccucmp in mindstudio-probe
26.2.0. Written from these; not tried on files of a device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shipway.errors import ModelError, TensorError
from shipway.graph.wire import LENGTH_DELIMITED, Field, iterate_fields, iterate_numbers, read_number
from shipway.tensors import dtype_named
from shipway.trace.importing.ascend_layout import FORMATS, unpack

__all__ = ["DTYPES", "AscendFile", "AscendTensor", "read_ascend_file"]

Side = Literal["input", "output"]

DTYPES = {
    1: "float32",
    2: "float16",
    3: "int8",
    4: "uint8",
    5: "int16",
    6: "uint16",
    7: "int32",
    8: "int64",
    9: "uint32",
    10: "uint64",
    11: "bool",
    12: "float64",
    16: "complex64",
    17: "complex128",
    27: "bfloat16",
    29: "uint1",
    33: "hifloat8",
    34: "float8_e5m2",
    35: "float8_e4m3fn",
}
"""Names of the element types of a dump. They are numbered differently in aclDataType."""

_EXACT_AS_FLOAT32 = frozenset({"float8_e5m2", "float8_e4m3fn"})
_PREFIX_BYTES = 8
_LONGEST_HEADER_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class AscendTensor:
    """An input or output of an operator, as the header of the file describes it.

    Args:
        side: "input" or "output".
        index: Its position among those.
        dtype: Element type, of `DTYPES`, or "type 99" for a number that is not there.
        format_name: How the device holds it, of `ascend_layout.FORMATS`.
        groups: Of a grouped convolution, for a weight; else 0 or 1.
        shape: Sizes as the device holds it.
        original: Sizes in the model; () where the file does not say.
        origin: Name of the operator of the model that this is an output of; "" where not said.
        origin_index: Which of its outputs.
        origin_format: Layout of `original`; "" where not said.
        offset: Where its bytes begin in the file.
        size_bytes: How many there are.
    """

    side: Side
    index: int
    dtype: str
    format_name: str
    groups: int
    shape: tuple[int, ...]
    original: tuple[int, ...]
    origin: str
    origin_index: int
    origin_format: str
    offset: int
    size_bytes: int

    def load(self, path: Path) -> NDArray[Any]:
        """Read its values and bring them into the layout of the model.

        Raises:
            TensorError: The file is truncated, or the type or the layout is not one of Shipway's.
        """
        where = f"{path.name} {self.side} {self.index}"
        if self.groups > 1 and self.format_name.startswith("FRACTAL_Z"):
            raise TensorError(
                f"{where}: {self.format_name} of {self.groups} groups is not unpacked."
            )
        try:
            return unpack(self._stored(path), self.format_name, self.original, self.origin_format)
        except TensorError as error:
            raise TensorError(f"{where}: {error}.") from error

    def _stored(self, path: Path) -> NDArray[Any]:
        dtype = _numpy_dtype(self.dtype)
        needed = math.prod(self.shape) * dtype.itemsize
        if needed > self.size_bytes:
            raise TensorError(
                f"{self.dtype}{list(self.shape)} needs {needed} bytes, and {self.size_bytes} "
                "are dumped"
            )
        try:
            with path.open("rb") as stream:
                stream.seek(self.offset)
                data = stream.read(needed)  # what the device padded at the end is left
        except OSError as error:
            raise TensorError(f"cannot be read: {error.strerror}") from error
        if len(data) < needed:
            raise TensorError(f"its last {needed - len(data)} bytes are not in the file")
        try:
            values = np.frombuffer(data, dtype).reshape(self.shape)
        except ValueError as error:  # a size that no array can have, beside one of 0
            raise TensorError(f"no tensor has the shape {list(self.shape)}") from error
        return values.astype(np.float32) if self.dtype in _EXACT_AS_FLOAT32 else values.copy()


@dataclass(frozen=True, slots=True)
class AscendFile:
    """The header of a dump file.

    Args:
        op_name: Name of the operator as the compiler has it; "" where the header has none.
        tensors: Its inputs, then its outputs.
        missing_bytes: How much of the file is not there.
    """

    op_name: str
    tensors: tuple[AscendTensor, ...]
    missing_bytes: int


def read_ascend_file(path: Path) -> AscendFile:
    """Read the header of a dump file.

    Raises:
        TensorError: The file is empty, truncated within its header, or no dump.
    """
    header = _read_header(path)
    try:
        message = _message(header, 0, len(header))
        sides: dict[Side, list[dict[int, list[Field]]]] = {
            side: [_message(header, part.payload, part.end) for part in _parts(message, number)]
            for side, number in _SIDES.items()
        }
        op_name = _text(header, message, _OP_NAME)
        tensors, end = _place(header, sides, _PREFIX_BYTES + len(header))
    except (ModelError, UnicodeDecodeError) as error:
        raise TensorError(f"{path} is no Ascend dump: its header {error}.") from error
    # What follows the tensors, buffers and work spaces, is not read: its absence costs nothing.
    return AscendFile(op_name, tuple(tensors), max(0, end - path.stat().st_size))


_OUTPUT, _INPUT, _OP_NAME = 3, 4, 6
_SIDES: dict[Side, int] = {"input": _INPUT, "output": _OUTPUT}
_TYPE, _FORMAT, _SHAPE, _ORIGINAL_OP = 1, 2, 3, 4
_SIZE: dict[Side, int] = {"input": 5, "output": 6}
_ORIGINAL_SHAPE: dict[Side, int] = {"input": 6, "output": 7}
_SUB_FORMAT: dict[Side, int] = {"input": 7, "output": 8}
_ORIGIN_NAME, _ORIGIN_INDEX, _ORIGIN_FORMAT = 1, 2, 4
_FORMAT_BITS = 0xFF


def _read_header(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            prefix = stream.read(_PREFIX_BYTES)
            size = int.from_bytes(prefix, "little")
            there = path.stat().st_size - _PREFIX_BYTES
            if len(prefix) < _PREFIX_BYTES or there == 0:
                raise TensorError(f"{path} is truncated: it has {len(prefix)} bytes.")
            if not 0 < size <= _LONGEST_HEADER_BYTES:
                raise TensorError(f"{path} is no Ascend dump: its header would have {size} bytes.")
            if size > there:
                raise TensorError(
                    f"{path} is truncated, or no Ascend dump: its header has {size} bytes, "
                    f"and {there} are there."
                )
            return stream.read(size)
    except OSError as error:
        raise TensorError(f"Cannot read {path}: {error.strerror}.") from error


def _message(data: bytes, begin: int, end: int) -> dict[int, list[Field]]:
    fields: dict[int, list[Field]] = {}
    for one in iterate_fields(data, begin, end):
        fields.setdefault(one.number, []).append(one)
    return fields


def _parts(message: dict[int, list[Field]], number: int) -> Iterator[Field]:
    return (one for one in message.get(number, ()) if one.kind == LENGTH_DELIMITED)


def _text(data: bytes, message: dict[int, list[Field]], number: int) -> str:
    found = [data[one.payload : one.end].decode() for one in _parts(message, number)]
    return found[-1] if found else ""


def _number(data: bytes, message: dict[int, list[Field]], number: int) -> int:
    found = [one for one in message.get(number, ()) if one.kind != LENGTH_DELIMITED]
    return read_number(data, found[-1]) if found else 0


def _shape(data: bytes, message: dict[int, list[Field]], number: int) -> tuple[int, ...]:
    """Return the sizes of a Shape: `repeated uint64 dim = 1`, packed or not."""
    sizes: list[int] = []
    for part in _parts(message, number):
        for one in iterate_fields(data, part.payload, part.end):
            if one.number != 1:
                continue
            if one.kind == LENGTH_DELIMITED:
                sizes.extend(iterate_numbers(data, one))
            else:
                sizes.append(read_number(data, one))
    return tuple(sizes)


def _place(
    data: bytes, sides: dict[Side, list[dict[int, list[Field]]]], offset: int
) -> tuple[list[AscendTensor], int]:
    """Return the tensors, each with the place of its bytes, and where the last one ends."""
    tensors = []
    for side, messages in sides.items():
        for index, message in enumerate(messages):
            tensor = _tensor(data, message, side, index, offset)
            tensors.append(tensor)
            offset += tensor.size_bytes
    return tensors, offset


def _tensor(
    data: bytes, message: dict[int, list[Field]], side: Side, index: int, offset: int
) -> AscendTensor:
    number = partial(_number, data, message)
    origin: dict[int, list[Field]] = {}
    if side == "output":
        for part in _parts(message, _ORIGINAL_OP):
            origin = _message(data, part.payload, part.end)
    original = _shape(data, message, _ORIGINAL_SHAPE[side])
    type_number, format_number = number(_TYPE), number(_FORMAT) & _FORMAT_BITS
    return AscendTensor(
        side=side,
        index=index,
        dtype=DTYPES.get(type_number, f"type {type_number}"),
        format_name=FORMATS.get(format_number, f"number {format_number}"),
        groups=number(_SUB_FORMAT[side]),
        shape=_shape(data, message, _SHAPE),
        original=() if any(size >= 1 << 63 for size in original) else original,  # -1: not known
        origin=_text(data, origin, _ORIGIN_NAME),
        origin_index=_number(data, origin, _ORIGIN_INDEX),
        origin_format=FORMATS.get(_number(data, origin, _ORIGIN_FORMAT), "") if origin else "",
        offset=offset,
        size_bytes=number(_SIZE[side]),
    )


def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name in _EXACT_AS_FLOAT32:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    try:
        return dtype_named(name).numpy
    except TensorError as error:
        raise TensorError(f"{name} values, which Shipway does not carry") from error
