"""What a trace says: about the execution as a whole, and about each tensor of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shipway.engines.tapping import Tap, TapCheck
from shipway.trace.statistics import Statistics

__all__ = ["SCHEMA_VERSION", "InputRecord", "TensorRecord", "TraceHeader"]

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class InputRecord:
    """One input of the run: what it was, so that another run can be seen to have had the same.

    Args:
        dtype: Element type.
        shape: Sizes.
        crc: CRC-32 of its bytes in C order.
    """

    dtype: str
    shape: tuple[int, ...]
    crc: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"dtype": self.dtype, "shape": list(self.shape), "crc": self.crc}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> InputRecord:
        """Read what `to_json` wrote."""
        return cls(data["dtype"], tuple(data["shape"]), data["crc"])


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """One tensor of a trace.

    Args:
        tap: What is known of it besides its values.
        dtype: Element type, by Shipway's name.
        shape: Sizes, as it is handed out.
        statistics: Its numbers; None where an importer has only some of them.
        file: Name of its .npy file in the folder of the trace; None: its values were not kept.
        facts: Numbers that another tool wrote of it, where neither its values nor all of its
            statistics are known: any of `min`, `max`, `mean`, `l2`, `nan_count`, `inf_count`.
    """

    tap: Tap
    dtype: str
    shape: tuple[int, ...]
    statistics: Statistics | None = None
    file: str | None = None
    facts: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The tap's name, by which the trace knows the tensor."""
        return self.tap.name

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.tap.to_json(),
            "dtype": self.dtype,
            "shape": list(self.shape),
            "statistics": None if self.statistics is None else self.statistics.to_json(),
            "file": self.file,
            **({"facts": dict(self.facts)} if self.facts else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorRecord:
        """Read what `to_json` wrote."""
        found = data["statistics"]
        statistics = None if found is None else Statistics.from_json(found)
        return cls(
            Tap.from_json(data),
            data["dtype"],
            tuple(data["shape"]),
            statistics,
            data["file"],
            data.get("facts", {}),
        )


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """What a trace was taken from.

    Args:
        engine: Engine and precision as `Target` writes them, or the tool that an importer read.
        precision: "f32", "bf16" or "f16": what was really computed in.
        model: Path of the model; "" where that is not known.
        model_sha256: Its hash; "" where that is not known.
        inputs: Every input of the run by name; empty where they are not known.
        effective: What was in force, as the session says it.
        untapped: What the engine computed and could not show, with the reason.
        left_out: Tensors that were not asked for (--names, --op-type): how many.
        check: Whether tapping changed the result; None where nobody could check.
        versions: Versions of Shipway and of what it ran on.
        complete: Every tensor asked for is there.
    """

    engine: str
    precision: str
    model: str = ""
    model_sha256: str = ""
    inputs: Mapping[str, InputRecord] = field(default_factory=dict)
    effective: Mapping[str, str] = field(default_factory=dict)
    untapped: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
    check: TapCheck | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False

    def finished(self, check: TapCheck | None) -> TraceHeader:
        """Return the header of the finished trace."""
        return replace(self, check=check, complete=True)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        check = self.check
        return {
            "schema_version": SCHEMA_VERSION,
            "engine": self.engine,
            "precision": self.precision,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "inputs": {name: one.to_json() for name, one in self.inputs.items()},
            "effective": dict(self.effective),
            "untapped": dict(self.untapped),
            "left_out": self.left_out,
            "check": None
            if check is None
            else {"identical": check.identical, "perturbed": dict(check.perturbed)},
            "versions": dict(self.versions),
            "complete": self.complete,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TraceHeader:
        """Read what `to_json` wrote."""
        check = data["check"]
        return cls(
            engine=data["engine"],
            precision=data["precision"],
            model=data["model"],
            model_sha256=data["model_sha256"],
            inputs={name: InputRecord.from_json(one) for name, one in data["inputs"].items()},
            effective=data["effective"],
            untapped=data["untapped"],
            left_out=data["left_out"],
            check=None if check is None else TapCheck(check["identical"], check["perturbed"]),
            versions=data["versions"],
            complete=data["complete"],
        )
