"""One run in a process of its own: what it took after its imports. Prints one line of JSON.

Run: python -m tracing.runs MODE MODEL INPUTS.npz FOLDER, in benchmarks/. MODE is

- ort: ONNX Runtime alone loads the model and runs it once
- plain: Shipway's session does: it checks the file against its side-car before it loads it
- tap: Shipway reads every tensor of the optimised graph, and the check that nothing changed
- statistics, npy: like tap, and keeps the statistics or the values of each
- polygraphy: the command of the same name marks every tensor as output and saves them
"""

import hashlib
import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx  # noqa: F401 -- every mode needs it, and imports are not measured
import onnxruntime

THREADS = 2


def peak_mb():
    """VmHWM, which unlike ru_maxrss is this process's own from its exec on."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def digest(outputs):
    return hashlib.sha256(b"".join(one.tobytes() for one in outputs)).hexdigest()[:16]


def ort(model, feeds, _):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = THREADS
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    return {"outputs": digest(session.run(None, feeds))}


def shipway_parts():
    from shipway.artifact import load_artifact
    from shipway.engines.base import EngineOptions
    from shipway.engines.onnxruntime import OnnxRuntimeEngine

    return load_artifact, OnnxRuntimeEngine(), EngineOptions(threads=THREADS)


def plain(model, feeds, _):
    load_artifact, engine, options = shipway_parts()
    with engine.load(load_artifact(model, verify=False), options) as session:
        outputs = session.run(feeds)
    return {"outputs": digest(outputs.values())}


def read(model, feeds, keep=None):
    load_artifact, engine, options = shipway_parts()
    count, size_bytes, outputs = 0, 0, {}
    with engine.open_taps(load_artifact(model, verify=False), options) as taps:
        for one in taps.stream(feeds):
            count += 1
            size_bytes += one.value.nbytes
            if keep is not None:
                keep(count, one.value)
            if one.tap.kind == "output":
                outputs[one.tap.name] = one.value
        identical = taps.check.identical
        ends = [outputs[spec.name] for spec in taps.outputs]
    told = {"tensors": count, "tensor_mb": size_bytes / 2**20, "identical": identical}
    return {**told, "outputs": digest(ends)}


def tap(model, feeds, _):
    return read(model, feeds)


def statistics(model, feeds, _):
    from shipway.trace.statistics import summarize

    return read(model, feeds, lambda _, value: summarize(value))


def npy(model, feeds, folder):
    def keep(number, value):
        np.save(folder / f"{number}.npy", value)

    return read(model, feeds, keep)


def polygraphy(model, feeds, folder):
    from polygraphy.json import save_json
    from polygraphy.tools import main

    save_json([dict(feeds)], str(folder / "feeds.json"))
    start = time.perf_counter()
    sys.argv = ["polygraphy", "run", str(model), "--onnxrt", "--onnx-outputs", "mark", "all"]
    sys.argv += ["--load-inputs", str(folder / "feeds.json")]
    sys.argv += ["--save-outputs", str(folder / "outputs.json"), "--silent"]
    code = main()
    if code:
        raise SystemExit(code)
    return {"outputs": "", "start": start}


MODES = {
    "ort": ort,
    "plain": plain,
    "tap": tap,
    "statistics": statistics,
    "npy": npy,
    "polygraphy": polygraphy,
}


def import_all(mode):
    """Import what the mode needs, so that only its work is measured."""
    if mode == "polygraphy":
        importlib.import_module("polygraphy.tools")
    elif mode != "ort":
        importlib.import_module("shipway.trace.statistics")
        shipway_parts()


def measure(mode, model, source, folder):
    import_all(mode)
    feeds = dict(np.load(source))
    imports_mb = peak_mb()
    start, cpu = time.perf_counter(), time.process_time()
    told = MODES[mode](model, feeds, folder)
    start = told.pop("start", start)
    return {
        **told,
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "imports_mb": imports_mb,
        "peak_mb": peak_mb(),
    }


if __name__ == "__main__":
    mode, *paths = sys.argv[1:]
    print(json.dumps(measure(mode, *map(Path, paths))))
