"""Simplifies small models written as text, and runs them before and after."""

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest

from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.graph.simplify import SimplifyOptions, simplify_graph

DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


def operators(graph):
    """Return the operators of a graph or function in order, those of sub-graphs behind their node."""
    found = []
    for node in graph.node:
        found.append(node.op_type)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found += operators(attribute.g)
    return found


def open_session(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def hostile_feeds(proto, size, seed):
    """Return inputs with negatives, zeros of both signs and large numbers; ones for integers."""
    generator = np.random.default_rng(seed)
    feeds = {}
    constant = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in constant:
            continue
        dims = [
            d.dim_value if d.HasField("dim_value") else size
            for d in value.type.tensor_type.shape.dim
        ]
        dtype = DTYPES[value.type.tensor_type.elem_type]
        if np.dtype(dtype).kind == "f":
            array = generator.standard_normal(dims).astype(dtype)
            flat = array.reshape(-1)
            flat[:1], flat[1:2], flat[2:3] = -0.0, 0.0, -30.0
        else:
            array = generator.integers(0, 2, dims).astype(dtype)
        feeds[value.name] = array
    return feeds


class Simplified:
    """A model after its simplification."""

    def __init__(self, proto, result):
        self.proto = proto
        self.rules = result.rules
        self.changes = result.changes
        self.result = result
        self.ops = operators(proto.graph)
        self.bodies = {one.name: operators(one) for one in proto.functions}


@pytest.fixture
def simplify(tmp_path):
    def run(model, *, weights=None, sizes=(1, 3), profile="portable", skip=(), limit=None, pure=()):
        proto = onnx.parser.parse_model(model) if isinstance(model, str) else model
        for name, array in (weights or {}).items():
            proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        onnx.checker.check_model(proto)
        before, after = tmp_path / "before.onnx", tmp_path / "after.onnx"
        onnx.save(proto, before)
        graph = load_graph(before)
        options = SimplifyOptions(
            profile=profile, skip=frozenset(skip), limit=limit, pure=frozenset(pure)
        )
        result = simplify_graph(graph, options)
        save_graph(graph, after)
        found = onnx.load(after)
        onnx.checker.check_model(found)
        assert [one.name for one in found.graph.output] == [one.name for one in proto.graph.output]
        golden, actual = open_session(before), open_session(after)
        # Engines sum in another order where a weight is a constant: only then, not bit for bit.
        made = set(operators(found.graph)).union(*map(operators, found.functions))
        sums = {"MatMul", "Gemm", "Conv", "LSTM"} & made
        exact = not sums and all(change.kind == "exact" for change in result.changes)
        for size in sizes:
            for seed in range(2):
                feeds = hostile_feeds(proto, size, seed)
                for expected, output in zip(
                    golden.run(None, feeds), actual.run(None, feeds), strict=True
                ):
                    assert expected.shape == output.shape
                    assert expected.dtype == output.dtype
                    if exact:
                        assert expected.tobytes() == output.tobytes()
                    else:
                        np.testing.assert_allclose(output, expected, rtol=2e-4, atol=2e-5)
        left = load_graph(after)
        again = simplify_graph(left, options)
        save_graph(left, tmp_path / "again.onnx")
        assert limit is not None or not again.changes
        assert limit is not None or (tmp_path / "again.onnx").read_bytes() == after.read_bytes()
        assert result.nodes_after <= result.nodes_before
        return Simplified(found, result)

    return run


@pytest.fixture
def session():
    """Open a file in ONNX Runtime without optimisation."""
    return open_session


@pytest.fixture
def hostile():
    """Make inputs for a model."""
    return hostile_feeds
