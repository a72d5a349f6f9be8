"""Speed of one operator in several engines, on the largest of its samples."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.bench.measure import BenchOptions, bench_sessions
from shipway.bench.results import BenchResult
from shipway.engines.base import EngineOptions, Session
from shipway.engines.opening import compile_target
from shipway.engines.operator_model import (
    Call,
    Family,
    make_calls,
    to_array,
    write_model,
)
from shipway.engines.registry import find_engine
from shipway.engines.target import Target
from shipway.errors import EngineError, EngineMissing, ExportError, UsageError
from shipway.ops.kernel_library import why_portable
from shipway.progress import SILENT, Progress

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["OperatorSpeed", "measure_operator"]

_OPSET = 20
_PLAN = {
    f"{engine} {'portable body' if inline else 'native kernel'}": Target(engine, inline=inline)
    for engine in ("onnxruntime", "openvino")
    for inline in (False, True)
}


@dataclass(frozen=True, slots=True)
class OperatorSpeed:
    """What was measured.

    Args:
        operator: Its name.
        sample: The sample it was measured on.
        results: One entry an engine.
        skipped: Why an engine was left out.
    """

    operator: str
    sample: str
    results: tuple[BenchResult, ...]
    skipped: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "operator": self.operator,
            "sample": self.sample,
            "results": [result.to_json() for result in self.results],
            "skipped": dict(self.skipped),
        }


def measure_operator(
    op: CustomOp,
    *,
    seconds: float = 2.0,
    threads: int = 0,
    seed: int = 0,
    progress: Progress = SILENT,
) -> OperatorSpeed:
    """Measure the native kernel and the portable body in ONNX Runtime and OpenVINO.

    Args:
        op: The operator; its definition must have samples.
        seconds: Shortest time to measure each.
        threads: Threads inside the operator; 0 takes all physical cores.
        seed: Of the samples.
        progress: Told of every block.

    Raises:
        UsageError: The definition has no samples.
    """
    dtype = "float32" if "T" in op.types.partition("->")[0] else ""
    calls = make_calls(op, dtype, seed)
    if not calls:
        raise UsageError(
            f"The definition of {op.name} has no samples to measure it with.",
            hint="Give custom_op(samples=...), a function that yields shipway.ops.Sample.",
        )
    call = max(calls, key=_elements)
    family = Family(op, dtype, (call,))
    options = EngineOptions(threads=threads)
    skipped: dict[str, str] = {}
    sessions: dict[str, Session] = {}
    if why := why_portable(op):
        skipped = {name: why for name, target in _PLAN.items() if not target.inline}
    with tempfile.TemporaryDirectory(prefix="shipway-op-") as folder, ExitStack() as stack:
        for name, target in _PLAN.items():
            if name in skipped:
                continue
            try:
                session = _open(family, target, options, Path(folder) / target.slug)
            except (EngineError, EngineMissing, ExportError) as error:
                skipped[name] = str(error)
                continue
            sessions[name] = session
            stack.callback(session.close)
        results = bench_sessions(
            sessions,
            lambda _: _feeds(call, session.inputs),
            BenchOptions(batches=(0,), min_seconds=seconds, min_calls=10, vary_inputs=False),
            progress=progress,
        )
    return OperatorSpeed(op.name, call.sample.name, tuple(results), skipped)


def _elements(call: Call) -> int:
    return sum(tensor.numel() for tensor in call.tensors if tensor is not None)


def _feeds(call: Call, inputs: Any) -> dict[str, Any]:
    present = [to_array(tensor) for tensor in call.tensors if tensor is not None]
    return dict(zip((spec.name for spec in inputs), present, strict=True))


def _open(family: Family, target: Target, options: EngineOptions, folder: Path) -> Session:
    folder.mkdir()
    model, _ = write_model(family, folder, opset=_OPSET)
    artifact = compile_target(model, target, options, folder / "made")
    return find_engine(target.engine).load(artifact, options)
