"""Shapes of operators that move elements."""

import onnx_ir as ir
import pytest

from shipway.graph.facts.inference import infer_graph
from shipway.graph.facts.knowledge import Knowledge


@pytest.mark.parametrize(
    ("axis", "shape"), [(-1, "(2, n, 9)"), (0, "(9, 2, n)"), (1, "(2, 9, n)"), (-3, "(9, 2, n)")]
)
def test_one_hot_has_its_depth_where_the_axis_is(axis, shape) -> None:
    model = ir.from_onnx_text(f"""<ir_version: 8, opset_import: ["": 17]>
        g (int64[2,n] x) => (y) <int64[1] d = {{9}}, float[2] v = {{0, 1}}>
        {{ y = OneHot <axis = {axis}> (x, d, v) }}""")
    knowledge = Knowledge.of_model(model)
    infer_graph(model.graph, knowledge)
    fact = knowledge.fact(model.graph.outputs[0])
    assert (repr(fact.shape), fact.dtype) == (shape, ir.DataType.FLOAT)


def test_an_absurd_rank_is_not_spelled_out() -> None:
    model = ir.from_onnx_text("""<ir_version: 8, opset_import: ["": 17]>
        g (float[n] x, int64[1099511627776] to) => (y) { y = Expand(x, to) }""")
    knowledge = Knowledge.of_model(model)
    infer_graph(model.graph, knowledge)
    assert knowledge.fact(model.graph.outputs[0]).shape is None
