"""Which tensor of the model an Ascend tensor is: the compiled model's JSON, MindIE's maps, ONNX."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnx.parser
import pytest

from shipway.errors import UsageError
from shipway.trace.importing.maps import read_maps
from shipway.trace.importing.mindie_names import RT_MAP, TORCH_MAP, parse_node, read_mindie_names
from shipway.trace.importing.om_names import read_om_names
from shipway.trace.importing.registry import import_dump


def _attribute(key: str, **value) -> dict:
    return {"key": key, "value": value}


def _operator(name, op_type, inputs=(), originals=None, outputs=(), **more) -> dict:
    """An operator as `atc --mode=1` writes it. `outputs`: (origin name, origin index) or None."""
    attributes = [_attribute(key, **value) for key, value in more.items()]
    if originals is not None:
        attributes.append(
            _attribute("_datadump_original_op_names", list={"s": originals} if originals else {})
        )
    described = []
    for one in outputs:
        origin = [] if one is None else [
            _attribute("_datadump_origin_name", s=one[0]),
            _attribute("_datadump_origin_output_index", i=one[1]),
            _attribute("_datadump_origin_format", s="NCHW"),
        ]  # fmt: skip
        described.append({"dtype": "DT_FLOAT", "attr": origin})
    return {
        "name": name,
        "type": op_type,
        "input": list(inputs),
        "attr": attributes,
        "output_desc": described,
    }


OM = {
    "name": "net",
    "graph": [
        {
            "op": [
                _operator("x", "Data"),
                _operator("trans_TransData_0", "TransData", ["x:0"], []),
                _operator(
                    "/conv1/Conv/relu/Relu", "Conv2D", ["trans_TransData_0:0", "w:0", "ctrl:-1"],
                    ["/conv1/Conv", "/relu/Relu"], [("/relu/Relu", 0)],
                ),
                _operator("trans_Cast_1", "Cast", ["/conv1/Conv/relu/Relu:0"], []),
                _operator("trans_TransData_2", "TransData", ["trans_Cast_1:0"], []),
                _operator("split_a", "Softmax", ["trans_TransData_2:0"], ["/attn"], [None]),
                _operator("split_b", "Mul", ["split_a:0"], ["/attn"], [("/attn", 0)]),
                _operator("renamed", "MatMulV2", ["split_b:0"], ["/fc/Gemm"], [None]),
                _operator("piece", "Add", [], ["/big"], [None], _datadump_is_multiop={"b": True}),
                _operator("/own/Name", "Sigmoid", ["renamed:0"]),
                _operator("two", "TopK", ["/own/Name:0"], ["/topk"], [("/topk", 0), ("/topk", 1)]),
                _operator("Node_Output", "NetOutput", ["two:0", "/own/Name:0"]),
            ]
        }
    ],
}  # fmt: skip


@pytest.fixture
def om(tmp_path):
    path = tmp_path / "om.json"
    path.write_text(json.dumps(OM))
    return read_om_names(path)


def test_fused_operators_are_known_by_the_last(om):
    """The file name has the sanitised form; it is the same operator."""
    for name in ("/conv1/Conv/relu/Relu", "_conv1_Conv_relu_Relu"):
        found = om.find(name, 0)
        assert found.names[:3] == ("/relu/Relu", "_relu_Relu", "/relu/Relu:0")
        assert "/relu/Relu_output_0" in found.names  # as PyTorch's exporter calls it
        assert found.covers == ("/conv1/Conv",)


def test_what_the_compiler_put_in_is_what_it_reads(om):
    """Through a cast and a change of layout; and of the input of the model."""
    assert om.find("trans_TransData_2", 0).names == om.find("/conv1/Conv/relu/Relu", 0).names
    assert om.find("trans_TransData_0", 0).names[0] == "x"


def test_of_a_split_operator_only_the_last_part_is_its_result(om):
    assert om.find("split_a", 0).names == ()
    assert om.find("split_a", 0).covers == ("/attn",)
    assert om.find("split_b", 0).names[0] == "/attn"
    assert om.find("piece", 0).names == ()


def test_renamed_and_unnamed_operators(om):
    assert om.find("renamed", 0).names[0] == "/fc/Gemm"
    assert om.find("/own/Name", 0).names[0] == "/own/Name"
    assert om.find("nowhere", 0) is None


def test_the_second_output_has_its_index(om):
    assert om.find("two", 0).names[:3] == ("/topk", "_topk", "/topk:0")
    assert om.find("two", 1).names == ("/topk:1", "/topk_output_1", "_topk_output_1")


def test_inputs_and_outputs_of_the_model(om):
    assert om.find("x", 0).kind == "input"
    assert om.find("two", 0).kind == om.find("/own/Name", 0).kind == "output"
    assert om.find("two", 1).kind == "value"


def test_a_map_that_goes_round_in_circles(tmp_path):
    path = tmp_path / "om.json"
    loop = [_operator("a", "Cast", ["b:0"], []), _operator("b", "Cast", ["a:0"], [])]
    path.write_text(json.dumps({"graph": [{"op": loop}]}))
    assert read_om_names(path).find("a", 0).names == ()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"graph": 3}', '{"graph": [{"op": [{"name": 3}]}]}', '{"graph": [1]}'],
)
def test_a_file_that_is_no_map(tmp_path, text):
    path = tmp_path / "om.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_maps(path)


@pytest.mark.parametrize(
    "attributes", [3, [3], [{"key": "_datadump_original_op_names", "value": 3}]]
)
def test_attributes_that_are_damaged(tmp_path, attributes):
    path = tmp_path / "om.json"
    operator = {"name": "a", "type": "Relu", "attr": attributes, "output_desc": [3, None]}
    path.write_text(json.dumps({"graph": [{"op": [operator]}]}))
    assert read_om_names(path).find("a", 0).names[0] == "a"


@pytest.mark.parametrize("key", ["type", "input", "attr", "output_desc"])
@pytest.mark.parametrize(
    "value", [None, 3, "x", {}, [3], [None], [{"key": 1}], [{"attr": [{"key": "k"}]}]]
)
def test_operators_that_are_damaged(tmp_path, key, value):
    data = json.loads(json.dumps(OM))
    data["graph"][0]["op"][2][key] = value
    (tmp_path / "om.json").write_text(json.dumps(data))
    om = read_om_names(tmp_path / "om.json")
    assert om.find("/conv1/Conv/relu/Relu", 0) is not None
    assert om.find("split_b", 0).names[0] == "/attn"


def test_a_dump_with_its_map(ascend, dumped, tmp_path):
    (tmp_path / "om.json").write_text(json.dumps(OM))
    value = np.arange(4, dtype=np.float32)
    ascend.add("Conv2D", "_conv1_Conv_relu_Relu", dumped(value))
    ascend.add("Relu", "of_another_model", dumped(value + 1))
    trace = import_dump(ascend.folder, None, mapping=tmp_path / "om.json")
    first, second = trace.records
    assert first.tap.names[0] == "/relu/Relu"
    assert first.tap.covers == ("/conv1/Conv",)
    assert second.tap.names == ()


def _onnx_model(path):
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 4] x) => (float[1, 4] y) {
            [relu_node] hidden = Relu(x)
            y = Sigmoid(hidden)
        }
    """)
    model.graph.node[0].name = "/relu/Relu"
    onnx.save(model, path)


