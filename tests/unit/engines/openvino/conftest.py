"""Small models of three kinds, written as ONNX text, with random weights."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from shipway.engines.base import EngineOptions
from shipway.engines.openvino import OpenVinoEngine
from shipway.errors import EngineError
from shipway.export.portable import PortableModel
from shipway.tensors import TensorSpec, dtype_of

pytest.importorskip("openvino")

HEADER = '<ir_version: 9, opset_import: ["": 20]> g '

RESIDUAL = """(float[1,3,32,32] x) => (float[1,5] y) {
    stem = Conv<pads=[1,1,1,1]>(x, w0[16,3,3,3], b0[16])
    on = Relu(stem)
    a1 = Conv<pads=[1,1,1,1]>(on, w1[16,16,3,3], b1[16])
    r1 = Relu(a1)
    a2 = Conv<pads=[1,1,1,1]>(r1, w2[16,16,3,3], b2[16])
    s1 = Add(a2, on)
    on1 = Relu(s1)
    a3 = Conv<pads=[1,1,1,1]>(on1, w3[16,16,3,3], b3[16])
    r2 = Relu(a3)
    a4 = Conv<pads=[1,1,1,1]>(r2, w4[16,16,3,3], b4[16])
    s2 = Add(a4, on1)
    on2 = Relu(s2)
    pooled = GlobalAveragePool(on2)
    flat = Flatten(pooled)
    y = Gemm(flat, w5[16,5], b5[5])
}"""

TRANSFORMER = """(float[1,3,16,16] image) => (float[1,4] y) {
    patches = Conv<strides=[4,4]>(image, w0[32,3,4,4], b0[32])
    flat = Reshape(patches, <int64[3] = {1,32,16}>)
    tokens = Transpose<perm=[0,2,1]>(flat)
    placed = Add(tokens, w1[1,16,32])
    n1 = LayerNormalization(placed, g1[32], b1[32])
    q = MatMul(n1, w2[32,32])
    k = MatMul(n1, w3[32,32])
    v = MatMul(n1, w4[32,32])
    "q heads" = Reshape(q, <int64[4] = {1,16,2,16}>)
    "k heads" = Reshape(k, <int64[4] = {1,16,2,16}>)
    "v heads" = Reshape(v, <int64[4] = {1,16,2,16}>)
    qt = Transpose<perm=[0,2,1,3]>("q heads")
    kt = Transpose<perm=[0,2,3,1]>("k heads")
    vt = Transpose<perm=[0,2,1,3]>("v heads")
    "q/scaled" = Mul(qt, <float = {0.25}>)
    scores = MatMul("q/scaled", kt)
    weights = Softmax<axis=-1>(scores)
    mixed = MatMul(weights, vt)
    joined = Transpose<perm=[0,2,1,3]>(mixed)
    attention = Reshape(joined, <int64[3] = {1,16,32}>)
    attended = Add(attention, placed)
    n2 = LayerNormalization(attended, g2[32], b2[32])
    up = MatMul(n2, w5[32,64])
    active = Gelu(up)
    down = MatMul(active, w6[64,32])
    sum = Add(down, attended)
    mean = ReduceMean<keepdims=0>(sum, <int64[1] = {1}>)
    y = MatMul(mean, w7[32,4])
}"""

RECURRENT = """(float[n,5,6] x) => (float[n,3] y) {
    steps = Transpose<perm=[1,0,2]>(x)
    h1, last1 = LSTM<direction="bidirectional", hidden_size=4>(steps, w0[2,16,6], w1[2,16,4], b0[2,32])
    swapped = Transpose<perm=[0,2,1,3]>(h1)
    joined = Reshape(swapped, <int64[3] = {0,0,-1}>)
    h2, last2 = GRU<hidden_size=4>(joined, w2[1,12,8], w3[1,12,4], b1[1,24])
    final = Squeeze(last2, <int64[1] = {0}>)
    y = MatMul(final, w4[4,3])
}"""


MODELS = {"residual": RESIDUAL, "transformer": TRANSFORMER, "recurrent": RECURRENT}


@pytest.fixture
def write(tmp_path):
    """Write a model: one of the three by its name, or a text."""
    return lambda model: _write(tmp_path, MODELS.get(model, model))


def _write(folder, text, seed=0):
    """Write a model whose text names weights by their shape, "w0[8,3]", or gives their values."""
    rng, found = np.random.default_rng(seed), {}

    def weight(match):
        shape = tuple(map(int, match.group(2).split(",")))
        scale = 0.1 if match.group(1)[0] == "b" else 1.0 / np.sqrt(max(np.prod(shape[1:]), 1))
        value = rng.standard_normal(shape) * scale + (match.group(1)[0] == "g")
        found[match.group(1)] = value.astype(np.float32)
        return match.group(1)

    def constant(match):
        dtype = np.int64 if match.group(1) == "int64" else np.float32
        value = np.array([float(part) for part in match.group(3).split(",")], dtype)
        name = f"constant{len(found)}"
        found[name] = value if match.group(2) else value[0]
        return name

    head, body = text.split("{\n", 1)
    body = re.sub(r"\b([wbg]\d+)\[([\d,]+)\]", weight, body)
    body = re.sub(r"<(int64|float)(\[\d\])? = \{([\d.,-]+)\}>", constant, body)
    model = parser.parse_model(HEADER + head + "{\n" + body)
    for name, value in found.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    onnx.checker.check_model(model, full_check=True)
    path = Path(folder) / "m.onnx"
    onnx.save(model, path)
    return _portable(path)


def _spec(value):
    tensor = value.type.tensor_type
    dims = tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim)
    return TensorSpec(value.name, dtype_of(tensor.elem_type).name, dims)


def _portable(path):
    """Return the model in a file with the inputs and outputs that the file says."""
    graph = onnx.load(path).graph
    weights = {weight.name for weight in graph.initializer}
    return PortableModel(
        tuple(_spec(value) for value in graph.input if value.name not in weights),
        tuple(map(_spec, graph.output)),
        onnx=path,
    )


@dataclass
class Opened:
    """A model, compiled and with its tensors open."""

    model: PortableModel
    session: object
    plain: object

    def read(self, feeds, names=None):
        return {item.tap.name: item.value for item in self.session.stream(feeds, names)}


@pytest.fixture
def open_model(tmp_path, write):
    """Compile a model, open its tensors and load it beside that; skip where a precision is not granted."""
    opened = []

    def open_it(model, precision="f32", **options):
        engine, asked = OpenVinoEngine(), EngineOptions(precision, threads=1)
        if isinstance(model, Path):
            model = _portable(model)
        elif isinstance(model, str):
            model = write(model)
        artifact = engine.compile(model, asked, tmp_path / "out")
        try:
            plain = engine.load(artifact, asked)
        except EngineError as error:
            pytest.skip(str(error))
        opened.append(plain)
        opened.append(engine.open_taps(artifact, asked, **options))
        return Opened(model, opened[-1], plain)

    yield open_it
    for session in opened:
        session.close()


@pytest.fixture
def everything():
    """Return every value of a model by name, as ONNX Runtime computes it without optimisation."""

    def run(path, feeds):
        import onnxruntime as ort

        model = onnx.load(path)
        shown = {output.name for output in model.graph.output}
        for node in model.graph.node:
            for name in filter(None, node.output):
                if name not in shown:
                    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        return {**dict(zip(names, session.run(names, dict(feeds)), strict=True)), **feeds}

    return run
