"""What a comparison found, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = [
    "Comparison",
    "Coverage",
    "Metrics",
    "OutputComparison",
    "Verdict",
    "json_number",
    "read_number",
]


def json_number(value: float | None) -> float | str | None:
    """Return a number the way JSON can hold it: an infinite one as the text "inf" or "-inf".

    Example:
        >>> json_number(0.5), json_number(math.inf)
        (0.5, 'inf')
    """
    return str(value) if value in {math.inf, -math.inf} else value


def read_number(value: float | str | None) -> float | None:
    """Return what `json_number` wrote as a number.

    Example:
        >>> read_number(0.5), read_number("-inf"), read_number(None)
        (0.5, -inf, None)
    """
    return float(value) if isinstance(value, str) else value


@dataclass(frozen=True, slots=True)
class Metrics:
    """How far `actual` is from `golden`, element by element, computed in float64.

    Integers and booleans use the same fields; only `mismatches` decides for them. Fields that have
    no meaning for the tensor (no element, no finite element) are None, never NaN. An infinite one
    is the text "inf" in JSON, which has no number for it.

    Args:
        count: Elements compared.
        mismatches: Elements that are not equal (NaN equals NaN here).
        nonfinite_mismatches: Elements where one side is NaN or Inf and the other is not, or is
            another one. They are left out of every number below.
        relative_l2: ||actual - golden|| / ||golden||; inf where golden is all zero and actual is not.
        worst_channel: Largest relative L2 of one slice along axis 0, axis 1 or the last axis: a
            sample, a channel, a feature. A slice whose golden values are small is measured
            against the RMS of the whole tensor, so that one near zero does not explode.
        worst_channel_index: That slice (the first of a run of 2^k, past a million slices).
        gain: <actual, golden> / <golden, golden>; 1 means no common scale error. None where golden
            is all zero.
        zero_mismatch: Share of elements that are exactly zero on one side only, while the other
            side is more than a rounding error: above 1/1000 of golden's RMS, give or take a
            factor of two (a power of two decides).
        cosine: Cosine of the angle between the two, in [-1, 1].
        max_abs: Largest absolute difference.
        max_rel: Largest |actual - golden| / |golden| over elements with golden != 0.
        mean_rel: Mean of the same.
        rmse: Root of the mean squared difference.
        snr_db: 10 log10(||golden||^2 / ||actual - golden||^2); None where there is no difference or
            golden is all zero.
        max_ulp: Largest distance in representable values of the narrower of the two dtypes; None
            for integers.
        worst_channel_axis: Axis along which `worst_channel` is a slice.
        effective_count: ||golden||_2^4 / ||golden||_4^4: how many elements carry golden. All of
            them where all have one magnitude, 1 where one outweighs the rest.
        psnr_db: 20 log10(peak / RMSE), the peak being golden's largest magnitude, whatever its sign
            (not its largest value, nor the span of its values); None where `snr_db` is.
        kl_divergence: Mean over rows of sum p log(p / q), p a row of golden along the last axis and
            q that of actual, as it is, not normalised: below 0 where q adds up to more than p. inf
            where q is 0 or less and p is not. None unless every row of golden is a distribution:
            floats, two or more, none negative, adding up to 1 within 1 %; NaN or Inf on no side.
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
    worst_channel_axis: int | None = None
    effective_count: float | None = None
    psnr_db: float | None = None
    kl_divergence: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {name: json_number(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Metrics:
        """Read what `to_json` wrote."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        numbers: dict[str, Any] = {name: read_number(value) for name, value in known.items()}
        return cls(**numbers)


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
        limits = {name: json_number(limit) for name, limit in self.limits.items()}
        return {"passed": self.passed, "reasons": list(self.reasons), "limits": limits}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Read what `to_json` wrote."""
        limits = {name: float(limit) for name, limit in data["limits"].items()}
        return cls(data["passed"], tuple(data["reasons"]), limits)


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
