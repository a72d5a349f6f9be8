"""Reads the shape and dtype of every value of a running model, without keeping the values.

A Shape node is put behind each of them: its few integers are all that leaves the engine, so that
memory stays what the model itself takes, however many values there are.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from shipway.engines.base import Session
from shipway.engines.onnxruntime import resolve_types
from shipway.engines.registry import find_engine
from shipway.errors import EngineError, TensorError
from shipway.export.onnx_file import read_graph, read_specs
from shipway.export.portable import PortableModel
from shipway.graph.facts.knowledge import Knowledge
from shipway.graph.loading import load_graph
from shipway.graph.locating import all_nodes, parent_nodes
from shipway.graph.naming import Names
from shipway.graph.ordering import sort_graph
from shipway.graph.saving import save_graph
from shipway.graph.standard import STANDARD_DOMAINS
from shipway.proof.sessions import PLAIN, open_plainly
from shipway.tensors import DTYPES, Tensors, TensorSpec, dtype_of

__all__ = ["TappedSession", "open_tapped"]

_TENSOR = re.compile(r"tensor\((\w+)\)")
_TYPE_NAMES = {"float": "FLOAT", "double": "DOUBLE"}
_WITH_SHAPE = frozenset({ir.DataType.STRING, *(ir.DataType(one.onnx) for one in DTYPES)})
_OLDEST_ANY_SHAPE = 13
"""Before opset 13 Shape took the types of its day only, bfloat16 not among them."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class TappedSession:
    """A model that returns the shape of every value beside its outputs.

    Args:
        session: Runs it.
        taps: Output that has the shape of a value, by the value's name.
        outputs: The model's own outputs.
        dtypes: Element type the engine gives each value.
        untapped: Values whose shape cannot be read, and why.
    """

    session: Session
    taps: Mapping[str, str]
    outputs: tuple[str, ...]
    dtypes: Mapping[str, ir.DataType]
    untapped: Mapping[str, str]

    def run(self, feeds: Tensors) -> tuple[Shapes | None, str]:
        """Return the shapes of all values; or None, and why the model does not run."""
        try:
            found = self.session.run(feeds)
        except (EngineError, TensorError) as error:
            return None, str(error)
        shapes = {name: tuple(map(int, found[tap])) for name, tap in self.taps.items()}
        return shapes | {name: found[name].shape for name in self.outputs}, ""


@contextlib.contextmanager
def open_tapped(path: Path, specs: tuple[TensorSpec, ...]) -> Iterator[TappedSession]:
    """Yield a session on a copy of a model that declares no shape and tells them all.

    Custom operators run in their kernels, or as their portable bodies.

    Args:
        path: The .onnx file.
        specs: Its inputs.

    Raises:
        ModelError: The file is broken, or the graph has a cycle.
        EngineMissing: ONNX Runtime is not installed.
        EngineError: ONNX Runtime does not load the model, whatever it declares.
    """
    with tempfile.TemporaryDirectory(prefix="shipway-audit-") as scratch:
        folder = Path(scratch)
        lowered = find_engine("onnxruntime").lower(
            PortableModel(specs, read_specs(read_graph(path))[1], onnx=path), folder / "lowered"
        )
        model = load_graph(lowered.onnx or path)
        sort_graph(model)
        _name_nodes(model)
        with _naming(folder, path):
            types = _resolve(model, folder / "types.onnx")
        outputs = [value.name or "" for value in model.graph.outputs]
        dtypes, untapped = _read_types(model, types)
        taps = _add_taps(model, [name for name in dtypes if name not in outputs])
        save_graph(model, folder / "tapped.onnx")
        told = (
            *(TensorSpec(name, dtype_of(int(dtypes[name])).name, None) for name in outputs),
            *(TensorSpec(tap, "int64", None) for tap in taps.values()),
        )
        tapped = PortableModel(specs, told, onnx=folder / "tapped.onnx")
        with open_plainly(tapped) as session:
            yield TappedSession(session, taps, tuple(outputs), dtypes, untapped)


