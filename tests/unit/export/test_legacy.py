"""The old tracer: opsets 9 to 20, and no more claimed than it knows."""

from __future__ import annotations

import json

import onnx
import pytest
import torch
from torch import nn

from shipway.errors import ExportError
from shipway.export.model import export_model
from shipway.export.name_map import read_name_map
from shipway.export.onnx_file import opset_of
from shipway.export.options import ExportOptions
from shipway.tensors import random_feeds


def legacy(source, folder, opset, **options):
    return export_model(source, folder, options=ExportOptions(opset=opset, legacy=True, **options))


def eager(module, feeds):
    with torch.no_grad():
        return module(*(torch.from_numpy(value) for value in feeds.values()))


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 20])
def test_the_opset_asked_for_is_delivered_and_right(
    opset, nets, build, as_source, run_onnx, relative_l2, tmp_path
):
    """Attention included, for which torch has no translation below 14; at another batch size."""
    module = build(nets.Digits)
    model = legacy(as_source(module, "image:f32[batch,1,8,8]"), tmp_path, opset)
    assert opset_of(onnx.load(model.onnx)) == opset
    feeds = random_feeds(model.inputs, seed=3, sizes={"batch": 5})
    outputs = run_onnx(model.onnx, feeds)
    assert relative_l2(outputs["output"], eager(module, feeds).numpy()) < 1e-5


class Masked(nn.Module):
    def __init__(self, mode):
        super().__init__()
        self.mode = mode

    def forward(self, q, k):
        mask = None
        if self.mode == "bool":
            mask = (k.sum(-1) > 0).unsqueeze(-2)
        if self.mode == "float":
            mask = k.sum(-1).unsqueeze(-2)
        scale = 0.5 if self.mode == "scale" else None
        return nn.functional.scaled_dot_product_attention(
            q, k, k, attn_mask=mask, is_causal=self.mode == "causal", scale=scale
        )


@pytest.mark.parametrize("mode", ["bool", "float", "scale", "causal"])
@pytest.mark.parametrize("opset", [9, 11, 12])
def test_attention_below_opset_14_keeps_masks_and_scales(
    mode, opset, as_source, run_onnx, relative_l2, tmp_path
):
    """A row that is masked throughout gives what torch gives, too."""
    module = Masked(mode).eval()
    sizes = ["batch", "rows", "columns"] if (mode, opset) != ("causal", 9) else ["batch", 5, 7]
    specs = [
        f"q:f32[{sizes[0]},2,{sizes[1]},4]",
        f"k:f32[{sizes[0]},2,{sizes[2]},4]",
    ]
    model = legacy(as_source(module, *specs), tmp_path, opset)
    feeds = random_feeds(model.inputs, seed=1, sizes={"batch": 2, "rows": 6, "columns": 9})
    if mode == "bool":
        feeds["k"][0] = -abs(feeds["k"][0])
    golden = eager(module, feeds).numpy()
    assert relative_l2(run_onnx(model.onnx, feeds)["output"], golden) < 1e-5


def test_causal_attention_of_dynamic_length_needs_opset_11(as_source, tmp_path):
    """Range came then; the message says so."""
    source = as_source(Masked("causal"), "q:f32[1,2,rows,4]", "k:f32[1,2,rows,4]")
    with pytest.raises(ExportError, match="below opset 11"):
        legacy(source, tmp_path, 10)


def test_a_users_own_translation_goes_before_ours(as_source, tmp_path):
    """And is still there afterwards."""
    from torch.onnx import register_custom_op_symbolic, unregister_custom_op_symbolic

    name = "aten::scaled_dot_product_attention"
    register_custom_op_symbolic(name, lambda g, q, k, *_: g.op("Sub", q, k), 11)
    try:
        source = as_source(Masked("none"), "q:f32[1,2,3,4]", "k:f32[1,2,3,4]")
        for _ in range(2):
            model = legacy(source, tmp_path, 11)
            assert "Sub" in {node.op_type for node in onnx.load(model.onnx).graph.node}
    finally:
        unregister_custom_op_symbolic(name, 11)


def test_without_folding_batch_norm_stays(nets, build, as_source, tmp_path):
    """With it, none is left."""
    source = as_source(build(nets.Digits), "image:f32[batch,1,8,8]")
    for fold in (True, False):
        model = legacy(source, tmp_path, 13, fold=fold)
        operators = {node.op_type for node in onnx.load(model.onnx).graph.node}
        assert ("BatchNormalization" in operators) is not fold


