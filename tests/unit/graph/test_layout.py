"""Transposes that are moved past operators that work in any order of axes."""

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from shipway.graph.minimum_cut import FIRST, SECOND, LabelCosts
from shipway.graph.simplify import simplify_graph

HEAD = '<ir_version: 10, opset_import: ["" : 20, "my.ops" : 1]>\nmain '
BACK, FORTH = "Transpose<perm=[0,3,1,2]>", "Transpose<perm=[0,2,3,1]>"
WEIGHTS = {
    "v": np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32),
    "per_channel": np.arange(4, dtype=np.float32).reshape(4, 1, 1),
    "last": np.arange(6, dtype=np.float32),
    "shared": np.ones((5, 6), np.float32),
}
DECLARED = (
    "<float[4,4] v, float[4,1,1] per_channel, float[6] last, float[5,6] shared, "
    "float[1] number = {2}, int64[2] halves = {2,2}>"
)


def image(body, inputs="float[n,4,5,6] x", outputs="float[n,a,b,c] y"):
    return HEAD + f"({inputs}) => ({outputs}) {DECLARED} {{\n{body}\n}}"


def between_products(middle):
    """Put a stretch where exporters put one: channels first, between two products of channels last."""
    return f" t = {FORTH}(x)\n m = MatMul(t, v)\n a = {BACK}(m)\n {middle}\n u = {FORTH}(b)\n y = MatMul(u, v)"


@pytest.mark.parametrize(
    "middle",
    [
        "b = Relu(a)",
        "b = Mul(a, per_channel)",
        "b = Mul(per_channel, a)",
        "b = Add(a, last)",
        "b = Max(a, number, last)",
        "b = Softmax<axis=1>(a)",
        "b = Softmax(a)",
        "c = Sigmoid(a)\n b = Mul(a, c)",
        "c, d = Split<axis=1>(a, halves)\n b = Concat<axis=-3>(d, c)",
        "c = Less(a, number)\n b = Where(c, a, number)",
    ],
)
def test_a_stretch_between_two_products_runs_channels_last(simplify, middle):
    found = simplify(image(between_products(middle)), weights=WEIGHTS)
    assert found.ops.count("Transpose") == 1
    assert found.rules["move_transposes"] == 1


def test_a_residual_that_is_read_in_both_orders_costs_one(simplify):
    found = simplify(
        image(
            f" t = {FORTH}(x)\n m = MatMul(t, v)\n a = {BACK}(m)\n b = Add(a, x)\n"
            f" u = {FORTH}(b)\n k = MatMul(u, v)\n c = {BACK}(k)\n d = Add(c, b)\n"
            f" e = {FORTH}(d)\n y = MatMul(e, v)"
        ),
        weights=WEIGHTS,
    )
    assert found.ops.count("Transpose") == 1


def test_the_node_that_was_turned_keeps_its_name():
    text = image(between_products("b = Relu(a)")).replace("b = Relu", '["the relu"] b = Relu')
    graph = model_of(text)
    simplify_graph(graph)
    assert [node.name for node in graph.graph if node.op_type == "Relu"] == ["the relu"]
    names = [node.name for node in graph.graph if node.name]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("middle", "inputs", "outputs"),
    [
        ("b = Add(a, row)", "float[n,4,5,6] x, float[6] row", "float[n,a,b,c] y"),
        ("b = Add(a, shared)\n r = Neg(shared)", "float[n,4,5,6] x", "float[n,a,b,c] y, float[5,6] r"),
        ("b = my.ops.Relu(a)", "float[n,4,5,6] x", "float[n,a,b,c] y"),
    ],
    ids=["an input with fewer axes", "numbers others need as they are", "a custom operator"],
)  # fmt: skip
def test_what_cannot_be_turned_stays(middle, inputs, outputs):
    graph = model_of(image(between_products(middle), inputs, outputs))
    result = simplify_graph(graph)
    assert "move_transposes" not in result.rules
    assert [node.op_type for node in graph.graph].count("Transpose") == 3


def test_outputs_keep_their_order(simplify):
    found = simplify(
        image(f" z = Relu(x)\n y = {FORTH}(z)", outputs="float[n,5,6,4] y, float[n,4,5,6] z"),
        weights=WEIGHTS,
    )
    assert found.ops == ["Relu", "Transpose"]


def model_of(text):
    proto = onnx.parser.parse_model(text)
    for name, array in WEIGHTS.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(proto)


def grown(seed):
    """A random graph of sums, activations and transposes of three axes of one size."""
    rng = np.random.default_rng(seed)
    lines, values = [], ["x", "w"]
    for index in range(24):
        one, two = rng.choice(values[-6:], 2)
        order = rng.permutation(3).tolist()
        made = rng.choice(
            [f"Transpose<perm={order}>({one})", f"Relu({one})", f"Add({one}, {two})",
             f"Softmax<axis={order[0]}>({one})", f"Cumulated({one})"],
            p=[0.45, 0.15, 0.25, 0.1, 0.05],
        )  # fmt: skip
        made = (
            str(made).replace("Cumulated(", "CumSum(").replace(")", ", zero)", 1)
            if "Cum" in made
            else made
        )
        values.append(f"v{index}")
        lines.append(f" v{index} = {made}")
    return (
        '<ir_version: 10, opset_import: ["" : 20]>\nmain (float[3,3,3] x, float[3,3,3] w) => '
        f"(float[3,3,3] {values[-1]}, float[3,3,3] {values[-2]}) <int64 zero = {{0}}> {{\n"
        + "\n".join(lines)
        + "\n}"
    )


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_compute_the_same_with_no_more_transposes(simplify, seed):
    text = grown(seed)
    kept = simplify(text, skip={"move_transposes"})
    moved = simplify(text)
    assert moved.ops.count("Transpose") <= kept.ops.count("Transpose")
    assert len(moved.ops) <= len(kept.ops)


def test_the_cheapest_labels_are_found():
    costs = LabelCosts()
    costs.charge(FIRST, "a", 3)
    costs.charge("a", "b", 1)
    costs.charge("b", SECOND, 5)
    costs.charge("a", "c", 1)
    costs.charge("c", SECOND)
    assert costs.solve() == (2, {"b", "c"})
