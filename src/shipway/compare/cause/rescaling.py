"""As if an input of the operators were scaled: a factor before a bias, or another epsilon."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.cause.evidence import Evidence, Values, root_mean_square, run_piece
from shipway.compare.cause.solving import solve
from shipway.tensors import Tensors
from shipway.trace.golden import Piece

__all__ = ["rescaled_inputs"]

_INVARIANT = 0.1
_WIDEST = math.log(1e4)
_GRID = 25
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
    """Find the factor of each input alone."""
    for name in names:
        factor, found = solve(evidence, functools.partial(_run_one, run, name), 1.0)
        if found is not None:
            yield f"as if '{name}' were scaled by {factor:.5g} before", "gain", found


def _run_one(run: Run, name: str, factor: float) -> Values | None:
    return run({name: factor})


def _epsilon(evidence: Evidence, names: list[str], run: Run) -> Iterator[Rescaled]:
    """Search the scale of all inputs together: roughly on a grid, then by steps."""

    def run_at(log_scale: float) -> Values | None:
        if abs(log_scale) > 2 * _WIDEST:
            return None
        return run(dict.fromkeys(names, math.exp(log_scale)))

    def left(log_scale: float) -> float:
        found = run_at(log_scale)
        return math.inf if found is None else evidence.left(found)

    places = np.linspace(-_WIDEST, _WIDEST, _GRID)
    start = float(places[int(np.argmin([left(place) for place in places]))])
    log_scale, found = solve(evidence, run_at, start)
    if found is not None and abs(log_scale) > 0.02:
        text = f"as if epsilon were {math.exp(-2 * log_scale):.3g} times as large"
        yield text, "approximation", found
