"""Writes dumps as the Ascend contract has them: with protobuf's own encoder and other arithmetic."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

DTYPE_NUMBERS = {
    "float32": 1, "float16": 2, "int8": 3, "uint8": 4, "int16": 5, "uint16": 6, "int32": 7, "int64": 8,
    "uint32": 9, "uint64": 10, "bool": 11, "float64": 12, "complex64": 16, "bfloat16": 27,
    "float8_e5m2": 34, "float8_e4m3fn": 35,
}  # fmt: skip
FORMAT_NUMBERS = {
    "NCHW": 0, "NHWC": 1, "ND": 2, "NC1HWC0": 3, "FRACTAL_Z": 4, "HWCN": 16, "NDHWC": 27,
    "FRACTAL_NZ": 29, "NCDHW": 30, "NDC1HWC0": 32, "FRACTAL_Z_3D": 33, "FRACTAL_ZN_LSTM": 38,
}  # fmt: skip

_MESSAGES = {
    "Shape": [("dim", 1, "uint64", True)],
    "OriginalOp": [
        ("name", 1, "string", False), ("output_index", 2, "uint32", False),
        ("data_type", 3, "int32", False), ("format", 4, "int32", False),
    ],
    "OpOutput": [
        ("data_type", 1, "int32", False), ("format", 2, "int32", False), ("shape", 3, "Shape", False),
        ("original_op", 4, "OriginalOp", False), ("data", 5, "bytes", False), ("size", 6, "uint64", False),
        ("original_shape", 7, "Shape", False), ("sub_format", 8, "int32", False),
        ("address", 9, "uint64", False), ("offset", 11, "uint64", False),
    ],
    "OpInput": [
        ("data_type", 1, "int32", False), ("format", 2, "int32", False), ("shape", 3, "Shape", False),
        ("data", 4, "bytes", False), ("size", 5, "uint64", False), ("original_shape", 6, "Shape", False),
        ("sub_format", 7, "int32", False), ("address", 8, "uint64", False),
    ],
    "OpBuffer": [("buffer_type", 1, "int32", False), ("data", 2, "bytes", False), ("size", 3, "uint64", False)],
    "DumpData": [
        ("version", 1, "string", False), ("dump_time", 2, "uint64", False), ("output", 3, "OpOutput", True),
        ("input", 4, "OpInput", True), ("buffer", 5, "OpBuffer", True), ("op_name", 6, "string", False),
    ],
}  # fmt: skip


@functools.cache
def _message_classes() -> dict[str, Any]:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    numbers = {
        "uint64": kinds.TYPE_UINT64, "uint32": kinds.TYPE_UINT32, "int32": kinds.TYPE_INT32,
        "string": kinds.TYPE_STRING, "bytes": kinds.TYPE_BYTES,
    }  # fmt: skip
    file = descriptor_pb2.FileDescriptorProto(
        name="contract/dump_data.proto", package="toolkit.dump", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for label, number, kind, repeated in fields:
            one = message.field.add(name=label, number=number)
            one.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            one.type = numbers.get(kind, kinds.TYPE_MESSAGE)
            if kind not in numbers:
                one.type_name = f".toolkit.dump.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"toolkit.dump.{name}"))
        for name in _MESSAGES
    }


@dataclass
class Dumped:
    """A tensor to dump: `value` as the device holds it."""

    value: np.ndarray
    format_name: str = "ND"
    original: tuple[int, ...] = ()
    origin: str = ""
    origin_index: int = 0
    groups: int = 0
    dtype: str = ""


def dump_bytes(
    outputs: Sequence[Dumped] = (),
    inputs: Sequence[Dumped] = (),
    op_name: str = "",
    buffers: Sequence[bytes] = (),
) -> bytes:
    """Return the bytes of a dump file."""
    classes = _message_classes()
    header = classes["DumpData"](version="2.0", dump_time=1, op_name=op_name)
    for one, part in [
        *((o, header.output.add()) for o in outputs),
        *((i, header.input.add()) for i in inputs),
    ]:
        part.data_type = DTYPE_NUMBERS[one.dtype or one.value.dtype.name]
        part.format = FORMAT_NUMBERS[one.format_name]
        part.shape.dim.extend(one.value.shape)
        part.original_shape.dim.extend(one.original)
        part.sub_format = one.groups
        part.size = one.value.nbytes
        if one.origin:
            part.original_op.name, part.original_op.output_index = one.origin, one.origin_index
    for data in buffers:
        header.buffer.add(size=len(data))
    text = header.SerializeToString()
    payloads = [one.value.tobytes() for one in (*inputs, *outputs)]
    return len(text).to_bytes(8, "little") + text + b"".join(payloads) + b"".join(buffers)


@dataclass
class AscendFolder:
    """Writes the files of a run, one after another in time."""

    folder: Path
    time: int = 1_700_000_000_000_000
    written: list[Path] = field(default_factory=list)

    def add(
        self, op_type: str, op_name: str, *outputs: Dumped, header_name: str = "", **more: Any
    ) -> Path:
        self.time += 10
        data = dump_bytes(list(outputs), op_name=header_name, **more)
        return self.write(f"{op_type}.{op_name}.{len(self.written)}.7.{self.time}", data)

    def write(self, name: str, data: bytes | str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        self.written.append(path)
        return path


@pytest.fixture
def ascend(tmp_path) -> AscendFolder:
    """A dump in the folders that the device makes."""
    return AscendFolder(tmp_path / "dump" / "20261130101112" / "0" / "net" / "1" / "0")


@pytest.fixture(scope="session")
def dumped() -> type[Dumped]:
    return Dumped


def _blocks(size: int, block: int) -> int:
    return math.ceil(size / block)


def pack_layout(value: np.ndarray, format_name: str, c0: int = 16, n0: int = 16) -> np.ndarray:
    """Pack a tensor of the model the way the device holds it, element by element."""
    if format_name in _TRANSPOSED:
        return np.ascontiguousarray(value.transpose(_TRANSPOSED[format_name]))
    return _PACKERS[format_name](value, c0, n0)


def _pack_nc1hwc0(value, c0, n0):
    n, c, h, w = value.shape
    stored = np.zeros((n, _blocks(c, c0), h, w, c0), value.dtype)
    for channel in range(c):
        stored[:, channel // c0, :, :, channel % c0] = value[:, channel]
    return stored


def _pack_ndc1hwc0(value, c0, n0):
    n, c, d, h, w = value.shape
    stored = np.zeros((n, d, _blocks(c, c0), h, w, c0), value.dtype)
    for channel in range(c):
        stored[:, :, channel // c0, :, :, channel % c0] = value[:, channel]
    return stored


def _pack_nz(value, c0, n0):
    *batch, rows, columns = value.shape if value.ndim > 1 else (1, *value.shape)
    matrix = value.reshape(*batch, rows, columns)
    stored = np.zeros((*batch, _blocks(columns, c0), _blocks(rows, n0), n0, c0), value.dtype)
    for row in range(rows):
        for column in range(columns):
            stored[..., column // c0, row // n0, row % n0, column % c0] = matrix[..., row, column]
    return stored


def _pack_fractal_z(value, c0, n0):
    n, c, h, w = value.shape
    stored = np.zeros((_blocks(c, c0), h, w, _blocks(n, n0), n0, c0), value.dtype)
    for filter_ in range(n):
        for channel in range(c):
            place = stored[channel // c0, :, :, filter_ // n0, filter_ % n0, channel % c0]
            place[...] = value[filter_, channel]
    return stored.reshape(-1, _blocks(n, n0), n0, c0)


def _pack_fractal_z_3d(value, c0, n0):
    n, c, d, h, w = value.shape
    stored = np.zeros((d, _blocks(c, c0), h, w, _blocks(n, n0), n0, c0), value.dtype)
    for filter_ in range(n):
        for channel in range(c):
            place = stored[:, channel // c0, :, :, filter_ // n0, filter_ % n0, channel % c0]
            place[...] = value[filter_, channel]
    return stored.reshape(-1, _blocks(n, n0), n0, c0)


_PACKERS = {
    "NC1HWC0": _pack_nc1hwc0,
    "NDC1HWC0": _pack_ndc1hwc0,
    "FRACTAL_NZ": _pack_nz,
    "FRACTAL_Z": _pack_fractal_z,
    "FRACTAL_Z_3D": _pack_fractal_z_3d,
}
_TRANSPOSED = {"NHWC": (0, 2, 3, 1), "HWCN": (2, 3, 1, 0), "NDHWC": (0, 2, 3, 4, 1)}


@pytest.fixture(scope="session")
def pack():
    return pack_layout


@pytest.fixture(scope="session")
def random_values():
    """Return a function that makes values of a type: some NaN and Inf among the floats."""

    def make(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng(seed)
        kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
        if dtype == "bool" or "int" in dtype:
            return generator.integers(0, 2 if dtype == "bool" else 100, shape).astype(kind)
        values = generator.standard_normal(shape).astype(kind)
        if values.size > 2 and "e4m3" not in dtype:
            values.reshape(-1)[:2] = [np.nan, np.inf]
        return values

    return make
