"""As if an input of the operators were scaled: a factor before a bias, or another epsilon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import Evidence, Values, root_mean_square, run_piece
from shipway.tensors import Tensors
from shipway.trace.golden import Piece

__all__ = ["rescaled_inputs"]

_STEP = 1.0 / 64
_INVARIANT = 0.1
_WIDEST = math.log(1e4)
_GRID = 25
_REFINEMENTS = 14
_GOLDEN_SECTION = (math.sqrt(5) - 1) / 2
_MOST_FEEDS = 4

Rescaled = tuple[str, str, Values]


def rescaled_inputs(evidence: Evidence) -> Iterator[Rescaled]:
    """Yield what is different, the kind of fault, and the tensor the operators then give.

    A weight that is too large by a factor acts like an input that is: whatever the operators do
    afterwards (a bias, an activation, a softmax) is done by running them. Operators that do not
    care about a common scale of their inputs normalize; of them the scale shows one thing alone,
    the size of epsilon beside the variance: scaling by s is dividing epsilon by s squared.
    """
    if evidence.piece is None or evidence.feeds is None:
        return
    names = [name for name, value in evidence.feeds.items() if _is_float(value)]
    run = _runner(evidence.piece, evidence.feeds, evidence.golden.shape)
    both = run(dict.fromkeys(names, 1.5)) if names else None
    if both is None:
        return
    if root_mean_square(both - evidence.golden) < _INVARIANT * evidence.scale:
        yield from _epsilon(evidence, names, run)
    else:
        yield from _gains(evidence, names[:_MOST_FEEDS], run)


Run = Callable[[Mapping[str, float]], Values | None]


def _is_float(value: NDArray[Any]) -> bool:
    return value.dtype.kind not in "iub"


def _runner(piece: Piece, feeds: Tensors, shape: tuple[int, ...]) -> Run:
    """Return a function that runs the piece with some inputs scaled; None where that fails."""

    def run(factors: Mapping[str, float]) -> Values | None:
        scaled = {
            name: (value * value.dtype.type(factors[name])).astype(value.dtype)
            if name in factors
            else value
            for name, value in feeds.items()
        }
        found, _ = run_piece(piece, scaled, "f32", shape)
        return found if found is not None and np.isfinite(found).all() else None

    return run


def _gains(evidence: Evidence, names: list[str], run: Run) -> Iterator[Rescaled]:
    """Find the factor of each input by two secant steps, the first from 1 to 1 + 1/64."""
    for name in names:
        factor, before, step = 1.0, evidence.golden, _STEP
        for _ in range(3):
            after = run({name: factor + step})
            if after is None:
                break
            slope = (after - before) / step
            power = float((slope**2).sum())
            if not power:
                break
            change = float(((evidence.actual - before) * slope).sum()) / power
            factor += min(max(change, -2.0), 2.0)
            found = run({name: factor})
            if found is None:
                break
            before, step = found, max(abs(change) / 16, 1e-4)
        else:
            yield f"as if '{name}' were scaled by {factor:.5g} before", "gain", before


def _epsilon(evidence: Evidence, names: list[str], run: Run) -> Iterator[Rescaled]:
    """Search the scale of all inputs together, on a grid and then by golden section."""

    def left(log_scale: float) -> float:
        found = run(dict.fromkeys(names, math.exp(log_scale)))
        return math.inf if found is None else evidence.left(found)

    places = np.linspace(-_WIDEST, _WIDEST, _GRID)
    best = int(np.argmin([left(place) for place in places]))
    low, high = float(places[max(0, best - 1)]), float(places[min(_GRID - 1, best + 1)])
    for _ in range(_REFINEMENTS):
        inner = high - _GOLDEN_SECTION * (high - low)
        outer = low + _GOLDEN_SECTION * (high - low)
        low, high = (low, outer) if left(inner) <= left(outer) else (inner, high)
    middle = (low + high) / 2
    found = run(dict.fromkeys(names, math.exp(middle)))
    if found is not None and abs(middle) > 0.02:
        text = f"as if epsilon were {math.exp(-2 * middle):.3g} times as large"
        yield text, "approximation", found
