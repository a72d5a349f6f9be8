"""Names from the JSON of a compiled Ascend model: what `atc --mode=1 --om=m.om --json=m.json` writes.

Of each operator of the compiled model it keeps the names of those of the original model
(`_datadump_original_op_names`), and of each output the operator and output that it is
(`_datadump_origin_name`, `_datadump_origin_output_index`).

Source: the rules of fusion_rule_parser.py of msaccucmp in mindstudio-probe 26.2.0. No names: the
operator's own. An empty list: the compiler put it in, to convert a layout or a type. One: the same
operator. More: they were fused. Several compiled operators with the same names: one was split.
Written from these; not tried on a model that atc compiled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shipway.engines.tapping import TapKind
from shipway.errors import UsageError
from shipway.trace.importing.origins import (
    Origin,
    node_output_names,
    read_map,
    resolve_values,
    sanitised,
)

__all__ = ["OmNames", "is_om_json", "read_om_names"]

_CONVERTERS = frozenset({"TransData", "Cast"})
"""Operators that the compiler puts in: their output is the tensor they read, held another way."""


@dataclass(frozen=True, slots=True)
class _Output:
    origin: str
    index: int


@dataclass(frozen=True, slots=True)
class _Operator:
    name: str
    op_type: str
    inputs: tuple[str, ...]
    originals: tuple[str, ...] | None
    """None: the map does not say. (): put in by the compiler."""
    outputs: tuple[_Output | None, ...]
    is_split: bool


@dataclass(frozen=True, slots=True)
class OmNames:
    """The names of a compiled model; see `Origins`.

    Args:
        operators: By sanitised name.
        values: ONNX values by node and output, where the ONNX model is known.
        groups: How many compiled operators have the same original names.
        model_outputs: The tensors that the compiled model returns.
    """

    operators: Mapping[str, _Operator]
    values: Mapping[tuple[str, int], str] = field(default_factory=dict)
    groups: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    model_outputs: frozenset[str] = frozenset()
    is_complete: bool = True

    def find(self, op_name: str, index: int) -> Origin | None:
        """Return what is known of an output of a compiled operator."""
        operator = self.operators.get(sanitised(op_name))
        if operator is None:
            return None
        is_output = f"{operator.name}:{index}" in self.model_outputs
        kind: TapKind = "input" if operator.op_type == "Data" else "value"
        names = self._names(operator, index, 0)
        origins = {one.origin for one in operator.outputs if one is not None}
        inside = (name for name in operator.originals or () if name not in origins)
        covers = tuple(inside) if len(operator.originals or ()) > 1 or not names else ()
        return Origin(names=names, covers=covers, kind="output" if is_output else kind)

    def find_input(self, op_name: str, index: int) -> Origin | None:
        """Return what is known of the tensor that a compiled operator reads as its input `index`."""
        operator = self.operators.get(sanitised(op_name))
        if operator is None or index >= len(operator.inputs):
            return None
        producer, _, output = operator.inputs[index].rpartition(":")
        return self.find(producer, int(output)) if output.isdecimal() else None

    def _names(self, operator: _Operator, index: int, depth: int) -> tuple[str, ...]:
        if operator.originals == ():
            return self._names_behind(operator, depth)
        origin = self._origin(operator, index)
        if origin is None:
            return ()
        values = resolve_values([origin.origin], origin.index, self.values)
        return tuple(dict.fromkeys((*values, *node_output_names(origin.origin, origin.index))))

    def _names_behind(self, operator: _Operator, depth: int) -> tuple[str, ...]:
        """Return the names of what a converter reads: it is the same tensor."""
        if (
            operator.op_type not in _CONVERTERS
            or not operator.inputs
            or depth > len(self.operators)
        ):
            return ()
        producer, _, index = operator.inputs[0].rpartition(":")
        found = self.operators.get(sanitised(producer))
        if found is None or not index.isdecimal():
            return ()
        return self._names(found, int(index), depth + 1)

    def _origin(self, operator: _Operator, index: int) -> _Output | None:
        if index < len(operator.outputs) and operator.outputs[index] is not None:
            return operator.outputs[index]
        if operator.originals is None:
            return _Output(operator.name, index)
        # The only operator that has this name, and the only name it has: nothing else is meant.
        alone = self.groups.get(operator.originals, 0) == 1 and not operator.is_split
        return (
            _Output(operator.originals[0], index)
            if alone and len(operator.originals) == 1
            else None
        )


def is_om_json(data: Any) -> bool:
    """Whether this is the JSON of a compiled model."""
    return isinstance(data, dict) and any(True for _ in _raw_operators(data))


def read_om_names(path: Path, values: Mapping[tuple[str, int], str] | None = None) -> OmNames:
    """Read the JSON of a compiled model.

    Args:
        path: What `atc --mode=1` wrote.
        values: ONNX values by node and output, as `onnx_value_names` returns them.

    Raises:
        UsageError: The file is absent, not JSON, or has no operators.
    """
    data = read_map(path)
    if not is_om_json(data) or not isinstance(data, dict):
        raise UsageError(
            f"{path} is no map of a compiled Ascend model: it has no operators.",
            hint="Write it with: atc --mode=1 --om=model.om --json=model.json",
        )
    operators = {one.name: one for one in map(_operator, _raw_operators(data))}
    outputs = {
        source for one in operators.values() if one.op_type == "NetOutput" for source in one.inputs
    }
    return OmNames(
        {sanitised(name): one for name, one in operators.items()},
        values or {},
        Counter(one.originals for one in operators.values() if one.originals),
        frozenset(outputs),
    )


def _raw_operators(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for graph in _listed(data.get("graph")):
        for one in _listed(graph.get("op") if isinstance(graph, dict) else None):
            if isinstance(one, dict) and isinstance(one.get("name"), str):
                yield one


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _operator(raw: Mapping[str, Any]) -> _Operator:
    attributes = _attributes(raw)
    inputs = [one for one in _listed(raw.get("input")) if isinstance(one, str) and one]
    return _Operator(
        name=raw["name"],
        op_type=str(raw.get("type", "")),
        inputs=tuple(one for one in inputs if not one.endswith(":-1")),  # control edges
        originals=_originals(attributes),
        outputs=tuple(map(_output, _listed(raw.get("output_desc")))),
        is_split=bool(attributes.get("_datadump_is_multiop", {}).get("b", False)),
    )


def _attributes(raw: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the values of the attributes by key: [{"key": k, "value": {"s": "text"}}, ...]."""
    pairs = [one for one in _listed(raw.get("attr")) if isinstance(one, dict)]
    return {
        str(one.get("key")): one["value"] for one in pairs if isinstance(one.get("value"), dict)
    }


def _originals(attributes: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...] | None:
    value = attributes.get("_datadump_original_op_names")
    if value is None:
        return None
    listed = value.get("list")
    names = listed.get("s") if isinstance(listed, dict) else None
    return tuple(name for name in _listed(names) if isinstance(name, str) and name)


def _output(raw: Any) -> _Output | None:
    attributes = _attributes(raw) if isinstance(raw, dict) else {}
    name = attributes.get("_datadump_origin_name", {}).get("s")
    if not isinstance(name, str) or not name:
        return None
    index = attributes.get("_datadump_origin_output_index", {}).get("i", 0)
    return _Output(
        name, int(index) if str(index).isdecimal() else 0
    )  # protobuf writes int64 as text
