"""Call a kernel from Python, through the C interface of shipway_op.h, on the calling thread."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shipway.errors import EngineError
from shipway.native.table import ABI, OpView
from shipway.tensors import DTYPES, dtype_of

__all__ = ["KERNEL_DTYPES", "call_kernel", "infer_shapes"]

KERNEL_DTYPES = {
    "f": "float32",
    "d": "float64",
    "h": "float16",
    "i": "int32",
    "l": "int64",
    "I": "int64",
    "u": "uint8",
    "b": "bool",
}
"""What a kernel takes for each type letter but T."""
_MAX_RANK, _MAX_TENSORS = 8, 16
_KINDS = {"int": 1, "float": 2, "ints": 3, "floats": 4}


class _Tensor(ctypes.Structure):
    _fields_: ClassVar = [
        ("data", ctypes.c_void_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("rank", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
    ]


class _AttributeValue(ctypes.Structure):
    _fields_: ClassVar = [
        ("name", ctypes.c_char_p),
        ("kind", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
        ("i", ctypes.c_int64),
        ("f", ctypes.c_double),
        ("ints", ctypes.POINTER(ctypes.c_int64)),
        ("floats", ctypes.POINTER(ctypes.c_double)),
        ("count", ctypes.c_int64),
    ]


class _Shape(ctypes.Structure):
    _fields_: ClassVar = [("rank", ctypes.c_int32), ("dims", ctypes.c_int64 * _MAX_RANK)]


_ALLOCATE = ctypes.CFUNCTYPE(
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.POINTER(ctypes.c_int64),
    ctypes.c_int32,
)
_FAIL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)


class _Host(ctypes.Structure):
    _fields_: ClassVar = [
        ("abi", ctypes.c_uint32),
        ("threads", ctypes.c_int32),
        ("opaque", ctypes.c_void_p),
        ("parallel_for", ctypes.c_void_p),  # NULL: the kernel loops on this thread
        ("allocate", _ALLOCATE),
        ("fail", _FAIL),
    ]


_INFER = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.POINTER(_Tensor),
    ctypes.POINTER(_AttributeValue),
    ctypes.POINTER(_Shape),
    ctypes.POINTER(_Host),
)


class _Call:
    """One call: the C structures, and everything they point to."""

    def __init__(self, view: OpView, attributes: Mapping[str, Any]) -> None:
        self.view = view
        self.inputs = (_Tensor * _MAX_TENSORS)()
        self.outputs = (_Tensor * _MAX_TENSORS)()
        self.shapes = (_Shape * _MAX_TENSORS)()
        self.attributes = (_AttributeValue * max(1, len(view.attributes)))()
        self.results: dict[int, NDArray[Any]] = {}
        self.float_dtype = "float32"
        self._kept: list[Any] = []
        self._message = ""
        self.host = _Host(
            abi=ABI, threads=1, allocate=_ALLOCATE(self._allocate), fail=_FAIL(self._fail)
        )
        for at, spec in enumerate(view.attributes):
            self._set_attribute(at, spec.kind, spec.name, attributes.get(spec.name, spec.default))

    def set_input(
        self, at: int, shape: Sequence[int] | None, array: NDArray[Any] | None = None
    ) -> None:
        """Describe an input; None for one that is absent, no array while shapes are inferred."""
        if shape is None:
            self.inputs[at].rank = -1
            return
        sizes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        self._kept += [sizes, array]
        tensor = self.inputs[at]
        tensor.shape, tensor.rank = sizes, len(shape)
        if array is not None:
            tensor.data, tensor.dtype = array.ctypes.data, dtype_of(array.dtype).onnx

    def infer(self) -> list[tuple[int, ...]]:
        """Return the output shapes; -1 for a size that is not known yet."""
        infer = _INFER(self.view.infer)
        if infer(self.inputs, self.attributes, self.shapes, ctypes.byref(self.host)) != 0:
            raise self.failure("the shapes of the inputs do not fit together")
        count = len(self.view.output_types)
        return [tuple(self.shapes[at].dims[: self.shapes[at].rank]) for at in range(count)]

    def make_output(self, at: int, shape: Sequence[int]) -> int:
        """Give an output its memory; return where it lies."""
        letter = self.view.output_types[at]
        dtype = self.float_dtype if letter == "T" else KERNEL_DTYPES[letter]
        array = np.empty(tuple(shape), np.dtype(_NUMPY[dtype]))
        self.results[at] = array
        sizes = (ctypes.c_int64 * max(1, array.ndim))(*array.shape)
        self._kept.append(sizes)
        tensor = self.outputs[at]
        tensor.data, tensor.shape, tensor.rank = array.ctypes.data, sizes, array.ndim
        tensor.dtype = dtype_of(array.dtype).onnx
        return int(array.ctypes.data)

    def failure(self, otherwise: str) -> EngineError:
        """Return the error that says why the kernel refused."""
        return EngineError(f"{self.view.name}: {self._message or otherwise}.")

    def _allocate(self, host: int, at: int, shape: Any, rank: int) -> int:  # noqa: ARG002 -- C's signature
        return self.make_output(at, shape[:rank])

    def _fail(self, host: int, message: bytes) -> None:  # noqa: ARG002 -- C's signature
        self._message = self._message or message.decode("utf-8", "replace")

    def _set_attribute(self, at: int, kind: str, name: str, value: Any) -> None:
        one = self.attributes[at]
        label = name.encode()
        self._kept.append(label)
        one.name, one.kind = label, _KINDS[kind]
        if kind == "int":
            one.i = int(value)
        elif kind == "float":
            one.f = float(value)
        else:
            item = ctypes.c_int64 if kind == "ints" else ctypes.c_double
            numbers = (item * max(1, len(value)))(*value)
            self._kept.append(numbers)
            setattr(one, kind, numbers)
            one.count = len(value)


_NUMPY = {dtype.name: dtype.numpy for dtype in DTYPES}


def infer_shapes(
    view: OpView, shapes: Sequence[Sequence[int] | None], attributes: Mapping[str, Any]
) -> list[tuple[int, ...]]:
    """Return the output shapes of a call, -1 for a size that is not known yet.

    Args:
        view: The operator.
        shapes: One an input, -1 for an unknown size; None for an input that is absent.
        attributes: Those that differ from the default.

    Raises:
        EngineError: The shapes do not fit together.
    """
    call = _Call(view, attributes)
    for at, shape in enumerate(shapes):
        call.set_input(at, shape)
    return call.infer()


def call_kernel(
    library: ctypes.CDLL,
    view: OpView,
    inputs: Sequence[NDArray[Any] | None],
    attributes: Mapping[str, Any],
) -> list[NDArray[Any]]:
    """Run a kernel on the calling thread; other Python threads go on meanwhile.

    Args:
        library: The library that holds it.
        view: The operator.
        inputs: Arrays of the dtypes that its letters name; None for an input that is absent.
        attributes: Those that differ from the default.

    Raises:
        EngineError: The kernel refuses the inputs; the message is its own.
    """
    call = _Call(view, attributes)
    for at, array in enumerate(inputs):
        ordered = None if array is None else np.asarray(array, order="C")
        call.set_input(at, None if ordered is None else ordered.shape, ordered)
        if ordered is not None and view.input_types[at] == "T":
            call.float_dtype = dtype_of(ordered.dtype).name
    for at, shape in enumerate(call.infer()):
        if all(size >= 0 for size in shape):
            call.make_output(at, shape)
    done = library.shipway_call(
        ctypes.c_void_p(view.address),
        call.inputs,
        call.attributes,
        call.outputs,
        ctypes.byref(call.host),
    )
    if done != 0:
        raise call.failure("the kernel failed")
    missing = [at for at in range(len(view.output_types)) if at not in call.results]
    if missing:
        raise call.failure(f"the kernel gave output {missing[0]} no shape")
    return [call.results[at] for at in range(len(view.output_types))]
