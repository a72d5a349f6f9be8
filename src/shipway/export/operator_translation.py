"""Custom operators through both exporters: as nodes of their own domain."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from shipway.ops.adoption import foreign_overloads
from shipway.ops.onnx_schema import infer_shapes, register_schema
from shipway.ops.registry import all_operators
from shipway.ops.torch_op import overload_of

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp
    from shipway.ops.schema import Attribute

__all__ = ["custom_opsets", "has_own_symbolic", "register_symbolics", "translation_table"]

_SUFFIX = {"int": "i", "bool": "i", "float": "f", "ints": "i", "floats": "f"}
_OURS: set[Callable[..., Any]] = set()
_PARSED = {"int": "i", "bool": "b", "float": "f", "ints": "is", "floats": "fs"}


def translation_table(program: Any) -> dict[Any, Callable[..., Any]]:
    """Return how torch's exporter is to write each custom operator that a program calls.

    Raises:
        ExportError: One has a signature that ONNX cannot carry.
    """
    table = {}
    for op in foreign_overloads(program).values():
        register_schema(op)
        table[overload_of(op)] = _translation(op)
    return table


def _translation(op: CustomOp) -> Callable[..., Any]:
    """Return a function that writes the node; the exporter reads its signature."""
    from onnxscript.values import Opset

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter(
            item.name, kind, default=None if item.optional else inspect.Parameter.empty
        )
        for item in op.signature.inputs
    ]
    parameters += [
        inspect.Parameter(
            item.name, kind, default=inspect.Parameter.empty if item.required else item.default
        )
        for item in op.signature.attributes
    ]
    signature = inspect.Signature(parameters)

    def translate(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        tensors = [bound.arguments[item.name] for item in op.signature.inputs]
        while tensors and tensors[-1] is None:
            tensors.pop()
        attributes = {
            item.name: _plain(item, bound.arguments[item.name]) for item in op.signature.attributes
        }
        return getattr(Opset(op.namespace, op.version), op.onnx_name)(*tensors, **attributes)

    translate.__signature__ = signature  # type: ignore[attr-defined] # functions do take it
    translate.__name__ = op.short_name
    return translate


def _plain(item: Attribute, value: Any) -> Any:
    """Return an attribute as ONNX has it: no booleans, lists for tuples."""
    if item.kind in {"int", "bool"}:
        return int(value)
    if item.kind == "float":
        return float(value)
    return [float(one) if item.kind == "floats" else int(one) for one in value]


def custom_opsets(ops: Iterable[CustomOp]) -> dict[str, int]:
    """Return the opset version of each domain where it is not 1, which the tracer takes for granted."""
    return {op.namespace: op.version for op in ops if op.version != 1}


def register_symbolics(opset: int) -> dict[str, int]:
    """Tell the old tracer how to write every known operator; what the user told it stays.

    Returns:
        The opset version of each domain, as the tracer wants it: it warns of domains in vain.
    """
    import torch
    from torch.onnx._internal.torchscript_exporter.registration import registry

    ops = [op for op in all_operators() if not op.foreign]
    for op in ops:
        register_schema(op)
        if not registry.is_registered_op(op.name, opset):
            symbolic = _symbolic(op)
            _OURS.add(symbolic)
            torch.onnx.register_custom_op_symbolic(op.name, symbolic, 9)
    return custom_opsets(ops)


def has_own_symbolic(name: str, opset: int) -> bool:
    """Whether the user has told the old tracer how to write an operator outside torch."""
    from torch.onnx._internal.torchscript_exporter.registration import registry

    group = registry.get_function_group(name)
    found = None if group is None else group.get(opset)
    return found is not None and found not in _OURS


def _symbolic(op: CustomOp) -> Callable[..., Any]:
    from torch.onnx._internal.torchscript_exporter import symbolic_helper

    count = len(op.signature.inputs)

    def symbolic(graph: Any, *args: Any) -> Any:
        values = list(args[:count])
        given = dict(zip(op.signature.attributes, args[count:], strict=False))
        attributes = {
            item.name: symbolic_helper._parse_arg(value, _PARSED[item.kind])  # noqa: SLF001 -- what its decorator calls
            for item, value in given.items()
        }
        while values and symbolic_helper._is_none(values[-1]):  # noqa: SLF001 -- its own symbolics use it
            values.pop()
        named = {
            f"{item.name}_{_SUFFIX[item.kind]}": _plain(
                item, attributes.get(item.name, item.default)
            )
            for item in op.signature.attributes
        }
        outputs = len(op.signature.outputs)
        results = graph.op(op.onnx_id, *values, outputs=outputs, **named)
        _set_types(op, args[:count], attributes, results if outputs > 1 else [results])
        return results

    return symbolic


def _set_types(
    op: CustomOp, values: Iterable[Any], attributes: Mapping[str, Any], results: Iterable[Any]
) -> None:
    """Give the outputs the types that the shape rule finds; the tracer knows none of its own."""
    import torch

    dtypes: list[str | None] = []
    shapes: list[list[int | str | None] | None] = []
    tensor: Any = None
    for item, value in zip(op.signature.inputs, values, strict=True):
        kind = value.type() if isinstance(value.type(), torch._C.TensorType) else None  # noqa: SLF001 -- its only home
        dtype = None if kind is None else kind.dtype()
        dtypes.append(None if dtype is None else str(dtype).removeprefix("torch."))
        sizes = None if kind is None else kind.varyingSizes()
        shapes.append(None if sizes is None else list(sizes))
        if item.letter == "T" and tensor is None and dtype is not None:
            tensor = kind
    inferred = infer_shapes(op, dtypes, shapes, dict(attributes))
    for value, letter, shape in zip(results, op.signature.outputs, inferred, strict=True):
        if tensor is None or shape is None or letter != "T":
            continue
        value.setType(
            tensor.with_sizes([size if isinstance(size, int) else None for size in shape])
        )
