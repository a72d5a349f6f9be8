"""Cuts a part out of a model: what lies between some of its values and others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from shipway.errors import UsageError
from shipway.graph.declaring import Declarations, fix_sizes, size_names
from shipway.graph.functions import read_by
from shipway.graph.leftovers import QUANTIZATION, drop_training
from shipway.graph.locating import all_nodes, locate_value, subgraphs_of
from shipway.graph.naming import Names
from shipway.graph.ordering import sort_graph
from shipway.graph.signing import Signer, describe_value
from shipway.tensors import TensorSpec

__all__ = ["Extraction", "extract_graph"]


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was cut out.

    Args:
        inputs: The inputs, as name:dtype[sizes].
        outputs: The outputs, as name:dtype[sizes].
        nodes_before: Nodes of the whole model's main graph.
        nodes_after: Those of the part.
        weights_before: Initializers of the whole model's main graph.
        weights_after: Those of the part.
        notes: What the user should know, e.g. a type that only the file vouches for.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes_before: int
    nodes_after: int
    weights_before: int
    weights_after: int
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "nodes_before": self.nodes_before,
            "nodes_after": self.nodes_after,
            "weights_before": self.weights_before,
            "weights_after": self.weights_after,
            "notes": list(self.notes),
        }


def extract_graph(
    model: ir.Model,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    *,
    types: Sequence[TensorSpec] = (),
    sizes: Mapping[str, int] | None = None,
) -> Extraction:
    """Reduce a model to the part between some values and others, in place.

    Dtypes and shapes of the new inputs and outputs are inferred from the whole model; what the file
    declares of values inside it is not believed. Weights stay references into their files.

    Args:
        model: The model; it becomes the part.
        inputs: Values of the main graph at which the part begins, in this order. None: the inputs
            of the model that the outputs need.
        outputs: Values at which it ends, in this order. None: the outputs of the model.
        types: Dtypes and shapes of inputs or outputs that cannot be inferred.
        sizes: Numbers for dynamic dimensions.

    Returns:
        What was cut out.

    Raises:
        UsageError: A value is unknown, named twice, or lies inside a sub-graph or function; an
            output needs an input that was not named; nothing reads an input; or the dtype or rank
            of one is not known.
        ModelError: The graph has a cycle.

    Example:
        >>> import onnx_ir as ir
        >>> model = ir.from_onnx_text('''
        ... <ir_version: 10, opset_import: ["": 20]>
        ... agraph (float[n, 4] x) => (float[n, 4] y) { a = Relu(x)  b = Neg(a)  y = Abs(b) }
        ... ''')
        >>> extract_graph(model, ["a"], ["b"]).inputs
        ('a:float32[n,4]',)
    """
    sort_graph(model)
    begin = None if inputs is None else _find(model, inputs, "input")
    end = list(model.graph.outputs) if outputs is None else _find(model, outputs, "output")
    _check_ends(model, begin or [], end)
    part = _walk(model.graph, end, set(begin or ()))
    if begin is not None:
        _check_reached(model.graph, begin, end, part, named=outputs is not None)
    signer = Signer(model, types, sizes or {})
    signer.declare([one for one in begin or () if not one.is_graph_input()], end)
    _check_sizes(sizes or {}, [*model.graph.inputs, *(begin or []), *end])
    nodes_before, weights_before = len(model.graph), len(model.graph.initializers)
    _cut(model, begin, end, part)
    _redeclare(model.graph, signer.declarations)
    fix_sizes([*model.graph.inputs, *model.graph.outputs], sizes or {})
    if drop_training(model):
        signer.notes.append("left out: the training information, which is about the whole model")
    return Extraction(
        tuple(describe_value(one) for one in model.graph.inputs),
        tuple(describe_value(one) for one in model.graph.outputs),
        nodes_before,
        len(model.graph),
        weights_before,
        len(model.graph.initializers),
        tuple(signer.notes),
    )


def _find(model: ir.Model, names: Sequence[str], kind: str) -> list[ir.Value]:
    if not names:
        raise UsageError(f"No {kind} is named.", hint=f"Leave --{kind}s out to take the model's.")
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"The {kind} '{name}' is named {names.count(name)} times.")
    found = [locate_value(model, name) for name in names]
    for value in found:
        if value.graph is not model.graph:
            where = "function" if _is_in_function(model, value) else "sub-graph"
            raise UsageError(
                f"'{value.name}' lies inside a {where}, and a part is cut out of the main graph.",
                hint="shipway graph edit MODEL inline-functions"
                if where == "function"
                else f"Name the outputs of the node that holds the graph: {_holder(model, value)}.",
            )
    return found


def _is_in_function(model: ir.Model, value: ir.Value) -> bool:
    graphs = {
        graph
        for function in model.functions.values()
        for graph in (function.graph, *function.graph.subgraphs())
    }
    return value.graph in graphs


def _holder(model: ir.Model, value: ir.Value) -> str:
    """Return the outputs of the node of the main graph inside which a value lies."""
    for node in model.graph:
        if any(value.graph in {graph, *graph.subgraphs()} for graph in subgraphs_of(node)):
            return ", ".join(one.name for one in node.outputs if one.name)
    return "none"


def _check_ends(model: ir.Model, begin: Sequence[ir.Value], end: Sequence[ir.Value]) -> None:
    own = set(model.graph.outputs)
    for value in end:
        if value in begin:
            raise UsageError(f"'{value.name}' is named as input and as output.")
        if value.producer() is None and value not in own:
            kind = "an input" if value.is_graph_input() else "a weight"
            raise UsageError(
                f"'{value.name}' is {kind} of the model; an output must be computed.",
                hint="Name the values behind it.",
            )


@dataclass(frozen=True, slots=True)
class _Part:
    """What some outputs need.

    Args:
        nodes: The nodes.
        leaves: Inputs and weights of the model.
        reached: Values at which the way back ended because they are to be inputs.
    """

    nodes: set[ir.Node]
    leaves: set[ir.Value]
    reached: set[ir.Value]


def _walk(graph: ir.Graph, end: Iterable[ir.Value], stops: set[ir.Value]) -> _Part:
    """Go back from outputs to the stops, through what sub-graphs read from outside too."""
    part = _Part(set(), set(), set())
    pending = list(end)
    while pending:
        value = pending.pop()
        node = value.producer()
        if value in stops:
            part.reached.add(value)
        elif node is None:
            part.leaves.add(value)
        elif node not in part.nodes:
            part.nodes.add(node)
            pending += [one for one in read_by(node) if one.graph is graph]
    return part


def _check_reached(
    graph: ir.Graph,
    begin: Sequence[ir.Value],
    end: Sequence[ir.Value],
    part: _Part,
    *,
    named: bool,
) -> None:
    weights = set(graph.initializers.values())
    missing = [one for one in graph.inputs if one in part.leaves and one not in weights]
    begins, stops = ",".join(str(one.name) for one in begin), set(begin)
    if missing:
        _refuse_missing(graph, begins, end, stops, {str(one.name) for one in missing})
    if not named:
        for value in end:
            if not _walk(graph, [value], stops).reached:
                good = [str(one.name) for one in end if _walk(graph, [one], stops).reached]
                raise UsageError(
                    f"The output '{value.name}' depends on none of {begins}.",
                    hint=f"Name the outputs: --outputs {','.join(good) or 'NAMES'}",
                )
    for value in begin:
        if value not in part.reached:
            ends = ", ".join(str(one.name) for one in end)
            raise UsageError(
                f"Nothing between the inputs and {ends} reads '{value.name}'.",
                hint=f"Leave it out of --inputs {begins}, or name outputs that depend on it.",
            )


def _refuse_missing(
    graph: ir.Graph, begins: str, end: Sequence[ir.Value], stops: set[ir.Value], missing: set[str]
) -> None:
    for value in end:
        leaves = {one.name for one in _walk(graph, [value], stops).leaves}
        needed = sorted(missing & leaves)
        if needed:
            raise UsageError(
                f"The output '{value.name}' cannot be computed from {begins} alone: it also depends "
                f"on {' and '.join(needed)} of the model's inputs.",
                hint=f"Name more inputs: --inputs {','.join([begins, *sorted(missing)])}",
            )


def _check_sizes(sizes: Mapping[str, int], values: Sequence[ir.Value]) -> None:
    names = size_names(values)
    for name in sizes:
        if name not in names:
            raise UsageError(
                f"There is no dynamic dimension '{name}'.",
                hint=f"There are: {', '.join(names) or 'none'}.",
            )


def _cut(
    model: ir.Model, begin: Sequence[ir.Value] | None, end: Sequence[ir.Value], part: _Part
) -> None:
    """Make the model the part."""
    graph, names = model.graph, Names(model)
    weights = set(graph.initializers.values())
    if begin is None:
        inputs = [one for one in graph.inputs if one in part.leaves and one not in weights]
    else:
        inputs = [_as_input(value, names) for value in begin]
    inputs += [one for one in graph.inputs if one in part.leaves & weights and one not in inputs]
    graph.outputs.clear()
    _remove(graph, [node for node in graph if node not in part.nodes])
    graph.inputs.clear()
    graph.outputs.extend(end)
    _drop_weights(graph, part.leaves | set(inputs))
    graph.inputs.extend(inputs)
    _drop_unused_definitions(model)


def _as_input(value: ir.Value, names: Names) -> ir.Value:
    """Return a value as an input: itself where it is one, one in its place where it is computed."""
    if value.is_graph_input():
        return value
    if value.producer() is None:
        graph = value.graph
        assert isinstance(graph, ir.Graph)  # noqa: S101 -- it was found in the main graph
        del graph.initializers[value.name or ""]
        value.const_value = None
        return value
    new = ir.Value(
        name=value.name,
        type=value.type,
        shape=value.shape,
        doc_string=value.doc_string,
        metadata_props=dict(value.metadata_props),
    )
    new.meta.update(value.meta)
    value.replace_all_uses_with(new, replace_graph_outputs=True)
    value.name = names.take_value(f"{value.name}_unread")
    return new


def _remove(graph: ir.Graph, nodes: Sequence[ir.Node]) -> None:
    """Remove nodes, and let go of what their sub-graphs read."""
    for node in nodes:
        for inner in subgraphs_of(node):
            for one in inner.all_nodes():
                for index in range(len(one.inputs)):
                    one.replace_input_with(index, None)
    for node in reversed(nodes):
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    graph.remove(nodes)


def _drop_weights(graph: ir.Graph, needed: set[ir.Value]) -> None:
    """Drop weights nobody reads; quantization parameters of values that stay are kept."""
    values = [*needed, *(one for node in graph for one in node.outputs)]
    annotated = {name for one in values for name in (one.meta.get(QUANTIZATION) or {}).values()}
    for name, value in list(graph.initializers.items()):
        if value not in needed and name not in annotated:
            del graph.initializers[name]


def _drop_unused_definitions(model: ir.Model) -> None:
    """Drop functions that nothing calls any more, and imports of domains that nothing is from."""
    called, pending = set(), list(model.graph.all_nodes())
    while pending:
        key = pending.pop().op_identifier()
        if key in model.functions and key not in called:
            called.add(key)
            pending += model.functions[key].graph.all_nodes()
    for key in set(model.functions) - called:
        del model.functions[key]
    used = {node.domain for node in all_nodes(model)} | {key[0] for key in called}
    for domain in set(model.opset_imports) - used - {"", "ai.onnx"}:
        del model.opset_imports[domain]


def _redeclare(graph: ir.Graph, declarations: Declarations) -> None:
    """Replace what the file declares of values inside by what is inferred."""
    ends = set(graph.outputs)
    for node in graph:
        for value in node.outputs:
            if value.shape is None or value in ends:
                continue
            known = declarations.of(value)
            if known.shape is not None:
                value.shape = ir.Shape(known.shape)
