"""Row-wise stretches run on matrices where that makes fewer nodes."""

import numpy as np
import onnx

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\nmain '
NUMBERS = np.random.default_rng(0)


def block(rows):
    names = "<float[8,16] w1, float[16] b1, float[16,8] w2, float[8] b2, float[8] g, float[8] h>"
    return (
        f"(float[{rows},8] x) => (float[{rows},8] y) {names} {{\n"
        "  l = LayerNormalization<axis=2>(x, g, h)\n  a = MatMul(l, w1)\n  b = Add(a, b1)\n  c = Gelu(b)\n"
        "  d = MatMul(c, w2)\n  e = Add(d, b2)\n  r = Add(e, x)\n  y = Relu(r)\n}"
    )


def weights():
    shapes = {"w1": (8, 16), "b1": (16,), "w2": (16, 8), "b2": (8,), "g": (8,), "h": (8,)}
    return {
        name: NUMBERS.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }


def three_blocks():
    proto = onnx.parser.parse_model(HEAD + block("n,5"))
    nodes = list(proto.graph.node)
    for number in range(1, 3):
        for node in nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for part in (copy.input, copy.output):
                for index, name in enumerate(part):
                    if name in {"x", *(one for other in nodes for one in other.output)}:
                        part[index] = {"x": "y" if number == 1 else f"y_{number - 1}"}.get(
                            name, f"{name}_{number}"
                        )
            proto.graph.node.append(copy)
    proto.graph.output[0].name = "y_2"
    return proto


def test_a_stretch_has_reshapes_at_its_borders_only(simplify):
    found = simplify(three_blocks(), weights=weights())
    assert found.ops.count("Gemm") == 6
    assert found.ops.count("MatMul") == 0
    assert found.ops.count("Reshape") == 2
    assert found.rules["flatten_rows"] == 1


def test_two_open_sizes_leave_it_as_it_is(simplify):
    found = simplify(HEAD + block("n,m"), weights=weights())
    assert "Gemm" not in found.ops


def test_what_does_not_pay_is_left(simplify):
    found = simplify(
        HEAD
        + "(float[n,5,8] x) => (float[n,5,16] y) <float[8,16] w1, float[16] b1> { a = MatMul(x, w1)  y = Add(a, b1) }",
        weights={name: array for name, array in weights().items() if name in {"w1", "b1"}},
    )
    assert found.ops == ["MatMul", "Add"]
