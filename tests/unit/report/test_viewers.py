import json
from dataclasses import replace

import onnx
import onnx.parser
import pytest

from shipway.errors import ModelError
from shipway.report.viewers import lay_over_model_explorer, lay_over_netron, name_nodes


def test_model_explorer_colours_the_fault_and_grades_the_rest(diagnoses):
    data = lay_over_model_explorer(diagnoses.make_diagnosis())
    assert set(data) == {"results", "thresholds"}
    assert data["results"]["norm2"] == {"value": 300.0, "bgColor": "#c62828"}
    assert "bgColor" not in data["results"]["linear_3"]
    assert [step["value"] for step in data["thresholds"]] == [0.1, 1.0]


def test_a_tensor_is_found_by_either_name_and_by_its_node(diagnoses):
    nodes = {"val_33": "node_LayerNorm_3", "linear_0": "node_MatMul_0"}
    results = lay_over_model_explorer(diagnoses.make_diagnosis(), nodes)["results"]
    assert results["norm2"] == results["val_33"] == results["node_LayerNorm_3"]
    assert results["linear_0"] == results["node_MatMul_0"]


def test_an_engines_name_that_golden_uses_for_another_tensor_is_not_overlaid(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    swapped = replace(diagnosis.tensors[9], actual="linear_3")
    tensors = (*diagnosis.tensors[:9], swapped, *diagnosis.tensors[10:])
    results = lay_over_model_explorer(replace(diagnosis, tensors=tensors))["results"]
    assert results["linear_3"]["value"] < 1
    assert results["norm2"]["value"] == 300.0


def test_of_two_tensors_of_a_node_the_worst_comes_last(diagnoses):
    nodes = {"linear_1": "split", "norm2": "split"}
    diagnosis = diagnoses.make_diagnosis()
    results = lay_over_model_explorer(diagnosis, nodes)["results"]
    assert results["split"]["value"] == 300.0
    keys = list(results)
    assert keys.index("norm2") > keys.index("linear_1")


def test_numbers_that_json_lacks_are_text(diagnoses):
    diagnosis = diagnoses.make_diagnosis()
    tensors = (replace(diagnosis.tensors[0], severity=float("inf")), *diagnosis.tensors[1:])
    data = lay_over_model_explorer(replace(diagnosis, tensors=tensors))
    assert data["results"]["linear_0"] == {"value": "inf", "bgColor": "#f9a825"}
    json.dumps(data, allow_nan=False)
    json.dumps(lay_over_netron(replace(diagnosis, tensors=tensors)), allow_nan=False)


def entries(data, part, kind, target):
    found = [e for e in data[part] if (e["kind"], e["target"]) == (kind, target)]
    return {entry["name"]: entry["value"] for entry in found}


def test_netron_shows_the_figures_the_verdict_and_the_cause_of_a_value(diagnoses):
    data = lay_over_netron(diagnoses.make_diagnosis())
    assert data["signature"] == "netron:attachment"
    figures = entries(data, "metrics", "value", "norm2")
    assert figures["multiple of the limit"] == "300"
    assert figures["local relative L2"] == "0.003"
    assert entries(data, "metrics", "value", "val_33") == figures
    told = entries(data, "metadata", "value", "norm2")
    assert told["fault"].startswith("approximation: eps 0.05")
    assert told["verdict"].startswith("relative L2 is 0.003")
    assert entries(data, "metadata", "value", "linear_1") == {"verdict": "within limits"}
    assert entries(data, "metadata", "model", "")["shipway"].startswith("FAULT in layers.3.norm2")


def test_netron_shows_them_at_the_node_where_it_is_known(diagnoses):
    data = lay_over_netron(diagnoses.make_diagnosis(), {"norm2": "node_7"})
    assert entries(data, "metrics", "node", "node_7")["multiple of the limit"] == "300"
    assert entries(data, "metadata", "node", "node_7")["fault"]


def test_every_one_of_many_tensors_is_there(diagnoses):
    tensor = diagnoses.make_tensor(0, "t")
    many = tuple(replace(tensor, order=i, golden=f"t{i}", actual=f"t{i}") for i in range(5000))
    diagnosis = diagnoses.make_diagnosis(tensors=many, culprits=())
    assert len(lay_over_model_explorer(diagnosis)["results"]) == 5000
    assert len(lay_over_netron(diagnosis)["metadata"]) == 5001


def test_the_nodes_of_an_onnx_file_are_known_by_what_they_compute(diagnoses, tmp_path):
    model = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["": 17]>
        g (float[2,4] x) => (float[2,2] y, float[2,2] z) { norm2 = Relu(x)  y, z = Split <axis = 1> (norm2) }
        """
    )
    model.graph.node[0].name = "/block/Relu"
    model.graph.node[1].name = "/block/Split"
    onnx.save(model, tmp_path / "model.onnx")
    nodes = name_nodes(tmp_path / "model.onnx")
    assert nodes == {"norm2": "/block/Relu", "y": "/block/Split", "z": "/block/Split"}
    results = lay_over_model_explorer(diagnoses.make_diagnosis(), nodes)["results"]
    assert results["/block/Relu"]["bgColor"] == "#c62828"


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError):
        name_nodes(tmp_path / "model.onnx")
