"""Tensors that an engine keeps with their axes in another order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shipway.compare.diagnosis import Match
from shipway.compare.fingerprints import is_same
from shipway.trace.statistics import Statistics, summarize

__all__ = ["arrange", "find_axes"]

_CONFIDENCE = 0.9
_HIGHEST_RANK = 5


def arrange(actual: NDArray[Any], match: Match, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an engine's tensor as golden's lies.

    Args:
        actual: The engine's tensor.
        match: Says in which order its axes are to be taken.
        shape: Golden's sizes; as many elements.
    """
    return (actual.transpose(match.axes) if match.axes else actual).reshape(shape)


def find_axes(
    golden: NDArray[Any],
    actual: Mapping[str, tuple[tuple[int, ...], Statistics]],
) -> Iterator[tuple[str, Match]]:
    """Find which tensors of an engine are a golden one with its axes in another order.

    Args:
        golden: Golden's tensor.
        actual: Sizes and statistics of tensors with the same numbers in another order, by name;
            computed in f32, for in less neighbours look alike.

    Yields:
        The name, and a match with the order of axes that makes it golden's.
    """
    if golden.ndim > _HIGHEST_RANK:
        return
    for axes in itertools.permutations(range(golden.ndim)):
        turned = tuple(golden.shape[axis] for axis in axes)
        alike = [name for name, (shape, _) in actual.items() if shape == turned]
        if not alike or axes == tuple(range(golden.ndim)):
            continue
        statistics = summarize(golden.transpose(axes))
        for name in alike:
            if is_same(statistics, actual[name][1], "f32"):
                back = tuple(int(axis) for axis in np.argsort(axes))
                note = f"its axes are in the order {_written(axes)} of golden's"
                yield name, Match("fingerprint", _CONFIDENCE, note, back)


def _written(axes: Sequence[int]) -> str:
    return f"({', '.join(map(str, axes))})"
