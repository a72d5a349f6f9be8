"""What rounding to a dtype does by itself, told apart from a fault of the same size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import (
    Evidence,
    Explanation,
    Values,
    gather,
    root_mean_square,
    run_piece,
)
from shipway.compare.cause.nonfinite import explain_nonfinite
from shipway.tensors import Tensors, dtype_of
from shipway.trace.golden import Piece

__all__ = ["explain_other_precision", "explain_rounding", "explains_coarser", "explains_precision"]

_TIMES_ROUNDING = {"f32": 8.0, "f16": 1.5, "bf16": 1.5}
"""An engine in f16 or bf16 rounds no more than every result; one in f32 may add up in an order
that loses more than golden's own does against f64."""
_TIMES_SLICE = 4.0
_GAIN_SHARE = 0.1
_GAIN_SIGMAS = 5
_SMALLEST_ZERO = 1e-3
_COARSER = {"f32": ("f16", "bf16"), "f16": ("bf16",), "bf16": ()}
_ALIKE = 0.3
"""Correlation with the rounding errors of another dtype: a fault has none, and an engine that
rounds only some results has less than one that rounds all."""
_SMALLEST_PART = 0.2


def explains_precision(
    piece: Piece, feeds: Tensors, golden: NDArray[Any], actual: NDArray[Any], precision: str
) -> str:
    """Say that rounding to this precision alone makes such an error, where it does.

    The operators are run again, every input, weight and result rounded (for f32: in f64, which
    shows what golden's own rounding does). The error found must be no larger than that would
    make, as a whole and in every slice, must have no common scale that rounding has not, and no
    zeros of its own: a fault of the size of the rounding, but not of its shape, is no rounding.

    Args:
        piece: The operators before the tensor.
        feeds: The engine's own tensors that go into them.
        golden: What golden gives for these feeds.
        actual: The engine's tensor, same shape.
        precision: "f32", "f16" or "bf16": what the engine computes in.

    Returns:
        One sentence; "" where rounding does not explain the error.

    Raises:
        TensorError: The shapes differ.
        UsageError: Unknown precision.
    """
    if not dtype_of(golden.dtype).is_float or explain_nonfinite(golden, actual, precision, None):
        return ""
    return _rounding_explains(gather(golden, actual, precision, piece, feeds))


def explains_coarser(
    piece: Piece, feeds: Tensors, golden: NDArray[Any], actual: NDArray[Any], precision: str
) -> str:
    """Say that the engine computed this tensor in a coarser dtype than `precision`, where it did.

    OpenVINO does, asked for f16 on a CPU whose matrix units take bf16 alone. Such an error is no
    larger than that dtype makes, and correlated with what it makes, which no other fault's is.

    Args:
        piece: The operators before the tensor.
        feeds: The engine's own tensors that go into them.
        golden: What golden gives for these feeds.
        actual: The engine's tensor, same shape.
        precision: "f32", "f16" or "bf16": what the engine says it computes in.

    Returns:
        One sentence; "" where it did not.

    Raises:
        TensorError: The shapes differ.
        UsageError: Unknown precision.
    """
    if not dtype_of(golden.dtype).is_float or explain_nonfinite(golden, actual, precision, None):
        return ""
    found = explain_other_precision(gather(golden, actual, precision, piece, feeds))
    return found.text if found is not None else ""


def _rounding_explains(evidence: Evidence) -> str:
    """`explains_precision` on evidence that is already there."""
    if evidence.rounding is None:
        return ""
    made = root_mean_square(evidence.rounding) / evidence.scale
    times = _TIMES_ROUNDING[evidence.precision]
    if evidence.size > times * made or _has_scale(evidence) or _has_zeros(evidence):
        return ""
    if any(_has_slice(evidence, axis, times) for axis in range(evidence.golden.ndim)):
        return ""
    how = "f32 instead of f64" if evidence.precision == "f32" else evidence.precision
    return (
        f"precision only: computing the same operators in {how} makes an error of {made:.2g}, "
        f"and {evidence.size:.2g} was found"
    )


def _has_scale(evidence: Evidence) -> bool:
    """Whether the error has a part along golden that rounding does not make."""
    golden, rounding = evidence.golden.ravel(), np.asarray(evidence.rounding).ravel()
    energy = float(golden @ golden)
    if not energy:
        return False
    gain, expected = (
        abs(float(side @ golden)) / energy for side in (evidence.error.ravel(), rounding)
    )
    carriers = energy**2 / float((golden**2) @ (golden**2))
    made = root_mean_square(rounding) / evidence.scale
    return bool(gain > 2 * expected + made * (_GAIN_SHARE + _GAIN_SIGMAS / carriers**0.5))


def _has_zeros(evidence: Evidence) -> bool:
    """Whether zeros stand where golden has none, or the reverse, more than rounding makes."""
    floor = _SMALLEST_ZERO * evidence.scale
    shares = []
    for error in (evidence.error, np.asarray(evidence.rounding)):
        other = evidence.golden + error
        lone = (evidence.golden == 0) ^ (other == 0)
        shares.append(float((lone & (np.abs(error) > floor)).mean()))
    return shares[0] > 2 * shares[1] + 1e-3


def _has_slice(evidence: Evidence, axis: int, times: float) -> bool:
    """Whether one slice is further off than rounding makes any of its like."""
    error, rounding = (
        np.moveaxis(side, axis, 0).reshape(side.shape[axis], -1)
        for side in (evidence.error, np.asarray(evidence.rounding))
    )
    if len(error) < 2:
        return False
    found, made = (np.sqrt((side**2).mean(axis=1)) for side in (error, rounding))
    usual = root_mean_square(rounding)
    fluctuation = 1 + 3 / np.sqrt(error.shape[1])
    return bool((found > max(_TIMES_SLICE, times) * fluctuation * np.maximum(made, usual)).any())


def explain_rounding(evidence: Evidence) -> Explanation | None:
    """Find that rounding alone makes the error, and that there is no fault."""
    sentence = _rounding_explains(evidence)
    return Explanation("precision", sentence, evidence.size) if sentence else None


def explain_other_precision(evidence: Evidence) -> Explanation | None:
    """Find that the engine computes in a coarser dtype than was said: the errors are the same ones."""
    if evidence.piece is None or evidence.feeds is None:
        return None
    for coarser in _COARSER[evidence.precision]:
        rounded, _ = run_piece(evidence.piece, evidence.feeds, coarser, evidence.golden.shape)
        if rounded is None:
            continue
        made = np.nan_to_num(rounded) - evidence.golden
        share = evidence.size * evidence.scale / (root_mean_square(made) or np.inf)
        alike = _correlation(made, evidence.error)
        if alike >= _ALIKE and _SMALLEST_PART <= share <= _TIMES_ROUNDING[coarser]:
            text = (
                f"the error is the one that computing in {coarser} makes (correlation {alike:.2f})"
            )
            return Explanation("precision", f"{text}, not {evidence.precision}", evidence.size)
    return None


def _correlation(left: Values, right: Values) -> float:
    norms = root_mean_square(left) * root_mean_square(right) * left.size
    return float(left.ravel() @ right.ravel()) / norms if norms else 0.0
