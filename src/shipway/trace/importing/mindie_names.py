"""Names from the two maps that MindIE-Torch leaves in the current folder.

`mindie_torch_op_mapping.json` says which TorchScript or fx node each layer of the runtime was made
from; `mindie_rt_op_mapping.json` says which operator of the compiled graph each layer became, and
which of those were fused.

A TorchScript node carries the path of its module in its scope. An fx node is written
"/layer1/0/relu/relu_1": the parts of the module path, and the node. A part may have got an
underscore where the module's name has a dot ("layer1_0"), or have one of its own ("patch_embed");
which of the two cannot be told from the text, so every reading becomes a name, and matching by the
values decides. (msit turns every underscore into a dot.)

Source: GEDumpFileReader and TorchDumpFileReader of msit 8.2.0, and the sample in its tests.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shipway.errors import UsageError
from shipway.trace.importing.origins import NO_ORIGIN, Origin, read_map, sanitised

__all__ = ["RT_MAP", "TORCH_MAP", "MindieNames", "TorchNode", "parse_node", "read_mindie_names"]

TORCH_MAP = "mindie_torch_op_mapping.json"
RT_MAP = "mindie_rt_op_mapping.json"

_JIT = re.compile(
    r"\s*%(?P<value>[\w.]+)\s*:.*?=\s*(?P<op>[\w:]+)"
    r"(?:.*?,\s*scope:\s*(?P<scope>[^#]*?))?\s*(?:#\s*(?P<source>\S+))?\s*",
    re.DOTALL,
)
_MODULE = "__module."
_MOST_READINGS = 16


@dataclass(frozen=True, slots=True)
class TorchNode:
    """A node of the PyTorch program, as one of the maps writes it.

    Args:
        value: Its name in the graph: "relu_1" of fx, "968" of TorchScript.
        op: Its operator; "" for an fx node.
        module: Path of its module; "" where the text has none.
        readings: Other paths that the text may mean.
        source: Line of the user's code; "" where it is torch's own.
    """

    value: str
    op: str = ""
    module: str = ""
    readings: tuple[str, ...] = ()
    source: str = ""


def parse_node(text: str) -> TorchNode | None:
    """Read a `jit_node` or `fx_node`; None where it is neither.

    Example:
        >>> parse_node("/layer1/0/relu/relu_1").module
        'layer1.0.relu'
        >>> parse_node("/patch_embed/conv/conv2d").readings
        ('patch.embed.conv',)
    """
    if text.strip().startswith("/"):
        return _parse_fx(text.strip())
    match = _JIT.fullmatch(text)
    if match is None:
        return None
    last = (match["scope"] or "").strip().rpartition("/")[2]
    module = last.rpartition(_MODULE)[2] if _MODULE in last else ""
    return TorchNode(match["value"], match["op"], module, (), _user_line(match["source"] or ""))


def _parse_fx(text: str) -> TorchNode:
    *path, node = text.strip("/").split("/")
    module = ".".join(part.rstrip("_") for part in path)
    return TorchNode(node, "", module, tuple(_readings(path, module)))


def _readings(path: Sequence[str], module: str) -> list[str]:
    """Return what else the parts may mean: underscores read as dots, those at an end left out."""
    parts = [part.rstrip("_") for part in path]
    choices = [dict.fromkeys((part, part.replace("_", "."))) for part in parts]
    found = (".".join(one) for one in itertools.product(*choices))
    return [one for one in itertools.islice(found, _MOST_READINGS) if one != module]


def _user_line(place: str) -> str:
    """Return `file.py:18` from `file.py:18:0`; "" for a line of torch's own."""
    from shipway.source.locations import short_path

    file, line, column = (*place.rsplit(":", 2), "", "")[:3]
    if not (line.isdecimal() and column.isdecimal()) or "/torch/" in file:
        return ""
    return f"{short_path(file)}:{line}"


