"""A model on its way through the export, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.errors import ExportError
from shipway.export.capture import capture_program
from shipway.export.example import Example, find_example
from shipway.export.fates import map_tensors, map_values
from shipway.export.legacy import map_scopes, name_output_dims, trace_legacy, traced_specs
from shipway.export.matching import describe_tensors, match_nodes
from shipway.export.name_map import Route, TensorEntry, ValueEntry
from shipway.export.operator_forms import write_operators
from shipway.export.options import OLDEST_OPSET, ExportOptions
from shipway.export.outputs import name_outputs
from shipway.export.program import (
    mutation_warnings,
    output_specs,
    program_bounds,
    symbol_names,
    tensor_outputs,
    user_inputs,
)
from shipway.export.program_binding import bind_program
from shipway.export.signature import Binding, bind_inputs
from shipway.export.sizes import Bounds, dynamic_dims
from shipway.export.translation import set_interface, translate_program
from shipway.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Draft", "draft_module", "draft_program"]


@dataclass(slots=True)
class Draft:
    """Everything there is to write.

    Args:
        model: The ONNX model.
        program: The ExportedProgram; None where torch.export refuses the model.
        inputs: Specs in the order of the signature.
        outputs: Specs in order.
        route: How the ONNX model was made.
        tensors: Entries of the name map.
        values: The remaining ONNX values.
        facts: For the side-cars.
        warnings: What the user should know.
    """

    model: ir.Model
    program: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    route: Route
    tensors: tuple[TensorEntry, ...]
    values: tuple[ValueEntry, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def draft_module(
    module: Any,
    specs: Sequence[TensorSpec],
    options: ExportOptions,
    scratch: Path,
    advance: Callable[[], None],
) -> Draft:
    """Take a module through the route that the options name.

    Args:
        module: In eval mode.
        specs: Its inputs, as the user gave them.
        options: What to export.
        scratch: Folder for the old tracer's files; must last until the model is saved.
        advance: Called after each of three steps.

    Raises:
        ExportError: The model, its specs, or an operator do not allow it.
    """
    import torch

    if not options.legacy:
        _check_route(options)
    if module.training:
        raise ExportError(
            "The model is in training mode: dropout and batch norm would be exported as such.",
            hint="Call model.eval() first.",
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError(
            "The model is TorchScript, which torch.export does not take.",
            hint="Give the Python module it was scripted or traced from.",
        )
    binding = bind_inputs(module.forward, specs)
    example = find_example(module, binding, options.bounds)
    names = name_outputs(
        example.outputs.names, options.outputs, [spec.name for spec in binding.specs]
    )
    advance()
    if options.legacy:
        draft = _draft_legacy(module, binding, example, names, options, scratch, advance)
    else:
        capture = capture_program(module, binding, example, options.bounds)
        advance()
        draft = _draft_program(capture.program, binding.specs, example, names, options)
        draft.warnings += capture.warnings
        advance()
    draft.facts["inputs_matched"] = binding.describe()
    draft.facts["parameters"] = sum(item.numel() for item in module.parameters())
    return draft


def draft_program(
    program: Any,
    specs: Sequence[TensorSpec],
    options: ExportOptions,
    advance: Callable[[], None],
) -> Draft:
    """Take a program that somebody else exported to ONNX; it is kept as it is.

    Raises:
        ExportError: The options ask for the old tracer, or the program cannot be translated.
    """
    if options.legacy:
        raise ExportError(
            "The old tracer needs the module; an exported program has none.",
            hint="Export the module itself with --legacy, or leave --legacy out.",
        )
    _check_route(options)
    binding = bind_program(program, specs)
    _check_outputs(program)
    own = program_bounds(program, symbol_names(program, binding.specs))
    example = find_example(program.module(), binding, {**own, **options.bounds})
    names = name_outputs(
        example.outputs.names, options.outputs, [spec.name for spec in binding.specs]
    )
    advance()
    advance()
    draft = _draft_program(program, binding.specs, example, names, options)
    draft.warnings += mutation_warnings(program)
    weights = program.graph_signature.parameters
    draft.facts["parameters"] = sum(program.state_dict[name].numel() for name in weights)
    advance()
    return draft


def _check_route(options: ExportOptions) -> None:
    if options.opset < OLDEST_OPSET:
        raise ExportError(
            f"The torch.export route writes opset {OLDEST_OPSET} and newer; {options.opset} was "
            "asked for.",
            hint="--legacy writes opsets 9 to 20.",
        )


def _check_outputs(program: Any) -> None:
    """Refuse constants among the outputs, over which the ONNX exporter stumbles."""
    from torch.export.graph_signature import TensorArgument

    for index, spec in enumerate(program.graph_signature.output_specs):
        value = getattr(spec.arg, "value", None)
        if not isinstance(spec.arg, TensorArgument) and value is not None:
            raise ExportError(
                f"Output {index} of the program is {value!r}, not a tensor.",
                hint="Export the module itself: what is no tensor is then left out.",
            )


def _draft_program(
    program: Any,
    specs: tuple[TensorSpec, ...],
    example: Example,
    names: Sequence[str],
    options: ExportOptions,
) -> Draft:
    symbols = symbol_names(program, specs)
    outputs = output_specs(program, names, symbols)
    translation = translate_program(program, options, symbols=symbols)
    model, sketch = translation.model, translation.sketch
    renamed = set_interface(model, [spec.name for spec in specs], names)
    feeds = [example.feeds[spec.name] for spec in specs]
    matches = match_nodes(program, translation.decomposed, feeds)
    tensors = map_tensors(
        describe_tensors(program, symbols),
        matches,
        sketch,
        model,
        renamed=renamed,
        inputs=_input_nodes(program, specs),
    )
    values = map_values(model, sketch, tensors, matches.parents)
    facts = _example_facts(example, program_bounds(program, symbols))
    facts["custom_ops"] = dict(translation.custom_ops)
    return Draft(model, program, specs, outputs, "torch.export", tensors, values, facts)


def _input_nodes(program: Any, specs: Sequence[TensorSpec]) -> dict[str, str]:
    nodes = user_inputs(program)
    return {node.name: spec.name for node, spec in zip(nodes, specs, strict=True)}


def _weights(program: Any) -> dict[str, tuple[str, Any]]:
    values = {**program.constants, **program.state_dict}
    return {
        spec.arg.name: (spec.target, values[spec.target])
        for spec in program.graph_signature.input_specs
        if spec.target in values
    }


def _example_facts(example: Example, bounds: Bounds) -> dict[str, Any]:
    return {
        "example_sizes": example.sizes,
        "bounds": {name: list(limits) for name, limits in bounds.items()},
        "left_out_outputs": example.outputs.left_out,
    }


def _draft_legacy(
    module: Any,
    binding: Binding,
    example: Example,
    names: Sequence[str],
    options: ExportOptions,
    scratch: Path,
    advance: Callable[[], None],
) -> Draft:
    facts = _example_facts(example, options.bounds)
    warnings: list[str] = []
    program = None
    try:
        capture = capture_program(module, binding, example, options.bounds)
        program, warnings = capture.program, capture.warnings
    except ExportError as error:
        facts["program"] = f"none: {error}"
        warnings.append(f"there is no golden program, and no proof without the module: {error}")
    advance()
    model = trace_legacy(
        module,
        binding,
        example,
        options=options,
        outputs=names,
        folder=scratch,
    )
    facts["custom_ops"] = dict(write_operators(model, options))
    set_interface(model, [spec.name for spec in binding.specs], names)
    known = set(dynamic_dims(binding.specs))
    if program is None:
        outputs = traced_specs(model, example, known)
        tensors, values = map_scopes(model, (), {}, {})
    else:
        symbols = symbol_names(program, binding.specs)
        facts |= _example_facts(example, program_bounds(program, symbols))
        outputs = output_specs(program, names, symbols)
        tensors, values = map_scopes(
            model,
            describe_tensors(program, symbols),
            _input_nodes(program, binding.specs)
            | dict(zip(tensor_outputs(program), names, strict=True)),
            _weights(program),
        )
    name_output_dims(model, outputs)
    advance()
    return Draft(model, program, binding.specs, outputs, "legacy", tensors, values, facts, warnings)
