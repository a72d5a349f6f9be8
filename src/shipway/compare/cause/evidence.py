"""Two tensors, what rounding alone does to them, and when an explanation of the rest is enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.pairs import check_shapes
from shipway.compare.verdict import limits_for
from shipway.errors import ShipwayError
from shipway.tensors import Tensors, dtype_of
from shipway.trace.golden import Piece

__all__ = [
    "Cut",
    "Evidence",
    "Explanation",
    "Values",
    "gather",
    "root_mean_square",
    "run_piece",
    "spread_out",
]

Values = NDArray[np.float64]
Cut = Callable[[str, Collection[str]], Piece]
"""`Golden.piece`: the operators that lead to a tensor from others."""

_NOISE_MARGIN = 2.0
_MOST_ELEMENTS = 1 << 20
_SAME_PIECE = 1e-3
_NEARLY_ALL = 0.1
_MOST = 0.3
_NEXT_TO_NOTHING = 0.02


@dataclass(frozen=True, slots=True)
class Explanation:
    """One kind of fault that accounts for the error.

    Args:
        kind: One of `compare.causes.CAUSES`.
        text: What is different, with its numbers.
        left: Relative L2 that is left after it.
        operator: The golden's operator at fault, where it is known; "" otherwise.
    """

    kind: str
    text: str
    left: float
    operator: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the explanations are tried on.

    Args:
        golden: Golden's values in float64; 0 where a side is not finite.
        actual: The engine's, likewise.
        error: Their difference.
        precision: "f32", "f16" or "bf16".
        scale: Golden's RMS; that of the engine's tensor where golden is all zero.
        noise: Relative L2 that rounding alone may make.
        piece: The operators before this tensor; None where they are not known, or do not lead to
            golden.
        feeds: What goes into them.
        rounding: The error that rounding alone makes, element by element; None without a piece.
        cut: Cuts other pieces out of the golden; None where only `piece` is at hand.
        note: Why there is no piece, where one was given.
        memo: What an explanation computed, for the second time it is tried.
        strict: An explanation must explain all; else nine tenths of the squared error will do.
    """

    golden: Values
    actual: Values
    error: Values
    precision: str
    scale: float
    noise: float
    piece: Piece | None = None
    feeds: Tensors | None = None
    rounding: Values | None = None
    cut: Cut | None = None
    note: str = ""
    strict: bool = True
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> float:
        """Relative L2 of the error."""
        return root_mean_square(self.error) / self.scale

    def left(self, prediction: Values) -> float:
        """Return the relative L2 between the engine's tensor and what an explanation predicts."""
        return root_mean_square(self.actual - prediction) / self.scale

    @property
    def tolerance(self) -> float:
        """What may be left of an error that is fully explained."""
        growth = max(1.0, root_mean_square(self.actual) / self.scale)
        return _NOISE_MARGIN * self.noise * growth

    def is_enough(self, left: float, size: float | None = None) -> bool:
        """Whether nothing but rounding is left of an error, and most of it is gone.

        Args:
            left: Relative L2 that is left.
            size: That of the error; None means the whole one.
        """
        size = self.size if size is None else size
        if not self.strict:
            return left <= _MOST * size
        return left <= _NEARLY_ALL * size or (left <= self.tolerance and left**2 <= 0.5 * size**2)

    def is_clear(self, left: float, size: float | None = None) -> bool:
        """Whether many numbers, one for each channel say, leave little enough to be believed.

        Args:
            left: Relative L2 that is left.
            size: That of the error; None means the whole one.
        """
        size = self.size if size is None else size
        return left <= _NEXT_TO_NOTHING * size or (left <= self.tolerance and left <= 0.4 * size)


def gather(
    golden: NDArray[Any],
    actual: NDArray[Any],
    precision: str,
    piece: Piece | None = None,
    feeds: Tensors | None = None,
    cut: Cut | None = None,
) -> Evidence:
    """Collect what the explanations need. Runs the piece twice, where there is one.

    Raises:
        TensorError: The shapes differ.
        UsageError: Unknown precision.
    """
    check_shapes(golden, actual)
    is_float = dtype_of(golden.dtype).is_float
    wide, other = (np.atleast_1d(side).astype(np.float64) for side in (golden, actual))
    finite = np.isfinite(wide) & np.isfinite(other)
    wide[~finite] = 0
    other[~finite] = 0
    scale = root_mean_square(wide) or root_mean_square(other) or 1.0
    noise = limits_for(precision, local=True).relative_l2 / 2 if is_float else 0.0
    error = other - wide
    if piece is None or feeds is None or not is_float:
        return Evidence(wide, other, error, precision, scale, noise)
    again, note = run_piece(piece, feeds, "f32", wide.shape)
    if again is None or root_mean_square((again - wide)[finite]) > _SAME_PIECE * scale:
        note = note or "its operators, run again, do not give golden's tensor"
        return Evidence(wide, other, error, precision, scale, noise, note=note)
    rounding = _rounding_error(piece, feeds, precision, wide, finite)
    noise = _noise(precision, noise, rounding, scale)
    return Evidence(wide, other, error, precision, scale, noise, piece, feeds, rounding, cut)


def _rounding_error(
    piece: Piece, feeds: Tensors, precision: str, golden: Values, finite: NDArray[np.bool_]
) -> Values | None:
    """Return the error of the piece in this precision; for f32, that of golden against f64."""
    rounding = "f64" if precision == "f32" else precision
    rounded, _ = run_piece(piece, feeds, rounding, golden.shape)
    if rounded is None:
        return None
    return np.where(finite & np.isfinite(rounded), rounded - golden, 0.0)


def _noise(precision: str, default: float, rounding: Values | None, scale: float) -> float:
    """Return what to expect; an engine may round less than each result, but add up in any order."""
    if rounding is None:
        return default
    measured = root_mean_square(rounding) / scale
    return max(4 * measured, default / 5) if precision == "f32" else max(measured, default / 4)


def run_piece(
    piece: Piece, feeds: Tensors, rounding: str, shape: tuple[int, ...]
) -> tuple[Values | None, str]:
    """Run a piece; return its tensor in float64, or None and why it could not be run."""
    try:
        with np.errstate(all="ignore"):
            found = np.asarray(piece.run(feeds, rounding)).astype(np.float64)
    except ShipwayError as error:
        return None, str(error)
    if found.size != math.prod(shape):
        return None, f"its operators give shape {list(found.shape)}, golden has {list(shape)}"
    return found.reshape(shape), ""


def spread_out(shape: tuple[int, ...], most: int | None = None) -> tuple[slice, ...]:
    """Return slices that keep every 2^k-th place on the longest axes, so that a million are left.

    For fits, whose few numbers a million elements give as well as a hundred millions do.

    Example:
        >>> spread_out((8, 100), 200)
        (slice(None, None, 1), slice(None, None, 4))
    """
    most = _MOST_ELEMENTS if most is None else most
    steps = [1] * len(shape)
    left = list(shape)
    while math.prod(left) > most:
        axis = max(range(len(shape)), key=left.__getitem__)
        steps[axis] *= 2
        left[axis] = -(-shape[axis] // steps[axis])
    return tuple(slice(None, None, step) for step in steps)


def root_mean_square(values: Values) -> float:
    """Return the RMS; 0 of nothing."""
    flat = values.ravel()
    return math.sqrt(float(np.einsum("i,i->", flat, flat)) / flat.size) if flat.size else 0.0
