"""Shapes of operators that sum over dimensions."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from shipway.graph.facts.inference import infer_graph
from shipway.graph.facts.knowledge import Knowledge


def infer(text):
    """Return the model of a text, and the shape that is inferred of its output."""
    head = '<ir_version: 8, opset_import: ["": 17]> '
    model = ir.from_onnx_text(head + text)
    knowledge = Knowledge.of_model(model)
    infer_graph(model.graph, knowledge)
    return onnx.parser.parse_model(head + text), knowledge.fact(model.graph.outputs[0]).shape


@pytest.mark.parametrize("size", range(3, 14))
@pytest.mark.parametrize("pads", [(0, 0), (1, 1), (1, 0), (0, 1)])
def test_pools_that_round_up_have_the_windows_the_engine_makes(size, pads) -> None:
    begin, end = pads
    proto, shape = infer(
        f"g (float[1,1,{size}] x) => (float[a,b,c] y) {{ y = MaxPool "
        f"<kernel_shape = [3], strides = [2], pads = [{begin},{end}], ceil_mode = 1> (x) }}"
    )
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options)
    (actual,) = session.run(None, {"x": np.zeros((1, 1, size), np.float32)})
    assert isinstance(shape[2], int) or end > 0  # behind a pad at the end, engines differ
    assert not isinstance(shape[2], int) or shape == actual.shape


def test_a_dynamic_size_rounded_up_stays_unknown() -> None:
    _, shape = infer(
        "g (float[1,1,n] x) => (y) { y = MaxPool <kernel_shape = [3], ceil_mode = 1> (x) }"
    )
    assert not isinstance(shape[2], int)
