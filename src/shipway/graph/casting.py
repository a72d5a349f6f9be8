"""Which casts lose nothing."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["loses_nothing"]

_WIDER = {
    "FLOAT16": {"FLOAT", "DOUBLE"},
    "BFLOAT16": {"FLOAT", "DOUBLE"},
    "FLOAT": {"DOUBLE"},
    "INT8": {"INT16", "INT32", "INT64", "FLOAT16", "FLOAT", "DOUBLE"},
    "UINT8": {
        "INT16",
        "INT32",
        "INT64",
        "UINT16",
        "UINT32",
        "UINT64",
        "FLOAT16",
        "FLOAT",
        "DOUBLE",
    },
    "INT16": {"INT32", "INT64", "FLOAT", "DOUBLE"},
    "UINT16": {"INT32", "INT64", "UINT32", "UINT64", "FLOAT", "DOUBLE"},
    "INT32": {"INT64", "DOUBLE"},
    "UINT32": {"INT64", "UINT64", "DOUBLE"},
}
"""Where every number of a type goes without loss. bool is apart: a cast to it is a comparison."""


def loses_nothing(first: ir.DataType, to: int | None) -> bool:
    """Whether every number of a type goes into another one."""
    return to is not None and ir.DataType(to).name in _WIDER.get(first.name, set())
