"""A small trace that tests of the store write and read."""

from pathlib import Path

import numpy as np

from shipway.engines.tapping import Tap, TapCheck
from shipway.trace.records import InputRecord, TraceHeader
from shipway.trace.store import TraceWriter, open_trace

HEADER = TraceHeader(
    "onnxruntime",
    "f32",
    model="model.onnx",
    model_sha256="ab" * 32,
    inputs={"x": InputRecord("float32", (1, 3), 7)},
    effective={"threads": "2"},
    untapped={"loop body": "runs inside Loop"},
    left_out=3,
    versions={"python": "3.11"},
)


def values(count: int, size: int = 5) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal((1, 1, size)).astype(np.float32) for _ in range(count)]


def record(folder: Path, count: int, *, finish: bool = True, **options) -> None:
    with TraceWriter(folder, HEADER, **options) as writer:
        for order, value in enumerate(values(count)):
            writer.add(Tap(f"t{order}", order), value)
        if finish:
            writer.finish(TapCheck(identical=True, perturbed={}))


def tensors_of(folder: Path) -> dict[str, bytes]:
    trace = open_trace(folder)
    return {one.name: trace.read(one.name).tobytes() for one in trace.records}
