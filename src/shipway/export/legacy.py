"""The old route: TorchScript tracing, for opsets 9 to 20 and for `symbolic` functions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.errors import ExportError, OutputError
from shipway.export.example import Example, to_numpy
from shipway.export.legacy_attention import attention_below_14
from shipway.export.name_map import TensorEntry, ValueEntry
from shipway.export.operator_forms import inline_while_tracing
from shipway.export.operator_translation import register_symbolics
from shipway.export.options import ExportOptions
from shipway.export.outputs import flat_outputs
from shipway.export.refusals import explain_untranslated
from shipway.export.signature import Binding
from shipway.files import output_errors
from shipway.source.origins import module_path
from shipway.tensors import ANY, Dim, TensorSpec, dtype_named

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["map_scopes", "name_output_dims", "trace_legacy", "traced_specs"]

_NEWEST = 20
_GRAPH_DUMP = "_jit_onnx_log"


def trace_legacy(
    module: Any,
    binding: Binding,
    example: Example,
    *,
    options: ExportOptions,
    outputs: Sequence[str],
    folder: Path,
) -> ir.Model:
    """Trace a model with TorchScript and translate it.

    Args:
        module: In eval mode.
        binding: Its inputs.
        example: What it is traced with; every `if` and loop keeps the course it took there.
        options: Opset 9 to 20, folding, custom operators.
        outputs: Names of the outputs.
        folder: For the files the exporter writes; the model refers to them until it is saved.

    Raises:
        ExportError: The opset is out of reach, or an operator has no translation.
    """
    import onnx_ir as ir
    import torch

    if options.opset > _NEWEST:
        raise ExportError(
            f"The old tracer writes opsets up to {_NEWEST}; {options.opset} was asked for.",
            hint="Export without --legacy.",
        )
    path = folder / "legacy.onnx"
    modes = torch.onnx.TrainingMode
    names = [spec.name for spec in binding.specs]
    try:
        domains = register_symbolics(options.opset)
        with output_errors(path), _tracing(module, binding), inline_while_tracing(options):
            torch.onnx.export(
                module,
                tuple(example.feeds[name] for name in names),
                str(path),
                dynamo=False,
                opset_version=options.opset,
                do_constant_folding=options.fold,
                training=modes.EVAL if options.fold else modes.PRESERVE,
                custom_opsets=domains,
                input_names=names,
                output_names=list(outputs),
                dynamic_axes=_dynamic_axes(binding),
            )
    except (ExportError, OutputError):
        raise
    except Exception as error:
        raise explain_untranslated(error) from error
    model = ir.load(path)
    _restore_inputs(model, binding.specs)
    _check_names(model, [*names, *outputs])
    return model


@contextlib.contextmanager
def _tracing(module: Any, binding: Binding) -> Iterator[None]:
    """Make a module take tensors by position and return tensors; keep the exporter quiet."""
    names = [spec.name for spec in binding.specs]

    def arguments(tensors: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return binding.arguments(dict(zip(names, tensors, strict=True)))

    with flat_outputs(module, arguments), _no_graph_dumps(), attention_below_14():
        yield


def _check_names(model: ir.Model, wanted: Sequence[str]) -> None:
    found = [str(value.name) for value in (*model.graph.inputs, *model.graph.outputs)]
    if found != wanted:
        raise ExportError(
            f"The old tracer mixed up the inputs and outputs: it wrote {', '.join(found)}.",
            hint="Export without --legacy.",
        )


def _restore_inputs(model: ir.Model, specs: Sequence[TensorSpec]) -> None:
    """Put inputs back that the tracer dropped because nothing reads them: callers give them all."""
    import onnx_ir as ir

    traced = {value.name: value for value in model.graph.inputs}
    inputs = [
        traced.get(spec.name)
        or ir.Value(
            name=spec.name,
            type=ir.TensorType(ir.DataType(dtype_named(spec.dtype).onnx)),
            shape=ir.Shape(spec.shape or ()),
        )
        for spec in specs
    ]
    model.graph.inputs.clear()
    model.graph.inputs.extend(inputs)


def _dynamic_axes(binding: Binding) -> dict[str, dict[int, str]]:
    axes = {
        spec.name: {axis: dim for axis, dim in enumerate(spec.shape or ()) if isinstance(dim, str)}
        for spec in binding.specs
    }
    return {name: dims for name, dims in axes.items() if dims}


@contextlib.contextmanager
def _no_graph_dumps() -> Iterator[None]:
    """Keep the exporter from printing its whole graph when it fails: its switch does not work."""
    import torch

    core: Any = torch._C  # noqa: SLF001 -- the print is not reachable otherwise
    original = getattr(core, _GRAPH_DUMP, None)
    if original is None:
        yield
        return
    setattr(core, _GRAPH_DUMP, lambda *_: None)
    try:
        yield
    finally:
        setattr(core, _GRAPH_DUMP, original)


def traced_specs(model: ir.Model, example: Example, known: set[str]) -> tuple[TensorSpec, ...]:
    """Return the output specs of a traced model as far as it declares them.

    Args:
        model: The traced model.
        example: What it was traced with; gives the dtypes.
        known: Names of the user's dimensions; any other name is the tracer's own.
    """
    return tuple(
        TensorSpec(
            str(value.name),
            dtype_named(str(tensor.dtype).removeprefix("torch.")).name,
            tuple(_traced_dim(dim, known) for dim in value.shape or tensor.dim() * [None]),
        )
        for value, tensor in zip(model.graph.outputs, example.outputs.tensors, strict=True)
    )


def _traced_dim(dim: Any, known: set[str]) -> Dim:
    name = getattr(dim, "value", None)
    return dim if isinstance(dim, int) else name if name in known else ANY


def name_output_dims(model: ir.Model, specs: Sequence[TensorSpec]) -> None:
    """Give the dynamic dimensions of a traced model's outputs the user's names.

    A dimension that the tracer declares fixed stays as it is: a name would hide the mistake.
    """
    import onnx_ir as ir

    for value, spec in zip(model.graph.outputs, specs, strict=True):
        if value.shape is None or spec.shape is None or len(value.shape) != len(spec.shape):
            continue
        value.shape = ir.Shape(
            [
                theirs if isinstance(theirs, int) else None if mine == ANY else mine
                for theirs, mine in zip(value.shape, spec.shape, strict=True)
            ]
        )


def map_scopes(
    model: ir.Model,
    tensors: Sequence[TensorEntry],
    ends: Mapping[str, str],
    weights: Mapping[str, tuple[str, Any]],
) -> tuple[tuple[TensorEntry, ...], tuple[ValueEntry, ...]]:
    """Map a traced model as far as it goes: names of modules, and the two ends.

    The old tracer records the module of an operator in the name of its node, and nothing finer. A
    tensor is therefore only led to the values of its module; inputs, outputs and untouched weights
    are known exactly.

    Args:
        model: The traced model.
        tensors: Tensors of the program, from `describe_tensors`; () where there is no program.
        ends: ONNX input or output by program node.
        weights: Name in the module and value of each weight, by program node.
    """
    paths = {
        str(value.name): module_path(node.name or "")
        for node in model.graph
        for value in node.outputs
        if node.op_type != "Constant"
    }
    by_module: dict[str, list[str]] = {}
    for value, path in paths.items():
        by_module.setdefault(path, []).append(value)
    mapped = []
    for entry in tensors:
        if (name := ends.get(entry.fx) or _untouched(model, weights.get(entry.fx))) is not None:
            mapped.append(replace(entry, status="kept", onnx=name))
        elif entry.status != "subgraph" and entry.module:
            into = tuple(by_module.get(entry.module, ()))
            mapped.append(replace(entry, status="scope", into=into))
        else:
            mapped.append(entry)
    known = {entry.onnx for entry in mapped}
    values = tuple(
        ValueEntry(str(value.name), node.op_type, None, module_path(node.name or ""))
        for node in model.graph
        for value in node.outputs
        if value.name not in known
    )
    return tuple(mapped), values


def _untouched(model: ir.Model, weight: tuple[str, Any] | None) -> str | None:
    """Return the name of a weight that the tracer left as it was."""
    import numpy as np

    if weight is None:
        return None
    name, tensor = weight
    found = model.graph.initializers.get(name)
    if found is None or found.const_value is None:
        return None
    return name if np.array_equal(found.const_value.numpy(), to_numpy(tensor)) else None
