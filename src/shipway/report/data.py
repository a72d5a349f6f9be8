"""A report as plain data: what was checked, measured and found, and how to do it again.

The nested dictionaries are what the results of the stages return from `to_json()`; `schema.json`
beside this module is the description of the whole file for other programs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from shipway.errors import ModelError

__all__ = ["SCHEMA_VERSION", "Check", "EngineSection", "Report"]

SCHEMA_VERSION = 1

_Item = TypeVar("_Item")


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: no NaN, no Inf, no text that UTF-8 cannot encode.

    NaN becomes None; an infinite number the text "inf" or "-inf", as in `Metrics.to_json()`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        # A file name that is not UTF-8 reaches Python with lone surrogates in it.
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, float):
        return None if math.isnan(value) else str(value) if math.isinf(value) else float(value)
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _take(data: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return `data[key]` if it is there and of this kind; say what is wrong otherwise."""
    if not isinstance(data, Mapping):
        raise ModelError(f"{where} is not an object.")
    if key not in data:
        raise ModelError(f"{where} has no '{key}'.")
    value = data[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ModelError(f"'{key}' of {where} is of the wrong kind ({type(value).__name__}).")
    return _plain(value)


def _take_all(
    data: Any, key: str, where: str, read: Callable[[Any, str], _Item]
) -> tuple[_Item, ...]:
    items = _take(data, key, list, where)
    return tuple(read(item, f"{key}[{index}]") for index, item in enumerate(items))


def _read_text(item: Any, where: str) -> str:
    if not isinstance(item, str):
        raise ModelError(f"{where} is not text.")
    return item


def _read_object(item: Any, where: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ModelError(f"{where} is not an object.")
    return item


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that decides whether the model ships.

    Args:
        name: What was checked, e.g. "onnxruntime f32: flips against golden".
        passed: Whether it is within its limit.
        detail: What was found, e.g. "0 of 540".
        limit: What was allowed, e.g. "at most 1"; "" where the check has none.
    """

    name: str
    passed: bool
    detail: str
    limit: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` reads it back."""
        plain: dict[str, Any] = _plain(
            {
                "name": self.name,
                "passed": self.passed,
                "detail": self.detail,
                "limit": self.limit,
            }
        )
        return plain

    @classmethod
    def from_json(cls, data: Any, where: str = "the check") -> Check:
        """Read what `to_json` wrote; `where` names it in an error.

        Raises:
            ModelError: Something is missing or of the wrong kind.
        """
        return cls(
            name=_take(data, "name", str, where),
            passed=_take(data, "passed", bool, where),
            detail=_take(data, "detail", str, where),
            limit=_take(data, "limit", str, where),
        )


@dataclass(frozen=True, slots=True)
class EngineSection:
    """Everything found about one engine at one precision; (name, precision) is its key.

    Args:
        name: Engine name.
        precision: The precision asked for.
        golden: Whether the others are judged against this one.
        effective: `session.effective`: what was really in force.
        artifact: "file", "size_bytes", "sha256" and "compile_seconds"; empty where there is none.
        comparison: `Comparison.to_json()` against golden; None for golden, or if not compared.
        evaluation: `Evaluation.to_json()`; None without a data set.
        bench: `BenchResult.to_json()`, one a batch size.
        error: The message of the stage of this engine that failed, "" if none did.
        diagnosis: `Diagnosis.to_json()` against golden; None where the tensors inside were not
            compared.
    """

    name: str
    precision: str
    golden: bool
    effective: dict[str, str]
    artifact: dict[str, Any]
    comparison: dict[str, Any] | None
    evaluation: dict[str, Any] | None
    bench: tuple[dict[str, Any], ...]
    error: str = ""
    diagnosis: dict[str, Any] | None = None

    @property
    def label(self) -> str:
        """Name and precision, as people say it."""
        return f"{self.name} {self.precision}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` reads it back."""
        plain: dict[str, Any] = _plain(
            {
                "name": self.name,
                "precision": self.precision,
                "golden": self.golden,
                "effective": self.effective,
                "artifact": self.artifact,
                "comparison": self.comparison,
                "evaluation": self.evaluation,
                "bench": self.bench,
                "error": self.error,
                "diagnosis": self.diagnosis,
            }
        )
        return plain

    @classmethod
    def from_json(cls, data: Any, where: str = "the engine") -> EngineSection:
        """Read what `to_json` wrote; `where` names it in an error.

        Raises:
            ModelError: Something is missing or of the wrong kind.
        """
        return cls(
            name=_take(data, "name", str, where),
            precision=_take(data, "precision", str, where),
            golden=_take(data, "golden", bool, where),
            effective=_take(data, "effective", dict, where),
            artifact=_take(data, "artifact", dict, where),
            comparison=_take(data, "comparison", (dict, type(None)), where),
            evaluation=_take(data, "evaluation", (dict, type(None)), where),
            bench=_take_all(data, "bench", where, _read_object),
            error=_take(data, "error", str, where),
            # Reports from before there were diagnoses have none.
            diagnosis=_take({"diagnosis": None} | data, "diagnosis", (dict, type(None)), where),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What a deployment found, for the person who decides whether it ships.

    Args:
        title: Name of the model or project.
        created: When, ISO 8601 in UTC.
        model: "source" (reference), "parameters", "inputs" and "outputs" (`TensorSpec.to_json()`),
            "opset", "onnx_nodes", "size_bytes", "sha256" and "name_map_coverage" (0 to 1). None
            or absent where unknown; further keys are shown under their own names.
        proof: `Proof.to_json()` of the export; None where nothing was exported.
        checks: What decides, in the order of the road.
        engines: One section an engine and precision.
        notes: What the reader must know that no number says.
        environment: `describe_environment()`.
        reproduce: The exact commands, one a line.
        schema_version: Of the JSON.
    """

    title: str
    created: str
    model: dict[str, Any]
    proof: dict[str, Any] | None
    checks: tuple[Check, ...]
    engines: tuple[EngineSection, ...]
    notes: tuple[str, ...]
    environment: dict[str, Any]
    reproduce: tuple[str, ...]
    schema_version: int = SCHEMA_VERSION

    @property
    def passed(self) -> bool:
        """At least one check was made, all passed, and no engine failed."""
        checked = bool(self.checks) and all(check.passed for check in self.checks)
        return checked and not any(engine.error for engine in self.engines)

    @property
    def golden(self) -> EngineSection | None:
        """The section the others are judged against, if there is one."""
        return next((engine for engine in self.engines if engine.golden), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data that every JSON parser reads; `from_json` reads it back."""
        plain: dict[str, Any] = _plain(
            {
                "schema_version": self.schema_version,
                "title": self.title,
                "created": self.created,
                "passed": self.passed,
                "checks": [check.to_json() for check in self.checks],
                "notes": self.notes,
                "model": self.model,
                "proof": self.proof,
                "engines": [engine.to_json() for engine in self.engines],
                "environment": self.environment,
                "reproduce": self.reproduce,
            }
        )
        return plain

    @classmethod
    def from_json(cls, data: Any) -> Report:
        """Read what `to_json` wrote.

        Raises:
            ModelError: It is no report, or one of a newer schema.
        """
        where = "the report"
        version = _take(data, "schema_version", int, where)
        if version > SCHEMA_VERSION:
            raise ModelError(
                f"it has schema {version}; this Shipway reads up to {SCHEMA_VERSION}.",
                hint="pip install --upgrade shipway",
            )
        return cls(
            title=_take(data, "title", str, where),
            created=_take(data, "created", str, where),
            model=_take(data, "model", dict, where),
            proof=_take(data, "proof", (dict, type(None)), where),
            checks=_take_all(data, "checks", where, Check.from_json),
            engines=_take_all(data, "engines", where, EngineSection.from_json),
            notes=_take_all(data, "notes", where, _read_text),
            environment=_take(data, "environment", dict, where),
            reproduce=_take_all(data, "reproduce", where, _read_text),
            schema_version=version,
        )
