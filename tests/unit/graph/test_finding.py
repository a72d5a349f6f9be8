"""Nodes found by what they are, where they come from, and what stands around them."""

import onnx_ir as ir
import pytest

from shipway.errors import UsageError
from shipway.graph.finding import NodeQuery, describe_nodes, find_nodes, find_pattern
from shipway.graph.rewriting import rewrite
from shipway.source.origins import Origin

TEXT = """<ir_version: 10, opset_import: ["": 20, "npu": 1, "mine": 1]>
    g (float[2,4] x, bool c) => (y, z) {
        [relu] b = Relu(x)
        [neg] d = Neg(b)
        [odd] q = npu.Odd(d, , b)
        [pick] y = If (c) <then_branch = yes () => (float a) { [inner] a = Relu(x) },
                           else_branch = no () => (float k) { k = mine.act(x) }>
        [sum] z = Add(d, q) }
    <domain: "mine", opset_import: ["": 20]>
    act (x) => (y) { [body] h = Relu(x) y = Neg(h) }"""

NAMES = {"relu": "/layer1/relu 1", "neg": "/layer1/neg", "odd": "/layer2/odd"}


@pytest.fixture
def model():
    found = ir.from_onnx_text(TEXT)
    for node in found.graph:
        node.name = NAMES.get(node.name, node.name)
    return found


def names(nodes):
    return [node.name or node.op_type for node in nodes]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"types": ("Relu",)}, ["/layer1/relu 1", "inner", "body"]),
        ({"types": ("npu::Odd", "If")}, ["/layer2/odd", "pick"]),
        ({"types": ("ai.onnx::Add",)}, ["sum"]),
        ({"types": ("relu",)}, []),
        ({"names": ("/layer1/*",)}, ["/layer1/relu 1", "/layer1/neg"]),
        ({"names": ("/layer1/*",), "types": ("Neg", "Add")}, ["/layer1/neg"]),
        ({"domains": ("npu",)}, ["/layer2/odd"]),
        ({"domains": ("m*",)}, ["act"]),
        ({"domains": ("",), "names": ("s*",)}, ["sum"]),
        ({"domains": ("ai.onnx",), "names": ("s*",)}, ["sum"]),
        ({"values": ("d",)}, ["/layer1/neg", "/layer2/odd", "sum"]),
        ({"values": ("nowhere",)}, []),
        ({"modules": ("layer1",)}, ["/layer1/relu 1", "/layer1/neg"]),
        ({"modules": ("layer*",), "types": ("Odd",)}, ["/layer2/odd"]),
    ],
)
def test_all_kinds_must_hold_and_any_of_a_kind_may(model, query, found) -> None:
    assert names(find_nodes(model, NodeQuery(**query))) == found


def test_a_query_for_nothing_finds_every_node(model) -> None:
    assert len(find_nodes(model)) == 9


def test_the_exporters_record_says_the_module(model) -> None:
    node = model.graph.node("sum")
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'blocks', 'blocks.1', 'add_3']"
    assert names(find_nodes(model, NodeQuery(modules=("blocks.1",)))) == ["sum"]


def test_a_name_map_goes_before_the_record(model) -> None:
    origins = {"z": Origin("head", "net.py:3", "return a + b", "add")}
    assert names(find_nodes(model, NodeQuery(modules=("head",)), origins=origins)) == ["sum"]
    (found,) = describe_nodes(model, [model.graph.node("sum")], origins=origins)
    assert found.to_json()["source"] == "net.py:3"


def test_a_node_is_described_with_what_it_reads_and_where_it_lies(model) -> None:
    found = {one.name: one for one in describe_nodes(model, find_nodes(model))}
    assert found["/layer2/odd"].inputs == ("d", "", "b")
    assert found["/layer2/odd"].domain == "npu"
    assert found["sum"].place == ""
    assert found["inner"].place == "yes of If 'pick'"
    assert found["body"].place == "function mine::act"


def test_a_pattern_is_found_everywhere_also_where_others_read_inside(model) -> None:
    """`rewrite` leaves the first alone: the Odd reads what is between."""
    text = "b = Relu(a); c = Neg(b)"
    assert [names(one) for one in find_pattern(model, text)] == [
        ["/layer1/relu 1", "/layer1/neg"],
        ["body", "Neg"],
    ]
    assert rewrite(model, text, "c = npu.Fused(a)") == 1


def test_swapped_inputs_match_when_asked_for(model) -> None:
    text = "c = npu.Odd(a, , b); d = Add(c, a)"
    assert find_pattern(model, text) == []
    assert [names(one) for one in find_pattern(model, text, commute=True)] == [
        ["/layer2/odd", "sum"]
    ]


def test_a_callable_is_a_pattern_too(model) -> None:
    found = find_pattern(model, lambda op, x: op.Neg(op.Relu(x)))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("Relu(a)", "no node"),
        ("b = Relu(a); c = Neg(a)", "Nothing in the pattern reads 'b'"),
    ],
)
def test_a_pattern_that_says_something_else_is_refused(model, text, message) -> None:
    with pytest.raises(UsageError, match=message):
        find_pattern(model, text)
