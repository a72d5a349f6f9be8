"""ONNX Runtime as it is, without one of its own optimisations; custom operators get a body."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx
import onnxruntime
from onnx import parser

from hostile.casebook import Feeds

Outputs = dict[str, Any]

FIRST_VALUE_FLOAT = 12  # the opset in which Constant got value_float and value_ints
BODIES = """<domain: "my.ops", opset_import: ["" : 18]> Blend <alpha> (v, k) => (o) { f = Constant <value_float: float = @alpha> () s = Mul(v, f) o = Add(s, k) }
<domain: "my.ops", opset_import: ["" : 18]> Noise (v) => (o) { r = RandomNormalLike(v) o = Add(v, r) }
<domain: "my.ops", opset_import: ["" : 18]> Fold (v) => (o) { t = Constant <value_ints = [-1, 2]> () o = Reshape(v, t) }
<domain: "my.ops", opset_import: ["" : 18]> Two (v) => (o, p) { o = Exp(v) p = Neg(v) }
<domain: "my.ops", opset_import: ["" : 18]> Identity (v) => (o) { o = Add(v, v) }
<domain: "my.ops", opset_import: ["" : 18]> Add (v, w) => (o) { e = Exp(v) o = Sub(e, w) }"""


@cache
def custom_bodies() -> tuple[onnx.FunctionProto, ...]:
    head = '<ir_version: 9, opset_import: ["" : 18, "my.ops" : 1]> g (float x) => (float y) { y = Neg(x) } '
    return tuple(parser.parse_model(head + BODIES).functions)


def with_bodies(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, or a copy in which every custom operator is a function."""
    if not any(item.domain == "my.ops" for item in model.opset_import) and not has_plugin(model):
        return model
    runnable = onnx.ModelProto()
    runnable.CopyFrom(model)
    for node in runnable.graph.node:
        if node.op_type == "BlendPlugin_TRT":
            node.op_type, node.domain = "Blend", "my.ops"
    if all(item.domain != "my.ops" for item in runnable.opset_import):
        runnable.opset_import.append(onnx.helper.make_opsetid("my.ops", 1))
    runnable.functions.extend(custom_bodies())
    version = next(item.version for item in model.opset_import if not item.domain)
    for function in runnable.functions[len(model.functions) :]:
        function.opset_import[0].version = max(version, FIRST_VALUE_FLOAT)
    return runnable


def has_plugin(model: onnx.ModelProto) -> bool:
    return any(node.op_type.endswith("_TRT") for node in model.graph.node)


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    runnable = with_bodies(model)
    return onnxruntime.InferenceSession(
        runnable.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run_model(model: onnx.ModelProto, feeds: Sequence[Feeds]) -> list[Outputs]:
    """Outputs by name, for each set of inputs, from one session."""
    session = open_session(model)
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(names, dict(feed)), strict=True)) for feed in feeds]
