"""Targets: how users write an engine and a precision."""

import numpy as np
import onnx
import pytest

from shipway.engines.base import EngineOptions
from shipway.engines.opening import compile_target, open_model
from shipway.engines.operator_model import families, make_calls, to_array, write_model
from shipway.engines.target import GOLDEN, Target, parse_target
from shipway.errors import UsageError
from shipway.ops import find_operator
from shipway.source.loading import SourceRequest


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("openvino", Target("openvino", "f32")),
        ("openvino:bf16", Target("openvino", "bf16")),
        (" torch ", GOLDEN),
    ],
)
def test_a_target_reads_back_as_written(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize(
    ("text", "fact"), [("tensorflow", "tensorflow"), ("openvino:f8", "f8"), ("", "''")]
)
def test_what_does_not_exist_is_refused_with_what_does(text: str, fact: str) -> None:
    with pytest.raises(UsageError, match=fact) as caught:
        parse_target(text)
    assert "onnxruntime" in caught.value.hint or "bf16" in caught.value.hint


def test_inline_is_read_and_written():
    """After engine or precision; it has files and a title of its own."""
    target = parse_target("openvino:bf16+inline")
    assert target == Target("openvino", "bf16", inline=True)
    assert (str(target), target.slug) == ("openvino:bf16+inline", "openvino-bf16-inline")
    assert parse_target("onnxruntime+inline").title == "onnxruntime+inline"
    with pytest.raises(UsageError, match="aotinductor runs the program of PyTorch"):
        parse_target("aotinductor+inline")


def test_inline_leaves_no_custom_operator(tmp_path):
    """Although the engine has the kernel; the session says that it was asked for."""
    op = find_operator("ball_query")
    family = families(op, "float32", make_calls(op, "float32", 0))[0]
    model, names = write_model(family, tmp_path, opset=20)
    target = parse_target("onnxruntime+inline")
    artifact = compile_target(model, target, EngineOptions(threads=1), tmp_path / "made")
    assert {node.domain for node in onnx.load(artifact.path).graph.node} == {""}
    call = family.calls[0]
    feeds = {name: to_array(one) for name, one in zip(names, call.tensors, strict=True)}
    with open_model(SourceRequest(str(artifact.path)), target, EngineOptions(threads=1)) as opened:
        assert opened.target == target
        words = "shipway::ball_query: portable body (as asked for)"
        assert opened.session.effective["custom_ops"] == words
        np.testing.assert_array_equal(opened.session.run(feeds)["output_0"], call.golden[0])
