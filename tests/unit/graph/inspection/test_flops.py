"""Arithmetic of each family of operators, against figures worked out by hand."""

import time

import onnx_ir as ir
import pytest

from shipway.graph.inspecting import inspect_graph

HEAD = '<ir_version: 10, opset_import: ["": {opset}]> '


def count(text, opset=20, **sizes):
    """Return the counting of a model in text form."""
    return inspect_graph(ir.from_onnx_text(HEAD.format(opset=opset) + text), sizes=sizes).counting


CASES = {
    # 2*8*16*16 outputs, each 4*3*3 products; one addition of a bias each
    "Conv": (
        (
            "g (float[2,4,16,16] x, float[8,4,3,3] w, float[8] b) => (float[2,8,16,16] y) "
            "{ y = Conv <pads = [1,1,1,1]> (x, w, b) }"
        ),
        4096 * 36,
        4096,
    ),
    # grouped: each output channel sees 2 of 8 channels
    "Conv of groups": (
        "g (float[1,8,5,5] x, float[8,2,3,3] w) => (y) { y = Conv <group = 4> (x, w) }",
        8 * 3 * 3 * 18,
        0,
    ),
    # 1*4*5*5 inputs, each times 6*3*3
    "ConvTranspose": (
        "g (float[1,4,5,5] x, float[4,6,3,3] w) => (y) { y = ConvTranspose <strides = [2,2]> (x, w) }",
        100 * 54,
        0,
    ),
    "MatMul": ("g (float[2,3,4] x, float[4,5] w) => (y) { y = MatMul(x, w) }", 2 * 3 * 5 * 4, 0),
    "MatMul of vectors": ("g (float[7] x, float[7] w) => (y) { y = MatMul(x, w) }", 7, 0),
    "Gemm": (
        (
            "g (float[4,3] x, float[5,4] w, float[5] b) => (y) "
            "{ y = Gemm <transA = 1, transB = 1> (x, w, b) }"
        ),
        3 * 5 * 4,
        15,
    ),
    "Einsum": (
        'g (float[2,3,4] x, float[2,4,5] w) => (y) { y = Einsum <equation = "bij,bjk->bik"> (x, w) }',
        2 * 3 * 5 * 4,
        0,
    ),
    "Einsum of one": ('g (float[3,4] x) => (y) { y = Einsum <equation = "ij->i"> (x) }', 0, 12),
    # two directions, 7 steps, 2 sequences: 4 gates of 5 units, 3 inputs and 5 states; 13 a unit,
    # 4 biases
    "LSTM": (
        (
            "g (float[7,2,3] x, float[2,20,3] w, float[2,20,5] r, float[2,40] b) => (y) "
            '{ y = LSTM <hidden_size = 5, direction = "bidirectional"> (x, w, r, b) }'
        ),
        7 * 2 * 2 * 20 * (3 + 5),
        7 * 2 * 2 * 5 * (13 + 4),
    ),
    "GRU": (
        (
            "g (float[7,2,3] x, float[1,15,3] w, float[1,15,5] r) => (y) "
            "{ y = GRU <hidden_size = 5> (x, w, r) }"
        ),
        7 * 2 * 15 * 8,
        7 * 2 * 5 * 11,
    ),
    "RNN": (
        (
            "g (float[7,2,3] x, float[1,5,3] w, float[1,5,5] r) => (y) "
            "{ y = RNN <hidden_size = 5> (x, w, r) }"
        ),
        7 * 2 * 5 * 8,
        7 * 2 * 5 * 2,
    ),
    "Relu": ("g (float[2,3] x) => (y) { y = Relu(x) }", 0, 6),
    "Add that broadcasts": ("g (float[2,1] x, float[3] w) => (y) { y = Add(x, w) }", 0, 6),
    "Sum of three": ("g (float[4] a, float[4] b, float[4] c) => (y) { y = Sum(a, b, c) }", 0, 8),
    "Mean of three": ("g (float[4] a, float[4] b, float[4] c) => (y) { y = Mean(a, b, c) }", 0, 12),
    "ReduceMean": ("g (float[3,4] x) => (y) { y = ReduceMean <keepdims = 0> (x) }", 0, 12),
    "ReduceL2": ("g (float[3,4] x) => (y) { y = ReduceL2 <keepdims = 0> (x) }", 0, 24),
    "Softmax": ("g (float[3,4] x) => (y) { y = Softmax(x) }", 0, 60),
    "LayerNormalization": (
        "g (float[3,4] x, float[4] s) => (y) { y = LayerNormalization(x, s) }",
        0,
        84,
    ),
    "BatchNormalization": (
        (
            "g (float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (y) "
            "{ y = BatchNormalization(x, s, b, m, v) }"
        ),
        0,
        48,
    ),
    "LRN": ("g (float[1,4,2,2] x) => (y) { y = LRN <size = 3> (x) }", 0, 16 * 8),
    "MaxPool": (
        "g (float[1,2,6,6] x) => (y) { y = MaxPool <kernel_shape = [2,3], strides = [2,3]> (x) }",
        0,
        2 * 3 * 2 * 6,
    ),
    "GlobalAveragePool": ("g (float[1,2,6,6] x) => (y) { y = GlobalAveragePool(x) }", 0, 72),
    "Resize, linear along two axes": (
        (
            "g (float[1,2,3,4] x) => (y) <float[4] s = {1.0, 1.0, 2.0, 2.0}> "
            '{ y = Resize <mode = "linear"> (x, , s) }'
        ),
        2 * 6 * 8 * 4,
        0,
    ),
    "Resize, cubic along one axis": (
        (
            "g (float[1,2,3,4] x) => (y) <float[4] s = {1.0, 1.0, 1.0, 2.0}> "
            '{ y = Resize <mode = "cubic"> (x, , s) }'
        ),
        2 * 3 * 8 * 4,
        0,
    ),
    "Resize, nearest": (
        (
            "g (float[1,2,3,4] x) => (y) <float[4] s = {1.0, 1.0, 2.0, 2.0}> "
            '{ y = Resize <mode = "nearest"> (x, , s) }'
        ),
        0,
        0,
    ),
    "GridSample": (
        "g (float[1,2,6,6] x, float[1,3,5,2] grid) => (y) { y = GridSample(x, grid) }",
        2 * 15 * 4,
        0,
    ),
    "DeformConv": (
        "g (float[1,4,5,5] x, float[6,4,3,3] w, float[1,18,3,3] o) => (y) { y = DeformConv(x, w, o) }",
        6 * 9 * 36 + 4 * (4 * 9 * 9),
        0,
    ),
    "QuantizeLinear": (
        "g (float[3,4] x, float s, uint8 z) => (y) { y = QuantizeLinear(x, s, z) }",
        0,
        24,
    ),
    "MatMulInteger": (
        "g (uint8[3,4] x, uint8[4,5] w) => (y) { y = MatMulInteger(x, w) }",
        60,
        0,
    ),
    "Transpose": ("g (float[3,4] x) => (y) { y = Transpose(x) }", 0, 0),
    "of no element": ("g (float[0,4] x, float[4,5] w) => (y) { y = MatMul(x, w) }", 0, 0),
    "of rank 0": ("g (float x) => (y) { y = Exp(x) }", 0, 1),
}


