"""What a kernel library says of its operators: shipway_op.h, read with ctypes."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from shipway.errors import EngineError

__all__ = ["ABI", "AttributeView", "OpView", "read_table"]

ABI = 1
_KINDS = {1: "int", 2: "float", 3: "ints", 4: "floats"}


class _Attribute(ctypes.Structure):
    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("kind", ctypes.c_int32),
        ("required", ctypes.c_int32),
        ("i", ctypes.c_int64),
        ("f", ctypes.c_double),
        ("ints", ctypes.POINTER(ctypes.c_int64)),
        ("floats", ctypes.POINTER(ctypes.c_double)),
        ("count", ctypes.c_int64),
    ]


class _Op(ctypes.Structure):
    _fields_: ClassVar = [
        ("abi", ctypes.c_uint32),
        ("version", ctypes.c_int32),
        ("domain", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("torch_name", ctypes.c_char_p),
        ("input_types", ctypes.c_char_p),
        ("output_types", ctypes.c_char_p),
        ("float_types", ctypes.POINTER(ctypes.c_int32)),
        ("optional_inputs", ctypes.c_uint32),
        ("attribute_count", ctypes.c_int32),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("aliases", ctypes.POINTER(ctypes.c_char_p)),
        ("infer", ctypes.c_void_p),
        ("compute", ctypes.c_void_p),
    ]


class _Table(ctypes.Structure):
    _fields_: ClassVar = [
        ("abi", ctypes.c_uint32),
        ("count", ctypes.c_int32),
        ("ops", ctypes.POINTER(ctypes.POINTER(_Op))),
    ]


@dataclass(frozen=True, slots=True)
class AttributeView:
    """An attribute of a kernel: kind "int", "float", "ints" or "floats"."""

    name: str
    kind: str
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class OpView:
    """A kernel's descriptor; see shipway_op.h for what each field means.

    `address` is where it lies, `infer` where its shape rule does.
    """

    domain: str
    name: str
    torch_name: str
    version: int
    input_types: str
    output_types: str
    float_types: tuple[int, ...]
    optional: tuple[bool, ...]
    attributes: tuple[AttributeView, ...]
    aliases: tuple[str, ...]
    address: int
    infer: int


def read_table(library: ctypes.CDLL, path: Path) -> tuple[OpView, ...]:
    """Return the descriptors of a kernel library.

    Args:
        library: As ctypes has it.
        path: Its file, for messages.

    Raises:
        EngineError: It exports no table, or one of another version of the interface.
    """
    try:
        entry = library.shipway_ops
    except AttributeError as error:
        raise EngineError(
            f"{path} is no kernel library: it has no shipway_ops.",
            hint='End the kernel with SHIPWAY_OPS(&your_operator), inside extern "C".',
        ) from error
    entry.restype = ctypes.POINTER(_Table)
    entry.argtypes = []
    table = entry().contents
    _require_abi(path, table.abi)
    ops = [table.ops[at].contents for at in range(table.count)]
    for op in ops:
        _require_abi(path, op.abi)
    return tuple(_view(op) for op in ops)


def _require_abi(path: Path, found: int) -> None:
    if found != ABI:
        raise EngineError(
            f"{path} was built for version {found} of the kernel interface, not {ABI}.",
            hint="Build it again with the shipway_op.h of this Shipway.",
        )


def _view(op: _Op) -> OpView:
    inputs = op.input_types.decode()
    return OpView(
        domain=op.domain.decode(),
        name=op.name.decode(),
        torch_name=op.torch_name.decode(),
        version=op.version,
        input_types=inputs,
        output_types=op.output_types.decode(),
        float_types=_until_zero(op.float_types),
        optional=tuple(bool(op.optional_inputs >> at & 1) for at in range(len(inputs))),
        attributes=tuple(_attribute(op.attributes[at]) for at in range(op.attribute_count)),
        aliases=_names(op.aliases),
        address=ctypes.addressof(op),
        infer=op.infer,
    )


def _attribute(spec: _Attribute) -> AttributeView:
    kind = _KINDS[spec.kind]
    numbers = {"int": spec.i, "float": spec.f}
    if kind in numbers:
        default: Any = numbers[kind]
    else:
        source = spec.ints if kind == "ints" else spec.floats
        default = tuple(source[at] for at in range(spec.count))
    required = bool(spec.required)
    return AttributeView(spec.name.decode(), kind, required, None if required else default)


def _until_zero(pointer: Any) -> tuple[int, ...]:
    found: list[int] = []
    while pointer and pointer[len(found)] != 0:
        found.append(int(pointer[len(found)]))
    return tuple(found)


def _names(pointer: Any) -> tuple[str, ...]:
    found: list[str] = []
    while pointer and pointer[len(found)] is not None:
        found.append(pointer[len(found)].decode())
    return tuple(found)