def test_with_the_onnx_model_the_names_are_its_values(ascend, dumped, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    _onnx_model(maps / "net.onnx")
    (maps / "om.json").write_text(json.dumps(OM))
    (maps / "other.json").write_text("not a map")
    ascend.add("Conv2D", "_conv1_Conv_relu_Relu", dumped(np.ones(4, np.float32)))
    ascend.add("Sigmoid", "Sigmoid_1", dumped(np.zeros(4, np.float32)))
    fused, plain = import_dump(ascend.folder, None, mapping=maps).records
    assert fused.tap.names[:2] == ("hidden", "/relu/Relu")
    assert plain.tap.names[0] == "y"


def test_what_an_operator_reads_is_what_another_one_wrote(ascend, dumped, tmp_path):
    """With "dump_mode": "input" there is nothing else."""
    (tmp_path / "om.json").write_text(json.dumps(OM))
    values = [np.full(4, number, np.float32) for number in range(4)]
    ascend.add("Mul", "split_b", inputs=[dumped(values[0])])
    ascend.add("MatMulV2", "renamed", inputs=[dumped(values[1]), dumped(values[2])])
    ascend.add("NetOutput", "Node_Output", inputs=[dumped(values[3])])
    taps = [
        record.tap
        for record in import_dump(ascend.folder, None, mapping=tmp_path / "om.json").records
    ]
    assert [tap.names[:1] for tap in taps] == [(), ("/attn",), (), ("/topk",)]
    assert [tap.kind for tap in taps] == ["value", "value", "value", "output"]


def test_the_origin_in_the_file_leads_to_the_value_of_the_onnx_model(ascend, dumped, tmp_path):
    _onnx_model(tmp_path / "net.onnx")
    ascend.add("Conv2D", "fused", dumped(np.ones(4, np.float32), origin="/relu/Relu"))
    ascend.add("Conv2D", "other", dumped(np.zeros(4, np.float32)))
    first, second = import_dump(ascend.folder, None, mapping=tmp_path / "net.onnx").records
    assert first.tap.names[:2] == ("hidden", "/relu/Relu")
    assert second.tap.names[:2] == ("other", "other:0")


def test_maps_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match="There is no map"):
        read_maps(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="There is no map in"):
        read_maps(tmp_path)
    for name in ("a.onnx", "b.onnx"):
        _onnx_model(tmp_path / name)
    with pytest.raises(UsageError, match="2 ONNX models"):
        read_maps(tmp_path)


