"""Proof of an operator: every engine against the float64 reference, on what its definition lists."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.metrics import measure
from shipway.compare.results import json_number
from shipway.engines.base import EngineOptions
from shipway.engines.operator_model import (
    Call,
    Family,
    families,
    inline_model,
    make_calls,
    program_model,
    to_array,
    write_model,
)
from shipway.engines.registry import find_engine
from shipway.errors import EngineError, EngineMissing, ExportError, ModelError, UsageError
from shipway.ops.kernel_library import why_portable
from shipway.progress import SILENT, Progress

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["ENGINES", "OperatorCheck", "OperatorProof", "prove_operator"]

ENGINES = ("torch", "portable", "onnxruntime", "openvino", "aotinductor")
"""What an operator can be proved in; "portable" is its body of standard operators in ONNX Runtime."""
_OPSET = 20
_NARROWED = {("openvino", "float64"): "float32"}


@dataclass(frozen=True, slots=True)
class OperatorCheck:
    """One engine and dtype, or one check of torch's.

    Args:
        what: "onnxruntime", "gradient", ...
        dtype: What T was, "" where that has no meaning.
        calls: Calls compared.
        worst: Largest relative L2 of an output; None where nothing was measured.
        limit: Largest that passes.
        runs: "native kernel", "portable body", "reference".
        failures: One sentence a call that failed.
        skipped: Why it was not done, "" if it was.
    """

    what: str
    dtype: str = ""
    calls: int = 0
    worst: float | None = None
    limit: float | None = None
    runs: str = ""
    failures: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def verdict(self) -> str:
        """Say "pass", "fail" or "skip"."""
        return "skip" if self.skipped else "fail" if self.failures or not self.calls else "pass"

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "what": self.what,
            "dtype": self.dtype,
            "calls": self.calls,
            "worst_relative_l2": json_number(self.worst),
            "limit": self.limit,
            "runs": self.runs,
            "verdict": self.verdict,
            "failures": list(self.failures),
            "skipped": self.skipped,
        }


@dataclass(frozen=True, slots=True)
class OperatorProof:
    """All checks of one operator."""

    operator: str
    checks: tuple[OperatorCheck, ...]

    @property
    def passed(self) -> bool:
        """At least one check was done, and none failed."""
        verdicts = {check.verdict for check in self.checks}
        return "pass" in verdicts and "fail" not in verdicts

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "operator": self.operator,
            "passed": self.passed,
            "checks": [check.to_json() for check in self.checks],
        }


def prove_operator(
    op: CustomOp,
    *,
    engines: Sequence[str] = ENGINES[:-1],
    seed: int = 0,
    progress: Progress = SILENT,
) -> OperatorProof:
    """Run an operator in several engines on its samples, and compare with the float64 reference.

    The reference gets the very inputs of the engine, rounded to its dtype and widened again, so
    only what the engine computes counts.

    Args:
        op: The operator; its definition must have samples.
        engines: Names from `ENGINES`.
        seed: Of the samples.
        progress: Told of every check.

    Raises:
        UsageError: The definition has no samples, or an engine is unknown.
    """
    if unknown := [name for name in engines if name not in ENGINES]:
        raise UsageError(
            f"An operator cannot be verified in '{unknown[0]}'.",
            hint=f"One of: {', '.join(ENGINES)}.",
        )
    if op.samples is None:
        raise UsageError(
            f"The definition of {op.name} has no samples to verify it with.",
            hint="Give custom_op(samples=...), a function that yields shipway.ops.Sample.",
        )
    dtypes = op.floats if "T" in op.types.partition("->")[0] else ("",)
    progress.start(f"verify {op.name}", len(engines) * len(dtypes) + 3)
    checks = []
    for dtype in dtypes:
        calls = make_calls(op, dtype, seed)
        for engine in engines:
            checks.append(_check_engine(op, engine, dtype, calls))
            progress.advance()
    for check in (_check_strides, _check_gradient, _check_registration):
        checks.append(check(op, seed))
        progress.advance()
    return OperatorProof(op.name, tuple(checks))


def _check_engine(op: CustomOp, engine: str, dtype: str, calls: list[Call]) -> OperatorCheck:
    kernel = why_portable(op)
    runs = ""  # the others say it themselves
    if engine in {"torch", "aotinductor"}:
        runs = "reference" if kernel else "native kernel"
    judged = _NARROWED.get((engine, dtype), dtype) or "float32"
    limit = op.tolerance(judged)
    if engine == "torch":
        return _judge(engine, dtype, limit, runs, [(call, _run_torch(op, call)) for call in calls])
    if engine == "aotinductor":
        if dtype not in {"float32", ""}:
            return OperatorCheck(engine, dtype, skipped="compiled once, in float32")
        calls = calls[:1]
    elif dtype == "float64" and engine == "portable":
        return OperatorCheck(engine, dtype, skipped="bodies are proved in float32 and narrower")
    results: list[tuple[Call, Any]] = []
    for family in families(op, dtype, calls):
        try:
            found, runs = _run_family(family, engine, runs)
            results += found
        except EngineMissing as error:
            return OperatorCheck(engine, dtype, skipped=f"{error} {error.hint}")
        except (EngineError, ExportError, ModelError) as error:
            results += [(call, error) for call in family.calls]
    return _judge(engine, dtype, limit, runs, results)


def _run_torch(op: CustomOp, call: Call) -> Any:
    import torch

    try:
        with torch.no_grad():
            results = op(*call.tensors, **call.sample.attributes)
    except (RuntimeError, ValueError, IndexError) as error:
        return EngineError(str(error).partition("\n")[0])
    results = results if isinstance(results, tuple | list) else (results,)
    return [to_array(item) for item in results]


def _run_family(family: Family, engine_name: str, runs: str) -> tuple[list[tuple[Call, Any]], str]:
    """Return what an engine gives for each call, and what it says has computed it."""
    portable = engine_name == "portable"
    engine = find_engine("onnxruntime" if portable else engine_name)
    available = engine.probe()
    if not available.installed:
        raise EngineMissing(engine_name, install=available.install, why=available.why)
    options = EngineOptions(threads=1, optimize=not portable)
    with tempfile.TemporaryDirectory(prefix="shipway-op-") as name:
        folder = Path(name)
        if engine_name == "aotinductor":
            model, names = program_model(family, folder)
        else:
            model, names = write_model(family, folder, opset=_OPSET)
        if portable:
            model = inline_model(model, family)
        artifact = engine.compile(engine.lower(model, folder / "lowered"), options, folder / "made")
        with engine.load(artifact, options) as session:
            said = session.effective.get("custom_ops", "").partition(": ")[2].partition(" (")[0]
            runs = "portable body" if portable else said or runs
            return [(call, _run_session(session, names, call)) for call in family.calls], runs


def _run_session(session: Any, names: Sequence[str], call: Call) -> Any:
    wanted = {spec.name: spec.dtype for spec in session.inputs}
    present = [tensor for tensor in call.tensors if tensor is not None]
    feeds = {
        name: to_array(tensor).astype(wanted[name], copy=False)
        for name, tensor in zip(names, present, strict=True)
    }
    try:
        outputs = session.run(feeds)
    except (EngineError, ModelError) as error:
        return error
    return [outputs[spec.name] for spec in session.outputs]


def _judge(
    what: str, dtype: str, limit: float, runs: str, results: Iterable[tuple[Call, Any]]
) -> OperatorCheck:
    worst: float | None = None
    failures: list[str] = []
    count = 0
    for call, found in results:
        count += 1
        if isinstance(found, Exception):
            failures.append(f"{call.sample.name}: {found}")
            continue
        for at, (golden, actual) in enumerate(zip(call.golden, found, strict=True)):
            error, why = _distance(golden, actual)
            worst = error if worst is None else max(worst, error)
            if error > limit:
                failures.append(
                    f"{call.sample.name}: output {at} {why or f'is off by {error:.1e}'}"
                )
    return OperatorCheck(what, dtype, count, worst, limit, runs, tuple(failures))


def _distance(golden: NDArray[Any], actual: NDArray[Any]) -> tuple[float, str]:
    """Return the relative L2 and, where it is infinite, why."""
    if golden.shape != actual.shape:
        return math.inf, f"has shape {list(actual.shape)}, not {list(golden.shape)}"
    if golden.size == 0:
        return 0.0, ""
    if golden.dtype.kind != "f":
        wrong = int((golden != actual).sum())
        return (math.inf, f"has {wrong} of {golden.size} elements wrong") if wrong else (0.0, "")
    metrics = measure(golden, actual)
    if metrics.nonfinite_mismatches:
        return math.inf, f"has {metrics.nonfinite_mismatches} NaN or Inf in other places"
    return metrics.relative_l2 or 0.0, ""


def _check_strides(op: CustomOp, seed: int) -> OperatorCheck:
    """Run every sample again with inputs that have gaps in memory."""
    dtype = "float32" if "T" in op.types.partition("->")[0] else ""
    calls = make_calls(op, dtype, seed)
    results = [(call, _run_torch(op, _spread(call))) for call in calls]
    runs = "reference" if why_portable(op) else "native kernel"
    return _judge("non-contiguous", dtype, op.tolerance(dtype or "float32"), runs, results)


def _spread(call: Call) -> Call:
    def spread(tensor: Any) -> Any:
        if tensor is None or tensor.dim() == 0:
            return tensor
        return tensor.repeat_interleave(2, dim=-1)[..., ::2]

    return Call(call.sample, tuple(map(spread, call.tensors)), call.golden)


def _check_gradient(op: CustomOp, seed: int) -> OperatorCheck:
    import torch

    if not op.differentiable:
        return OperatorCheck("gradient", skipped="the operator has none")
    samples = (
        [one for one in op.samples(np.random.default_rng(seed)) if one.gradient]
        if op.samples
        else []
    )
    if not samples:
        return OperatorCheck("gradient", skipped="no sample is marked for it")
    failures = []
    for sample in samples:
        inputs = [
            tensor.double().requires_grad_()
            if tensor is not None and item.letter == "T"
            else tensor
            for item, tensor in zip(op.signature.inputs, sample.inputs, strict=True)
        ]
        problem = _problem(
            partial(torch.autograd.gradcheck, partial(op, **sample.attributes), inputs)
        )
        failures += [f"{sample.name}: {problem}"] if problem else []
    return OperatorCheck(
        "gradient", "float64", len(samples), runs="gradcheck", failures=tuple(failures)
    )


def _check_registration(op: CustomOp, seed: int) -> OperatorCheck:
    """Have torch check schema, shape rule and autograd registration."""
    import torch

    from shipway.ops.torch_op import overload_of

    samples = list(op.samples(np.random.default_rng(seed)))[:2] if op.samples else []
    failures = []
    for sample in samples:
        inputs = tuple(
            tensor.float() if tensor is not None and item.letter == "T" else tensor
            for item, tensor in zip(op.signature.inputs, sample.inputs, strict=True)
        )
        problem = _problem(
            partial(torch.library.opcheck, overload_of(op), inputs, dict(sample.attributes))
        )
        failures += [f"{sample.name}: {problem}"] if problem else []
    return OperatorCheck(
        "opcheck", "float32", len(samples), runs="torch.library", failures=tuple(failures)
    )


def _problem(check: Callable[[], Any]) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001 -- torch's checks raise whatever they find
        return str(error).strip().partition("\n")[0][:300] or type(error).__name__
    return ""
