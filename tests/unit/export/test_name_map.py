"""The name map: complete, and right in numbers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import onnx
import pytest
import torch

from shipway.errors import ModelError
from shipway.export.example import to_numpy, to_torch
from shipway.export.fingerprints import flat_arguments
from shipway.export.model import export_model
from shipway.export.name_map import NameMap, TensorEntry, ValueEntry, read_name_map, write_name_map
from shipway.export.options import ExportOptions
from shipway.tensors import random_feeds


def run_nodes(program, feeds):
    """Run a program node by node and return every tensor by node name."""
    found = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n):
            result = super().run_node(n)
            if isinstance(result, torch.Tensor):
                found[n.name] = to_numpy(result)
            return result

    with torch.no_grad():
        Recorder(program.graph_module).run(*flat_arguments(program, feeds))
    return found


CASES = {
    "digits": ("Digits", ["image:f32[batch,1,8,8]"], {"batch": 5}),
    "mobile": ("Mobile", ["x:f32[b,3,h,w]"], {"b": 2, "h": 20, "w": 36}),
    "reader": ("Reader", ["ids:i64[batch,length]{0..49}"], {"batch": 2, "length": 11}),
    "several": ("Several", ["x:f32[n,8]", "y:f32[m]", "bias:f32[n,4]"], {"n": 4, "m": 2}),
    "branchy": ("Branchy", ["x:f32[b,3,h,16]"], {"b": 2, "h": 24}),
    "choice": ("Choice", ["x:f32[b,3]"], {"b": 4}),
}


@pytest.mark.parametrize(
    ("case", "fold"),
    [
        *(pytest.param(case, True, id=f"{case}-folded") for case in CASES),
        pytest.param("digits", False, id="digits-plain"),
        *(
            pytest.param(case, False, id=f"{case}-plain", marks=pytest.mark.slow)
            for case in CASES
            if case != "digits"
        ),
    ],
)
def test_every_tensor_has_an_entry_and_every_name_match_holds_in_numbers(
    case, fold, nets, build, as_source, run_onnx, relative_l2, tmp_path
):
    """At another size than the export's, so that nothing can agree by way of the example."""
    network, specs, sizes = CASES[case]
    source = as_source(build(getattr(nets, network)), *specs)
    model = export_model(source, tmp_path, options=ExportOptions(fold=fold))
    name_map = read_name_map(model.name_map)
    feeds = random_feeds(model.inputs, seed=7, sizes=sizes)
    program = torch.export.load(model.program)
    golden = run_nodes(program, [to_torch(feeds[spec.name]) for spec in model.inputs])

    followed = [entry for entry in name_map.tensors if entry.status != "subgraph"]
    assert {entry.fx for entry in followed} == set(golden)
    assert not [entry.fx for entry in name_map.tensors if entry.status == "unmatched"]
    assert name_map.coverage == 1.0

    proto = onnx.load(model.onnx)
    wanted = {entry.onnx or entry.alias for entry in followed} - {None}
    computed = {name for node in proto.graph.node for name in node.output}
    actual = dict(feeds)
    actual |= {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
    actual |= run_onnx(proto, feeds, extra=sorted(wanted & computed))
    wrong = {
        entry.fx: (entry.onnx or entry.alias)
        for entry in followed
        if (entry.onnx or entry.alias)
        and relative_l2(actual[entry.onnx or entry.alias], golden[entry.fx]) > 1e-5
    }
    assert not wrong
    assert len(wanted) > len(model.inputs) + len(model.outputs)


def test_folding_moves_batch_norm_into_the_convolution_and_says_so(
    nets, build, as_source, tmp_path
):
    """The convolution's own result is gone; the map says into which value it went."""
    source = as_source(build(nets.Digits), "image:f32[batch,1,8,8]")
    name_map = read_name_map(export_model(source, tmp_path).name_map)
    entries = {entry.fx: entry for entry in name_map.tensors}
    conv, norm = entries["conv2d"], entries["batch_norm"]
    assert (conv.status, conv.onnx, conv.into) == ("fused", None, (norm.onnx,))
    assert norm.status == "kept"
    assert entries["p_stem_0_weight"].status == "fused"
    dropout = entries["dropout"]
    assert (dropout.status, dropout.alias) == ("eliminated", entries["add"].onnx)


def test_an_entry_leads_to_its_module_and_source_line(nets, build, as_source, tmp_path):
    """Innermost line of the user's code, not a line of torch."""
    source = as_source(build(nets.Digits), "image:f32[batch,1,8,8]")
    name_map = read_name_map(export_model(source, tmp_path).name_map)
    entry = next(item for item in name_map.tensors if item.module == "attn.qkv")
    assert entry.module_class.endswith("linear.Linear")
    assert entry.source.startswith("conftest.py:")
    assert entry.code == "split = self.qkv(x).reshape(b, n, 3, self.heads, d // self.heads)"
    assert entry.shape == ("batch", 16, 48)
    query = next(item for item in name_map.tensors if item.op == "aten.unbind.int[0]")
    assert query.shape == ("batch", 2, 16, 8)


def test_helpers_name_the_node_they_serve(nets, build, as_source, tmp_path):
    """Every ONNX value is either a tensor of the program or a helper; helpers say of what."""
    source = as_source(build(nets.Digits), "image:f32[batch,1,8,8]")
    model = export_model(source, tmp_path)
    name_map = read_name_map(model.name_map)
    proto = onnx.load(model.onnx)
    computed = {name for node in proto.graph.node for name in node.output}
    weights = {item.name for item in proto.graph.initializer}
    helpers = {entry.onnx for entry in name_map.values}
    kept = {entry.onnx for entry in name_map.tensors} - {None}
    assert helpers | kept == computed | weights | {"image"}
    assert not helpers & kept
    softmax = next(entry for entry in name_map.values if entry.op == "Softmax")
    assert softmax.fx == "scaled_dot_product_attention"


def test_a_name_map_survives_writing_and_reading(tmp_path):
    """Every field comes back."""
    entry = TensorEntry(
        fx="relu",
        op="aten.relu.default",
        dtype="float32",
        shape=("2*batch", 3),
        status="eliminated",
        alias="x",
        into=("a", "b"),
        confirmed=True,
        module="net.act",
        module_class="ReLU",
        source="net.py:3",
        code="y = relu(x)",
    )
    name_map = NameMap(
        "m.onnx", "m.pt2", "torch.export", (entry,), (ValueEntry("val_0", "Mul", "relu", "net"),)
    )
    write_name_map(name_map, tmp_path / "m.map.json")
    assert read_name_map(tmp_path / "m.map.json") == name_map
    assert json.loads((tmp_path / "m.map.json").read_text())["schema_version"] == 1


def test_coverage_counts_what_is_not_followed():
    """Unmatched tensors, and those of which only the module is known, lower it."""
    entry = TensorEntry("a", "aten.relu.default", "float32", (), "kept", onnx="a")
    entries = [
        entry,
        *(dataclasses.replace(entry, status=s) for s in ("unmatched", "scope", "fused")),
    ]
    assert NameMap("m.onnx", None, "legacy", tuple(entries), ()).coverage == pytest.approx(0.5)
    assert NameMap("m.onnx", None, "legacy", (), ()).coverage is None


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"schema_version": 1}',
        '{"schema_version": 1, "model": "m", "program": null, "route": "onnx", "tensors": [{"status": "odd"}], "values": []}',
    ],
)
def test_a_file_of_another_kind_is_refused(text, tmp_path):
    """With the path in the message and no traceback."""
    path = tmp_path / "m.map.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"m\.map\.json is not a name map"):
        read_name_map(path)


