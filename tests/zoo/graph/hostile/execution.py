"""ONNX Runtime as it is, without one of its own optimisations; custom operators get a body."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx
import onnxruntime
from onnx import TensorProto, parser

from hostile.casebook import Feeds

Outputs = dict[str, Any]

WIDE = "::float"
NARROW = frozenset(
    value for name, value in TensorProto.DataType.items() if name.startswith(("BFLOAT", "FLOAT8"))
)

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


def widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself, or a copy whose outputs of types numpy lacks are float: that loses nothing."""
    narrow = [
        output for output in model.graph.output if output.type.tensor_type.elem_type in NARROW
    ]
    if not narrow:
        return model
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for output in wide.graph.output:
        if output.type.tensor_type.elem_type in NARROW:
            cast = onnx.helper.make_node(
                "Cast", [output.name], [output.name + WIDE], to=TensorProto.FLOAT
            )
            wide.graph.node.append(cast)
            output.name += WIDE
            output.type.tensor_type.elem_type = TensorProto.FLOAT
    return wide


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    runnable = widened(with_bodies(model))
    return onnxruntime.InferenceSession(
        runnable.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run_model(model: onnx.ModelProto, feeds: Sequence[Feeds]) -> list[Outputs]:
    """Outputs by name, for each set of inputs, from one session."""
    session = open_session(model)
    wanted = [output.name for output in session.get_outputs()]
    names = [name.removesuffix(WIDE) for name in wanted]
    return [dict(zip(names, session.run(wanted, feedable(feed)), strict=True)) for feed in feeds]


def feedable(feed: Feeds) -> dict[str, Any]:
    return {name: as_ort_value(value) for name, value in feed.items()}


def as_ort_value(value: Any) -> Any:
    """Tensors of types numpy lacks travel as a protobuf."""
    if isinstance(value, TensorProto):
        array = onnx.numpy_helper.to_array(value)
        if value.data_type not in NARROW:
            return array
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, value.data_type)
    return value
