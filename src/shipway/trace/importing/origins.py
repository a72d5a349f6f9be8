"""What a tensor of a compiled model was called in the model that was compiled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from shipway.engines.tapping import Tap, TapKind
from shipway.errors import ModelError, UsageError
from shipway.files import read_json

__all__ = [
    "NO_ORIGIN",
    "Origin",
    "Origins",
    "chain",
    "node_output_names",
    "onnx_value_names",
    "read_map",
    "sanitised",
]

_UNSAFE = re.compile(r"[/.]")


@dataclass(frozen=True, slots=True)
class Origin:
    """What a map says of a tensor; fields as in `Tap`.

    Args:
        names: Names of the same tensor in the original model, best first.
        covers: What else the operator computes.
        module: Path of the module.
        source: Line of the user's code.
        kind: Whether it is an input or output of the model.
        op: The operator of the original model.
    """

    names: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    module: str = ""
    source: str = ""
    kind: TapKind = "value"
    op: str = ""

    def onto(self, tap: Tap) -> Tap:
        """Return the tap with what the map says; its own name stays among the names."""
        if self == NO_ORIGIN:
            return tap
        return replace(
            tap,
            names=tuple(dict.fromkeys((*self.names, *tap.names))),
            covers=self.covers or tap.covers,
            module=self.module or tap.module,
            source=self.source or tap.source,
            kind=self.kind if self.kind != "value" else tap.kind,
            op=tap.op or self.op,
        )


NO_ORIGIN = Origin()


class Origins(Protocol):
    """A map from the tensors of a compiled model to those of the original one."""

    @property
    def is_complete(self) -> bool:
        """Whether it lists every operator of the compiled model."""

    def find(self, op_name: str, index: int) -> Origin | None:
        """Return what is known of an output of an operator; None where it is not in the map."""

    def find_input(self, op_name: str, index: int) -> Origin | None:
        """Return the same of an input: what it is an output of."""


def sanitised(name: str) -> str:
    """Return a name as the Ascend tools write it into file names.

    Example:
        >>> sanitised("/layer1/layer1.0/conv1/Conv")
        '_layer1_layer1_0_conv1_Conv'
    """
    return _UNSAFE.sub("_", name)


def node_output_names(node: str, position: int) -> tuple[str, ...]:
    """Return what an output of a node may be called where only the node is known.

    The first output by the node's name alone; and as PyTorch's two exporters name the values of
    their nodes.

    Example:
        >>> node_output_names("/fc/Gemm", 0)
        ('/fc/Gemm', '_fc_Gemm', '/fc/Gemm:0', '/fc/Gemm_output_0', '_fc_Gemm_output_0')
        >>> node_output_names("node_linear", 0)[1]
        'linear'
    """
    names = [
        f"{node}:{position}",
        f"{node}_output_{position}",
        f"{sanitised(node)}_output_{position}",
    ]
    if position == 0:
        fx_node = [node.removeprefix("node_")] if node.startswith("node_") else []
        names = [node, *fx_node, sanitised(node), *names]
    return tuple(dict.fromkeys(names))


def chain(maps: Sequence[Origins], op_name: str, index: int) -> Origin | None:
    """Return what the maps say together: names of all of them, the rest from the first that has it.

    None where no map knows the operator.
    """
    found = [one for one in (map_.find(op_name, index) for map_ in maps) if one is not None]
    if not found:
        return None
    return Origin(
        names=tuple(dict.fromkeys(name for one in found for name in one.names)),
        covers=next((one.covers for one in found if one.covers), ()),
        module=next((one.module for one in found if one.module), ""),
        source=next((one.source for one in found if one.source), ""),
        kind=next((one.kind for one in found if one.kind != "value"), "value"),
        op=next((one.op for one in found if one.op), ""),
    )


def onnx_value_names(path: Path) -> dict[tuple[str, int], str]:
    """Return the ONNX value that each output of each node is, by the node's sanitised name.

    A node without a name is known as `{op_type}_{position}`, as the Ascend tools name it.

    Raises:
        ModelError: The file is no ONNX model.
    """
    from shipway.graph.loading import load_graph

    names: dict[tuple[str, int], str] = {}
    for position, node in enumerate(load_graph(path).graph):
        label = node.name or f"{node.op_type}_{position}"
        for index, value in enumerate(node.outputs):
            if value.name:
                names.setdefault((sanitised(label), index), value.name)
    return names


def resolve_values(
    names: Iterable[str], index: int, values: Mapping[tuple[str, int], str]
) -> tuple[str, ...]:
    """Return the ONNX values that the nodes of these names compute as their output `index`."""
    found = (values.get((sanitised(name), index)) for name in names)
    return tuple(dict.fromkeys(name for name in found if name is not None))


def read_map(path: Path) -> object:
    """Read a JSON map.

    Raises:
        UsageError: The file is absent or not JSON.
    """
    try:
        return read_json(path)
    except ModelError as error:
        raise UsageError(f"The map cannot be read. {error}", hint="Check --map.") from error
