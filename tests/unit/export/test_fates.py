"""What became of each tensor: the traps are names that stay and change their meaning."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from shipway.export.fates import map_tensors, map_values
from shipway.export.fingerprints import Fingerprint
from shipway.export.matching import Matches
from shipway.export.name_map import TensorEntry
from shipway.export.sketch import sketch_graph

BEFORE = """
<ir_version: 10, opset_import: ["" : 20]>
main (float[N] x) => (float[N] y)
<float[1] w = {2}, float[1] v = {3}, float[1] twin = {5}, float[1] five = {5}>
{
    wv = Mul (w, v)
    a = Mul (x, wv)
    b = Identity (a)
    c = Add (b, five)
    d = Add (c, twin)
    dead = Neg (x)
    y = Relu (d)
}
"""
AFTER = """
<ir_version: 10, opset_import: ["" : 20]>
main (float[N] x) => (float[N] y)
<float[1] w = {6}, float[1] wv = {6}, float[1] five = {5}>
{
    a = Mul (x, w)
    c = Add (a, five)
    d = Add (c, five)
    y = Relu (d)
}
"""


def seen(values):
    array = np.asarray(values, dtype=np.float64)
    return Fingerprint(array.shape, "torch.float32", array)


def follow(renamed=None):
    """Map every value of BEFORE to AFTER; `five` is the same object in both, `w` is not."""
    before, after = ir.from_onnx_text(BEFORE), ir.from_onnx_text(AFTER)
    sketch = sketch_graph(before)
    after.graph.initializers["five"].const_value = before.graph.initializers["five"].const_value
    names = ["w", "v", "twin", "five", "wv", "a", "b", "c", "d", "dead", "y", "lost"]
    entries = [TensorEntry(f"fx_{name}", "op", "float32", ("N",), "unmatched") for name in names]
    entries = [TensorEntry("fx_x", "input", "float32", ("N",), "unmatched"), *entries]
    entries.append(TensorEntry("fx_gone", "buffer", "float32", (), "unmatched"))
    same = {name: seen([1.0, 2.0]) for name in "ab"} | {"c": seen([1.0, 3.0])}
    values = {f"fx_{name}": name for name in [*names, "gone"]}
    matches = Matches(
        values, {"fx_b": "fx_a"} if renamed == "alias" else {}, frozenset(), {}, same, frozenset()
    )
    mapped = map_tensors(entries, matches, sketch, after, renamed={}, inputs={"fx_x": "x"})
    return {entry.fx.removeprefix("fx_"): entry for entry in mapped}


def test_what_is_left_is_kept():
    """Inputs, untouched weights, values."""
    mapped = follow()
    assert {name for name, entry in mapped.items() if entry.status == "kept"} == {
        "x",
        "five",
        "a",
        "c",
        "d",
        "y",
    }


def test_a_weight_with_new_content_is_not_the_old_one():
    """Folding reuses the name of a convolution's weight for the folded weight."""
    entry = follow()["w"]
    assert (entry.status, entry.onnx, entry.into) == ("fused", None, ("a",))


def test_what_depends_on_no_input_is_folded():
    """Where the constant has the name, it holds the tensor."""
    entry = follow()["wv"]
    assert (entry.status, entry.alias) == ("folded", "wv")


def test_an_operator_that_did_nothing_leads_to_what_it_was_given():
    """By its numbers on the example."""
    entry = follow()["b"]
    assert (entry.status, entry.alias, entry.into) == ("eliminated", "a", ("c",))
    assert follow("alias")["b"].alias == "a"


def test_a_weight_that_equals_another_leads_to_the_one_that_is_read_instead():
    """Equal weights are merged."""
    entry = follow()["twin"]
    assert (entry.status, entry.alias) == ("eliminated", "five")


def test_what_nothing_reads_is_eliminated_and_what_is_not_found_is_unmatched():
    """A weight the exporter left out was not read; a value it lost is a gap in the map."""
    mapped = follow()
    assert (mapped["dead"].status, mapped["dead"].alias) == ("eliminated", None)
    assert mapped["gone"].status == "eliminated"
    assert mapped["lost"].status == "unmatched"


def test_a_name_given_to_another_value_says_nothing_about_its_old_bearer():
    """The user may call an output as an inner value was called that is gone."""
    before, after = ir.from_onnx_text(BEFORE), ir.from_onnx_text(AFTER)
    after.graph.outputs[0].name = "dead"
    entries = [TensorEntry("fx_dead", "op", "float32", (), "unmatched")]
    matches = Matches({"fx_dead": "dead"}, {}, frozenset(), {}, {}, frozenset())
    (entry,) = map_tensors(
        entries, matches, sketch_graph(before), after, renamed={"y": "dead"}, inputs={}
    )
    assert (entry.status, entry.onnx) == ("eliminated", None)


def test_helpers_lead_to_the_node_they_serve():
    """By the exporter's record; a weight without one by what reads it."""
    before, after = ir.from_onnx_text(BEFORE), ir.from_onnx_text(AFTER)
    for node in after.graph:
        node.metadata_props["pkg.torch.onnx.name_scopes"] = f"['', 'node_{node.outputs[0].name}']"
    parents = {f"node_{name}": f"fx_{name}" for name in "acdy"}
    values = map_values(after, sketch_graph(before), (), parents)
    assert {entry.onnx: (entry.op, entry.fx) for entry in values} == {
        "w": ("", "fx_a"),
        "wv": ("", None),
        "five": ("", "fx_c"),
        "a": ("Mul", "fx_a"),
        "c": ("Add", "fx_c"),
        "d": ("Add", "fx_d"),
        "y": ("Relu", "fx_y"),
    }
