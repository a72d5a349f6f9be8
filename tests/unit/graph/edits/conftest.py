"""Runs models in the tests of editing: ONNX Runtime, nothing optimised."""

from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

HEAD = '<ir_version: 8, opset_import: ["": {opset}]>'


def make(text, opset=17):
    """Return a model from ONNX's text form, without its head."""
    return ir.from_onnx_text(HEAD.format(opset=opset) + text)


def proto(model):
    """Return the checked protobuf of a model."""
    found = ir.to_proto(model)
    onnx.checker.check_model(found, full_check=True)
    return found


def run(model, **feeds):
    """Return the outputs of a model."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = proto(model).SerializeToString()
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def numbers(*shape, dtype=np.float32, seed=0):
    """Return normal numbers, or small integers."""
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        return random.integers(0, 3, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def literal(array):
    """Write an array as ONNX's text form has initializers."""
    return "{" + ", ".join(str(one) for one in np.asarray(array).reshape(-1).tolist()) + "}"


def worst(golden, actual):
    """Return the largest relative L2 of some outputs; shapes and dtypes must be equal."""
    errors = []
    for one, other in zip(golden, actual, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        scale = max(np.linalg.norm(one.astype(np.float64)), 1e-12)
        errors.append(np.linalg.norm(one.astype(np.float64) - other.astype(np.float64)) / scale)
    return max(errors)


def op_types(model):
    """Return the operators of the main graph, in order."""
    return [node.op_type for node in model.graph]


@pytest.fixture
def lab():
    """Everything above, for tests: they cannot import each other's modules."""
    names = (make, proto, run, numbers, literal, worst, op_types)
    return SimpleNamespace(**{one.__name__: one for one in names})