def test_dimensions_have_the_users_names(nets, build, as_source, tmp_path):
    """The tracer's own are called Gemmoutput_dim_0 and the like."""
    model = legacy(as_source(build(nets.Mobile), "x:f32[b,3,h,w]"), tmp_path, 12)
    graph = onnx.load(model.onnx).graph
    dims = [dim.dim_param for dim in graph.output[0].type.tensor_type.shape.dim]
    assert dims == ["b", ""]
    assert str(model.outputs[0]) == "output:float32[b,5]"


def test_inputs_and_outputs_of_every_kind_come_through(
    nets, build, as_source, run_onnx, relative_l2, tmp_path
):
    """Keyword-only parameters, nested and repeated outputs, an input that is returned."""
    module = build(nets.Several)
    source = as_source(module, "x:f32[n,8]", "y:f32[m]", "bias:f32[n,4]")
    model = legacy(source, tmp_path, 13)
    feeds = random_feeds(model.inputs, seed=2, sizes={"n": 4, "m": 2})
    outputs = run_onnx(model.onnx, feeds)
    assert list(outputs) == ["z", "same", "y_out", "top_0", "top_1", "offset"]
    x, y, bias = (torch.from_numpy(feeds[name]) for name in ("x", "y", "bias"))
    with torch.no_grad():
        golden = module(x, y, bias=bias)
    assert relative_l2(outputs["z"], golden["z"].numpy()) < 1e-6
    assert relative_l2(outputs["top_1"], golden["top"][1].numpy()) == 0
    assert relative_l2(outputs["y_out"], feeds["y"]) == 0


def test_an_input_that_nothing_reads_stays_an_input(as_source, run_onnx, tmp_path):
    """The tracer drops it; a caller who gives every input would be refused."""

    class Ignores(nn.Module):
        def forward(self, ignored, x):  # noqa: ARG002 -- that is what the test is about
            return x * 2

    source = as_source(Ignores(), "ignored:i64[n]", "x:f32[n,3]")
    model = legacy(source, tmp_path, 13)
    outputs = run_onnx(model.onnx, random_feeds(model.inputs, sizes={"n": 2}))
    assert outputs["output"].shape == (2, 3)
    assert [item.name for item in onnx.load(model.onnx).graph.input] == ["ignored", "x"]


def test_the_map_claims_modules_and_no_more(nets, build, as_source, tmp_path):
    """Inputs, outputs and untouched weights are known; of the rest only the module is."""
    source = as_source(build(nets.Digits), "image:f32[batch,1,8,8]")
    model = legacy(source, tmp_path, 13)
    name_map = read_name_map(model.name_map)
    assert name_map.route == "legacy"
    assert set(name_map.statuses) <= {"kept", "scope", "unmatched"}
    entries = {entry.fx: entry for entry in name_map.tensors}
    kept = {entry.onnx for entry in name_map.tensors if entry.status == "kept"}
    assert {"image", "output", "norm.weight", "head.bias"} <= kept
    linear = next(entry for entry in name_map.tensors if entry.module == "attn.qkv")
    assert linear.status == "scope"
    assert linear.into == ("/attn/qkv/MatMul_output_0", "/attn/qkv/Add_output_0")
    assert entries["p_stem_0_weight"].status == "unmatched"
    assert name_map.coverage < 0.5
    assert {entry.module for entry in name_map.values} >= {"stem.0", "attn", "attn.qkv", "norm"}


class Decides(nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x * 2


def test_a_model_torch_export_refuses_has_no_program_and_says_why(as_source, tmp_path, capfd):
    """The tracer keeps the branch of the example, and its warning is kept as well."""
    model = legacy(as_source(Decides(), "x:f32[n,3]"), tmp_path, 13)
    assert model.program is None
    made = json.loads((tmp_path / "model.onnx.shipway.json").read_text())["made"]
    assert made["program"].startswith("none: The model decides on the value of a tensor")
    assert any("might cause the trace to be incorrect" in text for text in made["warnings"])
    assert str(model.outputs[0]) == "output:float32[n,3]"
    assert capfd.readouterr() == ("", "")


def test_what_is_out_of_reach_is_refused(nets, build, as_source, tmp_path, capfd):
    """A newer opset, an operator without translation; torch's dump of the graph is not shown."""
    source = as_source(build(nets.Digits), "image:f32[batch,1,8,8]")
    with pytest.raises(ExportError, match="opsets up to 20; 21"):
        legacy(source, tmp_path, 21)
    with pytest.raises(ExportError, match=r"aten::\S+ cannot be written in opset 9") as caught:
        legacy(
            as_source(nn.Upsample(scale_factor=2, mode="bicubic"), "input:f32[1,1,4,4]"),
            tmp_path,
            9,
        )
    assert "--opset 11" in caught.value.hint
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
