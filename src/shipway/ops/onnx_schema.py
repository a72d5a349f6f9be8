"""Tell the onnx package what an operator is: checker, shape inference and exporter then know it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from shipway.ops.schema import LETTERS
from shipway.tensors import dtype_named, dtype_of

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["alias_schemas", "forget_schema", "infer_shapes", "register_schema"]

_INDEX = ("int64", "int32")
_NAMES = {"float32": "float", "float64": "double"}
_KINDS = {"int": "INT", "bool": "INT", "float": "FLOAT", "ints": "INTS", "floats": "FLOATS"}
_PROBES = ((1009, 1013, 1019, 1021, 1031, 1033), (2003, 2011, 2017, 2027, 2029, 2039))
"""Primes that stand for unknown sizes: what differs between the two rows depends on them."""


def register_schema(op: CustomOp) -> None:
    """Register an operator with the onnx package under its own name.

    Source: onnx.defs.OpSchema; the exporter of torch refuses nodes without a schema.
    """
    import onnx

    _load_standard_schemas()
    if not onnx.defs.has(op.onnx_name, op.namespace):
        onnx.defs.register_schema(_schema(op, op.namespace, op.onnx_name))


def forget_schema(op: CustomOp) -> None:
    """Undo `register_schema`."""
    import onnx

    if onnx.defs.has(op.onnx_name, op.namespace):
        onnx.defs.deregister_schema(op.onnx_name, op.version, op.namespace)


@contextlib.contextmanager
def alias_schemas() -> Iterator[None]:
    """Have the onnx package know the operators' aliases too, for the length of the block."""
    import onnx

    from shipway.ops.registry import all_operators

    pairs = [(op, alias) for op in all_operators() for alias in op.aliases]
    missing = [pair for pair in pairs if not onnx.defs.has(pair[1].name, pair[1].domain)]
    _load_standard_schemas()
    for op, alias in missing:
        onnx.defs.register_schema(_schema(op, alias.domain, alias.name))
    try:
        yield
    finally:
        for _, alias in missing:
            onnx.defs.deregister_schema(alias.name, 1, alias.domain)


def _load_standard_schemas() -> None:
    """Let onnx's evaluator, which torch's exporter folds constants with, list the schemas it knows.

    It does so once, when it is imported, and fails where two domains have an operator of one name.
    """
    import onnx.reference.op_run  # noqa: F401 -- for what it does


def _schema(op: CustomOp, domain: str, name: str) -> Any:
    from onnx.defs import OpSchema

    signature = op.signature
    single, optional = (
        OpSchema.FormalParameterOption.Single,
        OpSchema.FormalParameterOption.Optional,
    )
    schema = OpSchema(
        name,
        domain,
        op.version if domain else 1,
        op.doc,
        inputs=[
            OpSchema.FormalParameter(
                item.name,
                _type_string(item.letter),
                param_option=optional if item.optional else single,
            )
            for item in signature.inputs
        ],
        outputs=[
            OpSchema.FormalParameter(f"output_{at}" if at else "output", _type_string(letter))
            for at, letter in enumerate(signature.outputs)
        ],
        type_constraints=_constraints(op),
        attributes=[
            OpSchema.Attribute(
                item.name,
                getattr(OpSchema.AttrType, _KINDS[item.kind]),
                f"Default: {item.default!r}." if not item.required else "",
                required=item.required,
            )
            for item in signature.attributes
        ],
    )
    schema.set_type_and_shape_inference_function(lambda context: _infer(op, context))
    return schema


def _type_string(letter: str) -> str:
    return letter if letter in {"T", "I"} else _tensor(LETTERS[letter])


def _tensor(dtype: str) -> str:
    return f"tensor({_NAMES.get(dtype, dtype)})"


def _constraints(op: CustomOp) -> list[tuple[str, list[str], str]]:
    used = {item.letter for item in op.signature.inputs} | set(op.signature.outputs)
    kinds = {"T": op.floats, "I": _INDEX}
    return [
        (letter, [_tensor(name) for name in names], "")
        for letter, names in kinds.items()
        if letter in used
    ]


