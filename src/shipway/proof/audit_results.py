"""An audit as plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Audit", "AuditCoverage", "AuditFinding", "Dim", "Place", "Seen", "Severity"]

Severity = Literal["error", "warning", "info"]
Dim = int | str | None
"""A declared size: a number, a name or formula, or nothing."""

_ORDER: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the graph and in the model's code a value is computed.

    Args:
        node: Name of the node, or of what it computes where it has none; "" for an input.
        op: Its operator.
        module: Path of the module, where the file or its name map knows it.
        source: Line of the code, e.g. "net.py:18: return x.view(3, -1)"; "" where nobody knows.
    """

    node: str = ""
    op: str = ""
    module: str = ""
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"node": self.node, "op": self.op, "module": self.module, "source": self.source}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one run returned.

    Args:
        sizes: Sizes of the dynamic dimensions.
        came: Shape or dtype that came out, or why nothing did.
    """

    sizes: Mapping[str, int]
    came: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"sizes": dict(self.sizes), "came": self.came}


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing the file says that execution does not confirm.

    Args:
        severity: "error": false. "warning": probably not what is wanted. "info": good to know.
        kind: "false-shape", "false-dtype", "fails", "fixed-dim", "ignored-dim", "merged-dim",
            "one-name", "equal-names" or "independent"; "lost-size" in the proof of an export.
        value: The value or dimension it is about.
        message: What was declared, and what came.
        declared: The declaration, as text; "" where the finding is about none.
        seen: Runs that show it, one for each different result.
        place: Where the value is computed.
        hint: What to do.
    """

    severity: Severity
    kind: str
    value: str
    message: str
    declared: str = ""
    seen: tuple[Seen, ...] = ()
    place: Place = field(default_factory=Place)
    hint: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "severity": self.severity,
            "kind": self.kind,
            "value": self.value,
            "message": self.message,
            "declared": self.declared,
            "seen": [one.to_json() for one in self.seen],
            "place": self.place.to_json(),
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class AuditCoverage:
    """Which declarations were held against execution.

    Args:
        checked: Number of values whose declaration was checked.
        unchecked: Names of the others, by the reason.
    """

    checked: int
    unchecked: Mapping[str, tuple[str, ...]]

    @property
    def total(self) -> int:
        """Number of all values that nodes compute."""
        return self.checked + sum(map(len, self.unchecked.values()))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "checked": self.checked,
            "total": self.total,
            "unchecked": {reason: list(names) for reason, names in self.unchecked.items()},
        }


@dataclass(frozen=True, slots=True)
class Audit:
    """What a file declares, held against what it does.

    Args:
        model: The file.
        findings: Errors first, outputs before what lies inside.
        coverage: How much was checked.
        sizes: Sets of sizes at which the model ran.
        outputs: Names of the model's outputs.
        notes: What was not tried, and why.
    """

    model: str
    findings: tuple[AuditFinding, ...]
    coverage: AuditCoverage
    sizes: tuple[Mapping[str, int], ...]
    outputs: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """The model ran, and nothing it declares is false."""
        return bool(self.sizes) and not self.counts["error"]

    @property
    def counts(self) -> dict[Severity, int]:
        """How many findings there are of each severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in _ORDER}

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "model": self.model,
            "passed": self.passed,
            "counts": dict(self.counts),
            "coverage": self.coverage.to_json(),
            "sizes": [dict(one) for one in self.sizes],
            "outputs": list(self.outputs),
            "findings": [finding.to_json() for finding in self.findings],
            "notes": list(self.notes),
        }
