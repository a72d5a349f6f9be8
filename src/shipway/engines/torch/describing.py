"""What is known of each tensor of a program before it is run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shipway.engines.tapping import Tap, TapKind
from shipway.errors import TensorError
from shipway.export.matching import describe_tensors
from shipway.export.name_map import TensorEntry, read_name_map
from shipway.export.portable import PortableModel
from shipway.export.program import tensor_outputs, user_inputs
from shipway.tensors import dtype_named

__all__ = ["describe_taps", "output_taps"]

_WEIGHTS = frozenset({"parameter", "buffer", "constant"})


def describe_taps(program: Any, model: PortableModel) -> tuple[tuple[Tap, ...], dict[str, str]]:
    """Return the tensors of a program that can be shown, and the others with the reason.

    A node that gives a tuple is not one of them; what is taken out of the tuple is.

    Args:
        program: An ExportedProgram, its custom operators still in it.
        model: Whose inputs and outputs it has; its name map, if there is one, gives the names.

    Raises:
        ModelError: The name map cannot be read.
    """
    names = _known_names(program, model)
    outputs = set(tensor_outputs(program))
    taps: list[Tap] = []
    untapped: dict[str, str] = {}
    for entry in describe_tensors(program, {}):
        if entry.op in _WEIGHTS and entry.fx not in outputs:
            continue
        if entry.status == "subgraph":
            untapped[entry.fx] = "inside a branch or loop, of which the result is shown"
        elif not _is_carried(entry.dtype):
            untapped[entry.fx] = f"{entry.dtype}: no dtype that Shipway carries"
        else:
            kind: TapKind = "output" if entry.fx in outputs else "value"
            kind = "input" if entry.op == "input" else kind
            taps.append(_tap(entry, kind, names.get(entry.fx, ())))
    inputs = [tap for tap in taps if tap.kind == "input"]
    ordered = [*inputs, *(tap for tap in taps if tap.kind != "input")]
    return tuple(replace(tap, order=order) for order, tap in enumerate(ordered)), untapped


def output_taps(program: Any, model: PortableModel) -> dict[str, str]:
    """Return the name of the tap for each output of the model."""
    outputs = zip(model.outputs, tensor_outputs(program), strict=True)
    return {spec.name: node for spec, node in outputs}


def _known_names(program: Any, model: PortableModel) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    if model.name_map is not None:
        for entry in read_name_map(model.name_map).tensors:
            if entry.onnx is not None:
                found.setdefault(entry.fx, {})[entry.onnx] = None
    inputs = zip(model.inputs, user_inputs(program), strict=True)
    for spec, node in inputs:
        found.setdefault(node.name, {})[spec.name] = None
    for name, node_name in output_taps(program, model).items():
        found.setdefault(node_name, {})[name] = None
    return {node: tuple(names) for node, names in found.items()}


def _is_carried(dtype: str) -> bool:
    try:
        dtype_named(dtype)
    except TensorError:
        return False
    return True


def _tap(entry: TensorEntry, kind: TapKind, names: tuple[str, ...]) -> Tap:
    return Tap(
        name=entry.fx,
        order=0,
        op="" if kind == "input" else entry.op,
        kind=kind,
        names=names,
        module=entry.module,
        module_class=entry.module_class,
        source=entry.source,
        code=entry.code,
    )
