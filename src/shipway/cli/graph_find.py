"""The `shipway graph find` command."""

from __future__ import annotations

import difflib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.cli.flags import Flag, Many
from shipway.cli.terminal import make_table, print_json, print_result, start_log
from shipway.errors import ModelError, UsageError
from shipway.report.formats import clean_text

if TYPE_CHECKING:
    import onnx_ir as ir

    from shipway.graph.finding import FoundNode, NodeQuery
    from shipway.source.origins import Origin

__all__ = ["find"]

_LOG = logging.getLogger(__name__)
_MAP_SUFFIX = ".map.json"


def find(
    model: Path,
    *,
    type: Many = (),  # noqa: A002 -- the name of the flag
    name: Many = (),
    module: Many = (),
    domain: Many = (),
    value: Many = (),
    pattern: str = "",
    commute: Flag = False,
    json: Flag = False,
) -> int:
    """Find nodes of an ONNX model; exit 1 where there are none, like grep.

    Shows name, operator, inputs and outputs and, where the exporter left it or a name map lies beside
    the model, the module and the line of code. All that is asked for must hold; of a flag given
    again, any. `*` stands for anything.

    ```
    shipway graph find model.onnx --type Conv --module "blocks.1.*"
    shipway graph find model.onnx --value logits
    shipway graph find model.onnx --pattern "c = MatMul(a, b); d = Add(c, bias)" --commute
    ```

    Args:
        model: The .onnx file.
        type: Operator, e.g. Conv, "Reduce*" or npu::Odd.
        name: Name of the node, e.g. "/layer1/*".
        module: Path of the PyTorch module, e.g. "blocks.1.*".
        domain: Domain of the operator, e.g. npu; ai.onnx is the default one.
        value: Value that the node reads or computes.
        pattern: Nodes in ONNX's text form, separated by ";", as for `edit rewrite-pattern`. What
            else is asked for must hold for one of the nodes.
        commute: Let Add, Mul and the like match with swapped inputs too.
        json: Print JSON.
    """
    from shipway.graph.finding import NodeQuery, describe_nodes
    from shipway.graph.loading import load_anyway

    start_log(quiet=json)
    if commute and not pattern:
        raise UsageError("--commute says how a pattern matches.", hint="Add --pattern.")
    graph, problems = load_anyway(model)
    for problem in problems:
        _LOG.warning("%s", clean_text(problem))
    origins = _read_origins(model)
    query = NodeQuery(type, name, module, domain, value)
    groups = _search(graph, query, pattern, origins, commute=commute)
    found = [describe_nodes(graph, one, origins=origins) for one in groups]
    if json:
        print_json(_facts(model, found, is_pattern=bool(pattern)))
    elif found:
        _show(found, is_pattern=bool(pattern))
    else:
        _LOG.warning("Nothing matched.%s", _nearest(graph, query))
    return 0 if found else 1


def _search(
    graph: ir.Model, query: NodeQuery, pattern: str, origins: dict[str, Origin], *, commute: bool
) -> list[list[ir.Node]]:
    """Return the nodes, one a group, or the occurrences of a pattern with one of them in it."""
    from shipway.graph.finding import find_nodes, find_pattern

    nodes = find_nodes(graph, query, origins=origins)
    if not pattern:
        return [[node] for node in nodes]
    meant = set(nodes)
    occurrences = find_pattern(graph, pattern, commute=commute)
    return [list(one) for one in occurrences if meant.intersection(one)]


def _facts(model: Path, found: list[list[FoundNode]], *, is_pattern: bool) -> dict[str, Any]:
    nodes = [
        node.to_json() | ({"occurrence": number} if is_pattern else {})
        for number, group in enumerate(found, 1)
        for node in group
    ]
    return {"schema_version": 1, "model": str(model), "count": len(found), "nodes": nodes}


def _read_origins(model: Path) -> dict[str, Origin]:
    """Return where each value comes from by the name map beside the model, if one is there."""
    from shipway.export.name_map import read_name_map
    from shipway.source.origins import Origin

    path = model.with_suffix(_MAP_SUFFIX)
    if not path.is_file():
        return {}
    try:
        name_map = read_name_map(path)
    except ModelError as error:
        _LOG.warning("The name map is not used: %s", clean_text(error))
        return {}
    entries = {entry.fx: entry for entry in name_map.tensors}
    origins = {
        fx: Origin(entry.module, entry.source, entry.code, fx) for fx, entry in entries.items()
    }
    found = {
        value.onnx: origins.get(value.fx or "", Origin(value.module, fx=value.fx or ""))
        for value in name_map.values
        if value.fx or value.module
    }
    return found | {
        entry.onnx: origins[entry.fx] for entry in entries.values() if entry.onnx is not None
    }


def _show(found: list[list[FoundNode]], *, is_pattern: bool) -> None:
    nodes = [node for group in found for node in group]
    rows = [
        {
            "#": str(number) if is_pattern else "",
            "node": node.name,
            "operator": f"{node.domain}::{node.type}" if node.domain else node.type,
            "inputs": ", ".join(name or "-" for name in node.inputs),
            "outputs": ", ".join(node.outputs),
            "module": node.origin.module,
            "source": node.origin.source,
            "in": node.place,
        }
        for number, group in enumerate(found, 1)
        for node in group
    ]
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    table = make_table(*columns)
    for column in table.columns:
        column.justify, column.overflow, column.no_wrap = "left", "fold", False
    for row in rows:
        table.add_row(*(clean_text(row[name]) for name in columns))
    print_result(table)
    what = "occurrence" if is_pattern else "node"
    count = len(found) if is_pattern else len(nodes)
    print_result("", f"{count:,} {what}{'' if count == 1 else 's'}")


def _nearest(model: ir.Model, query: NodeQuery) -> str:
    """Say which names are near one that was asked for."""
    from shipway.graph.locating import all_nodes

    nodes = list(all_nodes(model))
    known = {
        "names": (query.names, {node.name or "" for node in nodes}),
        "types": (query.types, {node.op_type for node in nodes}),
        "domains": (query.domains, {node.domain or "ai.onnx" for node in nodes}),
        "values": (query.values, {one.name or "" for node in nodes for one in node.outputs}),
    }
    near = [
        close
        for wanted, names in known.values()
        for text in wanted
        if text not in names
        for close in difflib.get_close_matches(text, sorted(names), n=3)
    ]
    return f" Nearest: {clean_text(', '.join(near))}." if near else ""
