"""Where it all comes from: the model, the proof of its export, the engines' files, the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shipway.compare.results import read_number
from shipway.report.data import EngineSection, Report
from shipway.report.formats import (
    MISSING,
    decimals_for,
    format_bytes,
    format_count,
    format_fixed,
    format_percent,
    format_scientific,
)
from shipway.report.output_error import worst_output, worst_relative_l2
from shipway.tensors import TensorSpec

__all__ = [
    "ArtifactRow",
    "Fact",
    "ProofSection",
    "TrialRow",
    "describe_machine",
    "describe_model",
    "lay_out_artifacts",
    "lay_out_proof",
]


@dataclass(frozen=True, slots=True)
class Fact:
    """A label, and one or more values; `code` where they are names rather than words."""

    label: str
    values: tuple[str, ...]
    code: bool = False


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One input set of the proof."""

    inputs: str
    sizes: str
    outputs: str
    worst: str
    relative_l2: str
    max_abs: str
    passed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProofSection:
    """The proof of the export: the step, its verdict, every trial, and what was not tried."""

    step: str
    passed: bool
    worst_relative_l2: str
    trials: tuple[TrialRow, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """What was compiled for one engine, and what was in force when it ran."""

    label: str
    golden: bool
    file: str
    size: str
    sha256: str
    compile_seconds: str
    effective: str
    error: str


_Writer = Callable[[Any], tuple[str, ...]]


def _one(write: Callable[[Any], str]) -> _Writer:
    return lambda value: (write(value),)


def _write_specs(specs: Any) -> tuple[str, ...]:
    return tuple(str(TensorSpec.from_json(spec)) for spec in specs)


def _write_pairs(pairs: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key} {value}" for key, value in pairs.items()) or ("none",)


def _write_size(value: int) -> str:
    return f"{format_bytes(value)} ({value:,} bytes)"


_MODEL: tuple[tuple[str, str, _Writer, bool], ...] = (
    ("source", "Source", _one(str), True),
    ("parameters", "Parameters", _one(format_count), False),
    ("inputs", "Inputs", _write_specs, True),
    ("outputs", "Outputs", _write_specs, True),
    ("opset", "ONNX opset", _one(str), False),
    ("onnx_nodes", "ONNX nodes", _one(format_count), False),
    ("size_bytes", "Size", _one(_write_size), False),
    ("sha256", "SHA-256", _one(str), True),
    (
        "name_map_coverage",
        "Name-map coverage",
        _one(lambda rate: f"{format_percent(rate)} %"),
        False,
    ),
)

_MACHINE: tuple[tuple[str, str, _Writer, bool], ...] = (
    ("cpu", "CPU", _one(str), False),
    ("isa", "Instruction set", _one(str), False),
    ("usable_cores", "Usable physical cores", _one(str), False),
    ("memory_bytes", "Memory", _one(format_bytes), False),
    ("os", "Operating system", _one(str), False),
    ("thread_variables", "Thread variables", _write_pairs, True),
    ("versions", "Versions", _write_pairs, False),
)


def _describe(
    data: Mapping[str, Any], known: Sequence[tuple[str, str, _Writer, bool]]
) -> tuple[Fact, ...]:
    """Write the known keys in their order, then every other key under its own name."""
    facts = [
        Fact(label, write(data[key]), code)
        for key, label, write, code in known
        if data.get(key) is not None
    ]
    names = {key for key, *_ in known}
    others = {key: value for key, value in data.items() if key not in names and value is not None}
    return (*facts, *(Fact(key.replace("_", " "), _write_any(v)) for key, v in others.items()))


def _write_any(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return _write_pairs(value)
    return tuple(str(item) for item in value) if isinstance(value, list) else (str(value),)


def describe_model(report: Report) -> tuple[Fact, ...]:
    """Return what is known about the model."""
    return _describe(report.model, _MODEL)


def describe_machine(report: Report) -> tuple[Fact, ...]:
    """Return what is known about the machine and the versions."""
    return _describe(report.environment, _MACHINE)


def lay_out_proof(report: Report) -> ProofSection | None:
    """Return the proof of the export, or None where there is none."""
    proof = report.proof
    if proof is None:
        return None
    return ProofSection(
        step=proof["step"],
        passed=proof["passed"],
        worst_relative_l2=format_scientific(read_number(proof["worst_relative_l2"])),
        trials=tuple(_trial(trial) for trial in proof["trials"]),
        notes=(*_findings(proof), *proof["notes"]),
    )


def _findings(proof: dict[str, Any]) -> Iterator[str]:
    """Write what an audit of the export found."""
    for one in proof.get("findings", ()):
        where = f" At {one['place']['source']}." if one["place"]["source"] else ""
        yield f"{one['severity']}: {one['message']}{where}"


def _trial(trial: dict[str, Any]) -> TrialRow:
    comparison = trial["comparison"]
    outputs = comparison["outputs"]
    worst = worst_output(comparison)
    skipped = comparison["coverage"]["skipped"]
    reasons = [f"{o['name']}: {reason}" for o in outputs for reason in o["verdict"]["reasons"]]
    reasons += [f"{name} was skipped: {why}" for name, why in skipped.items()]
    errors = [read_number(output["metrics"]["max_abs"]) for output in outputs]
    return TrialRow(
        inputs=trial["inputs"],
        sizes=", ".join(f"{name}={size}" for name, size in trial["sizes"].items()) or "fixed",
        outputs=format_count(comparison["coverage"]["compared"]),
        worst=worst["name"] if worst else MISSING,
        relative_l2=format_scientific(worst_relative_l2(comparison)),
        max_abs=format_scientific(max((e for e in errors if e is not None), default=None)),
        passed=comparison["passed"],
        reasons=tuple(reasons),
    )


def lay_out_artifacts(report: Report) -> tuple[ArtifactRow, ...]:
    """Return one row an engine."""
    times = (engine.artifact.get("compile_seconds") for engine in report.engines)
    decimals = decimals_for(times)
    return tuple(_artifact(engine, decimals) for engine in report.engines)


def _artifact(engine: EngineSection, decimals: int) -> ArtifactRow:
    artifact = engine.artifact
    return ArtifactRow(
        label=engine.label,
        golden=engine.golden,
        file=str(artifact.get("file") or MISSING),
        size=format_bytes(artifact.get("size_bytes")),
        sha256=str(artifact.get("sha256") or MISSING),
        compile_seconds=format_fixed(artifact.get("compile_seconds"), decimals),
        effective=", ".join(_write_pairs(engine.effective)) if engine.effective else MISSING,
        error=engine.error,
    )
