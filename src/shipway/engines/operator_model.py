"""One operator as a model of its own, in the forms that engines take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.errors import EngineError
from shipway.export.operator_nodes import inline_operators
from shipway.export.portable import PortableModel
from shipway.ops.onnx_schema import infer_shapes, register_schema
from shipway.ops.schema import LETTERS, Input
from shipway.ops.widening import call_reference
from shipway.tensors import Dim, TensorSpec, dtype_named

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp, Sample

__all__ = [
    "Call",
    "Family",
    "families",
    "inline_model",
    "make_calls",
    "program_model",
    "to_array",
    "write_model",
]

_WIDE = "float32"


@dataclass(frozen=True, slots=True)
class Call:
    """A sample in one dtype.

    Args:
        sample: The sample.
        tensors: Its inputs, cast; None where an optional one is absent.
        golden: What the reference gives in float64 for exactly these inputs, one an output.
    """

    sample: Sample
    tensors: tuple[Any, ...]
    golden: tuple[Any, ...]


def make_calls(op: CustomOp, dtype: str, seed: int) -> list[Call]:
    """Return the samples of an operator in a dtype, each with what the float64 reference gives.

    The reference gets the same inputs, rounded to the dtype and widened again.
    """
    import torch

    calls = []
    for sample in op.samples(np.random.default_rng(seed)) if op.samples else ():
        tensors: list[Any] = []
        for item, tensor in zip(op.signature.inputs, sample.inputs, strict=True):
            floating = tensor is not None and item.letter == "T"
            tensors.append(tensor.to(getattr(torch, dtype)).contiguous() if floating else tensor)
        wide = [
            tensor.double() if tensor is not None and item.letter == "T" else tensor
            for item, tensor in zip(op.signature.inputs, tensors, strict=True)
        ]
        golden = _golden(op, sample, wide)
        results = golden if isinstance(golden, tuple) else (golden,)
        calls.append(Call(sample, tuple(tensors), tuple(item.numpy() for item in results)))
    return calls


def _golden(op: CustomOp, sample: Sample, tensors: Sequence[Any]) -> Any:
    import torch

    try:
        with torch.no_grad():
            return call_reference(op, *tensors, **sample.attributes)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(
            f"The reference of {op.name} fails on the sample '{sample.name}': "
            f"{type(error).__name__}: {reason}",
            hint="Mend the reference or the sample in its definition.",
        ) from error


@dataclass(frozen=True, slots=True)
class Family:
    """Calls that one model serves: the same attributes, the same inputs present, the same ranks.

    Args:
        op: The operator.
        dtype: What T is.
        calls: The calls, one at least.
    """

    op: CustomOp
    dtype: str
    calls: tuple[Call, ...]

    @property
    def example(self) -> Call:
        """The call to trace with: the first one without a size of 0 or 1 on a changing axis."""
        moving = self.dynamic
        for call in self.calls:
            sizes = [
                tensor.shape[axis]
                for tensor, axes in zip(call.tensors, moving, strict=True)
                for axis in axes
            ]
            if all(size > 1 for size in sizes):
                return call
        return self.calls[0]

    @property
    def dynamic(self) -> tuple[tuple[int, ...], ...]:
        """Axes of each input whose size differs between the calls."""
        found: list[tuple[int, ...]] = []
        for at, tensor in enumerate(self.calls[0].tensors):
            if tensor is None:
                found.append(())
                continue
            shapes = [call.tensors[at].shape for call in self.calls]
            axes = range(tensor.dim())
            found.append(tuple(a for a in axes if len({shape[a] for shape in shapes}) > 1))
        return tuple(found)


def families(op: CustomOp, dtype: str, calls: Sequence[Call]) -> list[Family]:
    """Group calls by what a model fixes."""
    groups: dict[Any, list[Call]] = {}
    for call in calls:
        ranks = tuple(None if one is None else one.dim() for one in call.tensors)
        key = (ranks, repr(sorted(call.sample.attributes.items())))
        groups.setdefault(key, []).append(call)
    return [Family(op, dtype, tuple(group)) for group in groups.values()]


def write_model(
    family: Family, folder: Path, *, opset: int
) -> tuple[PortableModel, tuple[str, ...]]:
    """Write an .onnx file with one node, and return the model and the names of its inputs.

    Inputs and outputs of bfloat16 are float32, with casts around the node: numpy interfaces of
    engines carry no bfloat16.

    Returns:
        The model, and the name of each input that is present.
    """
    import onnx
    from onnx import helper

    op = family.op
    register_schema(op)
    shapes = _symbolic_shapes(family)
    inputs = _input_specs(family, shapes)
    outputs = _output_specs(family, shapes)
    casts_in, names = _narrowed(op.signature.inputs, inputs)
    casts_out, results = _widened(outputs)
    node = helper.make_node(op.onnx_name, names, results, name="operator", domain=op.namespace)
    node.attribute.extend(_attributes(family))
    specs = [spec for spec, _ in inputs if spec is not None]
    graph = helper.make_graph(
        [*casts_in, node, *casts_out],
        op.short_name,
        [_info(spec) for spec in specs],
        [_info(spec) for spec, _ in outputs],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(op.namespace, op.version)]
    path = folder / f"{op.short_name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    model = PortableModel(tuple(specs), tuple(spec for spec, _ in outputs), onnx=path)
    return model, tuple(spec.name for spec in specs)


_Shapes = list[tuple[Dim, ...] | None]
_NARROW, _BFLOAT16, _FLOAT32 = "_narrow", 16, 1


def _input_specs(family: Family, shapes: _Shapes) -> list[tuple[TensorSpec | None, bool]]:
    """Return the spec of each input, None for one that is absent, and whether it is bfloat16."""
    found: list[tuple[TensorSpec | None, bool]] = []
    tensors = family.calls[0].tensors
    for item, tensor, shape in zip(family.op.signature.inputs, tensors, shapes, strict=True):
        if tensor is None:
            found.append((None, False))
            continue
        dtype = _dtype(tensor)
        narrow = dtype == "bfloat16"
        found.append((TensorSpec(item.name, _WIDE if narrow else dtype, shape), narrow))
    return found


def _output_specs(family: Family, shapes: _Shapes) -> list[tuple[TensorSpec, bool]]:
    """Return the spec of each output, and whether the operator gives bfloat16 there."""
    call = family.calls[0]
    dtypes = [None if tensor is None else _dtype(tensor) for tensor in call.tensors]
    sizes: list[list[int | str | None] | None] = [
        None if shape is None else [*shape] for shape in shapes
    ]
    inferred = infer_shapes(family.op, dtypes, sizes, dict(call.sample.attributes))
    found = []
    for at, (letter, shape) in enumerate(zip(family.op.signature.outputs, inferred, strict=True)):
        dtype = family.dtype if letter == "T" else LETTERS.get(letter, "int64")
        narrow = dtype == "bfloat16"
        dims = None if shape is None else tuple("?" if size is None else size for size in shape)
        found.append((TensorSpec(f"output_{at}", _WIDE if narrow else dtype, dims), narrow))
    return found


def _narrowed(
    items: Sequence[Input], specs: Sequence[tuple[TensorSpec | None, bool]]
) -> tuple[list[Any], list[str]]:
    from onnx import helper

    casts, names = [], []
    for item, (spec, narrow) in zip(items, specs, strict=True):
        names.append("" if spec is None else f"{item.name}{_NARROW}" if narrow else item.name)
        if narrow:
            casts.append(helper.make_node("Cast", [item.name], [names[-1]], to=_BFLOAT16))
    while names and not names[-1]:
        names.pop()
    return casts, names


def _widened(specs: Sequence[tuple[TensorSpec, bool]]) -> tuple[list[Any], list[str]]:
    from onnx import helper

    casts, names = [], []
    for spec, narrow in specs:
        names.append(f"{spec.name}{_NARROW}" if narrow else spec.name)
        if narrow:
            casts.append(helper.make_node("Cast", [names[-1]], [spec.name], to=_FLOAT32))
    return casts, names


def _attributes(family: Family) -> list[Any]:
    from onnx import AttributeProto, helper

    types = {"ints": AttributeProto.INTS, "floats": AttributeProto.FLOATS}
    given = family.calls[0].sample.attributes
    made = []
    for item in family.op.signature.attributes:
        if item.name not in given:
            continue
        value = given[item.name]
        if item.kind in types:
            value = list(value)
        else:
            value = float(value) if item.kind == "float" else int(value)
        made.append(helper.make_attribute(item.name, value, attr_type=types.get(item.kind)))
    return made


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _info(spec: TensorSpec) -> Any:
    from onnx import helper

    shape = None if spec.shape is None else [None if dim == "?" else dim for dim in spec.shape]
    return helper.make_tensor_value_info(spec.name, dtype_named(spec.dtype).onnx, shape)


def _symbolic_shapes(family: Family) -> _Shapes:
    """Name the changing axes; axes that always have the same size share a name."""
    names: dict[tuple[int, ...], str] = {}
    shapes: _Shapes = []
    for at, (tensor, axes) in enumerate(zip(family.calls[0].tensors, family.dynamic, strict=True)):
        if tensor is None:
            shapes.append(None)
            continue
        dims: list[Dim] = []
        for axis in range(tensor.dim()):
            sizes = tuple(call.tensors[at].shape[axis] for call in family.calls)
            dims.append(names.setdefault(sizes, f"n{len(names)}") if axis in axes else sizes[0])
        shapes.append(tuple(dims))
    return shapes


def program_model(family: Family, folder: Path) -> tuple[PortableModel, tuple[str, ...]]:
    """Write an exported program that calls the operator once; sizes are those of the example."""
    import torch

    call = family.calls[0]
    present = [tensor is not None for tensor in call.tensors]

    class Caller(torch.nn.Module):  # type: ignore[misc] # torch is Any for mypy
        """Calls the operator with the inputs that are there."""

        def forward(self, *tensors: Any) -> Any:
            given = iter(tensors)
            arguments = [next(given) if there else None for there in present]
            return family.op(*arguments, **call.sample.attributes)

    tensors = tuple(tensor for tensor in call.tensors if tensor is not None)
    with torch.no_grad():
        program = torch.export.export(Caller(), tensors)
    path = folder / f"{family.op.short_name}.pt2"
    torch.export.save(program, path)
    names = tuple(
        item.name for item, there in zip(family.op.signature.inputs, present, strict=True) if there
    )
    inputs = tuple(
        TensorSpec(name, _dtype(tensor), tuple(tensor.shape))
        for name, tensor in zip(names, tensors, strict=True)
    )
    outputs = tuple(
        TensorSpec(f"output_{at}", _dtype(tensor), None)
        for at, tensor in enumerate(_results(family, call))
    )
    return PortableModel(inputs, outputs, program=path), names


def _results(family: Family, call: Call) -> tuple[Any, ...]:
    results = family.op(*call.tensors, **call.sample.attributes)
    return results if isinstance(results, tuple) else (results,)


def inline_model(model: Any, family: Family) -> Any:
    """Replace the operator by its body, traced at the sizes of the family's example."""
    import onnx_ir as ir

    graph = ir.load(model.onnx)
    sizes = {
        str(dim): int(size)
        for spec, tensor in zip(
            model.inputs, (item for item in family.example.tensors if item is not None), strict=True
        )
        for dim, size in zip(spec.shape, tensor.shape, strict=True)
        if isinstance(dim, str)
    }
    inline_operators(graph, lambda op: op.name == family.op.name, sizes=sizes)
    ir.save(graph, model.onnx)
    return model


def to_array(tensor: Any) -> NDArray[Any]:
    """Return a tensor as a numpy array; bfloat16, which numpy lacks, as float32."""
    import torch

    wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: NDArray[Any] = wide.detach().numpy()
    return array
