"""Another weight: the error is linear in the input of a convolution or a matrix product."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from shipway.compare.cause.evidence import Evidence, Explanation, Values

__all__ = ["constants_of", "explain_weights"]

_MOST_NUMBERS = 800
_MOST_ROWS = 4000
_RIDGE = 1e-9
_ROWS_PER_NUMBER = 1.5
_CHANNELS = 4
_SHARE_LEFT = 0.1


def constants_of(evidence: Evidence) -> tuple[str, ...]:
    """Return the names of the weights and constants that the operators read."""
    if evidence.piece is None:
        return ()
    inner = {operator.name for operator in evidence.piece.operators} | set(evidence.piece.inputs)
    read = (name for operator in evidence.piece.operators for name in operator.inputs)
    return tuple(dict.fromkeys(name for name in read if name not in inner))


def explain_weights(evidence: Evidence) -> Explanation | None:
    """Fit the error of the worst channels by weights times the input, where there are rows enough.

    Neighbours of a pixel count as inputs as well: a kernel of 1, 3, 5 or 7. The fit chooses many
    numbers, so what it leaves is corrected for them; an error that has nothing to do with the
    input stays as large as it was.
    """
    constants = constants_of(evidence)
    if not constants:
        return None
    for name, rows, channels in _layouts(evidence):
        share = _share_left(rows, channels)
        if share <= _SHARE_LEFT:
            left = evidence.size * math.sqrt(share)
            text = (
                f"linear in the input '{name}': {rows.shape[1]} weights a channel explain "
                f"{1 - share:.0%} of the squared error, so a weight is another one"
            )
            return Explanation("input", f"{text} ({', '.join(constants[:4])})", left)
    return None


def _layouts(evidence: Evidence) -> Iterator[tuple[str, Values, Values]]:
    """Yield inputs of a linear operator as rows, with the errors that belong to each row."""
    error = evidence.error
    for name, value in (evidence.feeds or {}).items():
        if value.dtype.kind in "iub" or value.ndim < 2:
            continue
        wide = np.nan_to_num(value.astype(np.float64))
        if value.shape[:-1] == error.shape[:-1]:
            yield from _enough(name, wide.reshape(-1, value.shape[-1]), _flat(error))
        if value.ndim == error.ndim == 4 and len(value) == len(error):
            band, channels = _band(error)
            for kernel in (1, 3, 5, 7):
                if value.shape[1] * kernel**2 <= _MOST_NUMBERS:
                    patches = _patches(wide[:1], error.shape[2:], kernel, band)
                    yield from _enough(name, patches, channels)


def _band(error: Values) -> tuple[slice, Values]:
    """Take the middle rows of the first image, as many as can be used, channels last."""
    height, width = error.shape[2:]
    used = min(height, -(-_MOST_ROWS // width))
    band = slice((height - used) // 2, (height - used) // 2 + used)
    return band, _flat(np.moveaxis(error[0, :, band], 0, -1))


def _flat(error: Values) -> Values:
    return error.reshape(-1, error.shape[-1])


def _enough(name: str, rows: Values, channels: Values) -> Iterator[tuple[str, Values, Values]]:
    """Yield a layout if it can be fitted at all: with more rows than numbers to choose."""
    count, numbers = rows.shape
    if not numbers <= min(_MOST_NUMBERS, min(count, _MOST_ROWS) / _ROWS_PER_NUMBER):
        return
    picks = np.random.default_rng(0).permutation(count)[:_MOST_ROWS]
    worst = np.argsort((channels**2).sum(axis=0))[::-1][:_CHANNELS]
    yield name, rows[picks], channels[picks][:, worst]


def _patches(value: Values, size: tuple[int, ...], kernel: int, band: slice) -> Values:
    """Lay out what a kernel sees, one row for each output; stride and padding follow from sizes."""
    strides = [max(1, round(have / want)) for have, want in zip(value.shape[2:], size, strict=True)]
    before = [
        max(0, (want - 1) * stride + kernel - have + 1) // 2
        for have, want, stride in zip(value.shape[2:], size, strides, strict=True)
    ]
    padded = np.pad(value, ((0, 0), (0, 0), *((pad, pad + kernel + 8) for pad in before)))
    parts = [
        padded[:, :, row :: strides[0], column :: strides[1]][:, :, band, : size[1]]
        for row in range(kernel)
        for column in range(kernel)
    ]
    stacked = np.concatenate(parts, axis=1)
    return np.moveaxis(stacked, 1, -1).reshape(-1, stacked.shape[1])


def _share_left(rows: Values, channels: Values) -> float:
    """Return which share of the squared error a linear fit leaves, corrected for its size."""
    rows = np.column_stack([rows, np.ones(len(rows))])
    total = float((channels**2).sum())
    if not total:
        return 1.0
    gram = rows.T @ rows
    gram += _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))  # for inputs that are alike
    found = np.linalg.solve(gram, rows.T @ channels)
    left = float(((channels - rows @ found) ** 2).sum())
    return float(left / total * len(rows) / max(1, len(rows) - rows.shape[1]))