@contextlib.contextmanager
def _naming(folder: Path, path: Path) -> Iterator[None]:
    """Name the user's file in messages about a copy of it."""
    try:
        yield
    except EngineError as error:
        text = re.sub(rf"{re.escape(str(folder))}\S*?\.onnx", str(path), str(error))
        raise EngineError(text, hint=error.hint) from error


def _resolve(model: ir.Model, path: Path) -> dict[str, str]:
    """Return the type ONNX Runtime finds for each value, after taking away what is declared.

    The dtypes are needed by custom operators whose kernels do not say what they return: where it
    does not load without them, they stay.
    """
    declared = {value: value.type for value in _computed(model.graph)}
    # Inside a Loop shapes stay: ONNX Runtime takes from them what a loop that never runs returns.
    branches = [graph for graph, node in parent_nodes(model).items() if node.op_type == "If"]
    for value in (*declared, *(one for graph in branches for one in _computed(graph))):
        value.shape = None
    inner = [value for value in declared if value.name and not value.is_graph_output()]
    failure: EngineError | None = None
    for keep in (False, True):
        for value, kind in declared.items():
            value.type = kind if keep else None
        model.graph.outputs.extend(inner)
        try:
            save_graph(model, path)
            return resolve_types(path, PLAIN)
        except EngineError as error:
            failure = failure or error
        finally:
            del model.graph.outputs[len(model.graph.outputs) - len(inner) :]
    raise EngineError(str(failure), hint=failure.hint if failure else "")


def _name_nodes(model: ir.Model) -> None:
    """Name nodes without a name after what they compute: an engine's message then says which."""
    names = Names(model)
    for node in all_nodes(model):
        if not node.name:
            node.name = names.take_node(
                next((one.name for one in node.outputs if one.name), "node")
            )


def _computed(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs


def _read_types(
    model: ir.Model, types: Mapping[str, str]
) -> tuple[dict[str, ir.DataType], dict[str, str]]:
    """Give each value of the main graph its dtype; return those, and what is no tensor."""
    dtypes: dict[str, ir.DataType] = {}
    untapped: dict[str, str] = {}
    opset = Knowledge.of_model(model).opset
    values = {value.name or "": value for value in _computed(model.graph) if value.name}
    values |= {value.name or "": value for value in model.graph.outputs}
    for name, value in values.items():
        match = _TENSOR.fullmatch(types.get(name, ""))
        dtype = None if match is None else _dtype_named(match[1])
        if dtype is None:
            untapped[name] = "is no tensor"
            value.type = None
            continue
        if dtype not in _WITH_SHAPE or (
            dtype is ir.DataType.BFLOAT16 and opset < _OLDEST_ANY_SHAPE
        ):
            untapped[name] = "has a dtype whose shape ONNX Runtime does not read"
            continue
        dtypes[name] = dtype
        value.type = ir.TensorType(dtype)
    return dtypes, untapped


def _dtype_named(name: str) -> ir.DataType | None:
    return ir.DataType.__members__.get(_TYPE_NAMES.get(name, name.upper()))


def _add_taps(model: ir.Model, names: Sequence[str]) -> dict[str, str]:
    known: dict[str, Any] = {value.name or "": value for value in _computed(model.graph)}
    taken, taps = Names(model), {}
    if not STANDARD_DOMAINS.intersection(model.opset_imports):
        model.opset_imports[""] = _OLDEST_ANY_SHAPE
    for name in names:
        node = ir.node("Shape", [known[name]], name=taken.take_node(f"{name}_shape"))
        tap = node.outputs[0]
        tap.name = taps[name] = taken.take_value(f"{name}_shape")
        tap.type = ir.TensorType(ir.DataType.INT64)
        model.graph.append(node)
        model.graph.outputs.append(tap)
    return taps
