"""The portable body: ONNX's own operator, or what the reference is traced to."""

import pytest

from shipway.export.operator_body import BodyInput, make_body
from shipway.ops import CustomOp


def _relu(x):
    """Drop what is negative."""
    return x * (x > 0)


OP = CustomOp(
    name="bodytest::relu",
    schema="(Tensor x) -> Tensor",
    reference=_relu,
    types="T->T",
    onnx_name="Relu",
    standard=lambda op, inputs, _: op.Relu(inputs[0]),
)


@pytest.mark.parametrize(
    ("runs", "standard"),
    [
        (None, True),
        (lambda node: node.op_type == "Relu", True),
        (lambda node: node.op_type != "Relu", False),
    ],
    ids=["any engine", "one that runs it", "one that does not"],
)
def test_an_engine_without_the_standard_operator_gets_the_reference(runs, standard):
    """The standard form is taken only where the engine runs each of its nodes."""
    graph = make_body(OP, [BodyInput("float32", (2, 3), (0,))], {}, 20, runs)
    assert ({node.op_type for node in graph} == {"Relu"}) == standard
