"""A dump of a device, made with ONNX Runtime in float16, leads to the operator that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from shipway.trace.importing.registry import import_dump

NODES = [
    ("Conv", "/c1/Conv", ["x", "c1.weight"], "12"),
    ("Relu", "/Relu", ["12"], "13"),
    ("Conv", "/c2/Conv", ["13", "c2.weight"], "14"),
    ("Relu", "/Relu_1", ["14"], "15"),
    ("Add", "/Add", ["15", "13"], "16"),
    ("GlobalAveragePool", "/pool/GlobalAveragePool", ["16"], "y"),
]
"""Values whose names have nothing of their nodes': only the ONNX model tells which is which."""


def _model(gain: float) -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    weights = {
        "c1.weight": generator.standard_normal((20, 3, 3, 3)) / 5,
        "c2.weight": generator.standard_normal((20, 20, 3, 3)) / 14 * gain,
    }
    nodes = [
        oh.make_node(op, inputs, [value], name, **({"pads": [1] * 4} if op == "Conv" else {}))
        for op, name, inputs, value in NODES
    ]
    graph = oh.make_graph(
        nodes,
        "net",
        [oh.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 12])],
        [oh.make_tensor_value_info("y", TensorProto.FLOAT, [1, 20, 1, 1])],
        [
            numpy_helper.from_array(value.astype(np.float32), name)
            for name, value in weights.items()
        ],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    del model.graph.output[:]
    for node in model.graph.node:
        model.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"x": x}), strict=True))


@pytest.fixture
def dump(ascend, dumped, pack, tmp_path):
    """Return a function that dumps a model whose second convolution is scaled, beside the right one."""

    def write(gain: float) -> Path:
        x = np.random.default_rng(1).standard_normal((1, 3, 12, 12)).astype(np.float32)
        np.save(tmp_path / "x.npy", x)
        onnx.save(_model(1.0), tmp_path / "net.onnx")
        values = _run(_model(gain), x)
        operators = []
        for op, name, _, output in NODES:
            value = values[output].astype(np.float16)
            stored = dumped(pack(value, "NC1HWC0"), "NC1HWC0", value.shape)
            ascend.add(op, name.replace("/", "_"), stored)
            named = {"key": "_datadump_original_op_names", "value": {"list": {"s": [name]}}}
            operators.append({"name": name, "type": op, "attr": [named]})
        (tmp_path / "om.json").write_text(json.dumps({"graph": [{"op": operators}]}))
        return ascend.folder

    return write


def _compare(folder: Path, actual: Path) -> tuple[int, dict]:
    words = ["compare", "net.onnx", str(actual), "--input", "x=x.npy", "--json"]
    command = [sys.executable, "-m", "shipway", *words]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, json.loads(done.stdout)["diagnosis"]


def test_a_clean_device_is_clean(dump, tmp_path):
    code, found = _compare(tmp_path, dump(1.0))
    assert (code, found["culprits"]) == (0, [])
    assert len(found["tensors"]) == len(NODES)


def test_the_wrong_operator_is_named(dump, tmp_path):
    code, found = _compare(tmp_path, dump(1.05))
    assert code == 1
    (culprit,) = found["culprits"]
    assert culprit["tensor"] == "14"
    assert culprit["actual"] == "_c2_Conv:output:0"
    assert culprit["cause"]["kind"] == "gain"


def test_statistics_alone_name_the_first_that_is_off(dump, ascend, tmp_path):
    """With "dump_data": "stats": no values, four numbers each."""
    values = import_dump(dump(1.05), None)
    folder = tmp_path / "statistics"
    folder.mkdir()
    for path, record in zip(ascend.written, values.records, strict=True):
        value = values.read(record.name).astype(np.float64)
        numbers = (value.max(), value.min(), value.mean(), np.linalg.norm(value))
        shape = "x".join(map(str, value.shape))
        (folder / f"{path.name}.csv").write_text(
            "Input/Output,Index,Data Size,Data Type,Format,Shape,Max Value,Min Value,Avg Value,l2norm\n"
            f"Output,0,{value.size * 2},DT_FLOAT16,NCHW,{shape},{','.join(f'{one:g}' for one in numbers)}\n"
        )
    code, found = _compare(tmp_path, folder)
    assert code == 1
    assert [one["tensor"] for one in found["culprits"]] == ["14"]
    assert not found["local"]


def test_with_the_map_of_the_compiled_model(dump, tmp_path):
    trace = import_dump(dump(1.0), tmp_path / "trace", mapping=tmp_path / "om.json")
    assert [record.tap.names[0] for record in trace.records] == [name for _, name, _, _ in NODES]
    assert trace.header.precision == "f16"


def test_with_the_onnx_model(dump, tmp_path):
    trace = import_dump(dump(1.0), tmp_path / "trace", mapping=tmp_path / "net.onnx")
    assert [record.tap.names for record in trace.records] == [(value,) for *_, value in NODES]
