"""How much arithmetic a node is: one rule for each family of operators.

A multiply-add counts as one MAC and as two FLOPs. Everything else counts as FLOPs alone, by what
the definition of the operator says and not by what an engine makes of it; integers count like
floats. The tables below are the definitions; docs/how-to/inspect-a-graph.md states them in words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from shipway.graph.facts.dims import ANY_SIGN, Dim, Poly, add, divide, multiply, product
from shipway.graph.facts.fact import Shape
from shipway.graph.facts.registry import Call

__all__ = ["FREE", "NOBODY_KNOWS", "RULES", "Cost", "Uncountable", "is_known"]


@dataclass(frozen=True, slots=True)
class Cost:
    """The arithmetic of one node.

    Args:
        macs: Multiply-adds.
        other: FLOPs that belong to no multiply-add.
    """

    macs: Dim = 0
    other: Dim = 0

    @property
    def flops(self) -> Dim:
        """All FLOPs: two a multiply-add, and the others."""
        return add(self.other, self.macs, 2)


class Uncountable(Exception):
    """A rule cannot say how much arithmetic a node is.

    Args:
        reason: Why.
        value: The value whose shape it would need, where that is why.
    """

    def __init__(self, reason: str, value: ir.Value | None = None) -> None:
        """Keep both."""
        super().__init__(reason)
        self.reason = reason
        self.value = value


Rule = Callable[[Call], Cost]

_MOVING = """
Bernoulli BlackmanWindow Cast CastLike CenterCropPad Compress Concat
ConcatFromSequence Constant ConstantOfShape DepthToSpace Dropout Expand EyeLike Flatten Gather
GatherElements GatherND HammingWindow HannWindow Identity MaxUnpool Multinomial NonZero OneHot
Optional OptionalGetElement OptionalHasElement Pad RandomNormal RandomNormalLike RandomUniform
RandomUniformLike Range RegexFullMatch Reshape ReverseSequence Scatter ScatterElements
ScatterND SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert
SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence Squeeze StringConcat
StringNormalizer StringSplit TensorScatter TfIdfVectorizer Tile TopK Transpose Trilu Unique
Unsqueeze Where BitCast
"""
_ELEMENTWISE = """
Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
Ceil Celu Clip Cos Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid
HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Log Mish Mod Mul Neg Not Or PRelu Pow Reciprocal
Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Sub Swish Tan Tanh
ThresholdedRelu Xor
"""
FREE = frozenset(_MOVING.split())
"""Operators that make, move, select or sort elements: no arithmetic."""

_PER_OUTPUT = dict.fromkeys(_ELEMENTWISE.split(), 1) | {
    "BatchNormalization": 2,
    "DequantizeLinear": 2,
    "QuantizeLinear": 2,
    "RotaryEmbedding": 3,
}
_PER_INPUT = {
    "ArgMax": 1,
    "ArgMin": 1,
    "Col2Im": 1,
    "CumProd": 1,
    "CumSum": 1,
    "DynamicQuantizeLinear": 4,  # smallest, largest, scaled, shifted
    "GlobalAveragePool": 1,
    "GlobalLpPool": 2,
    "GlobalMaxPool": 1,
    "GroupNormalization": 7,  # sum, centre, square, sum, normalise, scale, shift
    "Hardmax": 1,
    "InstanceNormalization": 7,
    "LayerNormalization": 7,
    "LogSoftmax": 5,  # largest, subtract, exp, sum, divide
    "LpNormalization": 3,
    "MeanVarianceNormalization": 5,
    "RMSNormalization": 4,  # square, sum, normalise, scale
    "ReduceL1": 2,
    "ReduceL2": 2,
    "ReduceLogSum": 1,
    "ReduceLogSumExp": 2,
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceMin": 1,
    "ReduceProd": 1,
    "ReduceSum": 1,
    "ReduceSumSquare": 2,
    "Softmax": 5,
}
_GATES = {  # multiply-adds' gates, then FLOPs a hidden unit and step, biases left out
    "LSTM": (4, 13),  # 4 sums, 5 activations, c = f*c + i*g, h = o*tanh(c)
    "GRU": (3, 11),  # 3 sums, 3 activations, r*h, (1-z)*n + z*h
    "RNN": (1, 2),
}
NOBODY_KNOWS = ("?", ANY_SIGN)
"""First letters of sizes and numbers that only execution knows."""

RULES: dict[str, Rule] = {}
"""By type of a standard operator."""


def _costs_of(*op_types: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(op_types, rule))
        return rule

    return register


def _shape(call: Call, value: ir.Value | None) -> Shape:
    """Return a known shape.

    Raises:
        Uncountable: It is not known.
    """
    shape = call.knowledge.fact(value).shape
    if value is not None and not is_known(shape):
        raise Uncountable("its sizes are unknown", value)
    if any(isinstance(dim, int) and dim < 0 for dim in shape or ()):
        raise Uncountable("a size would be negative: those given are too small")
    return shape or ()


def is_known(shape: Shape | None) -> bool:
    """Whether each size is a number, or made of the dynamic dimensions of the inputs."""
    if shape is None:
        return False
    names = (
        name for dim in shape if isinstance(dim, Poly) for atoms in dim.terms for name in atoms
    )
    return not any(name.startswith(NOBODY_KNOWS) for name in names)


def _input(call: Call, index: int) -> Shape:
    return _shape(call, call.inputs[index] if index < len(call.inputs) else None)


def _output(call: Call) -> Shape:
    return _shape(call, call.node.outputs[0])


def _times(*dims: Dim) -> Dim:
    return product(dims)


@_costs_of(*FREE)
def _free(_call: Call) -> Cost:
    return Cost()


@_costs_of(*_PER_OUTPUT)
def _per_output(call: Call) -> Cost:
    return Cost(other=_times(_PER_OUTPUT[call.node.op_type], *_output(call)))


@_costs_of(*_PER_INPUT)
def _per_input(call: Call) -> Cost:
    return Cost(other=_times(_PER_INPUT[call.node.op_type], *_input(call, 0)))


@_costs_of("Max", "Min", "Sum", "Mean")
def _variadic(call: Call) -> Cost:
    steps = len(call.inputs) - (call.node.op_type != "Mean")
    return Cost(other=_times(steps, *_output(call)))


@_costs_of("LRN")
def _local_response(call: Call) -> Cost:
    """Square, sum of the window, scale, shift, power, divide."""
    return Cost(other=_times(call.int("size") + 5, *_input(call, 0)))


@_costs_of("Conv", "ConvInteger", "QLinearConv")
def _conv(call: Call) -> Cost:
    quantized = call.node.op_type == "QLinearConv"
    weight, found = _input(call, 3 if quantized else 1), _output(call)
    bias = {"Conv": 2, "QLinearConv": 8}.get(call.node.op_type)
    other = _times(*found) if bias is not None and call.has(bias) else 0
    return Cost(_times(*found, *weight[1:]), other)


@_costs_of("ConvTranspose")
def _conv_transpose(call: Call) -> Cost:
    """Every input element is multiplied by its channel's kernel."""
    other = _times(*_output(call)) if call.has(2) else 0
    return Cost(_times(*_input(call, 0), *_input(call, 1)[1:]), other)


