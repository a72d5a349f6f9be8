"""The `shipway graph diff` command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.cli.flags import Flag
from shipway.cli.terminal import make_table, print_json, print_lines, print_result, start_log
from shipway.errors import UsageError

if TYPE_CHECKING:
    from shipway.graph.diffing.results import (
        Detail,
        GraphDifference,
        Line,
        ModelDifference,
        NodeDifference,
    )

__all__ = ["diff"]

_STYLES = {"-": "red", "+": "green", "~": "yellow", "@": "cyan", " ": ""}
_MOST_LISTED = 20
_LONGEST_DETAIL = 300
Styled = Iterator[tuple[str, str]]


def diff(
    before: Path,
    after: Path,
    *,
    computation: Flag = False,
    context: int = 2,
    json: Flag = False,
) -> int:
    """Show what differs between two ONNX graphs; exit 0 where they are equal, 1 where not.

    Nodes are aligned by structure before names: new names are told as such, and the order of nodes
    and initializers does not count. Weights are compared piece by piece, in models of any size.

    `-` is only before, `+` only after, `~` in both, and not the same.

    ```
    shipway graph diff model.onnx simplified.onnx
    shipway graph diff export-1.onnx export-2.onnx --computation
    ```

    Args:
        before: An .onnx file.
        after: Another one.
        computation: Leave out what changes no number: names inside, metadata, doc strings, declared
            shapes of values inside, the producer.
        context: Number of equal nodes shown around each that differs.
        json: Print JSON.
    """
    from shipway.graph.diffing.models import diff_graphs
    from shipway.graph.loading import load_graph

    start_log(quiet=json)
    if context < 0:
        raise UsageError(f"--context must be 0 or more, not {context}.")
    result = diff_graphs(load_graph(before), load_graph(after))
    if computation:
        result = result.computation()
    if json:
        print_json({"before": str(before), "after": str(after), **result.to_json()})
    else:
        _show(result, context)
    return 0 if result.is_equal else 1


def _show(result: ModelDifference, context: int) -> None:
    counts = ", ".join(f"{count:,} {status}" for status, count in result.counts.items())
    print_result(f"{'equal' if result.is_equal else 'different'}: nodes {counts}")
    if result.operators:
        table = make_table("operator", "before", "after")
        for name, (one, other) in result.operators.items():
            table.add_row(name, f"{one:,}", f"{other:,}")
        print_result("", table)
    if result.model:
        print_lines([("", ""), ("model", "bold"), *_write_details(result.model)])
    for graph in result.graphs:
        if not graph.is_equal:
            print_lines(_write_graph(graph, context))


def _write_graph(graph: GraphDifference, context: int) -> Styled:
    yield "", ""
    yield graph.where or "main graph", "bold"
    details = (*graph.signature, *graph.weights)
    yield from _write_details([one for one in details if one.kind == "computation"])
    yield from _write_nodes(graph.lines, context)
    yield from _write_renames(graph)
    yield from _write_annotations(graph)


def _write_details(details: Sequence[Detail]) -> Styled:
    for detail in details:
        sign = "+" if detail.before is None else "-" if detail.after is None else "~"
        yield f"{sign} {_shorten(str(detail))}", _STYLES[sign]


def _write_nodes(lines: Sequence[Line], context: int) -> Styled:
    """Write what differs in the order it runs, with some of what is around it."""
    shown = {
        near
        for index, line in enumerate(lines)
        if line.sign != " "
        for near in range(max(index - context, 0), min(index + context + 1, len(lines)))
    }
    last = -1
    for index in sorted(shown):
        if index != last + 1 or last < 0:
            yield f"@@ node {index + 1:,} of {len(lines):,}", _STYLES["@"]
        last = index
        line = lines[index]
        yield f"{line.sign} {_shorten(line.text)}", _STYLES[line.sign]
        for detail in line.details:
            yield f"      {_shorten(detail)}", _STYLES[line.sign]


def _write_renames(graph: GraphDifference) -> Styled:
    """Write new names: those of nodes, then those of values and weights."""
    found = [("weight", detail) for detail in graph.weights]
    found += [
        ("value" if detail.what.startswith("output") else "node", detail)
        for detail in _details_of(graph.nodes)
    ]
    found += [("end", detail) for detail in graph.signature]
    renames = [
        f"{kind} {detail.before or '(none)'} -> {detail.after or '(none)'}"
        for kind, detail in found
        if detail.kind == "name"
    ]
    yield from _write_some("renamed", renames)


def _write_annotations(graph: GraphDifference) -> Styled:
    """Write how often each annotation differs: exporters write a line for every node."""
    found = Counter(
        detail.what for detail in _details_of(graph.nodes) if detail.kind == "annotation"
    )
    others = [one for one in (*graph.signature, *graph.weights) if one.kind == "annotation"]
    found.update(str(one) for one in others)
    yield from _write_some("annotated", [f"{what}: {count:,}" for what, count in found.items()])


def _details_of(nodes: Sequence[NodeDifference]) -> Iterator[Detail]:
    for node in nodes:
        yield from node.details


def _write_some(title: str, texts: Sequence[str]) -> Styled:
    if texts:
        yield title, ""
    for text in texts[:_MOST_LISTED]:
        yield f"  {_shorten(text)}", ""
    if len(texts) > _MOST_LISTED:
        yield f"  and {len(texts) - _MOST_LISTED:,} more: --json lists all", ""


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_DETAIL else f"{text[: _LONGEST_DETAIL - 3]}..."
