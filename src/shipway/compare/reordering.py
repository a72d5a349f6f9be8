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
        golden: Golden's tensor. Axes of size 1 count on neither side.
        actual: Sizes and statistics of tensors with the same numbers in another order, by name;
            computed in f32, for in less neighbours look alike.

    Yields:
        The name, and a match with the order of axes that makes it golden's.
    """
    sizes = tuple(size for size in golden.shape if size != 1)
    if len(sizes) > _HIGHEST_RANK:
        return
    dense = golden.reshape(sizes)
    for axes in itertools.permutations(range(len(sizes))):
        turned = tuple(sizes[axis] for axis in axes)
        alike = [name for name, (shape, _) in actual.items() if _without_ones(shape) == turned]
        if not alike or axes == tuple(range(len(sizes))):
            continue
        statistics = summarize(dense.transpose(axes))
        for name in alike:
            shape, numbers = actual[name]
            if is_same(statistics, numbers, "f32"):
                note = f"its axes are in the order {_written(axes)} of golden's"
                yield name, Match("fingerprint", _CONFIDENCE, note, _back(axes, shape))


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _back(axes: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Return the order that turns an engine's axes into golden's; those of size 1 go first."""
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    others = [axis for axis, size in enumerate(shape) if size != 1]
    return (*ones, *(others[int(axis)] for axis in np.argsort(axes)))


def _written(axes: Sequence[int]) -> str:
    return f"({', '.join(map(str, axes))})"
