"""A proof as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shipway.compare.results import Comparison, json_number
from shipway.proof.audit_results import AuditFinding

__all__ = ["Proof", "Trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One input set: where it came from, the sizes of the dynamic dimensions, what came out."""

    inputs: str
    sizes: dict[str, int]
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "inputs": self.inputs,
            "sizes": self.sizes,
            "comparison": self.comparison.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Proof:
    """Before and after, run side by side on several inputs.

    Args:
        step: What was proved, e.g. "export".
        trials: One entry an input set.
        notes: What was not tried, and why.
        findings: What an export's file promises of dynamic dimensions and does not keep.
    """

    step: str
    trials: tuple[Trial, ...]
    notes: tuple[str, ...] = ()
    findings: tuple[AuditFinding, ...] = ()

    @property
    def passed(self) -> bool:
        """At least one trial compared an element, all passed, and no finding is an error."""
        compared = any(
            output.metrics.count for trial in self.trials for output in trial.comparison.outputs
        )
        false = any(finding.severity == "error" for finding in self.findings)
        return compared and not false and all(trial.comparison.passed for trial in self.trials)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it failed: each reason once, with the output it is about."""
        found = [
            f"{output.name}: {reason}"
            for trial in self.trials
            for output in trial.comparison.outputs
            for reason in output.verdict.reasons
        ]
        skipped = [
            f"{name}: {why}"
            for trial in self.trials
            for name, why in trial.comparison.coverage.skipped.items()
        ]
        return tuple(dict.fromkeys([*found, *skipped]))

    @property
    def worst_relative_l2(self) -> float | None:
        """Largest relative L2 over all trials and outputs; None where no output has one."""
        found = [
            output.metrics.relative_l2
            for trial in self.trials
            for output in trial.comparison.outputs
            if output.metrics.relative_l2 is not None
        ]
        return max(found, default=None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "step": self.step,
            "passed": self.passed,
            "worst_relative_l2": json_number(self.worst_relative_l2),
            "notes": list(self.notes),
            "findings": [finding.to_json() for finding in self.findings],
            "trials": [trial.to_json() for trial in self.trials],
        }
