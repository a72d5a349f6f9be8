"""What is done to a model as a whole: load, save, run, simplify, infer, cut, join, domains."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from shipway.compat.journal import JOURNAL
from shipway.compat.settling import settle
from shipway.compat.wiring import Wiring
from shipway.errors import ModelError, UsageError
from shipway.graph.domains import set_domain, unify_domain
from shipway.graph.inferring import Inferred, infer_values
from shipway.graph.leftovers import keep_leftovers, return_leftovers
from shipway.graph.loading import load_graph
from shipway.graph.locating import all_graphs, all_nodes
from shipway.graph.saving import save_graph
from shipway.graph.simplify import simplify_graph
from shipway.graph.standard import STANDARD_DOMAINS
from shipway.source.tensordata import EXTERNAL_THRESHOLD_BYTES

__all__ = [
    "cut",
    "infer",
    "keep_default_domain",
    "new_model",
    "prefix_names",
    "read_model",
    "run_model",
    "save_model",
    "simplified",
    "to_proto",
]

_IR_VERSION = 8
_QUIET_ARGUMENTS = frozenset({"check_n", "dynamic_input_shape", "skip_shape_inference"})
"""Of onnxsim: how it checks itself and what it skips. Here nothing depends on them."""


def new_model(name: str, imports: Mapping[str, int], ir_version: int | None = None) -> ir.Model:
    """Return a model with an empty graph."""
    graph = ir.Graph([], [], nodes=[], opset_imports=dict(imports), name=name)
    return ir.Model(graph, ir_version=ir_version or _IR_VERSION, producer_name="shipway")


def read_model(source: Any) -> ir.Model:
    """Return the model in a file, a ModelProto or a GraphProto.

    Raises:
        ModelError: The file is absent or broken.
        UsageError: It is none of these.
    """
    import onnx

    if isinstance(source, (str, Path)):
        return load_graph(Path(source))
    if isinstance(source, onnx.GraphProto):
        opset = onnx.helper.make_opsetid("", onnx.defs.onnx_opset_version())
        source = onnx.helper.make_model(source, opset_imports=[opset])
    if not isinstance(source, onnx.ModelProto):
        raise UsageError(
            f"A model is a path, a ModelProto or a GraphProto, not a {type(source).__name__}."
        )
    model = ir.serde.deserialize_model(source)
    keep_leftovers(source, model)
    return model


def save_model(wiring: Wiring, path: str | Path, *, external: bool = False) -> None:
    """Save a graph, sorted, with the domains its nodes use.

    Raises:
        ModelError: A name leads nowhere, or is written twice.
        OutputError: The file cannot be written.
    """
    model = settle(wiring)
    _fit_imports(wiring)
    save_graph(model, Path(path), external_bytes=0 if external else EXTERNAL_THRESHOLD_BYTES)


def _fit_imports(wiring: Wiring) -> None:
    """Import the domains that nodes use, and none that the script moved all its nodes out of."""
    model = wiring.model
    used = {"" if node.domain == "ai.onnx" else node.domain for node in all_nodes(model)}
    imports = model.graph.opset_imports
    for domain in used - set(imports):
        if domain or "ai.onnx" not in imports:
            imports[domain] = 1
    local = {function.domain for function in model.functions.values()}
    for domain in wiring.domains - used - local - STANDARD_DOMAINS:
        imports.pop(domain, None)


def to_proto(wiring: Wiring) -> Any:
    """Return the graph as a ModelProto, whatever state it is in."""
    model = settle(wiring, strict=False)
    _fit_imports(wiring)
    proto = ir.serde.serialize_model(model)
    return_leftovers(model, proto)
    return proto


def run_model(wiring: Wiring, arrays: NDArray[Any] | Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Run a graph in ONNX Runtime and return its outputs in order.

    Raises:
        UsageError: There are more or fewer arrays than inputs.
        EngineError: ONNX Runtime refuses the model.
    """
    from shipway.engines.base import EngineOptions
    from shipway.engines.opening import open_model
    from shipway.engines.target import Target
    from shipway.source.loading import SourceRequest

    feeds: list[Any] = list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]
    names = [one.name for one in wiring.inputs]
    if len(feeds) != len(names):
        raise UsageError(
            f"The graph has {len(names)} inputs ({', '.join(names)}), not {len(feeds)}."
        )
    with tempfile.TemporaryDirectory(prefix="shipway-compat-") as folder:
        path = Path(folder) / "model.onnx"
        save_model(wiring, path)
        request = SourceRequest(str(path))
        with open_model(request, Target("onnxruntime"), EngineOptions()) as opened:
            outputs = opened.session.run(dict(zip(names, feeds, strict=True)))
    return [outputs[one.name] for one in wiring.outputs]


