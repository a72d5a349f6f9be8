"""The adapters of torch and ONNX Runtime, with operators that use everything they have to carry."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import psutil
import pytest
import torch
from onnx import TensorProto, helper

from shipway.ops.kernel_library import library_of
from shipway.proof.operator import prove_operator


@pytest.mark.parametrize("name", ["combine", "compress"])
def test_everything_arrives(name, probe):
    """Optional inputs, each kind of attribute and its default, several outputs, sizes from data."""
    proof = prove_operator(getattr(probe, name), engines=("torch", "onnxruntime"))
    assert proof.passed, [check.failures for check in proof.checks if check.failures]
    runs = {check.what: check.runs for check in proof.checks if check.calls}
    assert runs["torch"] == runs["onnxruntime"] == "native kernel"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["combine", "compress"])
def test_the_body_has_it_all_too(name, probe):
    """Traced from the reference, with an input absent and a size from data."""
    proof = prove_operator(getattr(probe, name), engines=("portable",))
    assert proof.passed, [check.failures for check in proof.checks if check.failures]


def _session(probe, nodes, inputs, outputs):
    graph = helper.make_graph(nodes, "probe", inputs, outputs)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("probe", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.register_custom_ops_library(str(library_of(probe.combine).path))
    return ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


def test_int32_is_widened(probe):
    """Letter I takes int32 in a model and in torch; the kernel sees int64."""
    x = torch.ones(2, 3)
    assert probe.combine(x, None, torch.tensor([5, 6], dtype=torch.int32))[1].tolist() == [12, 11]
    session = _session(
        probe,
        [helper.make_node("Combine", ["x", "", "i"], ["y", "n"], domain="probe")],
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT16, [None, 3]),
            helper.make_tensor_value_info("i", TensorProto.INT32, [None]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT16, None),
            helper.make_tensor_value_info("n", TensorProto.INT64, None),
        ],
    )
    feeds = {"x": np.ones((2, 3), np.float16), "i": np.array([5, 6], np.int32)}
    total, numbers = session.run(None, feeds)
    assert numbers.tolist() == [12, 11]
    assert total.tolist() == np.full((2, 3), 2.5, np.float16).tolist()


def test_a_failure_says_which_operator_and_why(probe):
    """In torch and in ONNX Runtime; the process goes on."""
    with pytest.raises(RuntimeError, match=r"probe::refuse: it is made to fail"):
        probe.refuse(torch.ones(3))
    session = _session(
        probe,
        [helper.make_node("Refuse", ["x"], ["y"], domain="probe")],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    with pytest.raises(Exception, match="Refuse: it is made to fail"):
        session.run(None, {"x": np.ones(3, np.float32)})


def test_mixed_dtypes_are_refused(probe):
    """All Ts of a call are one dtype."""
    with pytest.raises(RuntimeError, match="different dtypes"):
        probe.combine(torch.ones(2), torch.ones(2).double(), torch.tensor([1]))


@pytest.mark.slow
def test_calls_leak_no_memory(probe):
    """Handles, lists and optional inputs are given back, also when the kernel fails."""
    x, index = torch.ones(64, 64), torch.tensor([1])

    def call(times):
        for _ in range(times):
            probe.combine(x, x.T, index, pads=[1, 2, 3], gains=[0.5, 0.25])
            with pytest.raises(RuntimeError):
                probe.refuse(x)
        return psutil.Process().memory_info().rss

    before = call(500)
    assert call(3000) - before < 16e6  # 3,000 calls make 100 MB of tensors


def test_threads_may_call_at_once(probe):
    """Each gets its own result."""
    inputs = [torch.full((50, 50), float(k)) for k in range(16)]

    def run(x):
        return probe.combine(x, None, torch.tensor([1]))[0]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, inputs * 8))
    for x, result in zip(inputs * 8, results, strict=True):
        assert torch.equal(result, x * 2 + 0.5)
