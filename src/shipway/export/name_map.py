"""The name map: which ONNX value holds which tensor of the PyTorch program, and where it came from.

It is written beside the model, because most tools erase what they find inside an ONNX file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from shipway.errors import ModelError
from shipway.files import read_json, write_json
from shipway.tensors import Dim

__all__ = ["NameMap", "Status", "TensorEntry", "ValueEntry", "read_name_map", "write_name_map"]

_SCHEMA = 1
Status = Literal["kept", "folded", "fused", "eliminated", "subgraph", "scope", "unmatched"]
Route = Literal["torch.export", "legacy", "onnx"]


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of the program, and what became of it.

    Args:
        fx: Name of its node in the saved program; `graph.node` inside a control-flow graph.
        op: "input", "parameter", "buffer", "constant", or the operator, e.g. "aten.relu.default".
        dtype: Element type.
        shape: Sizes; an expression such as "2*batch" where several symbols meet.
        status: "kept": `onnx` holds exactly this tensor. "folded": it became part of a constant.
            "fused": it disappeared into the operators that compute `into`. "eliminated": it did
            nothing, and `alias` holds the same values, or nobody read it. "subgraph": it lives
            inside a control-flow graph and is not followed further. "scope": only its module is
            known; `into` lists that module's values (old tracer). "unmatched": not found.
        onnx: The ONNX value; None unless kept.
        alias: An ONNX value with the same content, where `onnx` is None.
        into: The nearest ONNX values that were computed from it.
        confirmed: Whether the match was checked on numbers during the export, not only by shape.
        module: Path of the module that computed it, e.g. "attn.qkv"; "" is the model itself.
        module_class: Class of that module.
        source: The line of the user's code, e.g. "net.py:18"; "" where there is none.
        code: That line.
    """

    fx: str
    op: str
    dtype: str
    shape: tuple[Dim, ...]
    status: Status
    onnx: str | None = None
    alias: str | None = None
    into: tuple[str, ...] = ()
    confirmed: bool = False
    module: str = ""
    module_class: str = ""
    source: str = ""
    code: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "fx": self.fx,
            "op": self.op,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "status": self.status,
            "onnx": self.onnx,
            "alias": self.alias,
            "into": list(self.into),
            "confirmed": self.confirmed,
            "module": {"path": self.module, "class": self.module_class},
            "source": {"location": self.source, "code": self.code},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorEntry:
        """Read what `to_json` wrote."""
        if data["status"] not in get_args(Status):
            raise ValueError(f"unknown status {data['status']!r}")
        return cls(
            data["fx"],
            data["op"],
            data["dtype"],
            tuple(data["shape"]),
            data["status"],
            data["onnx"],
            data["alias"],
            tuple(data["into"]),
            data["confirmed"],
            data["module"]["path"],
            data["module"]["class"],
            data["source"]["location"],
            data["source"]["code"],
        )


@dataclass(frozen=True, slots=True)
class ValueEntry:
    """One ONNX value that is no tensor of the program: a helper of some operator.

    Args:
        onnx: Its name.
        op: The ONNX operator that computes it; "" for a weight.
        fx: Node of the program it serves, by the exporter's own record; None where it left none.
        module: Path of the module, where only that is known.
    """

    onnx: str
    op: str
    fx: str | None = None
    module: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"onnx": self.onnx, "op": self.op, "fx": self.fx, "module": self.module}