@_costs_of("DeformConv")
def _deform_conv(call: Call) -> Cost:
    """A convolution, and four multiply-adds for each sample of each input channel."""
    image, weight, found = _input(call, 0), _input(call, 1), _output(call)
    samples = _times(*image[:2], *weight[2:], *found[2:])
    macs = add(_times(*found, *weight[1:]), samples, 4)
    return Cost(macs, _times(*found) if call.has(3) else 0)


@_costs_of("MatMul", "MatMulInteger", "QLinearMatMul")
def _matmul(call: Call) -> Cost:
    return Cost(_times(*_output(call), *_input(call, 0)[-1:]))


@_costs_of("Gemm")
def _gemm(call: Call) -> Cost:
    first, found = _input(call, 0), _output(call)
    inner = first[0 if call.int("transA") else 1]
    return Cost(_times(*found, inner), _times(*found) if call.has(2) else 0)


@_costs_of("Einsum")
def _einsum(call: Call) -> Cost:
    """Each output element sums over the letters it lacks, one product of all operands a term."""
    terms, _, result = call.text("equation").replace(" ", "").partition("->")
    summed: dict[str, Dim] = {}
    for index, term in enumerate(terms.split(",")):
        for letter, size in _letters(term, _input(call, index)):
            if letter not in result and summed.get(letter, 1) == 1:
                summed[letter] = size
    steps = _times(*_output(call), *summed.values())
    products = len(call.inputs) - 1
    return Cost(_times(products, steps)) if products else Cost(other=steps if summed else 0)


