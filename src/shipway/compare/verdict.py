"""Limits per precision, and whether a tensor keeps them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from shipway.compare.results import Metrics, Verdict
from shipway.errors import UsageError
from shipway.tensors import dtype_named

__all__ = ["Limits", "gain_limit", "judge", "limits_for", "limits_in"]

_GAIN_SIGMAS = 4
# Six numbers whose errors have nothing in common look like this once in a hundred thousand times.
_PURE_GAIN_SHARE = 0.99
_PURE_GAIN_COUNT = 6


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest values of the metrics that decide, for floating-point tensors.

    Integers and booleans have no limits: they must be equal. Neither has NaN or Inf: the places
    must be the same on both sides.

    Args:
        relative_l2: Largest `Metrics.relative_l2`.
        worst_channel: Largest `Metrics.worst_channel`; also the largest relative L2 of one input
            set of several.
        gain: Largest |`Metrics.gain` - 1|, where it is no accident: see `judge`.
        zero_mismatch: Largest `Metrics.zero_mismatch`, a share in [0, 1].
    """

    relative_l2: float
    worst_channel: float
    gain: float
    zero_mismatch: float

    def to_json(self) -> dict[str, float]:
        """Return plain data."""
        return asdict(self)


_LOCAL = {
    "f32": Limits(1e-5, 4e-5, 1e-6, 1e-3),
    "f16": Limits(2**-9, 2**-7, 3e-4, 1e-3),
    "bf16": Limits(4.5e-3, 1.8e-2, 2e-3, 4e-3),
}
_ACCUMULATED = {
    "f32": Limits(2**-15, 2**-13, 2**-16, 1e-3),
    "f16": Limits(2**-6, 2**-4, 2**-7, 2**-6),
    "bf16": Limits(2**-4, 2**-2, 2**-5, 2**-4),
}


def limits_for(precision: str, *, local: bool = False) -> Limits:
    """Return the limits for an engine that computes in `precision`.

    Args:
        precision: "f32", "f16" or "bf16".
        local: Limits for one operator fed the engine's own inputs, instead of for the outputs of
            a whole model, on the way to which every operator adds its rounding errors.

    Raises:
        UsageError: Unknown precision.

    Example:
        >>> limits_for("f32").relative_l2
        3.0517578125e-05

    Source: Local limits: fault-injection study on a ViT, an LSTM and ResNet-18 in ONNX Runtime and
        OpenVINO (158 faults); clean engines stayed below half of each, but for zeros in bf16: what
        rounds to either side of an activation's bend is 6e-4 of a ResNet's elements, limit 4e-3. In
        bf16 a clean operator has up to 3.8e-3; where several are fused, running them rounded tells.

        Accumulated limits: clean engines (ONNX Runtime f32, OpenVINO f32 and bf16, torch autocast
        f16) on MobileNet v1 and v2 and SqueezeNet (60 photographs each), a 12-layer ViT, an LSTM
        and 27 more trained ONNX models; softmax outputs and detector scores among them. Largest
        value of an output that is within the limits, over all its inputs together:

        ====  ===========  =============  =======  ==============
        ..    relative L2  worst channel  gain     outputs within
        ====  ===========  =============  =======  ==============
        f32   5.1e-6       1.8e-5         8.1e-7   141 of 142
        f16   8.1e-3       2.7e-2         3.1e-3   7 of 9
        bf16  4.0e-2       0.22           1.5e-2   68 of 71
        ====  ===========  =============  =======  ==============

        Beyond them: fns_candy in OpenVINO f32 (1.5e-4, where ONNX Runtime has 7e-7); in f16 and
        bf16 MobileNet v1 0.25 (2.0e-2 and 0.11), in bf16 FastestDet (7.2e-2): the verdict is
        meant. On one photograph alone a softmax may be off by 1.2e-5 in f32, 0.17 in bf16.

        What these limits see: of 108 faults put into MobileNet v2, SqueezeNet and the ViT (one
        weight * 1.02, one channel zeroed, 1 % noise on one weight) all 108 in f32, and 10 in
        bf16, whose own rounding is as large. Prove an engine in f32 first.

        Compare several inputs together. Where a detector finds nothing, its scores are 1e-5, and
        an engine's sigmoid, good to 1e-7, is off by percents; `compare_sets` measures each set
        against no less than the RMS of all.
    """
    table = _LOCAL if local else _ACCUMULATED
    try:
        return table[precision]
    except KeyError:
        raise UsageError(
            f"No limits for the precision '{precision}'.", hint=f"One of: {', '.join(table)}."
        ) from None