def simplified(wiring: Wiring, arguments: Mapping[str, Any]) -> ir.Model:
    """Return a simplified copy of a graph.

    Args:
        wiring: The graph.
        arguments: As for onnxsim. Sizes of inputs are set; what it would check or skip changes
            nothing here; everything else is noted as unsupported.
    """
    rest = dict(arguments)
    shapes: dict[str, Sequence[int | str]] = {}
    for key in ("input_shapes", "overwrite_input_shapes"):
        shapes.update(rest.pop(key, None) or {})
    for key in rest.keys() - _QUIET_ARGUMENTS:
        JOURNAL.unsupported(f"simplify({key}=...)")
    model = settle(wiring).clone()
    inputs = {value.name: value for value in model.graph.inputs}
    for name, shape in shapes.items():
        if name not in inputs:
            raise UsageError(f"The graph has no input '{name}': {', '.join(map(str, inputs))}.")
        inputs[name].shape = ir.Shape(list(shape))
    simplify_graph(model)
    return model


def infer(wiring: Wiring) -> None:
    """Declare of every value between what follows from inputs and constants, and nothing else.

    Raises:
        ModelError: The shapes contradict each other.
    """
    model = settle(wiring, strict=False)
    known = infer_values(model)
    outputs = set(model.graph.outputs)
    for graph in model.graphs():
        own = outputs | set(graph.outputs)
        for node in graph:
            for value in node.outputs:
                if value not in own:
                    _declare(value, known.get(value.name or ""))


def _declare(value: ir.Value, known: Inferred | None) -> None:
    dtype = None if known is None else known.dtype
    shape = None if known is None else known.shape
    value.type = None if dtype is None else ir.TensorType(dtype)
    value.shape = None if shape is None else ir.Shape(shape)


def keep_default_domain(wiring: Wiring) -> None:
    """Leave one domain, the default one, with the opset it has: custom nodes move there.

    Sub-graphs and functions follow. An operator of ONNX's other domains, such as ai.onnx.ml, stays
    where it is: moved, it would be none.

    Raises:
        ModelError: The model does not import the default domain, or an operator or function of
            that name is in it.
    """
    model = settle(wiring, strict=False)
    unify_domain(model)
    for graph in (model.graph, *(one.graph for one in model.functions.values())):
        if "" not in graph.opset_imports:
            raise ModelError(
                f"'{graph.name}' imports no opset of the default domain, so it is not known which "
                f"to keep: {', '.join(graph.opset_imports) or 'none'}.",
                hint='Set one first: model.opset_imports[""] = 11.',
            )
    set_domain(model, "")


def cut(wiring: Wiring, inputs: Iterable[str], outputs: Iterable[str]) -> ir.Model:
    """Return the part of a graph between some values, in a model of its own.

    Inputs and outputs of the part get the dtype and shape that follow from the whole.

    Raises:
        UsageError: A value does not exist, or the inputs do not suffice.
    """
    model = settle(wiring, strict=False)
    known = infer_values(model)
    names = (list(inputs), list(outputs))
    try:
        graph = ir.convenience.extract(model.graph, *names)
    except ValueError as error:
        raise UsageError(
            f"The graph cannot be cut between {', '.join(names[0])} and {', '.join(names[1])}: "
            f"{error}.",
            hint="Name the values, not the nodes; outputs may depend on no other input.",
        ) from error
    for value in (*graph.inputs, *graph.outputs):
        _declare(value, known.get(value.name or ""))
    part = ir.Model(
        graph,
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        functions=[function.clone() for function in model.functions.values()],
        metadata_props=dict(model.metadata_props),
    )
    graph.opset_imports.update(model.graph.opset_imports)
    return part


def prefix_names(model: ir.Model, prefix: str) -> None:
    """Put a prefix before every name of nodes and values."""
    inner = {function.graph for function in model.functions.values()}
    for graph in all_graphs(model):
        if graph in inner:
            continue
        values = [*graph.inputs, *graph.initializers.values()]
        for node in graph:
            node.name = f"{prefix}{node.name}" if node.name else node.name
            values += node.outputs
        for value in dict.fromkeys(values):
            value.name = f"{prefix}{value.name}" if value.name else value.name
