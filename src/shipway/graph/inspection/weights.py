"""The weights of a model: how many, how large, where; their numbers are never read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnx_ir as ir

from shipway.graph.inspection.ports import dtype_name
from shipway.graph.locating import all_graphs
from shipway.graph.standard import is_standard
from shipway.graph.weights import AbsentTensor, StoredTensor

__all__ = [
    "DtypeShare",
    "ExternalFile",
    "WeightUse",
    "Weights",
    "survey_weights",
    "weight_bytes_by_operator",
]

OperatorKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class WeightUse:
    """One weight.

    Args:
        name: Its name.
        type: Element type.
        shape: Its sizes.
        size_bytes: Bytes of its numbers.
        place: File its numbers lie in.
        readers: Operators that read it.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    size_bytes: int
    place: str
    readers: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            "type": self.type,
            "shape": list(self.shape),
            "size_bytes": self.size_bytes,
            "place": self.place,
            "readers": list(self.readers),
        }


@dataclass(frozen=True, slots=True)
class DtypeShare:
    """The weights of one element type.

    Args:
        type: Element type.
        count: How many weights.
        elements: How many numbers.
        size_bytes: Their bytes.
    """

    type: str
    count: int
    elements: int
    size_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "type": self.type,
            "count": self.count,
            "elements": self.elements,
            "size_bytes": self.size_bytes,
        }


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A file with weights beside the model.

    Args:
        path: As the model names it.
        tensors: Weights in it.
        used_bytes: Bytes of those.
        size_bytes: Size of the file; None where it is absent.
        problem: What is wrong with it, or with a weight in it; "" if nothing is.
    """

    path: str
    tensors: int
    used_bytes: int
    size_bytes: int | None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "path": self.path,
            "tensors": self.tensors,
            "used_bytes": self.used_bytes,
            "size_bytes": self.size_bytes,
            "problem": self.problem,
        }


@dataclass(frozen=True, slots=True)
class Weights:
    """All weights: initializers, and the tensors of Constant nodes.

    Args:
        dtypes: By element type, the most bytes first.
        largest: The largest, the most bytes first.
        files: External data.
    """

    dtypes: tuple[DtypeShare, ...]
    largest: tuple[WeightUse, ...]
    files: tuple[ExternalFile, ...]

    @property
    def count(self) -> int:
        """How many weights."""
        return sum(one.count for one in self.dtypes)

    @property
    def elements(self) -> int:
        """How many numbers."""
        return sum(one.elements for one in self.dtypes)

    @property
    def size_bytes(self) -> int:
        """Bytes of the numbers."""
        return sum(one.size_bytes for one in self.dtypes)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "count": self.count,
            "elements": self.elements,
            "size_bytes": self.size_bytes,
            "dtypes": [one.to_json() for one in self.dtypes],
            "largest": [one.to_json() for one in self.largest],
            "files": [one.to_json() for one in self.files],
        }


class _Weight(NamedTuple):
    name: str
    tensor: ir.TensorProtocol
    readers: tuple[ir.Node, ...]


def survey_weights(model: ir.Model, path: Path | None, most: int) -> Weights:
    """Survey the weights of a model.

    Args:
        model: The model.
        path: Its file, in whose folder external data lie; None for one that is in memory only.
        most: How many of the largest to list.
    """
    weights = list(_weights(model))
    groups: dict[str, list[_Weight]] = defaultdict(list)
    for one in weights:
        groups[dtype_name(one.tensor.dtype)].append(one)
    shares = [
        DtypeShare(
            name,
            len(group),
            sum(one.tensor.size for one in group),
            sum(one.tensor.nbytes for one in group),
        )
        for name, group in groups.items()
    ]
    largest = sorted(weights, key=lambda one: -one.tensor.nbytes)[:most]
    return Weights(
        tuple(sorted(shares, key=lambda one: -one.size_bytes)),
        tuple(_use(one, path) for one in largest),
        tuple(_files(weights, path)),
    )


def weight_bytes_by_operator(model: ir.Model) -> dict[OperatorKey, int]:
    """Return the bytes of the weights each operator reads; shared ones count for each of them."""
    found: dict[OperatorKey, int] = defaultdict(int)
    for one in _weights(model):
        for key in {(node.op_type, node.domain) for node in one.readers}:
            found[key] += one.tensor.nbytes
    return found


def _weights(model: ir.Model) -> Iterator[_Weight]:
    """Yield the initializers, and the tensors that Constant nodes hold."""
    for graph in all_graphs(model):
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                yield _Weight(name, value.const_value, _readers(value))
        for node in graph:
            attribute = node.attributes.get("value")
            if is_standard(node, "Constant") and attribute is not None and not attribute.is_ref():
                readers = _readers(node.outputs[0]) if node.outputs else ()
                tensor: Any = attribute.value
                if attribute.type is ir.AttributeType.TENSOR:
                    yield _Weight(node.outputs[0].name or node.name or "", tensor, readers)


def _readers(value: ir.Value) -> tuple[ir.Node, ...]:
    return tuple(dict.fromkeys(use.node for use in value.uses()))


def _use(weight: _Weight, path: Path | None) -> WeightUse:
    tensor = weight.tensor
    operators = dict.fromkeys(node.op_type for node in weight.readers)
    shape = tuple(int(size) for size in tensor.shape.numpy())
    place = _place(tensor, path)
    return WeightUse(
        weight.name, dtype_name(tensor.dtype), shape, tensor.nbytes, place, tuple(operators)
    )


def _place(tensor: ir.TensorProtocol, path: Path | None) -> str:
    """Return the external file a tensor lies in, as the model names it; "" for none."""
    if isinstance(tensor, AbsentTensor):
        return tensor.location
    if isinstance(tensor, StoredTensor) and path is not None and tensor.file.path != path:
        return tensor.file.path.relative_to(path.parent).as_posix()
    return ""


def _files(weights: Iterable[_Weight], path: Path | None) -> Iterator[ExternalFile]:
    groups: dict[str, list[Any]] = defaultdict(list)
    for one in weights:
        if place := _place(one.tensor, path):
            groups[place].append(one.tensor)
    for place, tensors in groups.items():
        file = None if path is None else path.parent / place
        problems = (one.reason for one in tensors if isinstance(one, AbsentTensor))
        yield ExternalFile(
            place,
            len(tensors),
            sum(one.nbytes for one in tensors),
            file.stat().st_size if file is not None and file.is_file() else None,
            next(problems, ""),
        )
