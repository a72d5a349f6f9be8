"""Lets whole stretches of a network run on matrices, so that MatMul and Add become one Gemm.

Transformers carry [batch, tokens, channels] about, and Gemm takes two dimensions. Two reshapes
around each Gemm would gain nothing; but most of what happens between two attentions works on each
row by itself. Such a stretch is flattened as a whole: reshapes stand at its borders only, where
exporters have put some anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from shipway.graph.applying import Applier
from shipway.graph.facts.dims import product
from shipway.graph.facts.fact import Shape
from shipway.graph.passes.retarget_reshapes import target_of
from shipway.graph.rules import Rewrite, Rule
from shipway.graph.standard import is_standard
from shipway.graph.view import View

__all__ = ["FLATTEN_ROWS", "flatten_rows"]

FLATTEN_ROWS = Rule(
    "flatten_rows",
    "reassociating",
    "Runs stretches of row-wise operators on matrices, where more MatMul-Add pairs become a Gemm "
    "than reshapes are needed at the borders.",
    (),
    lambda _node, _view: None,
)

_UNARY = frozenset(
    {
        *(
            "Relu",
            "Sigmoid",
            "Tanh",
            "Erf",
            "Exp",
            "Log",
            "Sqrt",
            "Neg",
            "Abs",
            "Gelu",
            "HardSigmoid",
        ),
        *("HardSwish", "LeakyRelu", "Elu", "Selu", "Softplus", "Reciprocal", "Clip", "Mish"),
        *("Identity", "Swish", "Softsign", "Floor", "Ceil", "Round", "Sin", "Cos"),
    }
)
_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow"})
_ON_LAST_AXIS = frozenset({"LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax"})
_DTYPES = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16})


@dataclass(slots=True)
class _Stretch:
    """Row-wise nodes that hang together, and the leading sizes all their values share."""

    rows: Shape
    nodes: list[ir.Node] = field(default_factory=list)

    def values(self) -> set[ir.Value]:
        """Return what its nodes compute."""
        return {node.outputs[0] for node in self.nodes}


def flatten_rows(graph: ir.Graph, view: View, applier: Applier) -> bool:
    """Flatten every stretch where it pays; say whether there was one."""
    found = [stretch for stretch in _stretches(graph, view) if _pays(stretch, view)]
    done = [_flatten(stretch, view, applier) for stretch in found]
    return any(done)


def _stretches(graph: ir.Graph, view: View) -> list[_Stretch]:
    """Group row-wise nodes that read one another."""
    home: dict[ir.Value, _Stretch] = {}
    for node in graph:
        rows = _rows_of(node, view)
        if rows is None:
            continue
        near = [home[value] for value in node.inputs if value is not None and value in home]
        alike = [one for one in near if one.rows == rows]
        stretch = alike[0] if alike else _Stretch(rows)
        for other in alike[1:]:
            if other is not stretch:
                stretch.nodes += other.nodes
                home.update((value, stretch) for value in other.values())
        stretch.nodes.append(node)
        home[node.outputs[0]] = stretch
    unique = {id(stretch): stretch for stretch in home.values()}
    order = {node: index for index, node in enumerate(graph)}
    for stretch in unique.values():
        stretch.nodes.sort(key=order.__getitem__)
    return list(unique.values())


def _rows_of(node: ir.Node, view: View) -> Shape | None:
    """Return the leading sizes of a row-wise node of three or more dimensions; None for others."""
    if not is_standard(node) or len([o for o in node.outputs if o.uses()]) > 1:
        return None
    shape = view.shape(node.outputs[0])
    if shape is None or len(shape) < 3 or view.fact(node.outputs[0]).dtype not in _DTYPES:
        return None
    return shape[:-1] if _is_row_wise(node, shape, view) else None


def _is_row_wise(node: ir.Node, shape: Shape, view: View) -> bool:
    first = view.shape(node.inputs[0]) if node.inputs else None
    if node.op_type in _UNARY:
        return first == shape
    if node.op_type == "MatMul":
        weight = view.shape(node.inputs[1])
        same = first is not None and first[:-1] == shape[:-1]
        return same and weight is not None and len(weight) == 2
    if node.op_type in _ON_LAST_AXIS:
        if node.op_type in {"Softmax", "LogSoftmax"} and view.opset < 13:
            return False
        return node.attributes.get_int("axis", -1) in {-1, len(shape) - 1} and first == shape
    if node.op_type in _BINARY:
        return all(_fits_rows(value, shape, view) for value in node.inputs)
    return False


def _fits_rows(value: ir.Value | None, shape: Shape, view: View) -> bool:
    """Whether an operand is one of these rows each, or the same for every row."""
    own = view.shape(value)
    if own is None:
        return False
    if len(own) <= 1:
        return True
    return len(own) == len(shape) and own[:-1] == shape[:-1]


def _entries(stretch: _Stretch, view: View) -> Iterator[tuple[ir.Node, int, ir.Value]]:
    """Yield every place where a stretch reads rows that it has not computed."""
    inside = stretch.values()
    for node in stretch.nodes:
        for index, value in enumerate(node.inputs):
            if value is None or value in inside:
                continue
            shape = view.shape(value)
            if shape is not None and len(shape) == len(stretch.rows) + 1:
                yield node, index, value


def _exits(stretch: _Stretch) -> Iterator[tuple[ir.Value, list[ir.Node]]]:
    """Yield every value that others read too, and those others."""
    inside = set(stretch.nodes)
    for node in stretch.nodes:
        value = node.outputs[0]
        others = [use.node for use in value.uses() if use.node not in inside]
        if others or value.is_graph_output():
            yield value, others


def _pays(stretch: _Stretch, view: View) -> bool:
    gain = sum(_becomes_gemm(node, stretch, view) for node in stretch.nodes)
    if not gain:
        return False
    outside = {value for _, _, value in _entries(stretch, view)}
    cost = sum(_entry_cost(value, view) for value in outside)
    for value, others in _exits(stretch):
        if not _can_leave(value, view):
            return False
        shape = view.shape(value)
        free = [node for node in others if _reads_any_shape(node, shape, view)]
        cost += int(len(free) < len(others) or value.is_graph_output())
    return gain > cost


def _becomes_gemm(node: ir.Node, stretch: _Stretch, view: View) -> bool:
    """Whether a node adds a bias to a product of its stretch that nobody else reads."""
    if node.op_type != "Add":
        return False
    for value, bias in (node.inputs, reversed(node.inputs)):
        product_node = view.producer(value, "MatMul")
        if product_node is None or value is None or not view.is_private(value):
            continue
        shape = view.shape(bias)
        if product_node in stretch.nodes and shape is not None and len(shape) <= 1:
            return True
    return False


def _entry_cost(value: ir.Value, view: View) -> int:
    """A reshape before the stretch takes another target instead of a second reshape."""
    return 0 if view.producer(value, "Reshape") is not None and view.is_private(value) else 1


def _can_leave(value: ir.Value, view: View) -> bool:
    shape = view.shape(value)
    return shape is not None and target_of(_flat(shape), shape) is not None


def _reads_any_shape(node: ir.Node, shape: Shape | None, view: View) -> bool:
    """Whether a reader is a Reshape that can read the matrix as well."""
    if shape is None or node.op_type != "Reshape" or not is_standard(node):
        return False
    output = view.shape(node.outputs[0])
    return output is not None and target_of(_flat(shape), output) is not None


def _flat(shape: Shape) -> Shape:
    return (product(shape[:-1]), shape[-1])


def _flatten(stretch: _Stretch, view: View, applier: Applier) -> bool:
    """Rebuild every node of the stretch on matrices, reshapes at its borders."""
    flat: dict[ir.Value, ir.Value] = {}
    entries: dict[ir.Value, ir.Value] = {}
    copies: list[tuple[ir.Node, ir.Node]] = []
    borders: dict[ir.Node, list[ir.Node]] = {}
    for node in stretch.nodes:
        inputs: list[ir.Value | None] = []
        for value in node.inputs:
            if value is not None and value in flat:
                inputs.append(flat[value])
            elif value is not None and _is_rows(value, stretch, view):
                inputs.append(_enter(value, node, entries, borders, view))
            else:
                inputs.append(value)
        copy = _copy(node, inputs, view)
        flat[node.outputs[0]] = copy.outputs[0]
        copies.append((node, copy))
    outside = {value for value, _ in _exits(stretch)}
    return applier.apply_all(FLATTEN_ROWS, list(_steps(copies, borders, outside, view)))


def _is_rows(value: ir.Value, stretch: _Stretch, view: View) -> bool:
    shape = view.shape(value)
    return shape is not None and len(shape) == len(stretch.rows) + 1


def _enter(
    value: ir.Value,
    node: ir.Node,
    entries: dict[ir.Value, ir.Value],
    borders: dict[ir.Node, list[ir.Node]],
    view: View,
) -> ir.Value:
    if value not in entries:
        shape = view.shape(value) or ()
        target = target_of(shape, _flat(shape)) or [-1, 1]
        reshape = view.node("Reshape", [value, view.integers(target)])
        borders.setdefault(node, []).append(reshape)
        entries[value] = reshape.outputs[0]
    return entries[value]


def _copy(node: ir.Node, inputs: Sequence[ir.Value | None], view: View) -> ir.Node:
    attributes = {name: one.value for name, one in node.attributes.items()}
    if node.op_type in _ON_LAST_AXIS:
        attributes["axis"] = -1
    copy = view.node(node.op_type, inputs, attributes, outputs=len(node.outputs))
    for old, new in zip(node.outputs[1:], copy.outputs[1:], strict=True):
        new.name = "" if not old.name else None
    return copy


def _steps(
    copies: list[tuple[ir.Node, ir.Node]],
    borders: dict[ir.Node, list[ir.Node]],
    outside: set[ir.Value],
    view: View,
) -> Iterator[tuple[ir.Node, Rewrite]]:
    """Yield what replaces each node: outside, its rows as they were; inside nobody reads it."""
    for node, copy in copies:
        value = node.outputs[0]
        shape = view.shape(value) or ()
        nodes = [*borders.get(node, []), copy]
        result = None
        if value in outside:
            target = view.integers(target_of(_flat(shape), shape) or [-1])
            back = view.node("Reshape", [copy.outputs[0], target])
            nodes.append(back)
            result = back.outputs[0]
        yield node, Rewrite((result, *[None] * (len(node.outputs) - 1)), tuple(nodes))