# The sample that msit ships in the tests of its comparison.
MSIT_RT = [
    {"fusion_op": "Conv2D_5Relu_8", "fusion_ops": ["Conv2D_5", "Relu_8"], "ge_op": "Conv2D_5", "id": 4,
     "rt_layer": "CONVOLUTION_5"},
    {"fusion_op": "Conv2D_5Relu_8", "fusion_ops": ["Conv2D_5", "Relu_8"], "ge_op": "Conv2D_5", "id": 5,
     "rt_layer": "ACTIVATION_6"},
]  # fmt: skip
MSIT_TORCH = [
    {
        "jit_node": "%input.9 : Float(1, 64, 56, 56) = aten::_convolution(%input.7,         "
        "%self.layer1.0.conv1.weight.1_fused_bn, %9_fused_bn.3, %6, %5, %6, %11, %5,         "
        "%10, %11, %11, %12, %12), scope: __module.layer1/__module.layer1.0/__module.layer1.0.conv1         "
        "# /usr/local/python3.10.2/lib/python3.10/site-packages/torch/nn/modules/conv.py:456:0",
        "rt_layer": "CONVOLUTION_5",
    },
    {
        "jit_node": "%968 : Float(1, 64, 56, 56) = aten::relu(%input.9), scope:         "
        "__module.layer1/__module.layer1.0/__module.layer1.0.relu         "
        "# /usr/local/python3.10.2/lib/python3.10/site-packages/torch/nn/functional.py:1469:0",
        "rt_layer": "ACTIVATION_6",
    },
]


def _write_mindie(folder, rt, torch):
    folder.mkdir(exist_ok=True)
    (folder / RT_MAP).write_text(json.dumps(rt))
    (folder / TORCH_MAP).write_text(json.dumps(torch))
    return folder


