"""A model of 2.3 GB is simplified, cut, edited and proved in less than 1 GB of memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

WIDTH, LAYERS = 4096, 35
MOST_BYTES = 1_000_000_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """35 layers of 64 MiB; every fourth weight has to be transposed by whoever folds it."""
    folder = tmp_path_factory.mktemp("a big model")
    blocks = [
        (np.random.default_rng(seed).standard_normal((WIDTH, WIDTH), dtype=np.float32) / 64)
        for seed in range(3)
    ]
    nodes, weights, value = [], [], "x"
    with (folder / "big.data").open("wb") as data:
        for layer in range(LAYERS):
            weights.append(external(f"w{layer}", data.tell()))
            blocks[layer % 3].tofile(data)
            weight = f"w{layer}"
            if layer % 4 == 0:
                nodes.append(helper.make_node("Transpose", [weight], [f"t{layer}"], perm=[1, 0]))
                weight = f"t{layer}"
            nodes += [
                helper.make_node("MatMul", [value, weight], [f"m{layer}"]),
                helper.make_node("Identity", [f"m{layer}"], [f"i{layer}"]),
                helper.make_node("Tanh", [f"i{layer}"], [f"y{layer}"]),
            ]
            value = f"y{layer}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, WIDTH]) for name in ("x", value)
    ]
    graph = helper.make_graph(nodes, "big", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "big.onnx")
    return folder / "big.onnx"


def external(name: str, offset: int) -> TensorProto:
    tensor = TensorProto(
        name=name,
        data_type=TensorProto.FLOAT,
        dims=[WIDTH, WIDTH],
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (("location", "big.data"), ("offset", offset), ("length", 4 * WIDTH**2)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
peak_kb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], "w").write(str(peak_kb))
sys.exit(code)
"""


def run(*arguments: object, folder: Path) -> dict:
    """Run a command; it must succeed, in less than 1 GB.

    A process begins with the peak memory of whoever started it, so a small one stands between.
    """
    peak = folder / "peak_kb"
    command = [sys.executable, "-m", "shipway", *map(str, arguments), "--json"]
    measured = [sys.executable, "-c", MEASURE, str(peak), *command]
    done = subprocess.run(measured, stdout=subprocess.PIPE, check=True)
    assert int(peak.read_text()) * 1024 < MOST_BYTES
    return json.loads(done.stdout)


def test_simplify_and_prove(big: Path, tmp_path: Path) -> None:
    assert big.with_name("big.data").stat().st_size > 2.3e9
    target = tmp_path / "simple.onnx"
    told = run("simplify", big, "--output", target, "--prove", folder=tmp_path)
    assert told["proof"]["passed"]
    assert len(told["proof"]["trials"]) == 5
    assert target.with_name("simple.onnx.data").stat().st_size > 2.3e9


def test_extract_and_prove(big: Path, tmp_path: Path) -> None:
    target = tmp_path / "part.onnx"
    cut = ("--inputs", "y10", "--outputs", "y30")
    told = run("graph", "extract", big, *cut, "--output", target, "--prove", folder=tmp_path)
    assert told["proof"]["passed"]
    part = onnx.load(target, load_external_data=False)
    assert [value.name for value in (*part.graph.input, *part.graph.output)] == ["y10", "y30"]
    assert target.with_name("part.onnx.data").stat().st_size > 1.3e9


def test_set_domain(big: Path, tmp_path: Path) -> None:
    model = onnx.load(big, load_external_data=False)
    model.graph.node[-1].domain = "mine"
    model.opset_import.append(helper.make_opsetid("mine", 1))
    custom = big.with_name("custom.onnx")
    onnx.save(model, custom)
    target = tmp_path / "domain.onnx"
    told = run(
        "graph",
        "edit",
        custom,
        "set-domain",
        "--domain",
        "npu",
        "--output",
        target,
        folder=tmp_path,
    )
    assert told["changed"] == 1
    after = onnx.load(target, load_external_data=False)
    assert after.graph.node[-1].domain == "npu"
    assert target.with_name("domain.onnx.data").stat().st_size > 2.3e9