@pytest.mark.parametrize("name", CASES)
def test_the_figures_are_those_worked_out_by_hand(name) -> None:
    text, macs, other = CASES[name]
    found = count(text)
    assert found.gaps == ()
    assert (found.macs, found.flops) == (macs, 2 * macs + other)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[2,8,6,4] q, float[2,2,9,4] k, float[2,2,9,3] v) => (y) { y = Attention(q, k, v) }",
        (
            "g (float[2,6,32] q, float[2,9,8] k, float[2,9,6] v) => (y) "
            "{ y = Attention <q_num_heads = 8, kv_num_heads = 2> (q, k, v) }"
        ),
    ],
)
def test_attention_counts_scores_softmax_and_values_in_both_layouts(text) -> None:
    found = count(text, opset=23)
    scores = 2 * 8 * 6 * 9
    assert (found.macs, found.flops) == (scores * (4 + 3), scores * (2 * (4 + 3) + 6))


def test_a_dynamic_dimension_makes_a_formula_and_a_size_a_number() -> None:
    text = "g (float[n,3] x, float[3,4] w) => (y) { m = MatMul(x, w) y = Relu(m) }"
    assert repr(count(text).flops) == "28*n"
    assert count(text, n=5).flops == 140
    assert count(text, n=0).flops == 0


def test_a_dimension_without_a_name_is_called_after_its_input() -> None:
    text = "g (float[?,3] x) => (y) { y = Relu(x) }"
    assert repr(count(text).flops) == "3*x[0]"
    assert count(text, **{"x[0]": 2}).flops == 6


def test_a_dimension_called_by_a_question_mark_has_no_name() -> None:
    model = ir.from_onnx_text(HEAD.format(opset=20) + "g (float[n,n] x) => (y) { y = Relu(x) }")
    model.graph.inputs[0].shape = ir.Shape(["?", "?"])
    found = inspect_graph(model)
    assert repr(found.counting.flops) == "x[0]*x[1]"
    assert list(found.dims) == ["x[0]", "x[1]"]


def test_the_body_of_a_scan_counts_once_a_step() -> None:
    text = """g (float[2] s, float[5,2] x) => (a, b) {
        a, b = Scan <num_scan_inputs = 1, body = body (float[2] c, float[2] e) => (float[2] d, float[2] f)
            { d = Add(c, e) f = Identity(d) }> (s, x) }"""
    assert count(text).flops == 5 * 2


LOOP = """g (float[2] x) => (y) <int64 m = {TRIPS}> {
    y = Loop <body = body (int64 i, bool c, float[2] v) => (bool d, float[2] w)
        { d = Identity(c) w = Exp(v) }> (m, , x) }"""