@dataclass(frozen=True, slots=True)
class NameMap:
    """Every tensor of a program and every value of the ONNX model made from it.

    Args:
        model: Name of the .onnx file.
        program: Name of the .pt2 file; None where there is none.
        route: "torch.export", "legacy", or "onnx" for a model that came as ONNX.
        tensors: One entry a tensor of the program, in the order they are computed.
        values: The remaining ONNX values.
    """

    model: str
    program: str | None
    route: Route
    tensors: tuple[TensorEntry, ...]
    values: tuple[ValueEntry, ...]

    @property
    def coverage(self) -> float | None:
        """Share of the program's tensors whose fate is known; None without a program."""
        if not self.tensors:
            return None
        counts = self.statuses
        return 1 - (counts.get("unmatched", 0) + counts.get("scope", 0)) / len(self.tensors)

    @property
    def statuses(self) -> dict[str, int]:
        """How many tensors have each status."""
        return dict(Counter(entry.status for entry in self.tensors))

    def by_onnx(self) -> dict[str, TensorEntry]:
        """Return the kept tensors by ONNX value."""
        return {entry.onnx: entry for entry in self.tensors if entry.onnx is not None}

    def after(
        self, model: str, aliases: Mapping[str, str], fates: Mapping[str, tuple[str, ...]]
    ) -> NameMap:
        """Return the map of a model made from this one by an edit of its graph.

        Args:
            model: Name of the new .onnx file.
            aliases: For each ONNX value that is no more and whose numbers survive: where they are.
            fates: For each other value that is no more: the values it has become part of.
        """
        tensors = tuple(_after(entry, aliases, fates) for entry in self.tensors)
        values = tuple(
            entry for entry in self.values if entry.onnx not in aliases and entry.onnx not in fates
        )
        return replace(self, model=model, tensors=tensors, values=values)

    def within(self, model: str, names: Collection[str]) -> NameMap:
        """Return the map of a part of the model: what leads to none of its values is left out.

        Args:
            model: Name of the new .onnx file.
            names: The ONNX values that the part has.
        """
        tensors = (_within(entry, names) for entry in self.tensors)
        values = tuple(entry for entry in self.values if entry.onnx in names)
        kept = tuple(entry for entry in tensors if entry is not None)
        return replace(self, model=model, tensors=kept, values=values)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "schema_version": _SCHEMA,
            "model": self.model,
            "program": self.program,
            "route": self.route,
            "coverage": self.coverage,
            "statuses": self.statuses,
            "tensors": [entry.to_json() for entry in self.tensors],
            "values": [entry.to_json() for entry in self.values],
        }


def _after(
    entry: TensorEntry, aliases: Mapping[str, str], fates: Mapping[str, tuple[str, ...]]
) -> TensorEntry:
    name = entry.onnx or ""
    if name in aliases:
        return replace(entry, status="eliminated", onnx=None, alias=aliases[name])
    if name in fates:
        return replace(entry, status="fused", onnx=None, into=fates[name])
    inside = [new for old in entry.into for new in fates.get(old, (aliases.get(old, old),))]
    alias = entry.alias
    if alias is not None and alias in fates:
        return replace(entry, status="fused", alias=None, into=fates[alias])
    return replace(
        entry,
        alias=None if alias is None else aliases.get(alias, alias),
        into=tuple(dict.fromkeys(inside)),
    )


def _within(entry: TensorEntry, names: Collection[str]) -> TensorEntry | None:
    into = tuple(name for name in entry.into if name in names)
    if entry.onnx in names or entry.alias in names or into:
        alias = entry.alias if entry.alias in names else None
        return replace(entry, alias=alias, into=into)
    return None


def write_name_map(name_map: NameMap, path: Path) -> None:
    """Write a name map as JSON, atomically."""
    write_json(path, name_map.to_json())


def read_name_map(path: Path) -> NameMap:
    """Read a name map.

    Raises:
        ModelError: The file is absent, no name map, or of a newer schema.
    """
    data = read_json(path)
    try:
        if data["schema_version"] > _SCHEMA:
            raise ModelError(
                f"{path} has schema {data['schema_version']}; this Shipway reads up to {_SCHEMA}.",
                hint="pip install --upgrade shipway",
            )
        return NameMap(
            data["model"],
            data["program"],
            data["route"],
            tuple(TensorEntry.from_json(item) for item in data["tensors"]),
            tuple(
                ValueEntry(item["onnx"], item["op"], item["fx"], item["module"])
                for item in data["values"]
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path} is not a name map of Shipway: {error!r}.") from error
