"""Every tensor of a model of 2.3 GB is read, and its golden computed, in less than 1 GB of memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

WIDTH, LAYERS = 4096, 35
MOST_MB = 1000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """35 layers of 64 MiB; ONNX Runtime folds the transposition of the first weight."""
    folder = tmp_path_factory.mktemp("a big model")
    block = np.random.default_rng(0).standard_normal((WIDTH, WIDTH), dtype=np.float32) / 64
    nodes, weights, value = [], [], "x"
    with (folder / "big.data").open("wb") as data:
        for layer in range(LAYERS):
            weight = TensorProto(
                name=f"w{layer}",
                data_type=TensorProto.FLOAT,
                dims=[WIDTH, WIDTH],
                data_location=TensorProto.EXTERNAL,
            )
            for key, place in (("location", "big.data"), ("offset", data.tell())):
                weight.external_data.add(key=key, value=str(place))
            weight.external_data.add(key="length", value=str(4 * WIDTH**2))
            block.tofile(data)
            weights.append(weight)
            name = f"w{layer}"
            if layer == 0:
                nodes.append(helper.make_node("Transpose", [name], ["turned"], perm=[1, 0]))
                name = "turned"
            nodes += [
                helper.make_node("MatMul", [value, name], [f"m{layer}"]),
                helper.make_node("Tanh", [f"m{layer}"], [f"y{layer}"]),
            ]
            value = f"y{layer}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, WIDTH]) for name in ("x", value)
    ]
    graph = helper.make_graph(nodes, "big", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), folder / "big.onnx")
    return folder / "big.onnx"


CHILD = """
import sys
from pathlib import Path
import numpy as np
from shipway.engines.base import EngineOptions
from shipway.engines.onnxruntime import OnnxRuntimeEngine
from shipway.export.onnx_file import read_specs
from shipway.export.portable import PortableModel
from shipway.graph.outline import read_outline
from shipway.trace.onnx_golden import open_onnx_golden

path, options, engine = Path(sys.argv[1]), EngineOptions(threads=2), OnnxRuntimeEngine()
inputs, outputs = read_specs(read_outline(path))
model = PortableModel(inputs, outputs, onnx=path)
feeds = {"x": np.random.default_rng(1).standard_normal((2, 4096), np.float32)}
artifact = engine.compile(model, options, path.parent / "compiled")
with engine.open_taps(artifact, options) as taps:
    actual = {one.tap.name: one.value for one in taps.stream(feeds)}
    assert taps.check.identical
with open_onnx_golden(model, options) as golden:
    for one in golden.walk(feeds, actual.get):
        np.testing.assert_allclose(one.local, actual[one.tap.name], rtol=1e-3, atol=1e-5)
status = Path("/proc/self/status").read_text()
print(len(actual), int(status.split("VmHWM:")[1].split()[0]) // 1024)
"""


def test_taps_and_golden(big: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(big)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, peak_mb = map(int, done.stdout.split())
    assert count == 1 + 2 * LAYERS
    assert peak_mb < MOST_MB
