"""A factor or a bias inside the operators: what follows it is run again with the number changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shipway.compare.cause.evidence import Evidence, Explanation, Values, run_piece
from shipway.compare.cause.solving import solve
from shipway.errors import ShipwayError
from shipway.tensors import Tensors
from shipway.trace.golden import Piece

__all__ = ["explain_inner", "inner_gains"]

_MOST_OPERATORS = 8
_ROUNDS = 5
_STEP = 1e-3
_ELEMENTS_PER_NUMBER = 4


@dataclass(frozen=True, slots=True, eq=False)
class _Inner:
    """A tensor inside a piece, and what is done with it afterwards."""

    name: str
    value: Values
    rest: Piece
    feeds: Tensors
    shape: tuple[int, ...]

    def run(self, value: Values) -> Values | None:
        """Return the tensor at the end for another value of this one."""
        fed = {**self.feeds, self.name: value.astype(np.float32)}
        found, _ = run_piece(self.rest, fed, "f32", self.shape)
        return found if found is not None and np.isfinite(found).all() else None

    def run_scaled(self, factor: float) -> Values | None:
        """Return the tensor at the end for this one, scaled."""
        return self.run(factor * self.value)


def inner_gains(evidence: Evidence) -> Iterator[tuple[str, str, Values]]:
    """Yield each operator inside the piece, the factor behind it that fits best, and what that gives.

    What is scaled before a residual sum has no simple shape behind it: each tensor inside the
    piece is computed, scaled, and the rest of the piece run.

    Yields:
        The operator's name, what is different, the tensor at the end.
    """
    for inner in _inner_tensors(evidence):
        factor, found = solve(evidence, inner.run_scaled, 1.0)
        if found is not None:
            yield inner.name, f"as if '{inner.name}' were scaled by {factor:.5g}", found


def explain_inner(evidence: Evidence) -> Explanation | None:
    """Find the operator behind which a constant for each channel gives the tensor.

    A bias before an activation has no simple shape behind it.
    """
    found = [_offsets(evidence, inner) for inner in _inner_tensors(evidence)]
    return min((one for one in found if one), key=lambda one: one.left, default=None)


def _inner_tensors(evidence: Evidence) -> Iterator[_Inner]:
    piece, cut, feeds = evidence.piece, evidence.cut, evidence.feeds
    if piece is None or cut is None or feeds is None:
        return
    for operator in piece.operators[:-1][-_MOST_OPERATORS:]:
        try:
            rest = cut(piece.output, {*piece.inputs, operator.name})
            before = cut(operator.name, piece.inputs)
            value = np.asarray(before.run(feeds))
        except ShipwayError:
            continue  # no tensor that one can start from, or nothing that can be run alone
        if operator.name in rest.inputs and value.dtype.kind not in "iub":
            known = {name: feeds[name] for name in rest.inputs if name in feeds}
            wide = value.astype(np.float64)
            yield _Inner(operator.name, wide, rest, known, evidence.golden.shape)


def _offsets(evidence: Evidence, inner: _Inner) -> Explanation | None:
    """Find a constant for each channel, where what follows works element by element."""
    if inner.value.shape != evidence.golden.shape:
        return None
    for axis in {min(1, inner.value.ndim - 1), inner.value.ndim - 1}:
        count = inner.value.shape[axis]
        if count < 2 or count * _ELEMENTS_PER_NUMBER > inner.value.size:
            continue
        offsets, left = _fit_offsets(evidence, inner, axis)
        if evidence.is_clear(left):
            text = (
                f"as if a constant were added to each slice of '{inner.name}' along axis {axis}, "
                f"from {offsets.min():+.4g} to {offsets.max():+.4g}: a bias that is missing or "
                f"another one; what is left after that is {left:.2g}"
            )
            return Explanation("offset", text, left, inner.name)
    return None


def _fit_offsets(evidence: Evidence, inner: _Inner, axis: int) -> tuple[Values, float]:
    """Gauss-Newton for all channels at once: what follows has one slope for each element."""
    shape = [1] * inner.value.ndim
    shape[axis] = inner.value.shape[axis]
    others = tuple(k for k in range(inner.value.ndim) if k != axis)
    offsets = np.zeros(shape)
    step = _STEP * float(np.abs(inner.value).mean())
    now = inner.run(inner.value)
    for _ in range(_ROUNDS):
        above = inner.run(inner.value + offsets + step)
        if now is None or above is None:
            return offsets, np.inf
        slope = (above - now) / step
        power = (slope**2).sum(axis=others, keepdims=True)
        pull = ((evidence.actual - now) * slope).sum(axis=others, keepdims=True)
        offsets += np.divide(pull, power, out=np.zeros(shape), where=power > 0)
        now = inner.run(inner.value + offsets)
    return offsets, np.inf if now is None else evidence.left(now)
