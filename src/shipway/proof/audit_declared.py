"""Holds what a file declares of each value against what came out of the runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from shipway.proof.audit_dims import read_formula
from shipway.proof.audit_places import Places
from shipway.proof.audit_results import AuditFinding, Dim, Seen, Severity

__all__ = ["Declared", "Run", "check_dtypes", "check_names", "check_shapes", "read_declared"]

Shape = tuple[int, ...]
_MOST_SEEN = 4
_WRITE = "shipway graph audit MODEL --write FIXED.onnx declares what is inferred instead."
_DTYPES = {"FLOAT": "float32", "DOUBLE": "float64"}


@dataclass(frozen=True, slots=True)
class Declared:
    """What the file says of a value.

    Args:
        dtype: Element type; None where it says nothing.
        shape: Sizes; None where it says nothing.
        is_output: Whether it is an output of the model.
    """

    dtype: ir.DataType | None
    shape: tuple[Dim, ...] | None
    is_output: bool


@dataclass(frozen=True, slots=True)
class Run:
    """Shapes of all values at some sizes."""

    sizes: Mapping[str, int]
    shapes: Mapping[str, Shape]


def read_declared(model: ir.Model) -> dict[str, Declared]:
    """Return what a model declares of each value of its main graph, outputs first."""
    outputs = {value.name: value for value in model.graph.outputs}
    inner = (value for node in model.graph for value in node.outputs)
    values = outputs | {value.name: value for value in inner if value.name}
    return {
        name: Declared(value.dtype, _shape(value), name in outputs)
        for name, value in values.items()
        if name
    }


def _shape(value: ir.Value) -> tuple[Dim, ...] | None:
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else dim.value or None for dim in value.shape)


def check_shapes(
    declared: Mapping[str, Declared], runs: Sequence[Run], names: Sequence[str], places: Places
) -> Iterator[AuditFinding]:
    """Find the shapes that are false.

    Args:
        declared: What the file says.
        runs: What came.
        names: The inputs' dynamic dimensions.
        places: Where values come from.
    """
    for name, said in declared.items():
        if said.shape is None:
            continue
        wrong = [
            run for run in runs if name in run.shapes and not _fits(said.shape, run, name, names)
        ]
        if not wrong:
            continue
        empty_only = all(0 in run.sizes.values() for run in wrong)
        seen = _seen(name, wrong)
        kind = "output" if said.is_output else "value"
        at_empty = ", but only where a size is 0" if empty_only else ""
        yield AuditFinding(
            "warning" if empty_only else "error",
            "false-shape",
            name,
            f"The {kind} '{name}' is declared {shape_words(said.shape)}; "
            f"{seen[0].came} came at {sizes_words(seen[0].sizes)}{at_empty}.",
            shape_words(said.shape),
            seen,
            places.of_value(name),
            _WRITE,
        )


def _fits(shape: tuple[Dim, ...], run: Run, name: str, names: Sequence[str]) -> bool:
    came = run.shapes[name]
    return len(shape) == len(came) and all(
        _dim_fits(dim, size, run, names) for dim, size in zip(shape, came, strict=True)
    )


def _dim_fits(dim: Dim, size: int, run: Run, names: Sequence[str]) -> bool:
    if dim is None or (isinstance(dim, int) and dim < 0):
        return True
    if isinstance(dim, int):
        return dim == size
    formula = read_formula(dim, names)
    return formula is None or formula(run.sizes) == size


def _seen(name: str, runs: Iterable[Run]) -> tuple[Seen, ...]:
    found: dict[Shape, Seen] = {}
    for run in runs:
        came = run.shapes[name]
        found.setdefault(came, Seen(dict(run.sizes), shape_words(came)))
    return tuple(found.values())[:_MOST_SEEN]


def check_dtypes(
    declared: Mapping[str, Declared], found: Mapping[str, ir.DataType], places: Places
) -> Iterator[AuditFinding]:
    """Find the dtypes that are false."""
    for name, said in declared.items():
        dtype = found.get(name)
        if said.dtype is None or dtype is None or said.dtype is dtype:
            continue
        before, after = dtype_words(said.dtype), dtype_words(dtype)
        yield AuditFinding(
            "error",
            "false-dtype",
            name,
            f"'{name}' is declared {before}; the model computes {after}.",
            before,
            (Seen({}, after),),
            places.of_value(name),
            _WRITE,
        )


def check_names(
    declared: Mapping[str, Declared], runs: Sequence[Run], names: Sequence[str], places: Places
) -> Iterator[AuditFinding]:
    """Find names of sizes that no input has: those that are several, and outputs' that have a name."""
    carriers: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, said in declared.items():
        for axis, dim in enumerate(said.shape or ()):
            if isinstance(dim, str) and read_formula(dim, names) is None:
                carriers[dim].append((name, axis))
    series: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for dim, where in carriers.items():
        finding, sizes = _judge_name(dim, where, runs, places, declared)
        if finding is not None:
            yield finding
        elif sizes and any(declared[name].is_output for name, _ in where):
            series[sizes].append(dim)
    yield from _equal_names(series, runs, names)


