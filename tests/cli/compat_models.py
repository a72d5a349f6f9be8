"""Small models of the kinds that published scripts edit, as text or built from random weights."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TOKENS, WIDTH, HEADS, CLASSES = 197, 32, 2, 10

INDICES = """
<ir_version: 8, opset_import: ["": 13]>
agraph (float[n, 8] x, int64[3] ids) => (float[3, 3] y, int32[2] size)
<int64[1] starts = {1}, int64[1] ends = {4}, int64[1] axes = {1}>
{
  cut = Slice(x, starts, ends, axes)
  wide = Cast<to = 7>(ids)
  y = Gather(cut, wide)
  sizes = Shape(cut)
  one = Constant<value = int64[1] {1}>()
  many = Add(sizes, one)
  size = Cast<to = 6>(many)
}
"""
SLICES = """
<ir_version: 8, opset_import: ["": 13]>
agraph (float[2, 8, 8] x) => (float[2, 3, 4] y)
<int64[1] s0 = {1}, int64[1] e0 = {4}, int64[1] a0 = {1}, int64[1] t0 = {1},
 int64[1] s1 = {0}, int64[1] e1 = {8}, int64[1] a1 = {2}, int64[1] t1 = {2}>
{
  [first] rows = Slice(x, s0, e0, a0, t0)
  [second] columns = Slice(rows, s1, e1, a1, t1)
  [last] y = Relu(columns)
}
"""
TRANSPOSES = """
<ir_version: 8, opset_import: ["": 13]>
agraph (float[2, 3, 4, 5] x) => (float[2, 3, 4, 5] y)
{
  [to_last] a = Transpose<perm = [0, 2, 3, 1]>(x)
  [relu] b = Relu(a)
  [to_first] y = Transpose<perm = [0, 3, 1, 2]>(b)
}
"""
GATHERS = """
<ir_version: 8, opset_import: ["": 13]>
agraph (float[2, 3, 4] x) => (float[2, 4] y)
<int64 i0 = {0}, int64 i1 = {1}>
{
  i2 = Constant<value = int64 {2}>()
  [Gather_0] q = Gather<axis = 1>(x, i0)
  [Gather_1] k = Gather<axis = 1>(x, i1)
  [Gather_2] v = Gather<axis = 1>(x, i2)
  [Mul_3] qk = Mul(q, k)
  [Sub_4] y = Sub(qk, v)
}
"""
LARGE = """
<ir_version: 8, opset_import: ["": 13, "custom": 1]>
agraph (float[4] x) => (float[4] y)
<float[4] mask = {-1e9, 1.0, 1e9, 0.5}, float[4] other = {1e9, 0.0, 0.0, 0.0}>
{
  masked = Mul(x, mask)
  shifted = custom.Sub(masked, other)
  y = Relu(shifted)
}
"""
RESIZE = """
<ir_version: 8, opset_import: ["": 13]>
agraph (float[1, 2, 4, 4] x) => (float[1, 2, 8, 8] y)
<float[4] scales = {1.0, 1.0, 2.0, 2.0}>
{
  y = Resize<mode = "cubic", coordinate_transformation_mode = "half_pixel",
             cubic_coeff_a = -0.75>(x, , scales)
}
"""
GELU = """
<ir_version: 8, opset_import: ["": 13]>
agraph (float[n, 16] x) => (float[n, 16] y)
<float root = {1.4142135}, float one = {1.0}, float half = {0.5}>
{
  [Relu_0] r = Relu(x)
  [Neg_1] m = Neg(r)
  [Div_2] d = Div(m, root)
  [Erf_3] e = Erf(d)
  [Add_4] a = Add(e, one)
  [Mul_5] p = Mul(m, a)
  [Mul_6] g = Mul(p, half)
  [Neg_7] y = Neg(g)
}
"""
LAYERNORM = """
<ir_version: 8, opset_import: ["": 13]>
agraph (float[n, 16] x) => (float[n, 16] y)
<float epsilon = {1e-5}>
{
  [Mean_0] mean = ReduceMean<axes = [-1]>(x)
  [Sub_1] centred = Sub(x, mean)
  [Sub_2] centred_again = Sub(x, mean)
  [Mul_3] squares = Mul(centred_again, centred_again)
  [Mean_4] variance = ReduceMean<axes = [-1]>(squares)
  [Add_5] safe = Add(variance, epsilon)
  [Sqrt_6] deviation = Sqrt(safe)
  [Div_7] y = Div(centred, deviation)
}
"""
DOMAINS = """
<ir_version: 8, opset_import: ["npu": 3, "": 13]>
agraph (float[4] x, bool yes) => (float[4] y)
{
  a = npu.Twice(x)
  b = If (yes) <
    then_branch = inside () => (float[4] t) { t = npu.Twice(a) },
    else_branch = other () => (float[4] f) { f = Identity(a) }
  >
  y = Relu(b)
}
<domain: "npu", opset_import: ["npu": 3, "": 13]>
Same (v) => (w) { w = Identity(v) }
<domain: "npu", opset_import: ["npu": 3, "": 13]>
Twice (v) => (w) { u = npu.Same(v)  w = Add(v, u) }
"""


def write(text: str, path: Path) -> Path:
    """Save a model that is written as text, its nodes named."""
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _random(seed: int, *shape: int) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) / np.sqrt(shape[-1])).astype("f")


def write_gemm(path: Path) -> Path:
    """Save Reshape, Gemm, Reshape on three axes, as old exporters wrote a linear layer."""
    weights = {
        "weight": _random(0, 6, 8),
        "bias": _random(1, 6),
        "rows": np.array([-1, 8]),
        "back": np.array([2, 5, 6]),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "Relu_0"),
        helper.make_node("Reshape", ["r", "rows"], ["flat"], "Reshape_1"),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["g"], "Gemm_2", transB=1),
        helper.make_node("Reshape", ["g", "back"], ["y"], "Reshape_3"),
    ]
    return _save(path, nodes, weights, ("x", [2, 5, 8]), ("y", [2, 5, 6]))


def write_conv1d(path: Path) -> Path:
    """Save two convolutions over a line."""
    weights = {"w0": _random(0, 6, 4, 3), "b0": _random(1, 6), "w1": _random(2, 5, 6, 2)}
    nodes = [
        helper.make_node(
            "Conv", ["x", "w0", "b0"], ["c"], "Conv_0", kernel_shape=[3], pads=[1, 1], strides=[2]
        ),
        helper.make_node("Relu", ["c"], ["r"], "Relu_1"),
        helper.make_node("Conv", ["r", "w1"], ["y"], "Conv_2", kernel_shape=[2], dilations=[2]),
    ]
    return _save(path, nodes, weights, ("x", [2, 4, 16]), ("y", [2, 5, 6]))


def write_vit(path: Path) -> Path:
    """Save a vision transformer of 197 tokens, two blocks and random weights, as torch 1.8 did."""
    weights = {
        "patch.weight": _random(0, WIDTH, 3, 16, 16) / 16,
        "cls_token": _random(1, 1, 1, WIDTH),
        "pos_embed": _random(2, 1, TOKENS, WIDTH),
        "patches": np.array([1, WIDTH, TOKENS - 1]),
        "split": np.array([1, TOKENS, 3, HEADS, WIDTH // HEADS]),
        "merge": np.array([1, TOKENS, WIDTH]),
        "scale": np.array(0.25, "f"),
        "first": np.array(0),
        "head": _random(3, WIDTH, CLASSES),
        **{f"index{number}": np.array(number) for number in range(3)},
    }
    nodes = [
        helper.make_node("Conv", ["image", "patch.weight"], ["grid"], "Conv_0", strides=[16, 16]),
        helper.make_node("Reshape", ["grid", "patches"], ["line"], "Reshape_1"),
        helper.make_node("Transpose", ["line"], ["tokens"], "Transpose_2", perm=[0, 2, 1]),
        helper.make_node("Concat", ["cls_token", "tokens"], ["joined"], "Concat_24", axis=1),
        helper.make_node("Add", ["joined", "pos_embed"], ["x0"], "Add_25"),
    ]
    for block in range(2):
        nodes += _block(block, weights)
    nodes += [
        helper.make_node("Gather", ["x2", "first"], ["token"], "Gather_98", axis=1),
        helper.make_node("MatMul", ["token", "head"], ["logits"], "MatMul_99"),
    ]
    image, logits = ("image", [1, 3, 224, 224]), ("logits", [1, CLASSES])
    return _save(path, nodes, weights, image, logits, opset=17)


def _block(block: int, weights: dict) -> list[onnx.NodeProto]:
    def node(op_type: str, inputs: list[str], output: str, **attributes):
        return helper.make_node(
            op_type, inputs, [f"{p}{output}"], f"{op_type}_{p}{output}", **attributes
        )

    p = f"b{block}."
    weights[f"{p}scale"] = 1 + _random(9 * block + 4, WIDTH)
    weights[f"{p}shift"] = 0.2 * _random(9 * block + 5, WIDTH) * np.sqrt(WIDTH).astype("f")
    weights[f"{p}qkv"] = _random(9 * block + 6, WIDTH, 3 * WIDTH)
    weights[f"{p}proj"] = _random(9 * block + 7, WIDTH, WIDTH)
    heads = [
        node("Gather", [f"{p}heads", f"index{number}"], name, axis=0)
        for number, name in enumerate("qkv")
    ]
    return [
        node("LayerNormalization", [f"x{block}", f"{p}scale", f"{p}shift"], "norm"),
        node("MatMul", [f"{p}norm", f"{p}qkv"], "mixed"),
        node("Reshape", [f"{p}mixed", "split"], "five"),
        node("Transpose", [f"{p}five"], "heads", perm=[2, 0, 3, 1, 4]),
        *heads,
        node("Transpose", [f"{p}k"], "kt", perm=[0, 1, 3, 2]),
        node("MatMul", [f"{p}q", f"{p}kt"], "scores"),
        node("Mul", [f"{p}scores", "scale"], "scaled"),
        node("Softmax", [f"{p}scaled"], "weights", axis=-1),
        node("MatMul", [f"{p}weights", f"{p}v"], "mean"),
        node("Transpose", [f"{p}mean"], "back", perm=[0, 2, 1, 3]),
        node("Reshape", [f"{p}back", "merge"], "flat"),
        node("MatMul", [f"{p}flat", f"{p}proj"], "out"),
        helper.make_node("Add", [f"x{block}", f"{p}out"], [f"x{block + 1}"], f"Add_{p}x"),
    ]


def _save(path: Path, nodes, weights, given, wanted, opset: int = 13) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(given[0], TensorProto.FLOAT, given[1])],
        [helper.make_tensor_value_info(wanted[0], TensorProto.FLOAT, wanted[1])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)
    return path
