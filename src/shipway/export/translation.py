"""The program as ONNX: translated, named, folded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shipway.errors import ExportError
from shipway.export.capture import patch_recurrences
from shipway.export.operator_forms import write_operators
from shipway.export.operator_translation import translation_table
from shipway.export.options import ExportOptions
from shipway.export.program import tensor_outputs, user_inputs
from shipway.export.refusals import explain_untranslated, name_symbols
from shipway.export.sketch import GraphSketch, all_values, sketch_graph
from shipway.source.locations import shorten_trace
from shipway.source.origins import STACK_TRACE

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Translation", "set_interface", "translate_program"]

_Boundary = list[tuple[str, tuple[str, ...]]]
_STALE = (
    # They quote the program with torch's own symbols and names; the program itself is in the .pt2.
    "pkg.torch.export.ExportedProgram.graph_signature",
    "pkg.torch.export.ExportedProgram.range_constraints",
)


@dataclass(frozen=True, slots=True)
class Translation:
    """An ONNX model with what is needed to lead its values back to the program.

    Args:
        model: The model.
        decomposed: The program in the operators that have translations; its node names are the
            value names of the model before folding.
        sketch: The model before folding.
        custom_ops: The form each custom operator has in the model.
    """

    model: ir.Model
    decomposed: Any
    sketch: GraphSketch
    custom_ops: Mapping[str, str]


def translate_program(
    program: Any, options: ExportOptions, *, symbols: Mapping[str, str]
) -> Translation:
    """Translate a program to ONNX.

    Args:
        program: An ExportedProgram.
        options: Opset to deliver (the caller checks the file), folding, custom operators.
        symbols: The user's name for each symbol of the program.

    Raises:
        ExportError: An operator has no translation, or a dynamic dimension would become fixed.
    """
    import torch
    from onnx_ir.passes.common import InlinePass

    before = _boundary(program)
    table = translation_table(program)
    try:
        with patch_recurrences():
            onnx_program = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=options.opset,
                optimize=False,
                verbose=False,
                custom_translation_table=table,
            )
    except Exception as error:
        raise explain_untranslated(error) from error
    decomposed = onnx_program.exported_program
    _check_shapes(before, _boundary(decomposed), symbols)
    sketch = sketch_graph(onnx_program.model)
    if options.fold:
        onnx_program.optimize()
    elif onnx_program.model.functions:
        InlinePass()(onnx_program.model)  # not every engine takes model-local functions
    model = onnx_program.model
    custom_ops = write_operators(model, options)
    _rename_symbols(model, symbols)
    _tidy_metadata(model)
    return Translation(model, decomposed, sketch, custom_ops)


def _check_shapes(before: _Boundary, after: _Boundary, symbols: Mapping[str, str]) -> None:
    """Compare declared shapes before and after: decomposing may fix a size without a word."""
    for (name, golden), (_, actual) in zip(before, after, strict=True):
        for axis, (mine, theirs) in enumerate(zip(golden, actual, strict=True)):
            if theirs.isdigit() and not mine.isdigit():
                raise ExportError(
                    f"The ONNX exporter fixes axis {axis} of {name} to {theirs}; it is "
                    f"'{name_symbols(mine, symbols)}' in the program.",
                    hint="Write the size in place of the name in --input, or try --legacy.",
                )


def _boundary(program: Any) -> _Boundary:
    """Return the sizes of a program's inputs and outputs, each with words for it.

    As text: torch replaces a symbol that it fixes in every program that has it.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    ends = [(f"input '{node.name}'", node) for node in user_inputs(program)]
    ends += [(f"output {i}", nodes[name]) for i, name in enumerate(tensor_outputs(program))]
    return [(words, tuple(map(str, node.meta["val"].shape))) for words, node in ends]


def _rename_symbols(model: ir.Model, symbols: Mapping[str, str]) -> None:
    import onnx_ir as ir

    for value in all_values(model):
        if value.shape is None or value.shape.is_static():
            continue
        value.shape = ir.Shape([_rename_dim(dim, symbols) for dim in value.shape])


def _rename_dim(dim: Any, symbols: Mapping[str, str]) -> int | str | None:
    if isinstance(dim, int) or dim.value is None:
        return dim if isinstance(dim, int) else None
    return name_symbols(dim.value, symbols)


def _tidy_metadata(model: ir.Model) -> None:
    for key in _STALE:
        model.graph.metadata_props.pop(key, None)
    for node in model.graph.all_nodes():
        if trace := node.metadata_props.get(STACK_TRACE):
            node.metadata_props[STACK_TRACE] = shorten_trace(trace)


def set_interface(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str]) -> dict[str, str]:
    """Name the inputs and outputs of a model.

    An output that is an input, a weight, or an output already, gets an Identity of its own: ONNX
    has one name a value. An inner value that has one of the names gets another.

    Returns:
        The new name of every value whose name changed, by its old name. Inputs are left out: an
        output may have had the name.
    """
    _separate_outputs(model.graph)
    ends = [*model.graph.inputs, *model.graph.outputs]
    wanted = [*inputs, *outputs]
    renamed: dict[str, str] = {}
    values = list(all_values(model))
    taken = {value.name for value in values} | set(wanted)
    identities = {id(value) for value in ends}
    for value in values:
        if value.name in wanted and id(value) not in identities:
            renamed[value.name] = _unused(value.name, taken)
            value.name = renamed[value.name]
    old_names = [value.name or "" for value in ends]
    for index, value in enumerate(ends):
        value.name = _unused(f"interface_{index}", taken)
    for value, name in zip(ends, wanted, strict=True):
        value.name = name
    pairs = zip(old_names[len(inputs) :], outputs, strict=True)
    return renamed | {old: new for old, new in pairs if old != new}


def _separate_outputs(graph: ir.Graph) -> None:
    import onnx_ir as ir

    seen: set[int] = set()
    for index, value in enumerate(graph.outputs):
        if value.is_graph_input() or value.is_initializer() or id(value) in seen:
            node = ir.node("Identity", [value])
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            node.outputs[0].name = f"{value.name}_output_{index}"
            graph.append(node)
            graph.outputs[index] = node.outputs[0]
        seen.add(id(value))


def _unused(stem: str, taken: set[str | None]) -> str:
    name = stem
    while name in taken:
        name += "_inner"
    taken.add(name)
    return name
