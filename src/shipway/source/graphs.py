"""ONNX files: that they are whole, and what goes into them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shipway.errors import ModelError, TensorError
from shipway.source.modelfiles import shown_path
from shipway.source.quoting import quote_text
from shipway.source.tensordata import check_tensor, graph_tensors, node_tensors
from shipway.tensors import ANY, Dim, TensorSpec, dtype_of

__all__ = ["check_graph", "read_graph_file"]

_AGAIN = "Export, copy or download it again."
_PROTOBUF_LIMIT_BYTES = 2**31 - 1
_ONNX_DOMAINS = {"", "ai.onnx"}
_NEWEST_WITHOUT_OPSETS = 2


def read_graph_file(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[Path, ...]]:
    """Check an ONNX file and return its input specs and every file it consists of.

    A protobuf cut off between two fields still parses, so the file must also make sense: it has a
    graph with outputs, nothing is read that nothing computes, and each tensor has all its values.
    Operators are not judged here; engines do that.

    Returns:
        Inputs without initializers, in order; and the model file followed by its external data.

    Raises:
        ModelError: The file is garbage, truncated, or lacks its external data, or an input is of a
            kind Shipway does not carry.
    """
    model = _parse(path)
    files = check_graph(model, path)
    return _inputs(model.graph, path), (path, *files)


def check_graph(model: Any, path: Path) -> tuple[Path, ...]:
    """Check that a parsed ONNX file makes sense, and return the files with its external data.

    Args:
        model: The ModelProto.
        path: Where it was read from.

    Raises:
        ModelError: As for `read_graph_file`, but for its inputs, which may be of any kind.
    """
    _check_frame(model, path)
    _check_flow(model, path)
    tensors = [*graph_tensors(model.graph)]
    for function in model.functions:
        tensors += node_tensors(function.node)
    external = [check_tensor(tensor, path) for tensor in tensors]
    return tuple(dict.fromkeys(file for file in external if file is not None))


def _parse(path: Path) -> Any:
    import onnx

    try:
        return onnx.load(path, load_external_data=False)
    except Exception as error:
        if path.stat().st_size > _PROTOBUF_LIMIT_BYTES:
            raise ModelError(
                f"{shown_path(path)} is larger than 2 GB, which no ONNX file can be.",
                hint="Save it with onnx.save(model, path, save_as_external_data=True).",
            ) from error
        raise ModelError(
            f"{shown_path(path)} is not an ONNX model, or is truncated: {quote_text(error)}.",
            hint=_AGAIN,
        ) from error


def _check_frame(model: Any, path: Path) -> None:
    problem = ""
    if not model.HasField("graph") or not model.ir_version:
        problem = "is not an ONNX model: it has no graph or no IR version"
    elif not model.opset_import and model.ir_version > _NEWEST_WITHOUT_OPSETS:
        problem = "is truncated or no ONNX model: it names no opset"
    elif model.opset_import and _lacks_onnx_opset(model):
        problem = "is truncated or no ONNX model: it names no opset for its ONNX operators"
    elif not model.graph.output:
        problem = "is truncated or no ONNX model: its graph has no outputs"
    if problem:
        raise ModelError(f"{shown_path(path)} {problem}.", hint=_AGAIN)


def _lacks_onnx_opset(model: Any) -> bool:
    imported = {entry.domain for entry in model.opset_import}
    used = {node.domain for node in model.graph.node}
    return bool(used & _ONNX_DOMAINS) and not imported & _ONNX_DOMAINS


def _check_flow(model: Any, path: Path) -> None:
    bodies = [_dangling(model.graph, ())]
    for function in model.functions:
        known = {*function.input, *(name for node in function.node for name in node.output)}
        bodies.append(_dangling_reads(function.node, (known,)))
    for body in bodies:
        for reader, name in body:
            raise ModelError(
                f"{shown_path(path)} is truncated or damaged: {reader} reads '{name}', which "
                "nothing computes.",
                hint=_AGAIN,
            )


def _dangling(graph: Any, outer: tuple[set[str], ...]) -> Iterator[tuple[str, str]]:
    """Yield (reader, value) for each value a graph reads and nothing in its scope provides."""
    known = {value.name for value in graph.input}
    known |= {tensor.name for tensor in graph.initializer}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    known |= {name for node in graph.node for name in node.output}
    scopes = (known, *outer)
    yield from _dangling_reads(graph.node, scopes)
    for output in graph.output:
        if not any(output.name in scope for scope in scopes):
            yield "an output of the graph", output.name


def _dangling_reads(nodes: Any, scopes: tuple[set[str], ...]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        label = f"the node '{node.name}' ({node.op_type})"
        for name in node.input:
            if name and not any(name in scope for scope in scopes):
                yield label, name
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for graph in graphs:
                yield from _dangling(graph, scopes)


def _inputs(graph: Any, path: Path) -> tuple[TensorSpec, ...]:
    constant = {tensor.name for tensor in graph.initializer}
    constant |= {sparse.values.name for sparse in graph.sparse_initializer}
    return tuple(_spec(value, path) for value in graph.input if value.name not in constant)


def _spec(value: Any, path: Path) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        what = (kind or "nothing").removesuffix("_type").replace("_", " ")
        raise ModelError(
            f"{shown_path(path)}: its input '{value.name}' is declared as {what}, not as a tensor.",
            hint="Shipway runs models whose inputs are tensors: change the export.",
        )
    tensor = value.type.tensor_type
    try:
        dtype = dtype_of(int(tensor.elem_type)).name
    except TensorError as error:
        raise ModelError(f"{shown_path(path)}: its input '{value.name}': {error}") from error
    dims = tuple(map(_dim, tensor.shape.dim)) if tensor.HasField("shape") else None
    return TensorSpec(value.name, dtype, dims)


def _dim(dim: Any) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return str(dim.dim_param) or ANY
