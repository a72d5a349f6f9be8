"""ONNX names: inputs, outputs, symbols, traces."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from shipway.errors import ExportError
from shipway.export import translation
from shipway.export.model import export_model
from shipway.export.options import ExportOptions
from shipway.export.program import user_inputs
from shipway.export.quiet import collect_warnings
from shipway.export.refusals import name_symbols
from shipway.export.translation import set_interface, translate_program

PASSING = """
<ir_version: 10, opset_import: ["" : 20]>
main (float[N] x, float[N] y) => (float[N] x, float[N] sum, float[1] w)
<float[1] w = {2}>
{
    sum = Add (x, y)
    left = Mul (sum, w)
}
"""


def test_an_output_that_is_an_input_a_weight_or_an_output_already_gets_its_own_value(run_onnx):
    """ONNX has one name a value; the numbers stay."""
    model = ir.from_onnx_text(PASSING)
    model.graph.outputs.append(model.graph.outputs[1])
    set_interface(model, ["p", "q"], ["a", "b", "c", "d"])
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    feeds = {"p": np.float32([1, 2]), "q": np.float32([10, 20])}
    outputs = run_onnx(proto, feeds)
    assert {name: value.tolist() for name, value in outputs.items()} == {
        "a": [1, 2],
        "b": [11, 22],
        "c": [2],
        "d": [11, 22],
    }


def test_an_inner_value_with_a_wanted_name_steps_aside_and_that_is_told(run_onnx):
    """Names may even be exchanged."""
    model = ir.from_onnx_text(PASSING)
    renamed = set_interface(model, ["w", "x"], ["left", "y", "sum"])
    assert renamed["left"] == "left_inner"
    assert renamed["w"] == "w_inner"
    assert renamed["sum"] == "y"
    feeds = {"w": np.float32([1]), "x": np.float32([5])}
    outputs = run_onnx(ir.to_proto(model), feeds)
    assert {name: value.tolist() for name, value in outputs.items()} == {
        "left": [1],
        "y": [6],
        "sum": [2],
    }


def test_symbols_are_renamed_all_at_once_and_inside_expressions():
    """A name of the user's may be one of torch's."""
    names = {"s7": "s77", "s77": "width", "s0": "batch"}
    assert name_symbols("2*s7 + s77//s0", names) == "2*s77 + width//batch"
    assert name_symbols("s777", names) == "s777"


@pytest.mark.parametrize("fold", [True, False])
def test_every_declared_shape_has_the_users_symbols(fold, nets, build, as_source, tmp_path):
    """Inputs, outputs and intermediate values; no symbol of torch's is left."""
    source = as_source(build(nets.Mobile), "x:f32[batch,3,h,w]")
    model = export_model(source, tmp_path, options=ExportOptions(fold=fold))
    proto = onnx.load(model.onnx)
    dims = {
        dim.dim_param
        for item in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info)
        for dim in item.type.tensor_type.shape.dim
        if dim.dim_param
    }
    words = {word for dim in dims for word in dim.replace("(", " ").replace(")", " ").split()}
    assert {"batch", "h", "w"} <= words
    assert any("//2" in dim for dim in dims)
    assert not [
        dim for dim in dims if any(name_symbols(dim, {f"s{i}": "?"}) != dim for i in range(100))
    ]


def test_what_decomposing_would_fix_is_refused(monkeypatch):
    """torch's exporter unrolls recurrences and fixes their length, without a word."""
    module = torch.nn.LSTM(4, 6, batch_first=True).eval()
    shapes = ({1: torch.export.Dim("length", min=1)},)
    with collect_warnings():
        with translation.patch_recurrences():
            program = torch.export.export(module, (torch.zeros(2, 5, 4),), dynamic_shapes=shapes)
        symbol = str(user_inputs(program)[0].meta["val"].shape[1])
        monkeypatch.setattr(translation, "patch_recurrences", contextlib.nullcontext)
        with pytest.raises(ExportError, match="axis 1 of input 'input' to 5; it is 'length'"):
            translate_program(program, ExportOptions(opset=20), symbols={symbol: "length"})


def test_traces_in_the_file_name_no_folder(nets, build, as_source, tmp_path):
    """They stay, because they are useful; where this machine keeps its files is nobody's business."""
    source = as_source(build(nets.Digits), "image:f32[batch,1,8,8]")
    proto = onnx.load(export_model(source, tmp_path).onnx)
    traces = [
        item.value
        for node in proto.graph.node
        for item in node.metadata_props
        if item.key == "pkg.torch.onnx.stack_trace"
    ]
    assert any('File "conftest.py", line' in trace for trace in traces)
    assert b"site-packages" not in proto.SerializeToString()
    assert str(tmp_path).encode() not in proto.SerializeToString()
    assert not [item for item in proto.graph.metadata_props if "ExportedProgram" in item.key]
