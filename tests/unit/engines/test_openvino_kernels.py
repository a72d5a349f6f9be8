"""Native kernels in OpenVINO, through the C++ extension and through Python."""

import numpy as np
import onnx
import pytest

from shipway.artifact import load_artifact
from shipway.engines.base import EngineOptions
from shipway.engines.openvino import OpenVinoEngine, kernels
from shipway.engines.operator_model import families, make_calls, to_array, write_model
from shipway.errors import CompilerMissing, EngineError
from shipway.native.build import find_compiler
from shipway.ops import find_operator
from shipway.proof.operator import prove_operator

pytest.importorskip("openvino")
pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
ENGINE = OpenVinoEngine()
ONE_THREAD = EngineOptions(threads=1)


@pytest.fixture(params=["extension", "python"])
def adapter(request, monkeypatch):
    """Either adapter; the second one is taken where there is no compiler."""
    if request.param == "python":
        monkeypatch.setattr(kernels, "_build", lambda: (None, "no compiler"))
    return request.param


def _word(adapter):
    return kernels.KERNEL + (" called by Python, on one thread" if adapter == "python" else "")


@pytest.mark.parametrize("name", ["combine", "compress"])
def test_everything_arrives(name, probe, adapter):
    """Optional inputs, each kind of attribute, several outputs, sizes from data, four dtypes."""
    proof = prove_operator(getattr(probe, name), engines=("openvino",))
    assert proof.passed, [check.failures for check in proof.checks if check.failures]
    assert {one.runs for one in proof.checks if one.what == "openvino"} == {_word(adapter)}


def _family(op):
    return families(op, "float32", make_calls(op, "float32", 0))[-1]


@pytest.mark.parametrize("reader", ["extension", "python"])
def test_either_adapter_reads_what_the_other_wrote(reader, probe, adapter, monkeypatch, tmp_path):
    """Attributes come back from the IR to the last bit."""
    family = _family(probe.combine)
    model, names = write_model(family, tmp_path, opset=20)
    artifact = ENGINE.compile(model, ONE_THREAD, tmp_path / "made")
    monkeypatch.undo()
    if reader == "python":
        monkeypatch.setattr(kernels, "_build", lambda: (None, "no compiler"))
    call = family.calls[0]
    present = [one for one in call.tensors if one is not None]
    feeds = {name: to_array(one) for name, one in zip(names, present, strict=True)}
    with ENGINE.load(load_artifact(artifact.path), ONE_THREAD) as session:
        found = session.run(feeds)
    assert session.effective["custom_ops"] == f"probe::combine: {_word(reader)}"
    np.testing.assert_allclose(found["output_0"], call.golden[0], rtol=1e-6)
    np.testing.assert_array_equal(found["output_1"], call.golden[1])


def test_a_failure_says_why(probe, adapter, tmp_path):
    """The kernel's own words; the process goes on."""
    op = probe.refuse
    model, names = write_model(_family(op), tmp_path, opset=20)
    artifact = ENGINE.compile(model, ONE_THREAD, tmp_path / "made")
    with (
        ENGINE.load(artifact, ONE_THREAD) as session,
        pytest.raises(EngineError, match="Refuse: it is made to fail"),
    ):
        session.run({names[0]: np.ones(3, np.float32)})


def test_a_number_that_openvino_cannot_hold_is_refused(probe, adapter, tmp_path):
    """An int64 output is int32 there; it does not wrap around."""
    family = _family(probe.combine)
    model, names = write_model(family, tmp_path, opset=20)
    artifact = ENGINE.compile(model, ONE_THREAD, tmp_path / "made")
    call = family.calls[0]
    present = [one for one in call.tensors if one is not None]
    feeds = {name: to_array(one) for name, one in zip(names, present, strict=True)}
    feeds["index"] = np.full_like(feeds["index"], 2**31 - 1)
    with (
        ENGINE.load(artifact, ONE_THREAD) as session,
        pytest.raises(EngineError, match="output 1 does not fit into i"),
    ):
        session.run(feeds)


def test_a_node_may_follow_an_int64_output(probe, adapter, tmp_path):
    """OpenVINO computes what follows in int32, and the node's output must fit that."""
    family = _family(probe.combine)
    model, names = write_model(family, tmp_path, opset=20)
    proto = onnx.load(model.onnx)
    last = proto.graph.node[-1]
    name, last.output[1] = last.output[1], "numbers"
    proto.graph.initializer.append(onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1]))
    proto.graph.node.append(onnx.helper.make_node("Add", ["numbers", "one"], [name]))
    onnx.save(proto, model.onnx)
    call = family.calls[0]
    present = [one for one in call.tensors if one is not None]
    feeds = {name: to_array(one) for name, one in zip(names, present, strict=True)}
    with ENGINE.load(ENGINE.compile(model, ONE_THREAD, tmp_path / "m"), ONE_THREAD) as session:
        np.testing.assert_array_equal(session.run(feeds)["output_1"], call.golden[1] + 1)


def test_two_threads_share_the_work(tmp_path):
    """The same values with one thread and with two."""
    op = find_operator("multi_scale_deformable_attn")
    family = _family(op)
    model, names = write_model(family, tmp_path, opset=20)
    artifact = ENGINE.compile(model, ONE_THREAD, tmp_path / "made")
    feeds = dict(zip(names, map(to_array, family.calls[0].tensors), strict=True))
    results = []
    for threads in (1, 2):
        with ENGINE.load(artifact, EngineOptions(threads=threads)) as session:
            results.append(session.run(feeds)["output_0"])
    np.testing.assert_array_equal(*results)


def test_without_a_compiler_python_carries_the_calls(monkeypatch, caplog):
    """And a line in the log says so."""
    monkeypatch.setattr(
        kernels, "build_library", lambda *_, **__: (_ for _ in ()).throw(CompilerMissing("No C++."))
    )
    kernels._build.cache_clear()
    try:
        extension = kernels.extension_of([find_operator("ball_query")])
    finally:
        kernels._build.cache_clear()
    assert extension.path is None
    assert "on one thread: No C++" in caplog.text


def test_sessions_outlive_each_other(probe, tmp_path):
    """A Core that loaded the extension may go while a model of another one lives."""
    family = _family(probe.combine)
    model, names = write_model(family, tmp_path, opset=20)
    artifact = ENGINE.compile(model, ONE_THREAD, tmp_path / "made")
    present = [one for one in family.calls[0].tensors if one is not None]
    feeds = {name: to_array(one) for name, one in zip(names, present, strict=True)}
    first, second = ENGINE.load(artifact, ONE_THREAD), ENGINE.load(artifact, ONE_THREAD)
    golden = first.run(feeds)["output_0"]
    first.close()
    np.testing.assert_array_equal(second.run(feeds)["output_0"], golden)
    second.close()
