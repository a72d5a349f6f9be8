"""Sizes an exported program was made for, which its compiled form no longer checks.

A kernel compiled by AOTInductor reads past the end of a tensor of another shape, so every limit the
exporter proved is written down at compile time and checked before each run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from shipway.errors import TensorError
from shipway.tensors import Tensors, TensorSpec

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["AxisLimit", "check_limits", "read_limits"]

_SMALLEST_SYMBOL = 2
"""torch.export gives every dynamic size a lower bound of 2 and still takes 0 and 1."""


@dataclass(frozen=True, slots=True)
class AxisLimit:
    """What one axis of one input may be.

    Args:
        input: Position of the input.
        axis: Axis of it.
        size: An expression over symbols ("8", "s40", "2*s40 + 1").
        low: Smallest size, where `size` is a symbol alone.
        high: Largest size; None where there is no bound.
    """

    input: int
    axis: int
    size: str
    low: int = 0
    high: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> AxisLimit:
        """Read what `to_json` wrote."""
        return cls(**data)


def read_limits(program: ExportedProgram, names: Iterable[str]) -> tuple[AxisLimit, ...]:
    """Return the limit of every axis of the placeholders called `names`, in their order."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    ranges = {str(symbol): bounds for symbol, bounds in program.range_constraints.items()}
    return tuple(
        _limit(position, axis, dim, ranges)
        for position, name in enumerate(names)
        for axis, dim in enumerate(values[name].shape)
    )


def _limit(position: int, axis: int, dim: Any, ranges: Mapping[str, Any]) -> AxisLimit:
    size = str(getattr(getattr(dim, "node", None), "expr", dim))
    bounds = ranges.get(size)
    if bounds is None:
        return AxisLimit(position, axis, size)
    low = int(bounds.lower) if bounds.lower > _SMALLEST_SYMBOL else 0
    high = int(bounds.upper) if bounds.upper.is_Integer else None
    return AxisLimit(position, axis, size, low, high)


def check_limits(specs: Sequence[TensorSpec], limits: Iterable[AxisLimit], feeds: Tensors) -> None:
    """Refuse feeds of a size the program was not exported for.

    Raises:
        TensorError: With the input, the axis, its size and what was allowed.
    """
    symbols: dict[str, int] = {}
    derived: list[AxisLimit] = []
    for limit in limits:
        spec = specs[limit.input]
        size = feeds[spec.name].shape[limit.axis]
        if limit.size.isdigit():
            _require(spec, limit, size, allowed=limit.size, holds=size == int(limit.size))
        elif limit.size.isidentifier():
            bound = symbols.setdefault(limit.size, size)
            _require(spec, limit, size, allowed=f"{bound} as elsewhere", holds=size == bound)
            top = limit.high is None or size <= limit.high
            allowed = f"{limit.low} to {limit.high if limit.high is not None else 'any'}"
            _require(spec, limit, size, allowed=allowed, holds=size >= limit.low and top)
        else:
            derived.append(limit)
    for limit in derived:
        _check_derived(specs[limit.input], limit, feeds, symbols)


def _check_derived(
    spec: TensorSpec, limit: AxisLimit, feeds: Tensors, symbols: Mapping[str, int]
) -> None:
    import sympy  # type: ignore[import-untyped] # ships no types

    wanted = sympy.sympify(limit.size, locals={name: sympy.Symbol(name) for name in symbols})
    value = wanted.subs(symbols)
    value_known = value.is_Integer  # not where a symbol stands alone on no axis
    size = feeds[spec.name].shape[limit.axis]
    holds = not value_known or int(value) == size
    _require(spec, limit, size, allowed=f"{limit.size} = {value}", holds=holds)


def _require(spec: TensorSpec, limit: AxisLimit, size: int, *, allowed: str, holds: bool) -> None:
    if not holds:
        raise TensorError(
            f"Input '{spec.name}': axis {limit.axis} is {size}; the model was exported for {allowed}.",
            hint=f"Feed {spec}, or export with a wider range for this dimension.",
        )
