"""Loads an ONNX file without its weights: large tensors stay in the file until they are needed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.graph.collector import collector_paused
from shipway.graph.damage import (
    absent_tensor,
    mend_texts,
    put_unreadable_aside,
    rename_redeclared,
)
from shipway.graph.leftovers import keep_leftovers, stand_in_for_sparse
from shipway.graph.locating import all_graphs
from shipway.graph.outline import SMALL_BYTES, naming, parse, read_outline, skeleton
from shipway.graph.weights import StoredTensor, WeightFile
from shipway.source.graphs import check_graph
from shipway.source.modelfiles import find_model_file

__all__ = ["SMALL_BYTES", "load_anyway", "load_graph", "read_outline"]

_Stored = Callable[[ir.ExternalTensor, Path, dict[str, WeightFile]], ir.TensorProtocol]


def load_graph(path: Path) -> ir.Model:
    """Load an ONNX model of any size; its large weights are references into their files.

    Metadata, doc strings, functions, training information, sparse initializers and fields of a
    newer ONNX all come along and are written back by `save_graph`.

    Args:
        path: The .onnx file. Its external data may be up to any size, in the folder of the model.

    Returns:
        The model. Each weight above 1 KiB is a `StoredTensor`; `const_value.numpy()` reads it.

    Raises:
        ModelError: The file is absent, truncated or not ONNX; it lacks external data, or names
            some outside its folder; or it holds what cannot be carried (a map, a sparse
            attribute, unknown fields inside attributes).

    Example:
        >>> from pathlib import Path
        >>> load_graph(Path("absent.onnx"))
        Traceback (most recent call last):
        ...
        shipway.errors.ModelError: No such file: absent.onnx.
    """
    path = find_model_file(path)
    with collector_paused():
        return _load(path)


def load_anyway(path: Path) -> tuple[ir.Model, tuple[str, ...]]:
    """Load a model to look at; of one that `load_graph` refuses, what there is.

    Such a model is neither to be run nor to be saved: a tensor whose numbers are not there is an
    `AbsentTensor`, and a value that is computed a second time has another name.

    Args:
        path: The .onnx file.

    Returns:
        The model, and what is wrong with it.

    Raises:
        ModelError: There is too little: the file is absent or no ONNX model, or it holds what
            cannot be carried.
    """
    path = find_model_file(path)
    with collector_paused(), _quiet():
        return _load_anyway(path)


def _load_anyway(path: Path) -> tuple[ir.Model, tuple[str, ...]]:
    file = WeightFile(path)
    with naming(path):
        proto = parse(skeleton(path, file.fileno()))
    problems = list(mend_texts(proto))
    try:
        check_graph(proto, path)
    except ModelError as error:
        if not proto.graph.node and not proto.graph.output:
            raise
        problems.append(str(error))
    problems += rename_redeclared(proto)
    with naming(path):
        stand_in_for_sparse(proto)
        model = _deserialize(proto)
    try:
        keep_leftovers(proto, model)
    except ModelError as error:
        problems.append(f"The file {error}.")
    except TypeError as error:
        problems.append(f"{error}.")
    _store_external(model, path, file, _stored_or_absent)
    put_unreadable_aside(model)
    return model, tuple(problems)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnx_ir from logging what is told as a problem."""
    log = logging.getLogger("onnx_ir")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _load(path: Path) -> ir.Model:
    file = WeightFile(path)
    with naming(path):
        proto = parse(skeleton(path, file.fileno()))
    check_graph(proto, path)
    with naming(path):
        stand_in_for_sparse(proto)
        model = _deserialize(proto)
        keep_leftovers(proto, model)
    _store_external(model, path, file)
    return model


def _deserialize(proto: Any) -> ir.Model:
    try:
        return ir.serde.deserialize_model(proto)
    except ir.serde.SerdeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).partition(". ")[0].strip().rstrip(".")
        raise ModelError(
            f"holds what Shipway's graphs cannot carry: {reason}",
            hint="Convert sparse constants to dense ones, and maps to tensors, before.",
        ) from error


def _store_external(
    model: ir.Model, path: Path, file: WeightFile, stored: _Stored | None = None
) -> None:
    """Give every tensor that lies in a file a reference to that file, opened once."""
    stored = stored or _stored
    files = {path.name: file}
    for graph in all_graphs(model):
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = stored(value.const_value, path, files)
        for node in graph:
            _store_attributes(node, path, files, stored)


def _store_attributes(
    node: ir.Node, path: Path, files: dict[str, WeightFile], stored: _Stored
) -> None:
    for name, attribute in list(node.attributes.items()):
        if isinstance(attribute.value, ir.ExternalTensor):
            tensor = stored(attribute.value, path, files)
            node.attributes[name] = ir.AttrTensor(name, tensor)


def _stored(tensor: ir.ExternalTensor, path: Path, files: dict[str, WeightFile]) -> StoredTensor:
    location = str(tensor.location)
    if location not in files:
        files[location] = WeightFile(path.parent / location)
    return StoredTensor(
        files[location],
        tensor.offset or 0,
        tensor.name,
        tensor.dtype,
        tuple(tensor.shape.numpy()),
        doc_string=tensor.doc_string,
        metadata=dict(tensor.metadata_props),
    )


def _stored_or_absent(
    tensor: ir.ExternalTensor, path: Path, files: dict[str, WeightFile]
) -> ir.TensorProtocol:
    return absent_tensor(tensor, path) or _stored(tensor, path, files)
