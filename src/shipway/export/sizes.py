"""Sizes of dynamic dimensions for the example that a model is traced with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

from shipway.errors import ExportError
from shipway.tensors import TensorSpec

__all__ = ["Bounds", "check_bounds", "dynamic_dims", "example_sizes", "long_sizes"]

Bounds = Mapping[str, tuple[int, int | None]]
"""Smallest and largest size of a dimension by its name; None is no limit."""

_SMALL, _LARGE, _BATCH, _EVEN = (6, 1), (64, 32), (3, 1), (4, 4)
"""First size and step, by what the dimension looks like."""

_LONG = ((512, 64), (16000, 160))


def dynamic_dims(specs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """Return the names of all symbolic dimensions, in order of appearance."""
    return tuple(dict.fromkeys(name for spec in specs for name in spec.dynamic_dims))


def check_bounds(specs: Sequence[TensorSpec], bounds: Bounds) -> None:
    """Check that each bound belongs to a dimension that has room to vary.

    Raises:
        ExportError: A bound of an unknown dimension, or one that allows a single size.
    """
    known = dynamic_dims(specs)
    for name, (low, high) in bounds.items():
        if name not in known:
            raise ExportError(
                f"Bounds are given for '{name}', which is no dynamic dimension of the inputs.",
                hint=f"Dynamic dimensions: {', '.join(known) or 'none'}.",
            )
        if high is not None and high < max(2, low + 1):
            raise ExportError(
                f"Dimension '{name}' may only be {low}..{high}; torch cannot trace that as dynamic.",
                hint=f"Write {high} in its place in --input, or allow sizes from 2 up.",
            )


def example_sizes(specs: Sequence[TensorSpec], bounds: Bounds) -> Iterator[dict[str, int]]:
    """Yield sizes to try, the cheapest first, until the model accepts one.

    Every size is at least 2, differs from the others and from every fixed size where the bounds
    allow it: torch takes 0 and 1 for constants, and equal sizes could hide a mix-up. First batch 3,
    images of 64 and more, other dimensions from 6; then everything but the batch from 64 in steps
    of 32; then multiples of 4, for models that split or fold a dimension.
    """
    styles = {name: _style(name, specs) for name in dynamic_dims(specs)}
    plans = (
        styles,
        {name: _BATCH if style == _BATCH else _LARGE for name, style in styles.items()},
        {name: _EVEN if style == _BATCH else _LARGE for name, style in styles.items()},
        dict.fromkeys(styles, _EVEN),
    )
    tried: list[dict[str, int]] = []
    for plan in plans:
        sizes = _pick(plan, specs, bounds)
        if sizes not in tried:
            tried.append(sizes)
            yield sizes


def long_sizes(specs: Sequence[TensorSpec]) -> Iterator[dict[str, int]]:
    """Yield sizes for models that take no short inputs: windows of sound, then a second of it.

    Args:
        specs: The inputs.
    """
    styles = {name: _style(name, specs) for name in dynamic_dims(specs)}
    for long in _LONG:
        plan = {name: _BATCH if style == _BATCH else long for name, style in styles.items()}
        yield _pick(plan, specs, {})


def _style(name: str, specs: Sequence[TensorSpec]) -> tuple[int, int]:
    places = [
        (axis, len(spec.shape or ()))
        for spec in specs
        for axis, dim in enumerate(spec.shape or ())
        if dim == name
    ]
    if any(axis == 0 for axis, _ in places):
        return _BATCH
    return _LARGE if any(rank >= 4 and axis >= 2 for axis, rank in places) else _SMALL


def _pick(
    plan: Mapping[str, tuple[int, int]],
    specs: Sequence[TensorSpec],
    bounds: Bounds,
) -> dict[str, int]:
    used = {dim for spec in specs for dim in spec.shape or () if isinstance(dim, int)}
    sizes: dict[str, int] = {}
    for name, (first, step) in plan.items():
        low, high = bounds.get(name, (1, None))
        low = max(2, low)
        start = max(first, low)
        if high is None:
            candidates: Iterable[int] = count(start, step)
        elif start > high:
            start, candidates = low, range(low, high + 1)
        else:
            candidates = range(start, high + 1, step)
        free = (size for size in candidates if size not in used)
        sizes[name] = next(free, start)
        used.add(sizes[name])
    return sizes
