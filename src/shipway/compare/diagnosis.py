"""Two executions compared tensor by tensor, and what is at fault, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from shipway.compare.results import Metrics, Verdict, json_number, read_number

__all__ = [
    "CHANNEL_ERRORS",
    "Cause",
    "Culprit",
    "Diagnosis",
    "Match",
    "TensorComparison",
    "join_channels",
]

CHANNEL_ERRORS = 64
"""Errors of channels that are kept of a tensor."""

Method = Literal["name", "provenance", "fingerprint", "user"]


@dataclass(frozen=True, slots=True)
class Match:
    """Why two tensors are held to be the same one.

    Args:
        method: "name": both models call it so, or the name map says so. "provenance": the engine
            says which operator it came from. "fingerprint": the numbers are those of this tensor
            and of no other in the place where it must lie. "user": the user's map says so.
        confidence: In [0, 1]. 1: shown on numbers in a clean run; 0.5: by name and shape alone.
        note: What there is to know, e.g. that a name held another tensor; "" for nothing.
        axes: How the engine's tensor must be transposed to lie as golden's does; () as it is.
    """

    method: Method
    confidence: float
    note: str = ""
    axes: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "method": self.method,
            "confidence": self.confidence,
            "note": self.note,
            "axes": list(self.axes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Match:
        """Read what `to_json` wrote."""
        return cls(data["method"], data["confidence"], data["note"], tuple(data["axes"]))


@dataclass(frozen=True, slots=True)
class TensorComparison:
    """One tensor that both executions have.

    Args:
        order: Position in the golden's order of execution.
        golden: Its name in the golden.
        actual: Its name in the engine under test.
        match: Why the two are held to be the same.
        golden_op: The golden's operator that computes it.
        op: The engine's operator, which may cover several of the golden's.
        dtype: Golden's element type.
        shape: Golden's sizes.
        layout: How the engine stores it; "" as the golden does.
        module: Path of the module; "" where that is not known.
        source: Line of the user's code; "" where there is none.
        code: That line.
        is_output: It is an output of the model.
        perturbed: Why reading it changed the engine's result; "" where it did not.
        accumulated: Metrics against the pure golden.
        local: Metrics against the golden fed with the engine's own tensors; None where there is no
            golden that can be fed.
        verdict: On `local`, with its limits; on `accumulated` where that is all there is.
        severity: Largest of the judged metrics as a multiple of its limit; above 1 it is broken.
            "inf" where NaN or Inf differ, or integers do.
        explained: Why a broken limit is no fault: "precision only: ...", or that the tensor at
            fault lies before it; "" otherwise.
        channel_errors: Relative L2 of the slices of `judged` along its `worst_channel_axis`, as
            `Metrics.worst_channel` measures one; neighbours are joined where there are more than
            64, and the largest of them stands for all. Empty where they were not kept.
    """

    order: int
    golden: str
    actual: str
    match: Match
    golden_op: str
    op: str
    dtype: str
    shape: tuple[int, ...]
    layout: str
    module: str
    source: str
    code: str
    is_output: bool
    perturbed: str
    accumulated: Metrics
    local: Metrics | None
    verdict: Verdict
    severity: float
    explained: str = ""
    channel_errors: tuple[float, ...] = ()

    @property
    def pair(self) -> tuple[str, str]:
        """Golden's name and the engine's, which no other entry has both of."""
        return self.golden, self.actual

    @property
    def judged(self) -> Metrics:
        """The metrics the verdict is on."""
        return self.accumulated if self.local is None else self.local

    @property
    def at_fault(self) -> bool:
        """A limit is broken and nothing else explains it."""
        return not self.verdict.passed and not self.explained

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "order": self.order,
            "golden": self.golden,
            "actual": self.actual,
            "match": self.match.to_json(),
            "golden_op": self.golden_op,
            "op": self.op,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "layout": self.layout,
            "module": self.module,
            "source": self.source,
            "code": self.code,
            "is_output": self.is_output,
            "perturbed": self.perturbed,
            "accumulated": self.accumulated.to_json(),
            "local": None if self.local is None else self.local.to_json(),
            "verdict": self.verdict.to_json(),
            "severity": json_number(self.severity),
            "explained": self.explained,
            "channel_errors": [json_number(value) for value in self.channel_errors],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorComparison:
        """Read what `to_json` wrote."""
        local = data["local"]
        read = {
            "match": Match.from_json(data["match"]),
            "shape": tuple(data["shape"]),
            "accumulated": Metrics.from_json(data["accumulated"]),
            "local": None if local is None else Metrics.from_json(local),
            "verdict": Verdict.from_json(data["verdict"]),
            "severity": float(data["severity"]),
            "channel_errors": tuple(map(float, data["channel_errors"])),
        }
        return cls(**{name: data[name] for name in cls.__dataclass_fields__} | read)


def join_channels(errors: Sequence[float], most: int = CHANNEL_ERRORS) -> tuple[float, ...]:
    """Return what `TensorComparison.channel_errors` keeps of the errors of all channels.

    Args:
        errors: One number a channel, from `compare.profile.channel_errors`.
        most: Numbers kept at most. Where there are more, runs of equal length are joined, and the
            largest of a run stands for it.

    Example:
        >>> join_channels([1.0, 3.0, 2.0, 0.5, 4.0], most=3)
        (3.0, 2.0, 4.0)
    """
    run = max(1, -(-len(errors) // most))
    starts = range(0, len(errors), run)
    return tuple(float(max(errors[start : start + run])) for start in starts)


@dataclass(frozen=True, slots=True)
class Cause:
    """What kind of fault it is.

    Args:
        kind: One of `compare.causes.CAUSES`.
        explanation: One sentence with the numbers that show it.
        operator: The golden's operator at fault, where one alone explains it; "" otherwise.
    """

    kind: str
    explanation: str
    operator: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"kind": self.kind, "explanation": self.explanation, "operator": self.operator}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cause:
        """Read what `to_json` wrote."""
        return cls(data["kind"], data["explanation"], data["operator"])


@dataclass(frozen=True, slots=True)
class Culprit:
    """The first tensor that goes wrong on a path, and why.

    Args:
        tensor: What was measured there.
        cause: What kind of fault it is.
        operators: Golden's operators between the last right tensors and this one: name and type.
        inputs: The last right tensors before it, by golden's names, each with its severity.
        readers: The next tensors after it, by golden's names, each with its severity.
        effect: For each output of the model the relative L2 it ends with, as accumulated on the
            way, where it depends on this tensor.
        replay: Folder with the smallest piece that shows the fault; "" where none was written.
    """

    tensor: TensorComparison
    cause: Cause
    operators: tuple[tuple[str, str], ...] = ()
    inputs: Mapping[str, float] = field(default_factory=dict)
    readers: Mapping[str, float] = field(default_factory=dict)
    effect: Mapping[str, float | None] = field(default_factory=dict)
    replay: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "tensor": self.tensor.golden,
            "actual": self.tensor.actual,
            "cause": self.cause.to_json(),
            "operators": [{"name": name, "op": op} for name, op in self.operators],
            "inputs": {name: json_number(value) for name, value in self.inputs.items()},
            "readers": {name: json_number(value) for name, value in self.readers.items()},
            "effect": {name: json_number(value) for name, value in self.effect.items()},
            "replay": self.replay,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], tensor: TensorComparison) -> Culprit:
        """Read what `to_json` wrote; the tensor itself stands elsewhere in the diagnosis."""
        return cls(
            tensor=tensor,
            cause=Cause.from_json(data["cause"]),
            operators=tuple((one["name"], one["op"]) for one in data["operators"]),
            inputs={name: float(value) for name, value in data["inputs"].items()},
            readers={name: float(value) for name, value in data["readers"].items()},
            effect={name: read_number(value) for name, value in data["effect"].items()},
            replay=data["replay"],
        )


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Two executions of one model, tensor by tensor.

    Args:
        golden: What was taken as right.
        actual: What was under test.
        precision: "f32", "bf16" or "f16": which limits were used.
        local: Local errors were measured; without them only accumulated ones, and the first tensor
            beyond its limit need not be the one at fault.
        tensors: One entry a tensor compared, in the golden's order of execution.
        culprits: What is at fault, first in the order of execution first; empty: clean.
        unmatched: Tensors of the engine that were not compared, with the reason.
        golden_only: Tensors of the golden that the engine does not show, with the reason.
        input_problems: How the inputs of the two differ; such a difference is no fault of the
            engine, and nothing behind it is judged.
        identical: Reading the tensors left the engine's outputs as they were, bit for bit; None
            where that could not be checked.
        local_reason: Why local errors were not measured; "" where they were.
    """

    golden: str
    actual: str
    precision: str
    local: bool
    tensors: tuple[TensorComparison, ...]
    culprits: tuple[Culprit, ...]
    unmatched: Mapping[str, str]
    golden_only: Mapping[str, str]
    input_problems: tuple[str, ...] = ()
    identical: bool | None = None
    local_reason: str = ""

    @property
    def passed(self) -> bool:
        """Something was compared, on equal inputs, and nothing is at fault."""
        return bool(self.tensors) and not self.culprits and not self.input_problems

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "golden": self.golden,
            "actual": self.actual,
            "precision": self.precision,
            "local": self.local,
            "passed": self.passed,
            "culprits": [culprit.to_json() for culprit in self.culprits],
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "coverage": {
                "compared": len(self.tensors),
                "unmatched": dict(self.unmatched),
                "golden_only": dict(self.golden_only),
            },
            "input_problems": list(self.input_problems),
            "identical": self.identical,
            "local_reason": self.local_reason,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Diagnosis:
        """Read what `to_json` wrote.

        Raises:
            LookupError: Something is missing.
        """
        tensors = tuple(map(TensorComparison.from_json, data["tensors"]))
        known = {tensor.pair: tensor for tensor in tensors}
        return cls(
            golden=data["golden"],
            actual=data["actual"],
            precision=data["precision"],
            local=data["local"],
            tensors=tensors,
            culprits=tuple(
                Culprit.from_json(one, known[one["tensor"], one["actual"]])
                for one in data["culprits"]
            ),
            unmatched=data["coverage"]["unmatched"],
            golden_only=data["coverage"]["golden_only"],
            input_problems=tuple(data["input_problems"]),
            identical=data["identical"],
            local_reason=data["local_reason"],
        )
