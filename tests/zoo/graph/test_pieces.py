"""A model cut into pieces, one weight at a time, computes what it computed as a whole."""

from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from hostile.casebook import Feeds
from hostile.cases import CARRIED, CASES
from hostile.checking import compare
from hostile.execution import Outputs, run_model

from shipway.graph.loading import load_graph
from shipway.graph.pieces import cut_pieces, weights_bytes

HEAD = '<ir_version: 9, opset_import: ["" : 18, "my.ops" : 1]> g '
TWO = "(float[n, 2] x) => (float[n, 2] y) <float[2] w = {0.5, 2}, float[2] v = {1, 2}> "


def run_pieces(pieces: list[ir.Model], model: ir.Model, feeds: Feeds) -> Outputs:
    values: dict[str, Any] = dict(feeds)
    for name, value in model.graph.initializers.items():
        if value.is_graph_output() and name not in values:
            values[name] = value.const_value.numpy()
    for piece in pieces:
        proto = ir.serde.serialize_model(piece)
        read = {value.name: values[value.name] for value in piece.graph.inputs}
        values |= run_model(proto, [read])[0]
    return {value.name: values[value.name] for value in model.graph.outputs}


def is_random(model: onnx.ModelProto) -> bool:
    text = model.SerializeToString()
    return any(word in text for word in (b"Random", b"Bernoulli", b"Multinomial", b"Dropout"))


@pytest.mark.parametrize("name", CARRIED)
def test_pieces_compute_the_same(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    if is_random(case.model):
        pytest.skip("draws differ from run to run")
    path = tmp_path / "model.onnx"
    onnx.save(case.model, path)
    model = load_graph(path)
    pieces = cut_pieces(model, 1)
    overridable = {value.name for value in model.graph.initializers.values()}
    for feeds, golden in zip(case.feeds, run_model(case.model, case.feeds), strict=True):
        if overridable & set(feeds):
            continue
        actual = run_pieces(pieces, model, feeds)
        for output, value in golden.items():
            compare(value, actual[output], True, output)


def cut(text: str) -> list[ir.Model]:
    return cut_pieces(ir.from_onnx_text(HEAD + text), 1)


def test_one_weight_a_piece() -> None:
    pieces = cut(TWO + "{ a = Mul(x, w) b = Relu(a) c = Add(b, v) d = Relu(c) y = Add(d, a) }")
    assert [[node.op_type for node in piece.graph] for piece in pieces] == [
        ["Mul", "Relu"],
        ["Add", "Relu", "Add"],
    ]
    assert [weights_bytes(piece) for piece in pieces] == [8, 8]
    assert {value.name for value in pieces[0].graph.outputs} == {"a", "b"}


@pytest.mark.parametrize(
    "middle",
    ["s = SequenceConstruct(a) b = ConcatFromSequence <axis = 0> (s)", "b = my.ops.Neg(a)"],
)
def test_no_cut_where_no_known_tensor_crosses(middle: str) -> None:
    body = "{ a = Mul(x, w) " + middle + " c = Add(b, v) y = Relu(c) }"
    pieces = cut(TWO + body)
    assert len(pieces) == 1
