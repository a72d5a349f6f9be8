"""The nodes that OpenVINO executes, as its runtime model describes them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openvino import CompiledModel

__all__ = ["PLUMBING", "Node", "layout_name", "read_nodes", "split_names"]

PLUMBING = ("Input", "Output", "Const")
"""Kinds of nodes that compute nothing."""

_MOVERS = ("Reorder", "Reshape", "Transpose")
_LAYOUTS = {"acdb": "NHWC", "acdeb": "NDHWC"}
_BLOCKED = {"aBcd": "NCHWc", "aBcde": "NCDHWc"}


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the execution.

    Args:
        name: Its name there.
        kind: What it does: "Convolution", "Subgraph".
        primitive: The implementation: "brgconv_avx512_bf16".
        order: Position in the order of execution.
        precision: What it computes in, whatever it hands on.
        precisions: Element type of each of its outputs.
        layouts: Layout of each of its outputs.
        inside: The operators of the model that it took in, with the output where one is named.
        is_weight: It does not depend on the inputs of the model.
        is_open: It ends in an operator that OpenVINO made and the model does not have, or moves
            what such a node computed: a Sigmoid drawn before a Transpose.
    """

    name: str
    kind: str
    primitive: str
    order: int
    precision: str
    precisions: tuple[str, ...]
    layouts: tuple[str, ...]
    inside: tuple[tuple[str, int | None], ...]
    is_weight: bool
    is_open: bool

    @property
    def manner(self) -> tuple[Any, ...]:
        """How it computes what: equal for equal nodes of two compiled models."""
        return self.kind, self.primitive, self.precisions, self.inside


def read_nodes(compiled: CompiledModel, ops: Collection[str]) -> tuple[Node, ...]:
    """Return the nodes in the order of execution.

    Args:
        compiled: The model. With free sizes, only after a run are all facts known.
        ops: Friendly names of the operators of the model it was compiled from.
    """
    found = []
    moving: set[str] = set()
    unfinished: set[str] = set()
    for op in compiled.get_runtime_model().get_ordered_ops():
        facts = {name: str(value.value) for name, value in op.get_rt_info().items()}
        originals = split_names(facts.get("originalLayersNames", ""), ops)
        name, kind = op.get_friendly_name(), facts.get("layerType", op.get_type_name())
        sources = {value.get_node().get_friendly_name() for value in op.input_values()}
        if kind == "Input" or not moving.isdisjoint(sources):
            moving.add(name)
        inside = [_operator(name, ops) for name in originals]
        ends_open = bool(inside) and inside[-1] is None and kind not in PLUMBING
        if ends_open or (kind in _MOVERS and not unfinished.isdisjoint(sources)):
            unfinished.add(name)
        found.append(
            Node(
                name=name,
                kind=kind,
                primitive=facts.get("primitiveType", ""),
                order=int(facts.get("execOrder", "0")),
                precision=facts.get("runtimePrecision", ""),
                precisions=tuple(facts.get("outputPrecisions", "").split(",")),
                layouts=tuple(facts.get("outputLayouts", "").split(",")),
                inside=tuple(filter(None, inside)),
                is_weight=name not in moving,
                is_open=name in unfinished,
            )
        )
    return tuple(sorted(found, key=lambda node: node.order))


def _operator(name: str, ops: Collection[str]) -> tuple[str, int | None] | None:
    """Return the operator of the model that a name stands for; "LSTM_5.0" is its first output."""
    if name in ops:
        return name, None
    owner, _, port = name.rpartition(".")
    return (owner, int(port)) if owner in ops and port.isdecimal() else None


def split_names(text: str, known: Collection[str]) -> list[str]:
    """Split names joined by commas; a comma inside a known name does not end it.

    Example:
        >>> split_names("a,b,c,d", {"a", "b,c"})
        ['a', 'b,c', 'd']
    """
    parts = text.split(",") if text else []
    names = []
    while parts:
        joined = (count for count in range(len(parts), 1, -1) if ",".join(parts[:count]) in known)
        count = next(joined, 1)
        names.append(",".join(parts[:count]))
        parts = parts[count:]
    return names


def layout_name(text: str) -> str:
    """Name a layout as others do; "" for the plain one.

    Example:
        >>> layout_name("acdb"), layout_name("aBcd16b"), layout_name("abcd"), layout_name("bac")
        ('NHWC', 'NCHWc16', '', 'bac')
    """
    if text in _LAYOUTS:
        return _LAYOUTS[text]
    if text in {"undef", "any"} or (list(text) == sorted(text) and text.islower()):
        return ""
    plain, size = text.rstrip("b0123456789"), text.strip("aBcdeb")
    return f"{_BLOCKED[plain]}{size}" if plain in _BLOCKED and size.isdecimal() else text
