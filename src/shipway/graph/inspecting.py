"""Says what a model is made of and what running it takes, without reading its weights."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from shipway.errors import ModelError
from shipway.graph.inspection.census import Census
from shipway.graph.inspection.ports import describe_ports, infer_ports
from shipway.graph.inspection.preparing import dynamic_dims
from shipway.graph.inspection.problems import find_problems
from shipway.graph.inspection.results import Counting, Inspection
from shipway.graph.inspection.tally import Tally, tally_model, total
from shipway.graph.inspection.weights import Weights, survey_weights
from shipway.graph.loading import load_anyway
from shipway.graph.locating import all_nodes
from shipway.graph.ordering import sort_graph
from shipway.source.modelfiles import find_model_file, shown_path

__all__ = ["inspect_graph", "inspect_model"]

_LARGEST = 10
_FIRST_IR_WITH_DEFAULTS = 4


def inspect_model(
    path: Path, *, sizes: Mapping[str, int] | None = None, largest: int = _LARGEST
) -> Inspection:
    """Inspect an ONNX file, also one that is not valid, as far as it can be read.

    Args:
        path: The .onnx file. External data may be absent.
        sizes: Sizes of dynamic dimensions; without, FLOPs are formulas. A dimension without a
            name is called `input[axis]`.
        largest: How many of the largest weights to list.

    Returns:
        What was found; what is wrong is in `problems`.

    Raises:
        ModelError: The file is absent or no ONNX model.
        UsageError: The model has no dimension of that name.
    """
    path = find_model_file(path)
    model, problems = load_anyway(path)
    return _inspect(model, model, path, problems, sizes or {}, largest)


def inspect_graph(
    model: ir.Model, *, sizes: Mapping[str, int] | None = None, largest: int = _LARGEST
) -> Inspection:
    """Inspect a model in memory, which stays as it is.

    Args:
        model: The model.
        sizes: As for `inspect_model`.
        largest: As for `inspect_model`.

    Returns:
        What was found. Where the graph is cyclic or not in order, nothing is counted.

    Raises:
        UsageError: The model has no dimension of that name.

    Example:
        >>> import onnx_ir as ir
        >>> model = ir.from_onnx_text(
        ...     '<ir_version: 8, opset_import: ["": 17]> '
        ...     "g (float[n,3] x, float[3,4] w) => (float[n,4] y) {y = MatMul(x, w)}"
        ... )
        >>> found = inspect_graph(model)
        >>> found.nodes, found.counting.macs
        (1, 12*n)
        >>> inspect_graph(model, sizes={"n": 10}).counting.macs
        120
    """
    copy = None
    with contextlib.suppress(RuntimeError, ValueError):
        copy = model.clone()
    return _inspect(model, copy, None, (), sizes or {}, largest)


def _inspect(
    model: ir.Model,
    copy: ir.Model | None,
    path: Path | None,
    problems: tuple[str, ...],
    sizes: Mapping[str, int],
    largest: int,
) -> Inspection:
    """Inspect a model; `copy`, which may be the model itself, is used up when it is counted."""
    census = Census(model)
    weights = survey_weights(model, path, largest)
    found = Inspection(
        header=_header(model, path, weights),
        metadata=dict(model.metadata_props),
        node_metadata=Counter(key for node in all_nodes(model) for key in node.metadata_props),
        problems=(*problems, *find_problems(model)),
        domains=census.domains,
        inputs=describe_ports(_inputs(model)),
        outputs=describe_ports(model.graph.outputs),
        dims=_dims(model),
        operators=census.operators({}),
        weights=weights,
        functions=census.functions,
        subgraphs=census.subgraphs,
        counting=None,
    )
    if copy is None:
        return found
    with contextlib.suppress(ModelError):  # a cycle, which is among the problems
        sort_graph(copy)
    tally = tally_model(copy, sizes)
    return replace(
        found,
        inputs=infer_ports(found.inputs, tally.shapes),
        outputs=infer_ports(found.outputs, tally.shapes),
        operators=census.operators(tally.shares),
        counting=_counting(tally, sizes),
    )


def _header(model: ir.Model, path: Path | None, weights: Weights) -> dict[str, Any]:
    found: dict[str, Any] = {
        "model": None if path is None else shown_path(path),
        "size_bytes": None if path is None else path.stat().st_size,
        "external_bytes": sum(one.size_bytes or 0 for one in weights.files),
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name or ''} {model.producer_version or ''}".strip(),
        "domain": model.domain,
        "version": model.model_version,
        "graph": model.graph.name,
        "doc": model.doc_string or model.graph.doc_string,
    }
    return {key: value for key, value in found.items() if value}


def _inputs(model: ir.Model) -> list[ir.Value]:
    """Return the inputs; before IR version 4 every weight is declared as one, and is none."""
    if model.ir_version >= _FIRST_IR_WITH_DEFAULTS:
        return list(model.graph.inputs)
    return [value for value in model.graph.inputs if not value.is_initializer()]


def _dims(model: ir.Model) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for name, owner, axis in dynamic_dims(model):
        found.setdefault(name, []).append(f"{owner} axis {axis}")
    return {name: tuple(places) for name, places in found.items()}


def _counting(tally: Tally, sizes: Mapping[str, int]) -> Counting:
    shares = tally.shares.values()
    return Counting(
        sizes,
        total(one.macs for one in shares),
        total(one.flops for one in shares),
        sum(one.nodes for one in shares),
        sum(one.counted for one in shares),
        tally.gaps,
        tally.notes,
    )
