"""What a comparison found, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Comparison", "Coverage", "Metrics", "OutputComparison", "Verdict"]


@dataclass(frozen=True, slots=True)
class Metrics:
    """How far `actual` is from `golden`, element by element, computed in float64.

    Integers and booleans use the same fields; only `mismatches` decides for them. Fields that have
    no meaning for the tensor (no element, no finite element) are None, never NaN.

    Args:
        count: Elements compared.
        mismatches: Elements that are not equal (NaN equals NaN here).
        nonfinite_mismatches: Elements where one side is NaN or Inf and the other is not, or is
            another one. They are left out of every number below.
        relative_l2: ||actual - golden|| / ||golden||; inf where golden is all zero and actual is not.
        worst_channel: Largest relative L2 of one channel (axis 1; axis 0 below rank 2).
        worst_channel_index: That channel; None where there are no channels.
        gain: <actual, golden> / <golden, golden>; 1 means no common scale error.
        zero_mismatch: Share of elements that are exactly zero on one side only.
        cosine: Cosine of the angle between the two, in [-1, 1].
        max_abs: Largest absolute difference.
        max_rel: Largest |actual - golden| / |golden| over elements with golden != 0.
        mean_rel: Mean of the same.
        rmse: Root of the mean squared difference.
        snr_db: 10 log10(||golden||^2 / ||actual - golden||^2); None where there is no difference.
        max_ulp: Largest distance in representable values of the narrower of the two dtypes; None
            for integers.
    """

    count: int
    mismatches: int
    nonfinite_mismatches: int
    relative_l2: float | None
    worst_channel: float | None
    worst_channel_index: int | None
    gain: float | None
    zero_mismatch: float | None
    cosine: float | None
    max_abs: float | None
    max_rel: float | None
    mean_rel: float | None
    rmse: float | None
    snr_db: float | None
    max_ulp: int | None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a tensor is within its limits, and which it breaks.

    Args:
        passed: True when no limit is broken.
        reasons: One sentence a broken limit, with the value and the limit.
        limits: The limits in force, by metric name.
    """

    passed: bool
    reasons: tuple[str, ...]
    limits: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"passed": self.passed, "reasons": list(self.reasons), "limits": self.limits}


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """One tensor compared: its metrics over all input sets together, and the verdict."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    metrics: Metrics
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "metrics": self.metrics.to_json(),
            "verdict": self.verdict.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was compared and what was not.

    Args:
        compared: Tensors compared.
        skipped: Name of each tensor left out, with the reason.
    """

    compared: int
    skipped: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"compared": self.compared, "skipped": dict(self.skipped)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two executions compared, tensor by tensor.

    Args:
        golden: What was taken as right (engine or file).
        actual: What was under test.
        precision: "f32", "bf16" or "f16": which limits were used.
        outputs: One entry a tensor that both sides have.
        coverage: Counts, and what was skipped and why. A skipped tensor fails the comparison.
    """

    golden: str
    actual: str
    precision: str
    outputs: tuple[OutputComparison, ...]
    coverage: Coverage

    @property
    def passed(self) -> bool:
        """Every tensor was compared, at least one, and all are within their limits."""
        all_passed = all(output.verdict.passed for output in self.outputs)
        return bool(self.outputs) and all_passed and not self.coverage.skipped

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": 1,
            "golden": self.golden,
            "actual": self.actual,
            "precision": self.precision,
            "passed": self.passed,
            "outputs": [output.to_json() for output in self.outputs],
            "coverage": self.coverage.to_json(),
        }