def _infer(op: CustomOp, context: Any) -> None:
    """Infer output types and shapes for onnx, as far as the input shapes are known."""
    import onnx

    dtypes: list[str | None] = []
    shapes: list[list[int | str | None] | None] = []
    for at in range(len(op.signature.inputs)):
        value = context.get_input_type(at) if at < context.get_num_inputs() else None
        tensor = None if value is None else value.tensor_type
        if tensor is None or not tensor.elem_type:
            dtypes.append(None)
            shapes.append(None)
            continue
        dtypes.append(dtype_of(tensor.elem_type).name)
        known = tensor.HasField("shape")
        shapes.append([_dim(dim) for dim in tensor.shape.dim] if known else None)
    attributes = {
        item.name: onnx.helper.get_attribute_value(found)
        for item in op.signature.attributes
        if (found := context.get_attribute(item.name)) is not None
    }
    results = infer_shapes(op, dtypes, shapes, attributes)
    for at, (letter, shape) in enumerate(zip(op.signature.outputs, results, strict=True)):
        made = onnx.TypeProto()
        dtype = _output_dtype(op, letter, dtypes)
        if dtype is None:
            continue
        made.tensor_type.elem_type = dtype_named(dtype).onnx
        if shape is not None:
            for size in shape:
                dim = made.tensor_type.shape.dim.add()
                if isinstance(size, int):
                    dim.dim_value = size
                elif size is not None:
                    dim.dim_param = size
        context.set_output_type(at, made)


def _dim(dim: Any) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return str(dim.dim_param) or None


def _output_dtype(op: CustomOp, letter: str, dtypes: list[str | None]) -> str | None:
    if letter != "T":
        return LETTERS.get(letter, "int64")
    pairs = zip(op.signature.inputs, dtypes, strict=True)
    return next((dtype for item, dtype in pairs if item.letter == "T" and dtype), None)


def infer_shapes(
    op: CustomOp,
    dtypes: list[str | None],
    shapes: list[list[int | str | None] | None],
    attributes: dict[str, Any],
) -> list[list[int | str | None] | None]:
    """Run an operator's shape rule where sizes may be unknown.

    The rule runs twice on tensors without data, with different primes in place of each unknown
    size. A size that comes out the same is known; one that is such a prime both times has the name
    of that size; any other is unknown.

    Args:
        op: The operator.
        dtypes: One an input; None for an input that is absent.
        shapes: One an input: sizes, names, None for a size without a name; None for no shape.
        attributes: Those that are given.

    Returns:
        One shape an output; None where not even the rank is known.
    """
    nothing: list[list[int | str | None] | None] = [None] * len(op.signature.outputs)
    present = [item is not None for item in dtypes]
    if any(there and shape is None for there, shape in zip(present, shapes, strict=True)):
        return nothing
    unnamed = iter(range(1000))
    named = [
        [f"?{next(unnamed)}" if size is None else size for size in shape or []] for shape in shapes
    ]
    unknown = list(dict.fromkeys(s for shape in named for s in shape if isinstance(s, str)))
    if len(unknown) > len(_PROBES[0]) * 4:
        return nothing
    runs = []
    for row in _PROBES:
        sizes = {name: row[at % len(row)] + at // len(row) * 997 for at, name in enumerate(unknown)}
        run = _run_rule(op, dtypes, named, sizes, attributes)
        if run is None:
            return nothing
        runs.append((run, {size: name for name, size in sizes.items()}))
    (golden, first), (actual, second) = runs
    return [
        [_merge(left, right, first, second) for left, right in zip(one, two, strict=True)]
        for one, two in zip(golden, actual, strict=True)
    ]


def _run_rule(
    op: CustomOp,
    dtypes: list[str | None],
    shapes: list[list[int | str]],
    sizes: dict[str, int],
    attributes: dict[str, Any],
) -> list[tuple[Any, ...]] | None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    from shipway.ops.torch_op import overload_of

    overload = overload_of(op)
    try:
        with FakeTensorMode(shape_env=ShapeEnv()):
            tensors = [
                None
                if dtype is None
                else torch.empty(
                    [sizes[s] if isinstance(s, str) else s for s in shape],
                    dtype=getattr(torch, dtype),
                )
                for dtype, shape in zip(dtypes, shapes, strict=True)
            ]
            results = overload(*tensors, **attributes)
    except Exception:  # noqa: BLE001 -- sizes that cannot be together: then nothing can be said of the outputs
        return None
    results = results if isinstance(results, tuple | list) else (results,)
    return [tuple(item.shape) for item in results]


def _merge(
    left: Any, right: Any, first: dict[int, str], second: dict[int, str]
) -> int | str | None:
    if not isinstance(left, int) or not isinstance(right, int):
        return None  # depends on data
    if left == right:
        return left
    name = first.get(left)
    same = name is not None and name == second.get(right) and not name.startswith("?")
    return name if same else None