def limits_in(verdict: Verdict) -> Limits | None:
    """Return the limits a verdict was given with; None for one on integers, which have none."""
    names = Limits.__dataclass_fields__
    if not names.keys() <= verdict.limits.keys():
        return None
    return Limits(**{name: verdict.limits[name] for name in names})


def judge(metrics: Metrics, dtype: str, limits: Limits) -> Verdict:
    """Hold the metrics of one tensor against its limits.

    NaN and Inf come first: one on one side only fails the tensor, whatever else it holds.
    A tensor without elements passes; one without a single finite element fails, for nothing about
    it was shown. A gain counts as one when it also stands out of the noise, at four times
    `relative_l2` / sqrt(`effective_count`), or is all but the whole error: the gain of a handful of
    numbers with other errors in them is no common scale.

    Args:
        metrics: From `measure`.
        dtype: Golden's dtype; integers and booleans must be equal.
        limits: From `limits_for`; not used for integers and booleans.
    """
    if not dtype_named(dtype).is_float:
        return _judge_exact(metrics)
    in_force = {"nonfinite_mismatches": 0.0, **limits.to_json()}
    reasons = tuple(_broken(metrics, limits))
    return Verdict(not reasons, reasons, in_force)


def _judge_exact(metrics: Metrics) -> Verdict:
    reasons: tuple[str, ...] = ()
    if metrics.mismatches:
        reasons = (f"{metrics.mismatches} of {metrics.count} elements differ; limit 0",)
    return Verdict(not reasons, reasons, {"mismatches": 0.0})


def _broken(metrics: Metrics, limits: Limits) -> Iterator[str]:
    if metrics.nonfinite_mismatches:
        yield (
            f"{metrics.nonfinite_mismatches} of {metrics.count} elements are NaN or Inf on one "
            "side only, or another one; limit 0"
        )
    if metrics.count and metrics.relative_l2 is None:
        yield "no element is finite on both sides, so nothing could be compared"
    if _over(metrics.relative_l2, limits.relative_l2):
        yield f"relative L2 is {metrics.relative_l2:.3g}, limit {limits.relative_l2:.3g}"
    if _over(metrics.worst_channel, limits.worst_channel):
        yield (
            f"relative L2 of slice {metrics.worst_channel_index} on axis "
            f"{metrics.worst_channel_axis} is {metrics.worst_channel:.3g}, "
            f"limit {limits.worst_channel:.3g}"
        )
    if metrics.gain is not None and _is_gain(metrics, metrics.gain, limits.gain):
        yield f"gain is {metrics.gain:.7g}, limit 1 ± {limits.gain:.3g}{_scale_share(metrics)}"
    if _over(metrics.zero_mismatch, limits.zero_mismatch):
        yield (
            f"{metrics.zero_mismatch:.3%} of the elements are zero on one side only, "
            f"limit {limits.zero_mismatch:.3%}"
        )


def _over(value: float | None, limit: float) -> bool:
    return value is not None and not value <= limit  # so that a NaN would fail, never pass


def _gain_share(metrics: Metrics) -> float:
    """Return which share of the squared error one scale factor explains."""
    return float(((metrics.gain or 0.0) - 1) ** 2 / (metrics.relative_l2 or math.inf) ** 2)


def _scale_share(metrics: Metrics) -> str:
    """Say so where one scale factor explains nearly all of the error."""
    share = _gain_share(metrics)
    return f"; this scale error is {min(share, 1):.0%} of the squared error" if share > 0.9 else ""


def gain_limit(metrics: Metrics, limit: float) -> float:
    """Return how far `Metrics.gain` may be from 1: its limit, or the noise where that is more.

    Args:
        metrics: From `measure`.
        limit: `Limits.gain`.
    """
    count = metrics.effective_count or 1.0
    if count >= _PURE_GAIN_COUNT and _gain_share(metrics) > _PURE_GAIN_SHARE:
        return limit
    return max(limit, _GAIN_SIGMAS * (metrics.relative_l2 or 0.0) / math.sqrt(count))


def _is_gain(metrics: Metrics, gain: float, limit: float) -> bool:
    return _over(abs(gain - 1), gain_limit(metrics, limit))
