"""Parts of real models, and a part of a model larger than memory should ever hold."""

import subprocess
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from shipway.errors import UsageError
from shipway.graph.extracting import extract_graph
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
from shipway.proof.extraction import prove_extraction

MODELS = (
    "fastestdet",
    "fsmn_vad_offline",
    "gtcrn_simple",
    "person_detector",
    "pt_image_classifier_cifar",
    "yunet_n_640",
)
LAYERS, WIDTH = 36, 4096


def first_cut(path, number):
    """Cut a model between two values, the first ones from node `number` on that bound a part."""
    names = [one.outputs[0].name for one in load_graph(path).graph if one.op_type != "Constant"]
    for begin in range(number, len(names) - 4):
        model = load_graph(path)
        try:
            return model, extract_graph(model, [names[begin]], [names[begin + 4]])
        except UsageError:
            continue
    return None


@pytest.mark.parametrize("name", MODELS)
def test_parts_of_real_models_are_valid_and_proved(assets, tmp_path, name):
    whole, part = assets / "models" / f"{name}.onnx", tmp_path / "part.onnx"
    count = len(load_graph(whole).graph)
    cuts = [found for number in (0, count // 2) if (found := first_cut(whole, number))]
    assert cuts
    for model, result in cuts:
        assert not result.notes  # every dtype and rank is inferred
        save_graph(model, part)
        onnx.checker.check_model(part, full_check=True)
        proof = prove_extraction(whole, part)
        assert proof.passed, (result, proof.reasons)


def save_large(path):
    """Write a model of 2.4 GB whose weights are holes in a file."""
    size_bytes = 4 * WIDTH * WIDTH
    nodes, weights = [], []
    for index in range(LAYERS):
        weight = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
        weight.data_location = TensorProto.EXTERNAL
        places = (
            ("location", "large.data"),
            ("offset", index * size_bytes),
            ("length", size_bytes),
        )
        for key, value in places:
            weight.external_data.add(key=key, value=str(value))
        weights.append(weight)
        nodes.append(helper.make_node("MatMul", [f"h{index}", f"w{index}"], [f"h{index + 1}"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH])
        for name in ("h0", f"h{LAYERS}")
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    with (path.parent / "large.data").open("wb") as file:
        file.truncate(LAYERS * size_bytes)


MEASURE = """
import sys
from pathlib import Path
from shipway.graph.extracting import extract_graph
from shipway.graph.loading import load_graph
from shipway.graph.saving import save_graph
model = load_graph(Path(sys.argv[1]))
extract_graph(model, ["h2"], ["h30"])
print(save_graph(model, Path(sys.argv[2])))
# Not ru_maxrss: a process begins with that of whoever started it.
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) // 1024)
"""


@pytest.mark.slow
def test_the_weights_of_a_large_model_never_enter_memory(tmp_path):
    whole, part = tmp_path / "large.onnx", tmp_path / "part.onnx"
    save_large(whole)
    command = [sys.executable, "-c", MEASURE, str(whole), str(part)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    files, peak_mb = done.stdout.splitlines()
    assert files == "('part.onnx.data',)"
    assert int(peak_mb) < 300
    assert (tmp_path / "part.onnx.data").stat().st_size == 28 * 4 * WIDTH * WIDTH
    onnx.checker.check_model(part)
