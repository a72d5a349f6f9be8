"""Shapes of a model's values found by running it, where inference leaves them open."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from shipway.engines.base import Session
from shipway.errors import EngineError, TensorError
from shipway.export.portable import PortableModel
from shipway.graph.declaring import Declarations, Size
from shipway.graph.loading import load_graph
from shipway.graph.locating import locate_value
from shipway.graph.naming import Names
from shipway.graph.ordering import sort_graph
from shipway.graph.saving import save_graph
from shipway.proof.graph import open_session, plan_trials, read_model
from shipway.proof.graph_feeds import hostile_feeds
from shipway.tensors import ANY, Tensors, TensorSpec, bind_dims, dtype_of

__all__ = ["observe_types"]

Sizes = Mapping[str, int]
Seen = tuple[Sizes, tuple[int, ...]]
"""Sizes of the dynamic dimensions, and the shape that came out of them."""


def observe_types(
    model: Path, names: Sequence[str], *, sizes: Sizes | None = None, at: Sizes | None = None
) -> tuple[TensorSpec, ...]:
    """Run a model at several sizes on hostile inputs, and say what it shows of some values.

    A size is a number where it was the same in every run while each dynamic dimension varied; it
    has the name of a dynamic dimension where it was always as large; else it is free. What is
    inferred goes first.

    Args:
        model: The .onnx file.
        names: Values of its main graph.
        sizes: Numbers that dynamic dimensions are fixed to.
        at: Sizes at which the others are tried, and at twice as much where the model takes it.

    Returns:
        A spec for each value whose shape inference leaves open, and whose dtype is inferred or
        declared.

    Raises:
        UsageError: There is no such value.
        ModelError: The file is absent or broken.
        EngineMissing: ONNX Runtime is not installed.
        EngineError: The model does not load, or runs at no size.
    """
    graph = load_graph(model)
    sort_graph(graph)
    declarations = Declarations(graph, sizes)
    values = [locate_value(graph, name) for name in names]
    known = {
        one: declarations.of(one)
        for one in values
        if one.graph is graph.graph and one.producer() is not None
    }
    values = [one for one, fact in known.items() if fact.shape is None or None in fact.shape]
    seen = _observe(model, graph, values, sizes or {}, at or {}) if values else []
    found = []
    for value, shapes in zip(values, seen, strict=True):
        dtype = known[value].dtype or value.dtype
        if dtype is not None and shapes:
            dims = _combine(known[value].shape, shapes)
            found.append(TensorSpec(value.name or "", dtype_of(int(dtype)).name, dims))
    return tuple(found)


def _observe(
    model: Path, graph: ir.Model, values: Sequence[ir.Value], sizes: Sizes, at: Sizes
) -> list[list[Seen]]:
    """Return for each value what was seen of it."""
    outputs = [_add_shape(graph, value) for value in values]
    graph.graph.outputs[:] = outputs
    seen: list[list[Seen]] = [[] for _ in values]
    with tempfile.TemporaryDirectory(prefix="shipway-proof-") as folder:
        path = Path(folder) / model.name
        save_graph(graph, path)
        portable = read_model(path)
        with open_session(portable) as session:
            for one, shapes in _run_all(path, portable, session, sizes, at):
                for found, output in zip(seen, outputs, strict=True):
                    found.append((one, tuple(map(int, shapes[output.name or ""]))))
    return seen


def _run_all(
    path: Path, portable: PortableModel, session: Session, sizes: Sizes, at: Sizes
) -> Iterator[tuple[Sizes, Tensors]]:
    """Yield sizes, and the outputs there."""
    for scale in (1, 2) if at else (1,):
        scaled = {name: scale * size for name, size in at.items()}
        specs = bind_dims(portable.inputs, {**scaled, **sizes})
        try:
            plan, specs = plan_trials(path, specs, session, None, nonempty=True)
        except EngineError:
            if scale == 1:
                raise
            return  # at twice the size the model does not run: it shows nothing there
        for one in plan.sets:
            for _, feeds in hostile_feeds(specs, one, 0):
                with contextlib.suppress(EngineError, TensorError):  # a fill that it refuses
                    yield {**scaled, **one}, session.run(feeds)


def _add_shape(model: ir.Model, value: ir.Value) -> ir.Value:
    names = Names(model)
    output = ir.Value(
        name=names.take_value(f"{value.name}_shape"),
        type=ir.TensorType(ir.DataType.INT64),
        shape=ir.Shape([None]),
    )
    node = ir.node("Shape", [value], outputs=[output], name=names.take_node(f"{value.name}_shape"))
    model.graph.append(node)
    return output


def _combine(known: tuple[Size, ...] | None, seen: Sequence[Seen]) -> tuple[int | str, ...] | None:
    """Return the inferred sizes, and in the place of open ones what was seen; None: any rank."""
    ranks = {len(shape) for _, shape in seen}
    if len(ranks) > 1:
        return None
    rank = ranks.pop()
    sizes = known if known is not None and len(known) == rank else (None,) * rank
    return tuple(
        _shown([(at, shape[axis]) for at, shape in seen]) if size is None else size
        for axis, size in enumerate(sizes)
    )


def _shown(seen: Sequence[tuple[Sizes, int]]) -> int | str:
    """Return what a size was, as far as the runs show it."""
    varied = {name: {at[name] for at, _ in seen} for name in seen[0][0]}
    numbers = {size for _, size in seen}
    if len(numbers) == 1 and all(len(tried) > 1 for tried in varied.values()):
        return numbers.pop()
    same = [
        name
        for name, tried in varied.items()
        if len(tried) > 1 and all(size == at[name] for at, size in seen)
    ]
    return same[0] if len(same) == 1 else ANY