def test_the_msit_sample_gives_the_right_pairs(ascend, dumped, tmp_path):
    folder = _write_mindie(tmp_path / "maps", MSIT_RT, MSIT_TORCH)
    ascend.add("Conv2D", "Conv2D_5Relu_8", dumped(np.ones((1, 64, 2, 2), np.float32)))
    (record,) = import_dump(ascend.folder, None, mapping=folder).records
    assert record.tap.names[0] == "layer1.0.relu"
    assert record.tap.covers == ("layer1.0.conv1",)
    assert record.tap.module == "layer1.0.relu"
    assert record.tap.op == "Conv2D"
    assert record.tap.source == ""  # a line of torch's own


def test_either_of_the_two_files_stands_for_both(tmp_path):
    folder = _write_mindie(tmp_path / "maps", MSIT_RT, MSIT_TORCH)
    for name in (RT_MAP, TORCH_MAP):
        (maps,) = read_maps(folder / name)
        assert maps.find("Conv2D_5Relu_8", 0).module == "layer1.0.relu"
        assert maps.find("Conv2D_5", 0) is None
    (folder / RT_MAP).unlink()
    with pytest.raises(UsageError, match=f"There is no {RT_MAP}"):
        read_maps(folder)


def test_layers_come_in_the_order_of_their_ids(tmp_path):
    folder = _write_mindie(tmp_path, MSIT_RT[::-1], MSIT_TORCH)
    assert read_mindie_names(folder).find("Conv2D_5Relu_8", 0).module == "layer1.0.relu"


def test_a_node_of_the_exported_program_keeps_its_path(tmp_path):
    """`patch_embed` may be one module or two: both readings are names, neither is lost."""
    rt = [
        {"id": 1, "rt_layer": "a", "ge_op": "Relu_1"},
        {"id": 2, "rt_layer": "b", "ge_op": "Conv2D_2"},
    ]
    torch = [{"rt_layer": "a", "fx_node": "/layer1/0/relu/relu_1"}, {"rt_layer": "b", "fx_node": "/patch_embed/proj/conv2d"}]  # fmt: skip
    maps = read_mindie_names(_write_mindie(tmp_path, rt, torch))
    assert maps.find("Relu_1", 0).names == ("relu_1", "layer1.0.relu")
    found = maps.find("Conv2D_2", 0)
    assert found.names == ("conv2d", "patch_embed.proj", "patch.embed.proj")
    assert found.module == "patch_embed.proj"
    assert maps.find("Conv2D_2", 1).names == ()


def test_a_module_is_known_by_the_last_tensor_computed_in_it(tmp_path):
    rt = [{"id": n, "rt_layer": str(n), "ge_op": f"Op_{n}"} for n in range(4)]
    nodes = ["/block/attn/softmax", "/block/attn/matmul", "/block/add", "/block/mlp/gelu"]
    torch = [{"rt_layer": str(n), "fx_node": node} for n, node in enumerate(nodes)]
    maps = read_mindie_names(_write_mindie(tmp_path, rt, torch))
    assert [maps.find(f"Op_{n}", 0).names for n in range(4)] == [
        ("softmax",),
        ("matmul", "block.attn"),
        ("add",),  # `block` holds modules: what it returns may be another tensor
        ("gelu", "block.mlp"),
    ]


def test_a_layer_without_a_node_has_no_name(tmp_path):
    rt = [*MSIT_RT, {"id": 6, "rt_layer": "SHUFFLE_7", "ge_op": "Transpose_9"}]
    maps = read_mindie_names(_write_mindie(tmp_path, rt, MSIT_TORCH))
    assert maps.find("Transpose_9", 0).names == ()


def test_a_users_line_is_kept():
    node = parse_node("%5 : Float(1) = aten::add(%3, %4), scope: __module.a # /home/me/net.py:12:4")
    assert (node.value, node.op, node.module, node.source) == ("5", "aten::add", "a", "net.py:12")
    assert parse_node("something else") is None


@pytest.mark.parametrize("rt", [[], {}, [3], [{"id": 1}], "text"])
def test_maps_of_mindie_that_are_damaged(tmp_path, rt):
    with pytest.raises(UsageError, match="no map of MindIE"):
        read_mindie_names(_write_mindie(tmp_path, rt, MSIT_TORCH))