def _judge_name(
    dim: str,
    where: Sequence[tuple[str, int]],
    runs: Sequence[Run],
    places: Places,
    declared: Mapping[str, Declared],
) -> tuple[AuditFinding | None, tuple[int, ...]]:
    """Return a finding where a name has several sizes in one run, else its size in each run."""
    sizes = []
    for run in runs:
        came = {
            f"{name}[{axis}]": run.shapes[name][axis]
            for name, axis in where
            if len(run.shapes.get(name, ())) > axis
        }
        if len(set(came.values())) > 1:
            return _many_sizes(dim, came, run, places, declared), ()
        sizes += list(came.values())[:1]
    return None, tuple(sizes) if len(sizes) == len(runs) else ()


def _many_sizes(
    dim: str,
    came: Mapping[str, int],
    run: Run,
    places: Places,
    declared: Mapping[str, Declared],
) -> AuditFinding:
    examples = {size: where for where, size in reversed(list(came.items()))}
    words = ", ".join(f"{size} in {where}" for size, where in sorted(examples.items())[:_MOST_SEEN])
    value = next(iter(came)).rpartition("[")[0]
    outputs = any(declared[where.rpartition("[")[0]].is_output for where in came)
    severity: Severity = "error" if outputs else "warning"
    return AuditFinding(
        severity,
        "one-name",
        dim,
        f"The size '{dim}' is several: {words} at {sizes_words(run.sizes)}.",
        dim,
        (Seen(dict(run.sizes), words),),
        places.of_value(value),
        _WRITE,
    )


def _equal_names(
    series: Mapping[tuple[int, ...], list[str]], runs: Sequence[Run], names: Sequence[str]
) -> Iterator[AuditFinding]:
    """Find names that always have the size of another one; constant ones are no names at all."""
    if len({tuple(run.sizes.items()) for run in runs}) < 2:
        return
    known = {tuple(run.sizes[name] for run in runs): name for name in names}
    for sizes, dims in series.items():
        if len(set(sizes)) == 1:
            text = f"is {sizes[0]} at every size that was tried"
        elif sizes in known:
            text = f"always equals '{known[sizes]}', which an input has"
        elif len(dims) > 1:
            text = "are always equal"
        else:
            continue
        label = ", ".join(f"'{dim}'" for dim in dims[:_MOST_SEEN])
        more = f" and {len(dims) - _MOST_SEEN} more" if len(dims) > _MOST_SEEN else ""
        plain = (
            text if len(dims) == 1 else text.replace("is ", "are ", 1).replace("equals", "equal")
        )
        yield AuditFinding(
            "info", "equal-names", dims[0], f"The size {label}{more} {plain}.", ", ".join(dims)
        )


def shape_words(shape: Sequence[Dim]) -> str:
    """Write a shape as [n,?,3]."""
    return f"[{','.join('?' if dim is None else str(dim) for dim in shape)}]"


def sizes_words(sizes: Mapping[str, int]) -> str:
    """Write sizes as n=1, h=64."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "the sizes it has"


def dtype_words(dtype: ir.DataType) -> str:
    """Write a dtype as float32."""
    return _DTYPES.get(dtype.name, dtype.name.lower())
