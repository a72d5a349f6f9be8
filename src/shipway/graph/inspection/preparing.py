"""Brings a copy of a model into the form in which its arithmetic can be counted."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir

from shipway.errors import ModelError, ShipwayError, UsageError
from shipway.graph.building import add_initializer, constant_tensor
from shipway.graph.functions import inline_functions
from shipway.graph.inspection.flops import NOBODY_KNOWS
from shipway.graph.locating import all_nodes
from shipway.graph.naming import Names
from shipway.graph.standard import is_standard

__all__ = ["DynamicDim", "dynamic_dims", "prepare"]

_REFUSED = (ShipwayError, ir.passes.InvariantError, ir.passes.PassError)
_DEEPEST_CALLS = 100
_MOST_NODES = 1_000_000
DynamicDim = tuple[str, str, int]
"""Name of a dynamic dimension, the input that has it, and the axis there."""


def dynamic_dims(model: ir.Model) -> Iterator[DynamicDim]:
    """Yield the dynamic dimensions of the inputs; one without a name is called `input[axis]`."""
    for value in model.graph.inputs:
        if value.is_initializer() or value.shape is None:
            continue
        for axis, dim in enumerate(value.shape):
            if isinstance(dim, int) and dim >= 0:
                continue
            name = "" if isinstance(dim, int) else str(dim.value or "")
            if not name or name.startswith(NOBODY_KNOWS):
                name = f"{value.name}[{axis}]"
            yield name, value.name or "", axis


def prepare(model: ir.Model, sizes: Mapping[str, int]) -> list[str]:
    """Name and bind the dynamic dimensions, open functions, make initializers of constants.

    Initializers that a caller may override are taken at their defaults.

    Args:
        model: A copy that may be changed.
        sizes: Sizes of dynamic dimensions.

    Returns:
        What could not be done, in words.

    Raises:
        UsageError: The model has no such dimension.
    """
    inputs = [value for value in model.graph.inputs if not value.is_initializer()]
    model.graph.inputs.clear()
    model.graph.inputs.extend(inputs)
    _bind(model, sizes)
    notes = []
    if model.functions:
        try:
            _refuse_growth(model)
            inline_functions(model)
        except (*_REFUSED, KeyError, RuntimeError, ValueError) as error:
            notes.append(f"The functions cannot be opened, so what they do is not counted: {error}")
    _lift_constants(model)
    return notes


def _refuse_growth(model: ir.Model) -> None:
    """Refuse functions that call each other so often that no graph would hold what they do.

    Raises:
        ModelError: They do, or one calls itself.
    """
    known: dict[ir.OperatorIdentifier, int] = {}

    def opened(nodes: Iterable[ir.Node], callers: frozenset[ir.OperatorIdentifier]) -> int:
        total = 0
        for node in nodes:
            key = node.op_identifier()
            if key in model.functions and key not in known:
                if key in callers or len(callers) >= _DEEPEST_CALLS:
                    raise ModelError(f"{key[0]}::{key[1]} calls itself, or calls go too deep.")
                known[key] = opened(model.functions[key].all_nodes(), callers | {key})
            total += known.get(key, 1)
        return total

    count = sum(opened(graph, frozenset()) for graph in model.graphs())
    if count > _MOST_NODES:
        raise ModelError(f"they would make {count:,} nodes.")


def _bind(model: ir.Model, sizes: Mapping[str, int]) -> None:
    found = list(dynamic_dims(model))
    known = list(dict.fromkeys(name for name, _, _ in found))
    for name in sizes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise UsageError(
                f"The model has no dynamic dimension '{name}'."
                + (f" Nearest: {near[0]}." if near else ""),
                hint=f"It has: {', '.join(known) or 'none'}.",
            )
    inputs = {value.name: value for value in model.graph.inputs}
    for name, owner, axis in found:
        value = inputs[owner]
        dims = list(value.shape or ())
        dims[axis] = sizes[name] if name in sizes else ir.SymbolicDim(name)
        value.shape = ir.Shape(dims)


def _lift_constants(model: ir.Model) -> None:
    """Make an initializer of every Constant, which is what facts know the numbers of."""
    names = Names(model)
    for node in list(all_nodes(model)):
        if not is_standard(node, "Constant") or node.graph is None or not node.outputs:
            continue
        try:
            tensor = constant_tensor(node.outputs[0])
        except (TypeError, ValueError):  # an attribute of another type than its name says
            continue
        if (
            tensor is None
            or tensor.dtype is ir.DataType.STRING
            or node.outputs[0].is_graph_output()
        ):
            continue
        value = add_initializer(model, names.take_value(node.outputs[0].name or "constant"), tensor)
        ir.convenience.replace_all_uses_with(node.outputs[0], value)
        node.graph.remove(node)
