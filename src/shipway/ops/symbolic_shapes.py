"""What an operator's shape rule says where sizes are unknown: only what holds whatever they are."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shipway.ops.definition import CustomOp

__all__ = ["NEW", "Size", "infer_symbolic_shapes"]

Size = int | Mapping[tuple[str, ...], int]
"""A number, or a polynomial: the coefficient of each product of named sizes."""

NEW = "new"
"""First letters of the names of sizes that depend on data."""

_MANY = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049)
_FEW = (6, 7, 5, 9, 8, 11, 10, 13)
_MOST_NAMES = len(_MANY)
_NAMES_IN_FULL = 4

Shape = tuple[Size | None, ...]
Inputs = Sequence[Sequence[Size] | None]


def infer_symbolic_shapes(
    op: CustomOp, dtypes: Sequence[str | None], shapes: Inputs, attributes: Mapping[str, Any]
) -> list[Shape] | None:
    """Run an operator's shape rule on tensors without data, and with symbols for unknown sizes.

    A rule that takes one way for some sizes and another for others cannot be run so: torch refuses
    to branch on such a symbol. Its broadcasting however takes a symbol for neither 0 nor 1, so what
    comes out is held against runs with numbers, 0 and 1 and equal ones among them.

    Args:
        op: The operator.
        dtypes: One an input; None for an input that is absent.
        shapes: One an input; None for an input that is absent.
        attributes: All of them, defaults filled in.

    Returns:
        One shape an output. Sizes that depend on data have names that begin with `NEW`; None stands
        for a size that is no polynomial. None where nothing is certain.
    """
    known = [shape for shape in shapes if shape is not None]
    names = sorted({name for shape in known for size in shape for name in _names_in(size)})
    if len(names) > _MOST_NAMES:
        return None
    found = _run_with_symbols(op, dtypes, shapes, attributes, names)
    if found is None or not names:
        return found
    confirmed = False
    for sizes in _probes(names):
        numbers = [None if one is None else [_value(size, sizes) for size in one] for one in shapes]
        actual = _run_with_numbers(op, dtypes, numbers, attributes)
        if actual is None:
            continue
        if not _agree(found, actual, sizes):
            return None
        confirmed = True
    return found if confirmed else None


def _names_in(size: Size) -> set[str]:
    return set() if isinstance(size, int) else {name for names in size for name in names}


def _value(size: Size, sizes: Mapping[str, Any]) -> Any:
    """Return a size where those it is made of are numbers, or symbols of torch."""
    if isinstance(size, int):
        return size
    total: Any = 0
    for names, factor in size.items():
        term: Any = factor
        for name in names:
            term = term * sizes[name]
        total = total + term
    return total


def _probes(names: Sequence[str]) -> Iterator[dict[str, int]]:
    """Yield sizes to try: 0, 1, few and many in all mixtures, of many names two apart from the rest."""
    for usual in (_MANY, _FEW):
        yield dict(zip(names, usual, strict=False))
        yield dict.fromkeys(names, usual[0])
    usual_sizes = dict(zip(names, _FEW, strict=False))
    most = len(names) if len(names) <= _NAMES_IN_FULL else 2
    for count in range(1, most + 1):
        for chosen in itertools.combinations(names, count):
            for sizes in itertools.product((0, 1, 2), repeat=count):
                yield usual_sizes | dict(zip(chosen, sizes, strict=True))
    for size in (0, 1):
        yield dict.fromkeys(names, size)


def _run_with_symbols(
    op: CustomOp,
    dtypes: Sequence[str | None],
    shapes: Inputs,
    attributes: Mapping[str, Any],
    names: Sequence[str],
) -> list[Shape] | None:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    environment = ShapeEnv()
    with FakeTensorMode(shape_env=environment):
        symbols = {name: environment.create_unbacked_symint() for name in names}
        for symbol in symbols.values():
            torch._check(symbol >= 0)  # noqa: SLF001 -- torch's documented name for it
        sizes = [None if one is None else [_value(size, symbols) for size in one] for one in shapes]
        for size in (size for one in sizes if one is not None for size in one):
            torch._check(size >= 0)  # noqa: SLF001 -- the same
        results = _call(op, dtypes, sizes, attributes)
    if results is None:
        return None
    named = {str(symbol.node.expr): name for name, symbol in symbols.items()}
    return [tuple(_polynomial(size, named) for size in shape) for shape in results]


def _run_with_numbers(
    op: CustomOp,
    dtypes: Sequence[str | None],
    shapes: Sequence[Sequence[int] | None],
    attributes: Mapping[str, Any],
) -> list[tuple[Any, ...]] | None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    if any(size < 0 for shape in shapes if shape is not None for size in shape):
        return None
    with FakeTensorMode(shape_env=ShapeEnv()):
        return _call(op, dtypes, shapes, attributes)


def _call(
    op: CustomOp,
    dtypes: Sequence[str | None],
    shapes: Sequence[Sequence[Any] | None],
    attributes: Mapping[str, Any],
) -> list[tuple[Any, ...]] | None:
    """Return the shapes that come out; None where the rule refuses the sizes, or branches on them."""
    import torch

    from shipway.ops.torch_op import overload_of

    try:
        tensors = [
            None if dtype is None else torch.empty(list(shape or ()), dtype=getattr(torch, dtype))
            for dtype, shape in zip(dtypes, shapes, strict=True)
        ]
        with _silenced():
            results = overload_of(op)(*tensors, **attributes)
    except Exception:  # noqa: BLE001 -- a rule may raise anything: then it says nothing of these sizes
        return None
    results = results if isinstance(results, tuple | list) else (results,)
    return [tuple(item.shape) for item in results]


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep torch from logging a traceback for sizes that a rule refuses."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was_off, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was_off


def _polynomial(size: Any, named: dict[str, str]) -> Size | None:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    symbols = sorted(expression.free_symbols, key=str)
    if not symbols:
        return int(expression) if expression.is_Integer else None
    if not expression.is_polynomial(*symbols):
        return None
    for symbol in symbols:
        named.setdefault(str(symbol), f"{NEW}{len(named)}")
    terms: dict[tuple[str, ...], int] = {}
    for powers, factor in expression.as_poly(*symbols).terms():
        if not factor.is_Integer:
            return None
        pairs = zip(symbols, powers, strict=True)
        names = sorted(named[str(one)] for one, power in pairs for _ in range(power))
        terms[tuple(names)] = int(factor)
    return terms


def _agree(
    found: Sequence[Shape], actual: Sequence[tuple[Any, ...]], sizes: dict[str, int]
) -> bool:
    if [len(shape) for shape in found] != [len(shape) for shape in actual]:
        return False
    pairs = zip(itertools.chain(*found), itertools.chain(*actual), strict=True)
    return all(_is_right(size, number, sizes) for size, number in pairs)


def _is_right(size: Size | None, number: Any, sizes: dict[str, int]) -> bool:
    if size is None or any(name not in sizes for name in _names_in(size)):
        return True
    return isinstance(number, int) and bool(_value(size, sizes) == number)