@dataclass(frozen=True, slots=True)
class MindieNames:
    """The names of a model that MindIE-Torch compiled; see `Origins`.

    Args:
        origins: By the sanitised name of an operator, its output.
    """

    origins: Mapping[str, Origin]
    is_complete: bool = True

    def find(self, op_name: str, index: int) -> Origin | None:
        """Return what is known of an output of an operator: the maps name the first one only."""
        origin = self.origins.get(sanitised(op_name))
        return origin if origin is None or index == 0 else NO_ORIGIN

    def find_input(self, op_name: str, index: int) -> Origin | None:  # noqa: ARG002 -- see `Origins`
        """Return None: the maps do not say what an operator reads."""
        return None


def read_mindie_names(folder: Path) -> MindieNames:
    """Read both maps.

    Args:
        folder: The folder they are in.

    Raises:
        UsageError: One of them is absent, not JSON, or says something else.
    """
    for name in (TORCH_MAP, RT_MAP):
        if not (folder / name).is_file():
            raise UsageError(
                f"There is no {name} in {folder}.",
                hint=f"MindIE-Torch writes {TORCH_MAP} and {RT_MAP} together; both are needed.",
            )
    nodes = _read_nodes(folder / TORCH_MAP)
    layers = sorted(_rows(folder / RT_MAP, "ge_op", "rt_layer"), key=_id)
    groups: dict[str, list[TorchNode | None]] = {}
    # A fused operator is a run of layers that name it; its result is that of the last layer.
    for layer in layers:
        name = str(layer.get("fusion_op") or layer["ge_op"])
        groups.setdefault(name, []).append(nodes.get(layer["rt_layer"]))
    speakers = set(_speakers(groups).values())
    return MindieNames(
        {
            sanitised(name): _origin(pieces, is_speaker=name in speakers)
            for name, pieces in groups.items()
        }
    )


def _id(row: Mapping[str, Any]) -> float:
    return float(row["id"]) if isinstance(row.get("id"), (int, float)) else 0.0


def _rows(path: Path, *keys: str) -> list[Mapping[str, Any]]:
    data = read_map(path)
    rows = data if isinstance(data, list) else []
    if not rows or not all(
        isinstance(row, dict) and all(isinstance(row.get(key), str) for key in keys) for row in rows
    ):
        raise UsageError(
            f"{path} is no map of MindIE-Torch: it is not a list of {' and '.join(keys)}.",
            hint="Dump the model again; a model that was saved and loaded has empty maps.",
        )
    return rows


def _read_nodes(path: Path) -> dict[str, TorchNode]:
    nodes: dict[str, TorchNode] = {}
    for row in _rows(path, "rt_layer"):
        text = row.get("jit_node", row.get("fx_node"))
        node = parse_node(text) if isinstance(text, str) else None
        if node is not None:
            nodes[row["rt_layer"]] = node
    return nodes


def _speakers(groups: Mapping[str, Sequence[TorchNode | None]]) -> dict[str, str]:
    """Return, by module, the operator whose result is what that module returns.

    That is the last one computed in it. A module with modules inside it has none: it may return
    what any of them computes.
    """
    speakers = {
        pieces[-1].module: name for name, pieces in groups.items() if pieces[-1] is not None
    }
    within = {node.module for pieces in groups.values() for node in pieces if node is not None}
    return {
        path: name
        for path, name in speakers.items()
        if path and not any(one.startswith(f"{path}.") for one in within)
    }


def _origin(pieces: Sequence[TorchNode | None], *, is_speaker: bool) -> Origin:
    known = [node for node in pieces if node is not None]
    last = pieces[-1]
    if last is None:  # the last layer has no node: what it computes has no name
        return Origin(covers=tuple(node.value for node in known))
    modules = (last.module, *last.readings) if is_speaker else ()
    values = () if last.value.isdecimal() else (last.value,)  # %968 is no name for a reader
    return Origin(
        names=(*values, *modules) if not last.op else (*modules, *values),
        covers=tuple(node.module or node.value for node in known[:-1]),
        module=last.module,
        source=last.source,
        op=last.op,
    )
