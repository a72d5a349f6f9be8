"""The portable body: an operator written in standard ONNX operators, derived from its reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shipway.errors import ExportError
from shipway.export.options import OLDEST_OPSET
from shipway.export.quiet import collect_warnings
from shipway.ops.widening import call_reference
from shipway.tensors import dtype_named

if TYPE_CHECKING:
    import onnx_ir as ir

    from shipway.ops.definition import CustomOp

__all__ = ["BodyInput", "StandardWriter", "make_body"]


@dataclass(frozen=True, slots=True)
class BodyInput:
    """An input of the body.

    Args:
        dtype: Its dtype.
        example: Sizes that go together with those of the other inputs.
        dynamic: Axes that may have other sizes.
    """

    dtype: str
    example: tuple[int, ...]
    dynamic: tuple[int, ...]


class StandardWriter:
    """Writes nodes of standard operators: `op.Conv(x, w, strides=[1, 1])` returns the output.

    An input is a value, None, or a number, list or numpy array, which becomes a constant. With
    `_outputs=2` the result is a tuple.
    """

    def __init__(self, opset: int) -> None:
        """Start with no node; `opset` is that of the model."""
        from onnx_ir import tape

        self.opset = opset
        self._tape = tape.Tape()

    @property
    def nodes(self) -> Sequence[ir.Node]:
        """The nodes written so far."""
        return self._tape.nodes

    def __getattr__(self, op_type: str) -> Any:
        """Return a function that writes one node."""

        def write(*inputs: Any, _outputs: int = 1, **attributes: Any) -> Any:
            values = [self._value(item) for item in inputs]
            if _outputs == 1:
                return self._tape.op(op_type, values, attributes)
            return tuple(self._tape.op_multi_out(op_type, values, attributes, num_outputs=_outputs))

        return write

    def wide(self, value: Any) -> Any:
        """Return a float16 or bfloat16 value as float32: runtimes have few kernels for those."""
        import onnx_ir as ir

        narrow = value.dtype in {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
        return self.Cast(value, to=int(ir.DataType.FLOAT)) if narrow else value

    def narrow(self, value: Any, like: Any) -> Any:
        """Return what was computed from a `wide` value in the dtype of that value."""
        import onnx_ir as ir

        narrow = like.dtype in {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
        return self.Cast(value, to=int(like.dtype)) if narrow else value

    def _value(self, item: Any) -> Any:
        import numpy as np
        import onnx_ir as ir

        if item is None or isinstance(item, ir.Value):
            return item
        array = np.asarray(item)
        if array.dtype == np.float64 and not isinstance(item, np.ndarray):
            array = array.astype(np.float32)
        return self._tape.op("Constant", [], {"value": ir.tensor(array)})


def make_body(
    op: CustomOp,
    inputs: Sequence[BodyInput | None],
    attributes: Mapping[str, Any],
    opset: int,
    runs: Callable[[ir.Node], bool] | None = None,
) -> ir.Graph:
    """Return the operator as a graph of standard operators.

    Args:
        op: The operator.
        inputs: One an input of the operator; None for one that is absent, which the graph lacks.
        attributes: All of them.
        opset: Opset of the model the body is for.
        runs: Whether the engine the body is for runs a node of ONNX's own form; where it does not, the
            reference is traced. None is any engine.

    Raises:
        ExportError: The reference cannot be traced or translated, fixes a size that may change, or
            the opset is too old.
    """
    graph = _standard(op, inputs, attributes, opset)
    if graph is not None and (runs is None or all(map(runs, graph))):
        return graph
    return _traced(op, inputs, attributes, opset)


def _standard(
    op: CustomOp, inputs: Sequence[BodyInput | None], attributes: Mapping[str, Any], opset: int
) -> ir.Graph | None:
    """Write the operator with ONNX's own; None where that cannot express it."""
    import onnx_ir as ir

    if op.standard is None:
        return None
    values = [
        None if item is None else _graph_input(f"in_{at}", item) for at, item in enumerate(inputs)
    ]
    writer = StandardWriter(opset)
    results = op.standard(writer, values, dict(attributes))
    if results is None:
        return None
    outputs = list(results) if isinstance(results, tuple | list) else [results]
    return ir.Graph(
        [value for value in values if value is not None],
        outputs,
        nodes=writer.nodes,
        opset_imports={"": opset},
        name=op.short_name,
    )


def _graph_input(name: str, item: BodyInput) -> ir.Value:
    import onnx_ir as ir

    sizes = [None if axis in item.dynamic else size for axis, size in enumerate(item.example)]
    kind = ir.TensorType(ir.DataType(dtype_named(item.dtype).onnx))
    return ir.Value(name=name, type=kind, shape=ir.Shape(sizes))


def _traced(
    op: CustomOp, inputs: Sequence[BodyInput | None], attributes: Mapping[str, Any], opset: int
) -> ir.Graph:
    import torch
    from onnx_ir.passes.common import InlinePass

    if opset < OLDEST_OPSET:
        raise ExportError(
            f"The portable body of {op.name} needs opset {OLDEST_OPSET} or newer; the model has {opset}.",
            hint="Export the model again with --custom-ops inline.",
        )

    class Body(torch.nn.Module):
        """Calls the reference with the inputs that are there."""

        def forward(self, *tensors: Any) -> Any:
            given = iter(tensors)
            arguments = [None if item is None else next(given) for item in inputs]
            return call_reference(op, *arguments, **attributes)

    present = [item for item in inputs if item is not None]
    axes = tuple(dict.fromkeys(item.dynamic, torch.export.Dim.DYNAMIC) or None for item in present)
    # Ones: a level of one pixel, an index of 1 and a box of ones are all fit to be traced with.
    example = tuple(torch.ones(item.example, dtype=getattr(torch, item.dtype)) for item in present)
    try:
        with torch.no_grad(), collect_warnings():
            program = torch.export.export(Body(), example, dynamic_shapes=(axes,))
            made = torch.onnx.export(
                program, dynamo=True, opset_version=opset, optimize=True, verbose=False
            )
            InlinePass()(made.model)
    except Exception as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ExportError(
            f"The reference of {op.name} cannot become a portable body: {reason}",
            hint="It must be traceable by torch.export with dynamic sizes; "
            f"shipway op verify {op.name} shows more.",
        ) from error
    delivered = made.model.opset_imports.get("")
    if delivered != opset:
        raise ExportError(
            f"The portable body of {op.name} came out with opset {delivered}, not {opset}.",
            hint=f"Export the model with --opset {delivered}.",
        )
    graph: ir.Graph = made.model.graph
    return graph
