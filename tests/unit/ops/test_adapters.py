"""Both adapters, with operators that use everything they have to carry."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
import psutil
import pytest
import torch
from onnx import TensorProto, helper

from shipway.ops import Kernel, Sample, custom_op
from shipway.ops.kernel_library import library_of
from shipway.proof.operator import prove_operator

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
KERNEL = Kernel(sources=(Path(__file__).parent / "probe" / "probe.cpp",))


def _combine_samples(generator):
    def tensor(*shape):
        return torch.from_numpy(generator.standard_normal(shape))

    index = torch.tensor([3, 4])
    others = {"scale": -1.5, "pads": [7], "gains": [0.25, 1.0], "negate": True}
    yield Sample("defaults", (tensor(3, 5), tensor(3, 5), index))
    yield Sample("absent in the middle", (tensor(3, 5), None, index))
    yield Sample("every attribute", (tensor(40, 9), tensor(40, 9), index), others)
    yield Sample("scalar", (tensor(), tensor(), index))
    yield Sample("empty", (tensor(0, 4), None, torch.tensor([], dtype=torch.int64)))
    yield Sample("gradient", (tensor(2, 2), tensor(2, 2), index), gradient=True)


@custom_op(
    "probe::combine",
    schema="(Tensor x, Tensor? y, Tensor index, float scale=2.0, int[] pads=[1, 2], "
    "float[] gains=[0.5], bool negate=False) -> (Tensor, Tensor)",
    types="TTI->Tl",
    samples=_combine_samples,
    kernel=KERNEL,
)
def combine(x, y, index, scale=2.0, pads=(1, 2), gains=(0.5,), negate=False):
    """Combine everything an adapter carries."""
    total = x * scale + (0 if y is None else y) + sum(gains)
    number = int("".join(map(str, pads)) or "0")
    numbers = torch.stack((torch.full((), number, dtype=torch.int64), index.sum()))
    return (-total if negate else total), numbers


def _compress_shape(x, keep):
    rows = torch.library.get_ctx().new_dynamic_size()
    return x.new_empty((rows, x.shape[1]))


def _compress_samples(generator):
    for name, rows, share in (
        ("some", 9, 0.5),
        ("all", 5, 1.0),
        ("none", 4, 0.0),
        ("no row", 0, 0.5),
    ):
        keep = torch.from_numpy(generator.uniform(0, 1, rows) < share)
        yield Sample(name, (torch.from_numpy(generator.standard_normal((rows, 3))).float(), keep))


@custom_op(
    "probe::compress",
    schema="(Tensor x, Tensor keep) -> Tensor",
    types="fb->f",
    shape=_compress_shape,
    samples=_compress_samples,
    kernel=KERNEL,
    differentiable=False,
)
def compress(x, keep):
    """Keep rows: how many is known only when it runs."""
    return x[keep]


@custom_op(
    "probe::refuse",
    schema="(Tensor x) -> Tensor",
    types="f->f",
    kernel=KERNEL,
    differentiable=False,
)
def refuse(x):
    """Fail, in the kernel alone."""
    return x.reshape(-1)[:1].clone()


@pytest.mark.parametrize("op", [combine, compress], ids=lambda op: op.short_name)
def test_everything_arrives(op):
    """Optional inputs, each kind of attribute and its default, several outputs, sizes from data."""
    proof = prove_operator(op, engines=("torch", "portable", "onnxruntime"))
    assert proof.passed, [check.failures for check in proof.checks if check.failures]
    runs = {check.what: check.runs for check in proof.checks if check.calls}
    assert runs["torch"] == runs["onnxruntime"] == "native kernel"


def _session(nodes, inputs, outputs):
    graph = helper.make_graph(nodes, "probe", inputs, outputs)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("probe", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.register_custom_ops_library(str(library_of(combine).path))
    return ort.InferenceSession(
        model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
    )


def test_int32_is_widened():
    """Letter I takes int32 in a model and in torch; the kernel sees int64."""
    x = torch.ones(2, 3)
    assert combine(x, None, torch.tensor([5, 6], dtype=torch.int32))[1].tolist() == [12, 11]
    session = _session(
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


def test_a_failure_says_which_operator_and_why():
    """In torch and in ONNX Runtime; the process goes on."""
    with pytest.raises(RuntimeError, match=r"probe::refuse: it is made to fail"):
        refuse(torch.ones(3))
    session = _session(
        [helper.make_node("Refuse", ["x"], ["y"], domain="probe")],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    with pytest.raises(Exception, match="Refuse: it is made to fail"):
        session.run(None, {"x": np.ones(3, np.float32)})


def test_mixed_dtypes_are_refused():
    """All Ts of a call are one dtype."""
    with pytest.raises(RuntimeError, match="different dtypes"):
        combine(torch.ones(2), torch.ones(2).double(), torch.tensor([1]))


def test_calls_leak_no_memory():
    """Handles, lists and optional inputs are given back, also when the kernel fails."""
    x, index = torch.ones(64, 64), torch.tensor([1])

    def call(times):
        for _ in range(times):
            combine(x, x.T, index, pads=[1, 2, 3], gains=[0.5, 0.25])
            with pytest.raises(RuntimeError):
                refuse(x)
        return psutil.Process().memory_info().rss

    before = call(500)
    assert call(3000) - before < 16e6  # 3,000 calls make 100 MB of tensors


def test_threads_may_call_at_once():
    """Each gets its own result."""
    inputs = [torch.full((50, 50), float(k)) for k in range(16)]

    def run(x):
        return combine(x, None, torch.tensor([1]))[0]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(run, inputs * 8))
    for x, result in zip(inputs * 8, results, strict=True):
        assert torch.equal(result, x * 2 + 0.5)
