"""Shapes of operators that sum over dimensions: products, convolutions, pools, reductions."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from shipway.graph.facts.broadcasting import broadcast
from shipway.graph.facts.dims import Dim, add, divide, multiply, product
from shipway.graph.facts.fact import Fact, Shape
from shipway.graph.facts.registry import Call, shapes_of


@shapes_of("MatMul")
def _matmul(call: Call) -> Sequence[Fact]:
    first, second = call.first.shape, call.facts[1].shape
    if not first or not second:
        return [Fact(call.first.dtype)]
    batch = broadcast((first[:-2], second[:-2]), call.knowledge) or ()
    rows = first[-2:-1]
    columns = second[-1:] if len(second) > 1 else ()
    return [Fact(call.first.dtype, (*batch, *rows, *columns))]


@shapes_of("Gemm")
def _gemm(call: Call) -> Sequence[Fact]:
    first, second = call.first.shape, call.facts[1].shape
    if first is None or second is None or len(first) != 2 or len(second) != 2:
        return [Fact(call.first.dtype)]
    shape = (first[call.int("transA")], second[1 - call.int("transB")])
    return [Fact(call.first.dtype, shape)]


@shapes_of("Conv", "MaxPool", "AveragePool", "LpPool")
def _window(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    if shape is None or len(shape) < 3:
        return [Fact(call.first.dtype)] * min(len(call.node.outputs), 1)
    channels: Dim = shape[1]
    kernel = call.ints("kernel_shape")
    if call.node.op_type == "Conv":
        weight = call.facts[1].shape
        if weight is None:
            return [Fact(call.first.dtype)]
        channels = weight[0]
        kernel = kernel or _known(weight[2:])
    planes = _window_sizes(call, shape[2:], kernel)
    indices = Fact(ir.DataType.INT64, (shape[0], channels, *planes))
    return [Fact(call.first.dtype, indices.shape), indices]


def _known(dims: Shape) -> tuple[int, ...] | None:
    found = tuple(dim for dim in dims if isinstance(dim, int))
    return found if len(found) == len(dims) else None


def _window_sizes(call: Call, planes: Shape, kernel: tuple[int, ...] | None) -> Shape:
    rank = len(planes)
    strides = call.ints("strides") or (1,) * rank
    auto = call.text("auto_pad", "NOTSET")
    if auto in {"SAME_UPPER", "SAME_LOWER"} and not call.int("ceil_mode"):
        return tuple(
            _divided_up(call, dim, step) for dim, step in zip(planes, strides, strict=True)
        )
    if kernel is None or auto not in {"NOTSET", "VALID"}:
        return tuple(call.knowledge.fresh() for _ in planes)
    pads = call.ints("pads") if auto == "NOTSET" else None
    pads = pads or (0,) * 2 * rank
    dilations = call.ints("dilations") or (1,) * rank
    found = []
    for index, dim in enumerate(planes):
        reach = dilations[index] * (kernel[index] - 1) + 1
        room = add(dim, pads[index] + pads[index + rank] - reach)
        if call.int("ceil_mode"):
            begin = add(dim, pads[index])
            found.append(_rounded_up(call, room, strides[index], begin))
        else:
            found.append(add(_divided_down(call, room, strides[index]), 1))
    return tuple(found)


def _rounded_up(call: Call, room: Dim, step: int, behind: Dim) -> Dim:
    """Return how many windows there are; engines differ on one that begins behind the input."""
    if not isinstance(room, int) or not isinstance(behind, int):
        return call.knowledge.fresh()
    count = -(-room // step) + 1
    return count if (count - 1) * step < behind else call.knowledge.fresh()


def _divided_down(call: Call, dim: Dim, step: int) -> Dim:
    if isinstance(dim, int):
        return dim // step
    exact = divide(dim, step)
    return call.knowledge.fresh() if exact is None else exact


def _divided_up(call: Call, dim: Dim, step: int) -> Dim:
    return -(-dim // step) if isinstance(dim, int) else _divided_down(call, dim, step)


@shapes_of("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def _global_pool(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    found = None if shape is None else (*shape[:2], *[1] * (len(shape) - 2))
    return [Fact(call.first.dtype, found)]


@shapes_of("GridSample")
def _grid_sample(call: Call) -> Sequence[Fact]:
    shape, grid = call.first.shape, call.facts[1].shape
    known = shape is not None and grid is not None
    return [Fact(call.first.dtype, (*shape[:2], *grid[1:-1]) if known and shape and grid else None)]


@shapes_of(
    *[
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    ]
)
def _reduce(call: Call) -> Sequence[Fact]:
    first, shape = call.first, call.first.shape
    axes = call.integers(1) if call.has(1) else call.ints("axes")
    if shape is None or (axes is None and call.has(1)):
        return [Fact(first.dtype)]
    if not axes:
        if call.int("noop_with_empty_axes"):
            return [Fact(first.dtype, shape)]
        axes = tuple(range(len(shape)))
    found = _reduced(shape, axes, keep=bool(call.int("keepdims", 1)))
    content = None
    if call.node.op_type == "ReduceProd" and first.content is not None and len(shape) == 1:
        content = (product(first.content),)
    return [Fact(first.dtype, found, content)]


def _reduced(shape: Shape, axes: Sequence[int], *, keep: bool) -> Shape:
    gone = {axis % len(shape) for axis in axes}
    return tuple(
        1 if index in gone else dim for index, dim in enumerate(shape) if keep or index not in gone
    )


@shapes_of("ArgMax", "ArgMin")
def _argument(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    if shape is None:
        return [Fact(ir.DataType.INT64)]
    keep = bool(call.int("keepdims", 1))
    return [Fact(ir.DataType.INT64, _reduced(shape, [call.int("axis")], keep=keep))]


@shapes_of("LSTM", "GRU", "RNN")
def _recurrent(call: Call) -> Sequence[Fact]:
    shape, dtype = call.first.shape, call.first.dtype
    hidden = call.int("hidden_size")
    if shape is None or not hidden or call.int("layout"):
        return [Fact(dtype)] * len(call.node.outputs)
    directions = 2 if call.text("direction", "forward") == "bidirectional" else 1
    steps, batch = shape[0], shape[1]
    state = Fact(dtype, (directions, batch, hidden))
    return [Fact(dtype, (steps, directions, batch, hidden)), state, state]


@shapes_of("Einsum")
def _einsum(call: Call) -> Sequence[Fact]:
    equation = call.text("equation").replace(" ", "")
    terms, arrow, result = equation.partition("->")
    if not arrow or "." in equation:
        return [Fact(call.first.dtype)]
    sizes: dict[str, Dim] = {}
    for letters, fact in zip(terms.split(","), call.facts, strict=True):
        if fact.shape is None or len(fact.shape) != len(letters):
            return [Fact(call.first.dtype)]
        for letter, dim in zip(letters, fact.shape, strict=True):
            if sizes.get(letter, 1) == 1 or isinstance(dim, int):
                sizes[letter] = dim if dim != 1 else sizes.get(letter, 1)
    return [Fact(call.first.dtype, tuple(sizes[letter] for letter in result))]


@shapes_of("TopK")
def _top_k(call: Call) -> Sequence[Fact]:
    shape = call.first.shape
    if shape is None:
        return [Fact(call.first.dtype), Fact(ir.DataType.INT64)]
    count = call.facts[1].content if call.has(1) else (call.int("k"),)
    axis = call.int("axis", -1) % len(shape)
    size = count[0] if count else call.knowledge.fresh()
    found = (*shape[:axis], size, *shape[axis + 1 :])
    return [Fact(call.first.dtype, found), Fact(ir.DataType.INT64, found)]


@shapes_of("ConvTranspose")
def _conv_transpose(call: Call) -> Sequence[Fact]:
    shape, weight = call.first.shape, call.facts[1].shape
    if shape is None or weight is None:
        return [Fact(call.first.dtype)]
    channels = multiply(weight[1], call.int("group", 1))
    kernel = call.ints("kernel_shape") or _known(weight[2:])
    rank = len(shape) - 2
    simple = call.ints("output_shape") is None and call.text("auto_pad", "NOTSET") == "NOTSET"
    if kernel is None or not simple:
        return [
            Fact(
                call.first.dtype,
                (shape[0], channels, *(call.knowledge.fresh() for _ in range(rank))),
            )
        ]
    pads = call.ints("pads") or (0,) * 2 * rank
    strides = call.ints("strides") or (1,) * rank
    more = call.ints("output_padding") or (0,) * rank
    dilations = call.ints("dilations") or (1,) * rank
    planes = []
    for index, dim in enumerate(shape[2:]):
        reach = dilations[index] * (kernel[index] - 1) + 1
        grown = multiply(add(dim, -1), strides[index])
        planes.append(add(grown, more[index] + reach - pads[index] - pads[index + rank]))
    return [Fact(call.first.dtype, (shape[0], channels, *planes))]
