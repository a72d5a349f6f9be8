"""What the last digit of its inputs does to a tensor: an error that large is no fault.

An engine may hold more digits of a value than can be read of it, and golden may hold fewer than
float64. Where an operator magnifies them (a sigmoid far from zero, a difference of nearly equal
numbers), either shows as an error of the tensor behind it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.metrics import measure
from shipway.compare.results import Metrics
from shipway.compare.verdict import Limits, judge
from shipway.errors import EngineError
from shipway.tensors import Tensors, dtype_of
from shipway.trace.golden import Piece

__all__ = ["explains_conditioning"]

_UNIT_ROUNDOFF = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}
_TIMES = 2.0
_TIMES_PART = 3.0  # one channel, or the common scale, is fewer numbers: chance moves it further
_GAIN_SHARE = 0.5  # of what rounding moves, a quarter of the squared error, may be one scale
_TIMES_RECURRENT = 3.0  # every step rounds; running the operator rounded rounds its end only
_MOST = {"f32": 0.05, "f16": 0.1, "bf16": 0.2}
"""What rounding is believed to do at most: beyond it, the run in float64 is not."""
_SEEDS = (1, 2)


def explains_conditioning(
    piece: Piece, feeds: Tensors, actual: NDArray[Any], limits: Limits, precision: str
) -> str:
    """Say that the last digits of the inputs and weights make such an error, where they do.

    Args:
        piece: The operators before the tensor.
        feeds: The engine's own tensors that go into them.
        actual: The engine's tensor, of floats.
        limits: The limits it breaks.
        precision: "f32", "f16" or "bf16": in which the engine holds its values.

    Returns:
        One sentence; "" where they do not explain the error, or where the operators cannot be run
        in float64.
    """
    try:
        exact = piece.run(feeds, "f64").reshape(actual.shape)
        moved = [
            measure(exact, piece.run(_jitter(feeds, precision, seed), "f64").reshape(actual.shape))
            for seed in _SEEDS
        ]
        if precision != "f32":
            moved.append(measure(exact, piece.run(feeds, precision).reshape(actual.shape)))
    except EngineError:
        return ""
    found = measure(exact, actual)
    times = _TIMES_RECURRENT if any(_is_recurrent(one.op) for one in piece.operators) else _TIMES
    widened = limits
    for one in moved:
        widened = _widen(widened, one, times, _MOST[precision])
    if not judge(found, "float64", widened).passed:
        return ""
    by = max(one.relative_l2 or 0.0 for one in moved)
    if judge(found, "float64", limits).passed:
        return f"precision only: {found.relative_l2:.2g} from what float64 gives; golden rounded"
    return (
        f"precision only: {found.relative_l2:.2g} from what float64 gives; rounding what it is "
        f"computed from to {precision} moves it by {by:.2g}"
    )


def _jitter(feeds: Tensors, precision: str, seed: int) -> dict[str, NDArray[Any]]:
    """Return the feeds, each float moved within what rounding may have taken from it."""
    rng, unit = np.random.default_rng(seed), _UNIT_ROUNDOFF[precision]
    moved = {}
    for name, value in feeds.items():
        array = np.asarray(value)
        if dtype_of(array.dtype).is_float:
            array = array.astype(np.float64) * (1 + rng.uniform(-unit, unit, array.shape))
        moved[name] = array
    return moved


def _widen(limits: Limits, moved: Metrics, times: float, most: float) -> Limits:
    def wider(limit: float, found: float | None, times: float) -> float:
        return max(limit, min(most, times * (found or 0.0)))

    return replace(
        limits,
        relative_l2=wider(limits.relative_l2, moved.relative_l2, times),
        worst_channel=wider(limits.worst_channel, moved.worst_channel, _TIMES_PART),
        gain=max(
            wider(limits.gain, abs((moved.gain or 1.0) - 1), _TIMES_PART),
            wider(limits.gain, moved.relative_l2, _GAIN_SHARE),
        ),
    )


def _is_recurrent(op: str) -> bool:
    return any(word in op.lower() for word in ("lstm", "gru", "rnn"))