def test_the_body_of_a_loop_counts_as_often_as_it_runs() -> None:
    assert count(LOOP.replace("TRIPS", "7")).flops == 14


def test_a_loop_of_unknown_length_counts_once_and_says_so() -> None:
    found = count(LOOP.replace("[2] x)", "[2] x, int64 m)").replace("<int64 m = {TRIPS}>", ""))
    assert found.flops == 2
    assert any("how often Loop" in note for note in found.notes)


def test_of_an_if_the_dearer_branch_counts() -> None:
    text = """g (bool c, float[3] x) => (y) {
        y = If (c) <then_branch = t () => (float[3] a) { a = Exp(x) },
                    else_branch = e () => (float[3] b) { z = Exp(x) b = Exp(z) }> }"""
    found = count(text)
    assert (found.flops, found.nodes) == (6, 3)
    assert any("branch with more" in note for note in found.notes)


def test_a_function_counts_once_a_call() -> None:
    model = ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["": 20, "mine": 1]>
        g (float[2,3] x) => (y) { a = mine.twice(x) y = mine.twice(a) }
        <domain: "mine", opset_import: ["": 20]>
        twice (x) => (y) { a = Exp(x) y = Exp(a) }""")
    found = inspect_graph(model)
    assert (found.counting.flops, found.counting.nodes) == (24, 4)
    uses = {one.type: one for one in found.operators}
    assert (uses["Exp"].nodes, uses["Exp"].in_functions, uses["Exp"].executed) == (2, 2, 4)
    assert uses["twice"].nodes == 2


def test_what_cannot_be_counted_is_named_with_its_cause() -> None:
    model = ir.from_onnx_text("""
        <ir_version: 10, opset_import: ["": 20, "npu": 1]>
        g (float[2,3] x) => (y) { a = Relu(x) [odd] b = npu.Odd(a) c = Relu(b) y = Neg(c) }""")
    found = inspect_graph(model).counting
    assert (found.counted, found.nodes) == (1, 4)
    assert {gap.reason: gap.count for gap in found.gaps} == {
        "sizes are unknown from Odd 'odd' on": 2,
        "there is no rule for npu::Odd": 1,
    }


def test_sizes_too_small_for_a_window_give_no_negative_count() -> None:
    found = count("g (float[1,1,n] x, float[1,1,9] w) => (y) { y = Conv(x, w) }", n=4)
    assert found.macs == 0
    assert "negative" in found.gaps[0].reason


def test_a_node_that_breaks_its_operator_is_not_counted() -> None:
    found = count("g (float[3] x) => (y) { y = Conv(x) }")
    assert found.counted == 0


def test_pads_shuffled_in_two_dimensions_are_followed() -> None:
    """What the old tracer writes for a pad: concatenated, reversed, transposed."""
    text = """g (float[n,3] x) => (y)
        <int64[2] p = {0, 1}, int64[2] q = {0, 2}, int64[2] two = {-1, 2}, int64[1] flat = {-1}> {
        a = Concat <axis = 0> (p, q) b = Reshape(a, two) c = Transpose <perm = [1, 0]> (b)
        d = Reshape(c, flat) e = Pad(x, d) y = Relu(e) }"""
    # d is 0, 0, 1, 2: the first axis grows by 1, the second by 2
    assert repr(count(text).flops) == "5+5*n"


def test_a_long_chain_behind_an_unknown_size_is_explained_in_no_time() -> None:
    chain = " ".join(f"v{i + 1} = Relu(v{i})" for i in range(5000))
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["": 20, "npu": 1]> g (float[3] x) => (v5000) '
        f"{{ [odd] v0 = npu.Odd(x) {chain} }}"
    )
    start = time.process_time()
    found = inspect_graph(model).counting
    assert time.process_time() - start < 30  # walking back from each node takes minutes
    assert {gap.count for gap in found.gaps} == {5000, 1}


RECURSIVE = """<domain: "mine", opset_import: ["": 20, "mine": 1]> f (x) => (y) { y = mine.f(x) }"""
BOMB = (
    " ".join(
        f'<domain: "mine", opset_import: ["": 20, "mine": 1]> f{index or ""} (x) => (y) '
        f"{{ a = mine.f{index + 1}(x) y = mine.f{index + 1}(a) }}"
        for index in range(40)
    )
    + ' <domain: "mine", opset_import: ["": 20]> f40 (x) => (y) { y = Relu(x) }'
)
OLDER = '<domain: "mine", opset_import: ["": 18]> f (x) => (y) { y = Relu(x) }'


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        (RECURSIVE, "calls itself"),
        (BOMB, "they would make 1,099,511,627,776 nodes"),
        (OLDER, "opset 18"),
    ],
)
def test_functions_that_cannot_be_opened_are_said(functions, reason) -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 20, "mine": 1]> '
        f"g (float[2,3] x) => (y) {{ y = mine.f(x) }} {functions}"
    )
    found = inspect_graph(model).counting
    assert reason in found.notes[0]
    assert (found.counted, found.nodes) == (0, 1)