def test_a_newer_schema_is_refused(tmp_path):
    """It says what to do."""
    path = tmp_path / "m.map.json"
    path.write_text('{"schema_version": 2}')
    with pytest.raises(ModelError, match="schema 2") as caught:
        read_name_map(path)
    assert "upgrade" in caught.value.hint


def test_confirmation_comes_from_numbers(nets, build, as_source, tmp_path):
    """A match is confirmed on the example's numbers wherever both forms could be run."""
    source = as_source(build(nets.Mobile), "x:f32[b,3,16,16]")
    name_map = read_name_map(export_model(source, tmp_path).name_map)
    assert all(entry.confirmed for entry in name_map.tensors)
    assert np.isclose(name_map.coverage, 1)


def test_the_map_of_a_part_has_what_leads_into_it():
    def entry(fx, **how):
        return TensorEntry(fx, "aten.relu.default", "float32", (1,), **how)

    whole = NameMap(
        "whole.onnx",
        "whole.pt2",
        "torch.export",
        (
            entry("before", status="kept", onnx="a"),
            entry("inside", status="kept", onnx="b"),
            entry("same", status="eliminated", alias="b"),
            entry("half", status="fused", into=("a", "b")),
            entry("gone", status="eliminated"),
            entry("elsewhere", status="eliminated", alias="a"),
        ),
        (ValueEntry("b_shape", "Shape", "inside"), ValueEntry("a_shape", "Shape", "before")),
    )
    part = whole.within("part.onnx", {"b", "b_shape"})
    assert (part.model, part.program) == ("part.onnx", "whole.pt2")
    assert [one.fx for one in part.tensors] == ["inside", "same", "half"]
    assert part.tensors[2].into == ("b",)
    assert [one.onnx for one in part.values] == ["b_shape"]
