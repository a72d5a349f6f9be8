"""Native kernels in OpenVINO without a compiler: nodes written in Python that call the C interface.

The kernel runs on the one thread that OpenVINO calls Python on.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from numpy.typing import NDArray

from shipway.errors import EngineError
from shipway.ops.kernel_calls import KERNEL_DTYPES, call_kernel, infer_shapes
from shipway.tensors import dtype_named

if TYPE_CHECKING:
    import ctypes

    from shipway.native.table import AttributeView, OpView
    from shipway.ops.kernel_library import KernelLibrary

__all__ = ["conversions", "node_type"]

_PRESENT = "shipway_present"
_ABSENT = "NullNode"  # what OpenVINO's ONNX frontend puts in the place of an input that is absent


# What a node gives for a letter other than T; see node_type_of in openvino.cpp.
_NODE_TYPES = dict.fromkeys("fdh", "f32") | dict.fromkeys("ilI", "i32")
_NODE_TYPES |= dict.fromkeys("ub", "u8")


@functools.cache
def node_type(library: KernelLibrary, view: OpView) -> Any:
    """Return the class of OpenVINO nodes that call a kernel.

    Args:
        library: The library that holds it.
        view: Its descriptor.
    """
    # OpenVINO takes the type in a file from the name of the class; the C++ extension writes the same.
    return type(f"{view.domain}.{view.name}", (_Node,), {"view": view, "library": library.handle})


def conversions(kind: Any) -> list[Any]:
    """Return the rules by which the ONNX frontend makes nodes of a class: one for each of its names."""
    from openvino.frontend.onnx import ConversionExtension

    view: OpView = kind.view
    names = [(view.domain, view.name)]
    for alias in view.aliases:
        domain, _, name = alias.partition("::")
        names.append((domain, name))
    convert = functools.partial(_convert, kind)
    return [ConversionExtension(name, domain, convert) for domain, name in names]


def _convert(kind: Any, node: Any) -> Any:
    view: OpView = kind.view
    count = min(node.get_input_size(), len(view.input_types))
    given = {at: node.get_input(at) for at in range(count)}
    there = {
        at: value for at, value in given.items() if value.get_node().get_type_name() != _ABSENT
    }
    attributes = {
        spec.name: node.get_attribute(spec.name)
        for spec in view.attributes
        if spec.required or node.has_attribute(spec.name)
    }
    outputs = kind(list(there.values()), attributes, sum(1 << at for at in there)).outputs()
    for at, letter in enumerate(view.output_types):
        if letter != "T" and _NODE_TYPES[letter] != dtype_named(KERNEL_DTYPES[letter]).openvino:
            wanted = dtype_named(KERNEL_DTYPES[letter]).openvino
            outputs[at] = openvino.opset13.convert(outputs[at], wanted).output(0)
    return outputs


class _Node(openvino.Op):  # type: ignore[misc] # openvino is Any for mypy
    """A call of a kernel. An input that is absent is no input of the node."""

    view: OpView
    library: ctypes.CDLL

    def __init__(
        self,
        inputs: Sequence[Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        present: int = -1,
    ) -> None:
        given = attributes or {}
        self._values: dict[str, Any] = {_PRESENT: present}
        for spec in self.view.attributes:
            self._values[spec.name] = _written(spec, given.get(spec.name, spec.default))
        super().__init__(self, None if inputs is None else list(inputs))

    def visit_attributes(self, visitor: Any) -> bool:
        """Have the attributes written or read."""
        visitor.on_attributes(self._values)
        return True

    def clone_with_new_inputs(self, inputs: Any) -> Any:
        """Return the same call of other values."""
        return type(self)(inputs, self._attributes(), self._values[_PRESENT])

    def validate_and_infer_types(self) -> None:
        """Set dtypes and shapes of the outputs, as far as they follow from those of the inputs."""
        places = self._places()
        shapes: list[tuple[int, ...] | None] = [None] * len(self.view.input_types)
        float_type, ranks_known = openvino.Type.f32, True
        for port, at in enumerate(places):
            shape = self.get_input_partial_shape(port)
            if self.view.input_types[at] == "T":
                float_type = self.get_input_element_type(port)
            ranks_known = ranks_known and shape.rank.is_static
            if ranks_known:
                shapes[at] = tuple(size.get_length() if size.is_static else -1 for size in shape)
        found = infer_shapes(self.view, shapes, self._attributes()) if ranks_known else None
        for at, letter in enumerate(self.view.output_types):
            dtype = float_type if letter == "T" else getattr(openvino.Type, _NODE_TYPES[letter])
            shape = (
                openvino.PartialShape.dynamic()
                if found is None
                else openvino.PartialShape(list(found[at]))
            )
            self.set_output_type(at, dtype, shape)

    def has_evaluate(self) -> bool:
        """Say that the node can be computed."""
        return True

    def evaluate(self, outputs: Any, inputs: Any) -> bool:
        """Run the kernel."""
        arrays: list[NDArray[Any] | None] = [None] * len(self.view.input_types)
        for at, tensor in zip(self._places(), inputs, strict=True):
            letter = self.view.input_types[at]
            array = _array(tensor)
            # OpenVINO computes int64 as int32 and float64 as float32.
            arrays[at] = array if letter == "T" else array.astype(KERNEL_DTYPES[letter], copy=False)
        results = call_kernel(self.library, self.view, arrays, self._attributes())
        for at, (tensor, result) in enumerate(zip(outputs, results, strict=True)):
            tensor.shape = openvino.Shape(result.shape)
            target = _array(tensor)
            target[...] = result
            if result.dtype.kind == "i" and not np.array_equal(target, result):
                raise EngineError(
                    f"{self.view.name}: output {at} does not fit into {target.dtype}, "
                    "which OpenVINO computes it in."
                )
        return True

    def _places(self) -> list[int]:
        present = self._values[_PRESENT]
        return [at for at in range(len(self.view.input_types)) if present >> at & 1]

    def _attributes(self) -> dict[str, Any]:
        return {spec.name: _read(spec, self._values[spec.name]) for spec in self.view.attributes}


def _array(tensor: Any) -> NDArray[Any]:
    """Return the memory of an OpenVINO tensor; numpy has no bfloat16 of its own."""
    array: NDArray[Any] = tensor.data
    if tensor.element_type == openvino.Type.bf16:
        return array.view(dtype_named("bfloat16").numpy)
    return array


def _written(spec: AttributeView, value: Any) -> Any:
    """Return an attribute as a file has it: floats as text that is read back to the same bits."""
    if spec.kind == "float":
        return f"{0.0 if value is None else value:.17g} "
    if spec.kind == "floats":
        return "".join(f"{number:.17g} " for number in value or ())
    if spec.kind == "ints":
        return [int(number) for number in value or ()]
    return int(value or 0)


def _read(spec: AttributeView, value: Any) -> Any:
    if spec.kind == "float":
        return float(value)
    if spec.kind == "floats":
        return [float(number) for number in value.split()]
    return value
