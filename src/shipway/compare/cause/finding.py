"""Why one tensor is wrong: every explanation tried, in the order that makes the fewest mistakes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.bends import explain_bends
from shipway.compare.cause.bounds import explain_bounds
from shipway.compare.cause.channel import explain_channel
from shipway.compare.cause.curve import explain_curve
from shipway.compare.cause.evidence import Cut, Evidence, Explanation, gather, root_mean_square
from shipway.compare.cause.hypotheses import Trials, try_variants
from shipway.compare.cause.inner import explain_inner
from shipway.compare.cause.layout import explain_layout
from shipway.compare.cause.nonfinite import explain_nonfinite
from shipway.compare.cause.precision import explain_other_precision, explain_rounding
from shipway.compare.cause.scale import explain_scale
from shipway.compare.cause.weights import constants_of, explain_weights
from shipway.compare.diagnosis import Cause
from shipway.compare.pairs import check_shapes
from shipway.compare.verdict import limits_for
from shipway.tensors import Tensors
from shipway.trace.golden import Piece

__all__ = ["find_cause"]

_UNLIKE = 0.9
_EVEN = 0.1
_LONGEST_PROBLEM = 80
_MOST_NAMED = 5
_CLEARLY_LESS = 0.3

Explain = Callable[[Evidence], Explanation | None]

_IN_ORDER: tuple[Explain, ...] = (
    explain_rounding,
    explain_other_precision,
    explain_layout,
    explain_bounds,
    explain_channel,
    explain_bends,
    explain_scale,
    explain_inner,
    explain_curve,
    explain_weights,
)
_AT_LAST: tuple[Explain, ...] = (
    explain_layout,
    explain_bounds,
    explain_channel,
    explain_bends,
    explain_scale,
    explain_curve,
)
"""Those that say something else where less is enough for them."""


def find_cause(
    golden: NDArray[Any],
    actual: NDArray[Any],
    *,
    precision: str,
    piece: Piece | None = None,
    feeds: Tensors | None = None,
    cut: Cut | None = None,
) -> Cause:
    """Say what kind of fault makes a tensor wrong, with the numbers that show it.

    NaN and Inf come first. Then the usual mistakes with the operators before the tensor are made
    on purpose and compared with what the engine gave: such a variant has nothing to fit, so one
    that gives the engine's numbers is as good as proof. Then rounding is held against the error,
    as `explains_precision` does. Then come shapes of the error, from those
    that leave nothing to choose (the same numbers in other places) to those with a number for
    each channel. An explanation must leave no more than rounding does, or a tenth of the error.
    Only where none does, one that explains nine tenths of the squared error is taken.

    Needs about six float64 copies of the tensor, and runs the operators a hundred times at most
    besides their variants: for the few tensors that are at fault, not for all.

    Args:
        golden: What golden gives for the engine's own inputs. Any shape, any dtype.
        actual: The engine's tensor; same shape.
        precision: "f32", "f16" or "bf16": what the engine computes in.
        piece: The operators between the last right tensors and this one; None where there is none
            to run.
        feeds: The engine's own tensors for `piece.inputs`.
        cut: The golden's `piece`, to look at tensors inside `piece` as well.

    Raises:
        TensorError: The shapes differ, or a dtype is none of Shipway's.
        UsageError: Unknown precision.
    """
    limits_for(precision)
    check_shapes(golden, actual)
    if not golden.size:
        return Cause("unknown", "the tensor has no element")
    odd = explain_nonfinite(golden, actual, precision, feeds)
    if odd is not None:
        return _cause(odd, piece)
    evidence = gather(golden, actual, precision, piece, feeds, cut)
    if not evidence.error.any():
        return Cause("unknown", "both tensors are equal")
    with np.errstate(all="ignore"):
        trials = try_variants(evidence)
        found = _first(evidence, trials) or _first(replace(evidence, strict=False), trials)
        return _cause(found or _remainder(evidence, trials), piece)


def _first(evidence: Evidence, trials: Trials) -> Explanation | None:
    """Return a variant that leaves rounding alone; else the shape, unless a variant leaves less."""
    variant = trials.best(evidence)
    if variant is not None and variant.left <= evidence.tolerance:
        return variant
    explanations = _IN_ORDER if evidence.strict else _AT_LAST
    shape = next((found for explain in explanations if (found := explain(evidence))), None)
    if variant is None or (shape is not None and shape.left < _CLEARLY_LESS * variant.left):
        return shape
    return variant


def _cause(found: Explanation, piece: Piece | None) -> Cause:
    """Name the operator; where the explanation does not, a piece of one operator does."""
    operator = found.operator
    if not operator and piece is not None and len(piece.operators) == 1:
        operator = piece.operators[0].name
    return Cause(found.kind, found.text, operator)


def _remainder(evidence: Evidence, trials: Trials) -> Explanation:
    """Say what is known of an error that nothing explains."""
    cosine = _cosine(evidence)
    numbers = f"relative L2 {evidence.size:.3g}, cosine {cosine:.4f}"
    if cosine < _UNLIKE and evidence.size > 0.3:
        text = f"has little to do with golden: {numbers}; computed from something else"
        return Explanation("input", text, evidence.size)
    excluded = "; ".join(_excluded(evidence, trials))
    if evidence.piece is not None and _is_even(evidence):
        read = ", ".join((*constants_of(evidence), *evidence.piece.inputs)[:_MOST_NAMED])
        text = (
            f"an error without structure, spread as golden is ({numbers}); {excluded}. What "
            f"remains is that something else was read in place of one of {read}"
        )
        return Explanation("input", text, evidence.size)
    return Explanation("unknown", f"{numbers}; {excluded}", evidence.size)


def _excluded(evidence: Evidence, trials: Trials) -> Iterator[str]:
    yield "no scale, constant, bound, order or function of golden explains it"
    if trials.tried:
        yield f"nor does any of {trials.tried} variants of the operators"
    if trials.failed:
        title, problem = trials.failed[0]
        problem = textwrap.shorten(problem, _LONGEST_PROBLEM, placeholder=" ...")
        yield f"{len(trials.failed)} more could not be run ({title}: {problem})"
    if evidence.rounding is not None:
        made = root_mean_square(evidence.rounding) / evidence.scale
        yield f"rounding to {evidence.precision} makes {made:.2g}"
    if evidence.note:
        yield evidence.note


def _cosine(evidence: Evidence) -> float:
    norms = root_mean_square(evidence.golden) * root_mean_square(evidence.actual)
    product = float(evidence.golden.ravel() @ evidence.actual.ravel()) / evidence.golden.size
    return product / norms if norms else 0.0


def _is_even(evidence: Evidence) -> bool:
    """Whether the error is spread over the slices much as golden is."""
    for axis, size in enumerate(evidence.error.shape):
        if size > 1:
            error, golden = (
                (np.moveaxis(side, axis, 0).reshape(size, -1) ** 2).sum(axis=1)
                for side in (evidence.error, evidence.golden)
            )
            if _carriers(error) < _EVEN * _carriers(golden):
                return False
    return True


def _carriers(energies: NDArray[np.float64]) -> float:
    """Return how many slices carry the energy: all of them where all carry the same."""
    total = float(energies.sum())
    return total**2 / float((energies**2).sum()) if total else 0.0
