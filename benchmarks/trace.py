# ruff: noqa: A005 -- scripts are called by path; nothing imports this one by its name
"""What reading every tensor of ONNX Runtime costs, beside a run that reads none, and beside Polygraphy.

Models: DeiT-small (tracing/deit_small.py) as Shipway exports it, and a chain of 35 matrix products with
2.3 GB of weights beside the file. Every run is a process of its own (tracing/runs.py), which loads the
model and runs it once; imports are not counted. Runs take turns, and of each the fastest counts and
the leanest: whatever else the machine does only ever adds.

A tapped run is three things: ONNX Runtime optimises the model and runs it untapped, the optimised graph
is run again in segments, and the outputs of both are compared bit for bit. Two lines stand for "plain":
Shipway's session on the same file, which like the tapped run hashes the file before it trusts it, and
ONNX Runtime alone.

The last line is JSON. The first five keys are the worse of the two models, except those beside
Polygraphy, which cannot run the large model:

- time_vs_plain, memory_vs_plain: reading every tensor over a plain run of Shipway's session
- bit_identical: outputs of the tapped run, of Shipway's session and of ONNX Runtime alone are equal
- time_vs_polygraphy, memory_vs_polygraphy: reading every tensor and writing it as .npy, over
  `polygraphy run --onnxrt --onnx-outputs mark all --save-outputs`
- time_vs_ort, memory_vs_ort: reading every tensor over ONNX Runtime alone
- models: the same for each model, with the statistics and the .npy files besides

Run: .venv/bin/python benchmarks/trace.py [--rounds N] [--models deit_small,large] [--cache DIR]
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache" / "shipway-bench" / "trace"
MODES = ("ort", "plain", "tap", "statistics", "npy", "polygraphy")
TITLES = {
    "ort": "ONNX Runtime alone",
    "plain": "Shipway's session",
    "tap": "every tensor read",
    "statistics": "... and its statistics",
    "npy": "... and its .npy file",
    "polygraphy": "polygraphy run",
}
WIDTH, LAYERS = 4096, 35
TIMEOUT_S = 600


def command_line(*arguments):
    subprocess.run([sys.executable, "-m", "shipway", *map(str, arguments)], check=True)


def make_deit_small(folder):
    source = f"{HERE / 'tracing' / 'deit_small.py'}:make"
    spec = "image:float32[1,3,224,224]"
    command_line("export", source, "--input", spec, "--output", folder, "--name", "deit_small")
    return folder / "deit_small.onnx"


def make_large(folder):
    """35 layers of 64 MiB, their weights in a file beside the model."""
    path = folder / "large.onnx"
    blocks = [
        np.random.default_rng(seed).standard_normal((WIDTH, WIDTH), dtype=np.float32) / 64
        for seed in range(3)
    ]
    nodes, weights, value = [], [], "x"
    with (folder / "large.onnx.data").open("wb") as data:
        for layer in range(LAYERS):
            weight = TensorProto(
                name=f"w{layer}",
                data_type=TensorProto.FLOAT,
                dims=[WIDTH, WIDTH],
                data_location=TensorProto.EXTERNAL,
            )
            places = (("location", data.name), ("offset", data.tell()), ("length", 4 * WIDTH**2))
            for key, place in places:
                text = Path(place).name if key == "location" else str(place)
                weight.external_data.add(key=key, value=text)
            blocks[layer % 3].tofile(data)
            weights.append(weight)
            nodes += [
                helper.make_node("MatMul", [value, f"w{layer}"], [f"m{layer}"]),
                helper.make_node("Tanh", [f"m{layer}"], [f"y{layer}"]),
            ]
            value = f"y{layer}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, WIDTH]) for name in ("x", value)
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


MAKERS = {"deit_small": make_deit_small, "large": make_large}
FEEDS = {"deit_small": {"image": (1, 3, 224, 224)}, "large": {"x": (2, WIDTH)}}


def prepare(name, cache):
    """Return the compiled model and its inputs; make both where they are not there yet."""
    folder = cache / name
    if not list(folder.glob("*.onnxruntime.onnx")):
        shutil.rmtree(folder, ignore_errors=True)
        sources = folder / "source"
        sources.mkdir(parents=True)
        engine = ("--engine", "onnxruntime", "--threads", "2")
        command_line("compile", MAKERS[name](sources), *engine, "--output", folder)
        shutil.rmtree(sources)
    (compiled,) = folder.glob("*.onnxruntime.onnx")
    generator = np.random.default_rng(0)
    feeds = {
        key: generator.standard_normal(shape, np.float32) for key, shape in FEEDS[name].items()
    }
    np.savez(folder / "feeds.npz", **feeds)
    return compiled, folder / "feeds.npz"


def run(mode, model, feeds):
    """Run a mode in a process of its own; return what it tells, or why it failed."""
    with tempfile.TemporaryDirectory(prefix="shipway-bench-") as folder:
        command = [sys.executable, "-W", "ignore", "-m", "tracing.runs", mode, model, feeds, folder]
        done = subprocess.run(
            list(map(str, command)),
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        return None, lines[-1][:200]
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def measure(name, cache, rounds):
    """Return the best of each mode, and why some failed."""
    model, feeds = prepare(name, cache)
    best, failures = {}, {}
    for _ in range(rounds):
        for mode in MODES:
            if mode in failures:
                continue
            told, why = run(mode, model, feeds)
            if told is None:
                failures[mode] = why
                continue
            seen = best.setdefault(mode, told)
            for key in ("wall_s", "cpu_s", "peak_mb"):
                seen[key] = min(seen[key], told[key])
    return best, failures


def show(name, best, failures):
    tapped = best["tap"]
    print(f"\n{name}: {tapped['tensors']} tensors, {tapped['tensor_mb']:.0f} MiB")
    print(f"  {'':24}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}{'imports MiB':>13}")
    for mode in MODES:
        if mode in best:
            one = best[mode]
            print(
                f"  {TITLES[mode]:24}{one['wall_s']:9.2f}{one['cpu_s']:9.2f}"
                f"{one['peak_mb']:10.0f}{one['imports_mb']:13.0f}"
            )
        else:
            print(f"  {TITLES[mode]:24}failed: {failures[mode]}")


def ratios(best):
    def over(mode, base):
        if mode not in best or base not in best:
            return {"time": None, "memory": None}
        return {
            "time": round(best[mode]["wall_s"] / best[base]["wall_s"], 3),
            "memory": round(best[mode]["peak_mb"] / best[base]["peak_mb"], 3),
        }

    outputs = {best[mode]["outputs"] for mode in ("ort", "plain", "tap", "npy")}
    return {
        "tap_vs_plain": over("tap", "plain"),
        "tap_vs_ort": over("tap", "ort"),
        "statistics_vs_plain": over("statistics", "plain"),
        "npy_vs_plain": over("npy", "plain"),
        "npy_vs_polygraphy": over("npy", "polygraphy"),
        "bit_identical": len(outputs) == 1 and best["tap"]["identical"],
    }


def worst(found, key, what):
    return max(
        (one[key][what] for one in found.values() if one[key][what] is not None), default=None
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", default="deit_small,large")
    parser.add_argument("--cache", type=Path, default=CACHE)
    asked = parser.parse_args()
    found = {}
    for name in asked.models.split(","):
        best, failures = measure(name, asked.cache, asked.rounds)
        if not {"ort", "plain", "tap", "statistics", "npy"} <= set(best):
            raise SystemExit(f"{name}: {failures}")
        show(name, best, failures)
        found[name] = ratios(best)
    told = {
        "time_vs_plain": worst(found, "tap_vs_plain", "time"),
        "memory_vs_plain": worst(found, "tap_vs_plain", "memory"),
        "bit_identical": all(one["bit_identical"] for one in found.values()),
        "time_vs_polygraphy": worst(found, "npy_vs_polygraphy", "time"),
        "memory_vs_polygraphy": worst(found, "npy_vs_polygraphy", "memory"),
        "time_vs_ort": worst(found, "tap_vs_ort", "time"),
        "memory_vs_ort": worst(found, "tap_vs_ort", "memory"),
        "models": found,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
