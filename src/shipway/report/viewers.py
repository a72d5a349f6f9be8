"""A diagnosis laid over the picture of a model: node data for Model Explorer, data for Netron."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from shipway.compare.diagnosis import Diagnosis, TensorComparison
from shipway.report.diagnosis_text import write_cause, write_verdict

__all__ = ["lay_over_model_explorer", "lay_over_netron", "name_nodes"]

_FAULT, _OVER = "#c62828", "#f9a825"
_WITHIN = ((0.1, "#c8e6c9"), (1.0, "#81c784"))
"""Colours up to a tenth of the limit, and up to the limit."""


def name_nodes(path: Path) -> dict[str, str]:
    """Return the node that computes each value of an ONNX file, as far as nodes have names.

    The overlays need it for ONNX. Weights are not read.

    Raises:
        ModelError: The file is absent or no ONNX model.
    """
    from shipway.graph.loading import load_graph

    return {
        output.name: node.name
        for node in load_graph(path).graph
        for output in node.outputs
        if output.name and node.name
    }


def lay_over_model_explorer(
    diagnosis: Diagnosis, nodes: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return node data that colours each operator by its tensor's multiple of the limit.

    It belongs to the graph that is open when it is loaded. A tensor is put under golden's name,
    under the engine's, and under its node, so that it is found in golden's graph and in the
    engine's; names that a graph does not have are passed over there.

    Args:
        diagnosis: What was found.
        nodes: For each tensor, by either name, the node of the graph that computes it. ONNX graphs
            need it, see `name_nodes`: the ONNX adapter knows nodes by their names only. The graph
            of a .pt2 does not: its nodes have the names of their tensors.

    Source: Model Explorer 0.1.34: `node_data_builder.GraphNodeData`, and its web page, which takes
        a file with "results" at the top for the graph on show.
    """
    results: dict[str, dict[str, Any]] = {}
    golden = {tensor.golden for tensor in diagnosis.tensors}
    culprits = {culprit.tensor.pair for culprit in diagnosis.culprits}
    # Of several tensors of one node the page shows the colour of the last: the worst has to be it.
    for tensor in sorted(diagnosis.tensors, key=lambda tensor: tensor.severity):
        names = _names(tensor, golden)
        for name in dict.fromkeys((*names, *_nodes(names, nodes))):
            results.pop(name, None)
            results[name] = _node_data(tensor, is_culprit=tensor.pair in culprits)
    thresholds = [{"value": value, "bgColor": colour} for value, colour in _WITHIN]
    return {"results": results, "thresholds": thresholds}


def _names(tensor: TensorComparison, golden: Collection[str]) -> list[str]:
    """Return what a graph may know a tensor by; the engine's name only where it is no other's."""
    alone = tensor.actual not in golden
    return [tensor.golden, tensor.actual] if alone else [tensor.golden]


def _nodes(names: list[str], nodes: Mapping[str, str] | None) -> list[str]:
    return [nodes[name] for name in names if name in nodes] if nodes else []


def _node_data(tensor: TensorComparison, *, is_culprit: bool) -> dict[str, Any]:
    finite = math.isfinite(tensor.severity)
    value = float(f"{tensor.severity:.3g}") if finite else str(tensor.severity)
    if tensor.verdict.passed and finite:
        return {"value": value}
    return {"value": value, "bgColor": _FAULT if is_culprit or tensor.at_fault else _OVER}


def lay_over_netron(diagnosis: Diagnosis, nodes: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return data that Netron shows beside a value, or a node, of the model that is open.

    Args:
        diagnosis: What was found.
        nodes: For each tensor, by either name, the node of the graph that computes it. Without it
            the data is shown for values only, which Netron knows by their names.

    Source: Netron 9.3.3: `metadata.Attachment` in its view.js.
    """
    metadata = [_entry("model", "", "shipway", str(write_verdict(diagnosis)))]
    metrics: list[dict[str, str]] = []
    golden = {tensor.golden for tensor in diagnosis.tensors}
    causes = {culprit.tensor.pair: culprit.cause for culprit in diagnosis.culprits}
    for tensor in diagnosis.tensors:
        names = _names(tensor, golden)
        places = [("value", name) for name in names]
        places += [("node", node) for node in _nodes(names, nodes)]
        for kind, target in dict.fromkeys(places):
            metrics += [_entry(kind, target, *item) for item in _figures(tensor)]
            metadata.append(_entry(kind, target, "verdict", _verdict(tensor)))
            if cause := causes.get(tensor.pair):
                metadata.append(_entry(kind, target, "fault", write_cause(cause)))
    return {"signature": "netron:attachment", "metadata": metadata, "metrics": metrics}


def _verdict(tensor: TensorComparison) -> str:
    if tensor.verdict.passed:
        return "within limits"
    return tensor.explained or "; ".join(tensor.verdict.reasons)


def _figures(tensor: TensorComparison) -> Iterator[tuple[str, str]]:
    judged = tensor.judged
    figures = (
        ("multiple of the limit", tensor.severity),
        ("local relative L2", None if tensor.local is None else tensor.local.relative_l2),
        ("accumulated relative L2", tensor.accumulated.relative_l2),
        ("worst channel", judged.worst_channel),
        ("gain", judged.gain),
    )
    for name, value in figures:
        if value is not None:
            yield name, f"{value:.8g}" if name == "gain" else f"{value:.4g}"


def _entry(kind: str, target: str, name: str, value: str) -> dict[str, str]:
    # Netron writes numbers with all their digits, and would take other types for links.
    return {"kind": kind, "target": target, "name": name, "value": value, "type": "string"}
