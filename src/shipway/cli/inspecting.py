"""What an inspection looks like in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from shipway.cli.terminal import make_table, print_result
from shipway.report.formats import clean_text, format_bytes, format_count, format_percent

if TYPE_CHECKING:
    from rich.table import Table

    from shipway.graph.facts.dims import Dim
    from shipway.graph.inspection.ports import Port
    from shipway.graph.inspection.results import Counting, Inspection, OperatorUse
    from shipway.graph.inspection.structure import FieldUse, Structure
    from shipway.graph.inspection.weights import Weights

__all__ = ["show_inspection", "show_structure"]

_SCALES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_TERMS = 3
_SUBGRAPHS = 20


def show_inspection(found: Inspection) -> None:
    """Print an inspection: the header, what is wrong, and tables of what there is."""
    print_result(*_header(found))
    for problem in found.problems:
        print_result(f"  problem  {clean_text(problem)}")
    tables = [
        _domains(found),
        _ports("input", found.inputs),
        _ports("output", found.outputs),
        _dims(found),
        _operators(found),
    ]
    for table in tables:
        _print_table(table)
    print_result(*_counting(found))
    for table in (*_weights(found.weights), _functions(found), _subgraphs(found), _metadata(found)):
        _print_table(table)


def _print_table(table: Table | None) -> None:
    if table is not None and table.row_count:
        print_result("", table)


def _table(*columns: str, left: int = 1) -> Table:
    """Return a table whose first columns are texts."""
    table = make_table(*columns)
    for column in table.columns[:left]:
        column.justify = "left"
        column.overflow = "fold"
        column.no_wrap = False
    return table


def _header(found: Inspection) -> Iterator[str]:
    header = found.header
    size = format_bytes(header.get("size_bytes"))
    external = header.get("external_bytes")
    beside = f" and {format_bytes(external)} beside it" if external else ""
    yield f"{clean_text(header.get('model', 'model'))}: {size}{beside}"
    words = {
        "IR version": header.get("ir_version"),
        "producer": header.get("producer"),
        "model version": header.get("version"),
        "domain": header.get("domain"),
        "graph": header.get("graph"),
        "doc": header.get("doc"),
    }
    for name, value in words.items():
        if value:
            yield f"  {name:13} {clean_text(value)}"
    yield f"  {'nodes':13} {format_count(found.nodes)}"


def _domains(found: Inspection) -> Table:
    table = _table("domain", "kind", "operators ONNX lacks", "opset", "nodes", left=3)
    for one in found.domains:
        version = "not imported" if one.version is None else str(one.version)
        names = clean_text(", ".join(one.custom))
        table.add_row(clean_text(one.domain), one.kind, names, version, format_count(one.nodes))
    return table


def _ports(title: str, ports: Sequence[Port]) -> Table:
    table = _table(title, "type", "declared", "inferred", left=4)
    given = [port for port in ports if not port.default]
    for port in given:
        inferred = "" if port.inferred == port.shape else _shape(port.inferred)
        table.add_row(clean_text(port.name), port.type, _shape(port.shape), inferred)
    if len(given) < len(ports):
        table.add_row(f"and {len(ports) - len(given):,} weights that a caller may override")
    return table


def _shape(shape: tuple[int | str, ...] | None) -> str:
    return "unknown" if shape is None else f"[{', '.join(clean_text(dim) for dim in shape)}]"


def _dims(found: Inspection) -> Table:
    table = _table("dynamic dimension", "where", left=2)
    for name, places in found.dims.items():
        table.add_row(clean_text(name), clean_text(", ".join(places)))
    return table


def _operators(found: Inspection) -> Table:
    inside = any(one.in_subgraphs for one in found.operators)
    called = any(one.in_functions for one in found.operators)
    extra = [*(["in sub-graphs"] if inside else []), *(["in functions"] if called else [])]
    table = _table("operator", "nodes", *extra, "weights", "MACs", "FLOPs", "share")
    for one in found.operators:
        name = f"{one.domain}::{one.type}" if one.domain else one.type
        places = [
            *([_count(one.in_subgraphs)] if inside else []),
            *([_count(one.in_functions)] if called else []),
        ]
        weights = format_bytes(one.weight_bytes) if one.weight_bytes else ""
        nodes = format_count(one.nodes)
        table.add_row(clean_text(name), nodes, *places, weights, *_amounts(one, found.counting))
    return table


def _count(number: int) -> str:
    return format_count(number) if number else ""


def _amounts(one: OperatorUse, counting: Counting | None) -> tuple[str, str, str]:
    """Return MACs, FLOPs and the share of all FLOPs."""
    if counting is None or not one.executed:
        return "", "", ""
    if not one.counted:
        return "", "not counted", ""
    part = ">= " if one.counted < one.executed else ""
    share = ""
    if isinstance(one.flops, int) and isinstance(counting.flops, int) and one.flops:
        share = f"{format_percent(one.flops / counting.flops, 1)} %"
    macs = f"{part}{_amount(one.macs)}" if one.macs else ""
    return macs, f"{part}{_amount(one.flops)}" if one.flops else "0", share


def _amount(dim: Dim) -> str:
    """Write a number to three digits, or a formula by its largest terms."""
    if isinstance(dim, int):
        return _scaled(dim)
    terms = sorted(dim.terms.items(), key=lambda term: (-len(term[0]), -abs(term[1])))
    shown = [_term(factor, atoms) for atoms, factor in terms[:_TERMS]]
    return " + ".join([*shown, *(["..."] if len(terms) > _TERMS else [])])


def _term(factor: int, atoms: tuple[str, ...]) -> str:
    powers = {name: atoms.count(name) for name in atoms}
    names = [f"{name}^{power}" if power > 1 else name for name, power in powers.items()]
    number = [] if factor == 1 and names else [_scaled(factor).replace(" ", "")]
    return "*".join([*number, *map(clean_text, names)])


def _scaled(number: int) -> str:
    for scale, unit in _SCALES:
        if abs(number) >= scale:
            return (
                f"{number / scale:.3g} {unit}"
                if abs(number) < 1000 * scale
                else f"{number // scale:,} {unit}"
            )
    return str(number)


def _counting(found: Inspection) -> Iterator[str]:
    counting = found.counting
    if counting is None:
        yield "  FLOPs   not counted: the graph cannot be walked"
        return
    yield ""
    for name, amount in (("MACs", counting.macs), ("FLOPs", counting.flops)):
        part = "at least " if counting.counted < counting.nodes else ""
        text = "unknown" if part and amount == 0 else f"{part}{_amount(amount)}"
        yield f"  {name:7} {text}"
    yield f"  counted {counting.counted:,} of {counting.nodes:,} nodes that run{_given(counting)}"
    for gap in counting.gaps:
        yield f"          not {gap.count:,}: {clean_text(gap.reason)}, e.g. '{clean_text(gap.example)}'"
    for note in counting.notes:
        yield f"  note    {clean_text(note)}"
    unknown = [name for name in found.dims if name not in counting.sizes]
    if unknown and not (isinstance(counting.flops, int) and counting.counted == counting.nodes):
        flags = " ".join(f"--size '{clean_text(name)}=N'" for name in unknown[:_TERMS])
        yield f"  sizes   give them for a number: {flags}"


def _given(counting: Counting) -> str:
    sizes = ", ".join(f"{clean_text(name)}={size}" for name, size in counting.sizes.items())
    return f", with {sizes}" if sizes else ""


def _weights(weights: Weights) -> Iterator[Table]:
    table = _table("weights", "count", "numbers", "size")
    for share in weights.dtypes:
        table.add_row(
            share.type,
            format_count(share.count),
            format_count(share.elements),
            format_bytes(share.size_bytes),
        )
    if len(weights.dtypes) > 1:
        table.add_row(
            "all",
            format_count(weights.count),
            format_count(weights.elements),
            format_bytes(weights.size_bytes),
        )
    yield table
    table = _table("largest weights", "type", "read by", "in", "shape", "size", left=4)
    for one in weights.largest:
        readers = clean_text(", ".join(one.readers)) or "nobody"
        row = (clean_text(one.name), one.type, readers, clean_text(one.place))
        table.add_row(*row, _shape(one.shape), format_bytes(one.size_bytes))
    yield table
    table = _table("external data", "state", "weights", "used", "size", left=2)
    for file in weights.files:
        table.add_row(
            clean_text(file.path),
            clean_text(file.problem) or "there",
            format_count(file.tensors),
            format_bytes(file.used_bytes),
            format_bytes(file.size_bytes),
        )
    yield table


def _functions(found: Inspection) -> Table:
    table = _table("function", "nodes", "calls")
    for one in found.functions:
        table.add_row(clean_text(one.name), format_count(one.nodes), format_count(one.calls))
    return table


def _subgraphs(found: Inspection) -> Table:
    table = _table("sub-graph of", "operator", "attribute", "nodes", "depth", left=3)
    for one in found.subgraphs[:_SUBGRAPHS]:
        row = (clean_text(one.owner), clean_text(one.type), clean_text(one.attribute))
        table.add_row(*row, format_count(one.nodes), str(one.depth))
    if len(found.subgraphs) > _SUBGRAPHS:
        table.add_row(f"and {len(found.subgraphs) - _SUBGRAPHS:,} more: --json lists all")
    return table


def _metadata(found: Inspection) -> Table:
    table = _table("metadata", "value", left=2)
    for name, value in found.metadata.items():
        table.add_row(clean_text(name), _short(value))
    for name, count in found.node_metadata.items():
        table.add_row(clean_text(name), f"on {count:,} of {found.nodes:,} nodes")
    return table


def _short(text: Any, most: int = 100) -> str:
    text = " ".join(clean_text(text).split())
    return text if len(text) <= most else f"{text[:most]}..."


def show_structure(structure: Structure) -> None:
    """Print the protobuf structure of a file as a tree, what takes the most bytes first."""
    print_result(f"{clean_text(structure.model)}: {structure.size_bytes:,} bytes")
    for problem in structure.problems:
        print_result(f"  problem  {clean_text(problem)}")
    table = _table("field", "tag", "encoded as", "type", "times", "bytes", "share", "first")
    for column in (table.columns[2], table.columns[3], table.columns[7]):
        column.justify = "left"
        column.overflow = "fold"
    _add_fields(table, structure.fields, structure.size_bytes, 0)
    print_result("", table)


def _add_fields(table: Table, fields: Iterable[FieldUse], whole: int, depth: int) -> None:
    for one in fields:
        share = f"{format_percent(one.size_bytes / whole, 1)} %"
        table.add_row(
            f"{'  ' * depth}{one.name}",
            str(one.number),
            one.wire_type,
            one.type,
            format_count(one.count),
            format_count(one.size_bytes),
            share,
            _short(one.example, 40),
        )
        _add_fields(table, one.fields, whole, depth + 1)
