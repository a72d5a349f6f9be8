"""A scale or a constant: which of the fitted models is the simplest that is enough."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.bounds import at_bound
from shipway.compare.cause.evidence import (
    Evidence,
    Explanation,
    Values,
    root_mean_square,
    spread_out,
)
from shipway.compare.cause.inner import inner_gains
from shipway.compare.cause.models import Model, fit_models
from shipway.compare.cause.rescaling import rescaled_inputs

__all__ = ["explain_scale"]

_FEWEST = 8
_BETTER = 2.0
_FEW = 2
_AS_GOOD = 1.1
_SMALLEST_SHARE = 0.02
_OUTSIDE_SHARE = 0.3


def explain_scale(evidence: Evidence) -> Explanation | None:
    """Fit factors and constants, and take the model with the fewest that leaves the least.

    A model counts as better only where it leaves half of what a simpler one does. Elements at a
    bound that many share (the zeros behind a ReLU) show nothing about a scale and are left out;
    most of the error must lie in the others. A number for each channel fits much of an error that
    has nothing to do with it, where the channels are what varies: it must leave next to nothing.
    """
    free = ~(_held(evidence.golden) | _held(evidence.actual))
    if free.sum() < max(_FEWEST, _SMALLEST_SHARE * free.size):
        return None
    outside = float((evidence.error[~free] ** 2).sum())
    if outside > _OUTSIDE_SHARE * float((evidence.error**2).sum()):
        return None
    fits: list[_Fit] = evidence.memo.get("fits") or list(_fits(evidence, free))
    evidence.memo["fits"] = fits
    least = min(fit.left for fit in fits)
    good = [fit for fit in fits if fit.left <= _BETTER * least]
    fewest = min(fit.parameters for fit in good)
    simplest = [fit for fit in good if fit.parameters == fewest]
    least = min(fit.left for fit in simplest)
    fit = next(fit for fit in simplest if fit.left <= _AS_GOOD * least)
    size = root_mean_square(evidence.error[free]) / evidence.scale
    if not evidence.is_enough(fit.left, size):
        return None
    if fit.parameters > _FEW and not evidence.is_clear(fit.left, size):
        return None
    text = f"{fit.text}; what is left after that is {fit.left:.2g}"
    return Explanation(fit.kind, text, fit.left, fit.operator)


@dataclass(frozen=True, slots=True)
class _Fit:
    """A model without its prediction, and what it leaves."""

    kind: str
    text: str
    parameters: int
    left: float
    operator: str = ""


def _held(values: Values) -> NDArray[np.bool_]:
    """Return where values sit at their smallest or largest one, where several do."""
    held = np.zeros(values.shape, bool)
    if values.min() == values.max():
        return held
    for bound in (values.min(), values.max()):
        sits = at_bound(values, bound)
        if sits.sum() >= max(3, 1e-3 * values.size):
            held |= sits
    return held


def _fits(evidence: Evidence, free: NDArray[np.bool_]) -> Iterator[_Fit]:
    """Fit one model after the other; only one prediction is held at a time.

    Tensors inside the piece are looked at where no simple model leaves rounding alone.
    """
    cut = spread_out(free.shape)
    golden, whole, free = evidence.golden[cut], evidence.actual[cut], free[cut]
    actual = whole[free]
    least = math.inf
    rescaled = (
        Model(kind, text, prediction[cut][free], 1)
        for text, kind, prediction in rescaled_inputs(evidence)
    )
    for model in itertools.chain(fit_models(golden, whole, free), rescaled):
        left = _left(evidence, model, actual)
        least = min(least, left) if model.parameters <= _FEW else least
        yield _Fit(model.kind, model.text, model.parameters, left)
    if least > evidence.tolerance:
        for operator, text, prediction in inner_gains(evidence):
            left = _left(evidence, Model("gain", text, prediction[cut][free], 1), actual)
            yield _Fit("gain", text, 1, left, operator)


def _left(evidence: Evidence, model: Model, actual: Values) -> float:
    """Return what a model leaves, corrected for the numbers it was allowed to choose."""
    if 2 * model.parameters > actual.size:
        return math.inf
    left = root_mean_square(actual - model.prediction) / evidence.scale
    return left * math.sqrt(actual.size / (actual.size - model.parameters))
