"""Whether the outputs follow the dynamic dimensions of the inputs, and where they cease to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from shipway.export.sketch import sketch_graph
from shipway.proof.audit_declared import Run, shape_words
from shipway.proof.audit_inputs import AuditInputs
from shipway.proof.audit_places import Places
from shipway.proof.audit_results import AuditFinding, Seen, Severity
from shipway.tensors import TensorSpec

__all__ = ["find_clamped", "find_ignored", "find_independent", "find_merged"]

_REDUCING = frozenset(
    {"ArgMax", "ArgMin", "Conv", "Einsum", "Gemm", "GRU", "LSTM", "MatMul", "RNN"}
)
_REDUCING_PREFIXES = ("Reduce", "Global")
_READING_SIZES = frozenset({"CastLike", "Shape", "Size"})
"""They read the dtype or the sizes of an input, not its numbers."""
_MOST_NODES = 3


def find_ignored(
    model: ir.Model,
    inputs: AuditInputs,
    alone: Mapping[str, Sequence[Run]],
    places: Places,
) -> Iterator[AuditFinding]:
    """Find dynamic dimensions of the inputs that change the shape of no output.

    A sum over the dimension explains it, or that only its size is read. Anything else does not where it is the number of samples.

    Args:
        model: The model.
        inputs: Its inputs.
        alone: For each dimension, runs between which nothing else differs; the usual one first.
        places: Where values come from.
    """
    outputs = [value.name or "" for value in model.graph.outputs]
    for dim, runs in alone.items():
        following = _following(runs)
        if len(runs) < 2 or following.intersection(outputs):
            continue
        lost = _lost_at(model, following | _carriers(inputs.specs, dim))
        sums = bool(lost) and all(map(_is_reducing, lost))
        severity: Severity = "warning" if dim in inputs.first_axes and not sums else "info"
        where = ", ".join(
            f"{node.op_type} '{node.name or node.outputs[0].name}'" for node in lost[-_MOST_NODES:]
        )
        label = (
            "the outputs keep their shapes" if len(outputs) > 1 else "the output keeps its shape"
        )
        yield AuditFinding(
            severity,
            "ignored-dim",
            dim,
            f"Whatever '{dim}' is, {label}{f'; it ends at {where}' if where else ''}.",
            seen=tuple(Seen(dict(run.sizes), shape_words(run.shapes[outputs[0]])) for run in runs),
            place=places.of_value((lost[-1].outputs[0].name or "") if lost else ""),
            hint=""
            if severity == "info"
            else f"If each sample is to have a result of its own, the model has lost '{dim}': "
            "export it again with a size above 1 in its place.",
        )


def _following(runs: Sequence[Run]) -> set[str]:
    """Return the values whose shapes differ between runs."""
    first = runs[0].shapes if runs else {}
    return {
        name for run in runs[1:] for name, shape in run.shapes.items() if first.get(name) != shape
    }


def _carriers(specs: Sequence[TensorSpec], dim: str) -> set[str]:
    return {spec.name for spec in specs if dim in spec.dynamic_dims}


def _lost_at(model: ir.Model, following: set[str]) -> list[ir.Node]:
    """Return the nodes that read a value with the dimension and compute none."""
    lost = [
        node
        for node in model.graph
        if any(value is not None and value.name in following for value in node.inputs)
        and not any(value.name in following for value in node.outputs)
    ]
    return [node for node in lost if node.op_type not in _READING_SIZES] or lost


def _is_reducing(node: ir.Node) -> bool:
    return node.op_type in _REDUCING | _READING_SIZES or node.op_type.startswith(_REDUCING_PREFIXES)


def find_clamped(
    outputs: Sequence[str], alone: Mapping[str, Sequence[Run]], places: Places
) -> Iterator[AuditFinding]:
    """Find axes of outputs that follow a dimension up to some size and no further."""
    for dim, runs in alone.items():
        for name in outputs:
            for axis in range(min((len(run.shapes[name]) for run in runs), default=0)):
                points = sorted((run.sizes[dim], run.shapes[name][axis]) for run in runs)
                last = _clamped_at(points)
                if last is None:
                    continue
                yield AuditFinding(
                    "warning",
                    "fixed-dim",
                    name,
                    f"Axis {axis} of the output '{name}' follows '{dim}' up to {last} and stays "
                    "there.",
                    seen=tuple(Seen({dim: size}, str(came)) for size, came in points),
                    place=places.of_value(name),
                    hint=f"Look for {last} in the model's code, where it stands for '{dim}'.",
                )


def _clamped_at(points: Sequence[tuple[int, int]]) -> int | None:
    """Return the size up to which an axis equals the dimension, where it is the same from there on."""
    equal = [size for size, came in points if size == came]
    if len(equal) < 2 or len(equal) == len(points):
        return None
    last = equal[-1]
    return last if all(came == min(size, last) for size, came in points) else None


def find_merged(
    outputs: Sequence[str],
    first_axes: Sequence[str],
    alone: Mapping[str, Sequence[Run]],
    places: Places,
) -> Iterator[AuditFinding]:
    """Find outputs in which the samples have no axis of their own: only a product grows with them.

    That is what a choice such as `if x.shape[0] == 1` leaves when a model is exported with one
    sample: every later batch is taken for a single one.
    """
    for dim in first_axes:
        runs = alone.get(dim, ())
        for name in outputs:
            shapes = [run.shapes[name] for run in runs]
            if len({len(shape) for shape in shapes}) != 1:
                continue
            sizes = tuple(run.sizes[dim] for run in runs)
            columns = list(zip(*shapes, strict=True))
            grows = [axis for axis, column in enumerate(columns) if len(set(column)) > 1]
            if not grows or grows[0] == 0 or sizes in columns:
                continue
            yield AuditFinding(
                "warning",
                "merged-dim",
                name,
                f"In the output '{name}' '{dim}' has no axis of its own: it is merged into axis "
                f"{grows[0]}, and axis 0 is {columns[0][0]} whatever '{dim}' is.",
                seen=tuple(Seen(dict(run.sizes), shape_words(run.shapes[name])) for run in runs),
                place=places.of_value(name),
                hint=f"If axis 0 is to be '{dim}', export again with a size above 1 in its place.",
            )


def find_independent(model: ir.Model, inputs: AuditInputs) -> Iterator[AuditFinding]:
    """Find outputs that are computed from no input with a dynamic dimension."""
    dynamic = {spec.name for spec in inputs.specs if spec.dynamic_dims}
    sources = sketch_graph(model).sources
    for value in model.graph.outputs if dynamic else ():
        name = value.name or ""
        above = _ancestors(name, sources)
        if above & dynamic:
            continue
        fixed = sorted(above & {spec.name for spec in inputs.specs})
        of = f"only from {', '.join(fixed)}" if fixed else "from no input: it is a constant"
        yield AuditFinding("info", "independent", name, f"The output '{name}' is computed {of}.")


def _ancestors(name: str, sources: Mapping[str, tuple[str, ...]]) -> set[str]:
    found, pending = {name}, [name]
    while pending:
        for source in sources.get(pending.pop(), ()):
            if source not in found:
                found.add(source)
                pending.append(source)
    return found
