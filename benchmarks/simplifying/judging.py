"""Whether a simplified model is still the model: what it computes, what it takes, what it is made of.

`python -m simplifying.judging golden SOURCE GOLDEN` runs the original and keeps its outputs;
`python -m simplifying.judging judge SOURCE TARGET GOLDEN` compares a simplified file with it. Both run
in ONNX Runtime with every optimization off, on one thread, and print one line of JSON.

Right is: no output further from the original's than TOLERANCE (relative L2; integers and booleans
exactly; the same NaN and infinities) on any feed that the original runs on, at every size; the
ONNX checker accepts the file where it accepts the original; inputs and outputs have the same names,
types and order (an initializer that a caller can override is an input); no dimension of an input
has changed, and a dynamic dimension of an output has become a number only where it has that value at
every size; no domain was added.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from simplifying.feeds import KINDS, make_feed, shapes_of

__all__ = []

TOLERANCE = {"float32": 1e-4, "float64": 1e-4, "float16": 1e-2}
FIRST_IR_WITH_DEFAULTS = 4
STANDARD = ("", "ai.onnx")


def open_session(path):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def feeds_of(source, inputs):
    """Yield a label and the arrays of every feed."""
    for at, shapes in enumerate(shapes_of(source)):
        for kind in KINDS:
            yield f"size {at} {kind}", make_feed(inputs, shapes, kind, seed=at)


def keep_golden(source, golden):
    """Run the original on every feed it takes, and keep what comes out."""
    kept, refused = {}, {}
    try:
        session = open_session(source)
        feeds = list(feeds_of(source, session.get_inputs()))
    except Exception as error:  # noqa: BLE001 -- whatever a runtime raises: the model is then not judged by outputs
        session, feeds, refused["load"] = None, [], str(error)
    for label, feed in feeds:
        try:
            found = session.run(None, feed)
        except Exception as error:  # noqa: BLE001 -- the original refuses this size; so may every other
            refused[label] = str(error)
            continue
        kept |= {f"{label}/{at}": array for at, array in enumerate(found)}
    np.savez(golden, **kept)
    return {"feeds": len({key.partition("/")[0] for key in kept}), "refused": refused}


def subgraphs(node):
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def every_node(nodes):
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from every_node(graph.node)


def composition(path):
    """Return what a file is made of; sub-graphs and the bodies of functions count once."""
    model = onnx.load(path, load_external_data=False)
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    nodes = [node for body in bodies for node in every_node(body)]
    constants = sum(node.op_type == "Constant" and node.domain in STANDARD for node in nodes)
    files = path.parent.glob("*") if path.name == "target.onnx" else [path]
    return {
        "nodes": len(nodes) - constants,
        "constants": constants,
        "bytes": sum(file.stat().st_size for file in files),
        "domains": sorted({node.domain for node in nodes} - set(STANDARD)),
        "inputs": [declared(info) for info in given(model)],
        "outputs": [declared(info) for info in model.graph.output],
        "checker": complaint(path),
    }


def given(model):
    """Return the inputs of a model; before IR 4 initializers are listed as inputs and are none."""
    if model.ir_version >= FIRST_IR_WITH_DEFAULTS:
        return model.graph.input
    initializers = {tensor.name for tensor in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in initializers]


def declared(info):
    tensor = info.type.tensor_type
    dims = [one.dim_value if one.HasField("dim_value") else None for one in tensor.shape.dim]
    return {"name": info.name, "type": tensor.elem_type, "dims": dims}


def complaint(path):
    try:
        onnx.checker.check_model(path)
    except Exception as error:  # noqa: BLE001 -- the checker raises more than one kind
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return ""


def judge(source, target, golden):
    before, after = composition(source), composition(target)
    faults = structure_faults(before, after)
    expected = dict(np.load(golden))
    worst = 0.0
    try:
        worst, found, wrong = output_faults(source, target, expected)
        faults += wrong or dim_faults(before, after, found)
    except Exception as error:  # noqa: BLE001 -- a file that does not load, or stops, is wrong
        if expected:
            faults.append(f"does not run: {error}")
    sizes = {name: after[name] for name in ("nodes", "constants", "bytes")}
    return {**sizes, "before": {name: before[name] for name in sizes}, "error": worst} | {
        "faults": faults,
        "judged": bool(expected),
    }


def structure_faults(before, after):
    faults = []
    if after["checker"] and not before["checker"]:
        faults.append(f"checker: {after['checker']}")
    for side in ("inputs", "outputs"):
        old, new = ([(one["name"], one["type"]) for one in part[side]] for part in (before, after))
        if old != new:
            faults.append(f"signature: {side} {len(old)} -> {len(new)}")
    if not faults:
        changed = [
            one["name"]
            for one, other in zip(before["inputs"], after["inputs"], strict=True)
            if one["dims"] != other["dims"]
        ]
        faults += [f"dims: input {name}" for name in changed]
    if added := set(after["domains"]) - set(before["domains"]):
        faults.append(f"domains: {', '.join(sorted(added))}")
    return faults


def output_faults(source, target, expected):
    """Return the worst error, the shapes that came out by output, and what is wrong."""
    session = open_session(target)
    worst, shapes, faults = 0.0, {}, []
    for label, feed in feeds_of(source, session.get_inputs()):
        if f"{label}/0" not in expected:
            continue
        for at, array in enumerate(session.run(None, feed)):
            golden = expected[f"{label}/{at}"]
            shapes.setdefault(at, []).append(golden.shape)
            error = distance(golden, array)
            worst = max(worst, error)
            if error > TOLERANCE.get(golden.dtype.name, 0.0):
                faults.append(f"outputs: {label}, output {at}: {error:.1e}")
    return worst, shapes, faults


def distance(golden, actual):
    """Return the relative L2 error; infinite where shape, type or non-finite places differ."""
    if golden.shape != actual.shape or golden.dtype != actual.dtype:
        return np.inf
    if golden.dtype.kind not in "fiub":
        return 0.0 if np.array_equal(golden, actual) else np.inf
    wide, other = golden.astype(np.float64), actual.astype(np.float64)
    finite = np.isfinite(wide)
    if not np.array_equal(wide[~finite], other[~finite], equal_nan=True):
        return np.inf
    wide, other = wide[finite], other[finite]
    if not np.isfinite(other).all():
        return np.inf
    error, norm = np.linalg.norm(other - wide), np.linalg.norm(wide)
    return float(error / norm) if norm else float(error)


def dim_faults(before, after, shapes):
    """Name outputs whose dynamic dimension was declared a number that it is not at every size."""
    return [
        f"dims: output {new['name']}"
        for at, (old, new) in enumerate(zip(before["outputs"], after["outputs"], strict=True))
        for axis, dim in enumerate(new["dims"])
        if dim is not None
        and old["dims"][axis : axis + 1] != [dim]
        and any(shape[axis : axis + 1] != (dim,) for shape in shapes.get(at, []))
    ]


def main():
    verb, *paths = sys.argv[1:]
    print(json.dumps({"golden": keep_golden, "judge": judge}[verb](*map(Path, paths))))


if __name__ == "__main__":
    main()