def _letters(term: str, shape: Shape) -> Sequence[tuple[str, Dim]]:
    """Pair letters with sizes; an ellipsis stands for what is left in the middle."""
    before, _, after = term.partition("...")
    behind = shape[len(shape) - len(after) :]
    return [*zip(before, shape, strict=False), *zip(after, behind, strict=False)]


@_costs_of("Attention")
def _attention(call: Call) -> Cost:
    """Query by key, scale, mask, softmax, by value."""
    query, key, value = (_input(call, index) for index in range(3))
    length = add(key[-2], _input(call, 4)[-2] if call.has(4) else 0)
    if len(query) == 4:
        rows, widths = _times(*query[:3]), add(query[3], value[3])
    else:
        heads, groups = call.int("q_num_heads"), call.int("kv_num_heads")
        rows = _times(*query[:2], heads)
        widths = add(_part(query[2], heads), _part(value[2], groups))
    scores = multiply(rows, length)
    masked = call.has(3) or call.int("is_causal")
    return Cost(multiply(scores, widths), multiply(scores, 7 if masked else 6))


def _part(dim: Dim, count: int) -> Dim:
    found = divide(dim, count)
    if found is None:
        raise Uncountable(f"{dim!r} is no multiple of {count} heads")
    return found


@_costs_of("LSTM", "GRU", "RNN")
def _recurrent(call: Call) -> Cost:
    """Both products of every step and direction, then the gates."""
    steps = _times(*_input(call, 0)[:2])
    weight, state = _input(call, 1), _input(call, 2)
    gates, flops = _GATES[call.node.op_type]
    macs = add(_times(*weight), _times(*state))
    hidden = _times(state[0], state[2])
    if call.has(7):  # peepholes of an LSTM
        macs = add(macs, hidden, 3)
    flops += gates if call.has(3) else 0
    return Cost(_times(steps, macs), _times(steps, flops, hidden))


@_costs_of("AveragePool", "LpPool", "MaxPool")
def _pool(call: Call) -> Cost:
    """Each output element goes over its window."""
    each = 2 if call.node.op_type == "LpPool" else 1
    return Cost(other=_times(each, *_output(call), *(call.ints("kernel_shape") or ())))


_TAPS = {"nearest": 0, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}


@_costs_of("Resize", "Upsample")
def _resize(call: Call) -> Cost:
    """Two samples an axis that changes its size when linear, four when cubic."""
    taps = _TAPS.get(call.text("mode", "nearest"), 0)
    before, after = _input(call, 0), _output(call)
    axes = sum(one != two for one, two in zip(before, after, strict=False))
    return Cost(_times(taps**axes, *after) if taps and axes else 0)


@_costs_of("GridSample")
def _grid_sample(call: Call) -> Cost:
    taps = _TAPS.get(call.text("mode", "linear"), 0)
    found = _output(call)
    return Cost(_times(taps ** (len(found) - 2), *found) if taps else 0)


@_costs_of("RoiAlign")
def _roi_align(call: Call) -> Cost:
    """Four multiply-adds for each sample of a bin, whose number the operator may adapt to a box."""
    samples = call.int("sampling_ratio")
    if not samples:
        raise Uncountable("the number of samples depends on the boxes")
    return Cost(_times(4 * samples**2, *_output(call)))
