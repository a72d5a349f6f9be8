"""One simplifier on one model: `python -m simplifying.tools TOOL SOURCE TARGET` prints one line of JSON.

The process keeps to one core, so that every tool has one thread, whatever it starts. Each tool first
simplifies a model of one node: what it imports late is then loaded and not counted. `cpu_s` is the
process time (user and system) of load, simplify and save; `peak_mb` the high-water mark of resident
memory (VmHWM) of the whole process, `imports_mb` the mark before the model was touched.
"""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["COPY", "RIVALS", "SHIPWAY", "TOOLS"]

SHIPWAY, COPY = "shipway", "load+save"


@dataclass(frozen=True, slots=True)
class Tool:
    """A simplifier.

    Args:
        package: What to install.
        prepare: Imports the tool, and returns what simplifies one file into another.
    """

    package: str
    prepare: Callable[[], Callable[[Path, Path], object]]

    @property
    def is_installed(self):
        return importlib.util.find_spec(self.package) is not None

    @property
    def version(self):
        """The version; of Shipway a digest of its graph layer, which has no version between releases."""
        if self.package != SHIPWAY:
            return importlib.metadata.version(self.package)
        folder = Path(importlib.util.find_spec(SHIPWAY).origin).parent / "graph"
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]


def load_and_save():
    import onnx

    return lambda source, target: onnx.save(onnx.load(source), target)


def onnxsim():
    import onnx
    import onnxsim as package

    def run(source, target):
        # Weights stay inside the file, as with every other tool.
        model, _ = package.simplify(
            onnx.load(source), include_subgraph=True, external_data_threshold="1900MB"
        )
        onnx.save(model, target)

    return run


def onnxslim():
    import onnx
    import onnxslim as package

    return lambda source, target: onnx.save(package.slim(onnx.load(source)), target)


def onnxscript():
    import onnx_ir
    import onnxscript.optimizer as package

    def run(source, target):
        model = onnx_ir.load(source)
        package.optimize(model)
        onnx_ir.save(model, target)

    return run


def onnxoptimizer():
    import onnx
    import onnxoptimizer as package

    def run(source, target):
        passes = package.get_fuse_and_elimination_passes()
        onnx.save(package.optimize(onnx.load(source), passes, fixed_point=True), target)

    return run


def ort_basic():
    import onnxruntime

    def run(source, target):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        settings.log_severity_level = 4
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(target)
        onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])

    return run


def shipway():
    from shipway.graph.loading import load_graph
    from shipway.graph.saving import save_graph
    from shipway.graph.simplify import simplify_graph

    def run(source, target):
        model = load_graph(source)
        simplify_graph(model)
        save_graph(model, target)

    return run


TOOLS = {
    SHIPWAY: Tool("shipway", shipway),
    "onnxsim": Tool("onnxsim", onnxsim),
    "onnxslim": Tool("onnxslim", onnxslim),
    "onnxscript": Tool("onnxscript", onnxscript),
    "onnxoptimizer": Tool("onnxoptimizer", onnxoptimizer),
    "ort basic": Tool("onnxruntime", ort_basic),
    COPY: Tool("onnx", load_and_save),
}
RIVALS = tuple(name for name in TOOLS if name not in {SHIPWAY, COPY})


def peak_megabytes():
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def warm_up(run):
    import onnx.parser

    text = '<ir_version: 8, opset_import: ["": 17]> g (float[1] x) => (float[1] y) {y = Relu(x)}'
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "source.onnx")
        source.write_bytes(onnx.parser.parse_model(text).SerializeToString())
        run(source, Path(folder, "target.onnx"))


def measure(tool, source, target):
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    warnings.simplefilter("ignore")
    run = TOOLS[tool].prepare()
    warm_up(run)
    imports_mb = peak_megabytes()
    start = time.process_time()
    run(source, target)
    cpu_s = time.process_time() - start
    return {"cpu_s": cpu_s, "peak_mb": peak_megabytes(), "imports_mb": imports_mb}


def main():
    tool, source, target = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        found = measure(tool, Path(source), Path(target))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
