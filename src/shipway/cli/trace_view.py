"""What a trace looks like in the terminal: a line a tensor, and what is not in it and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shipway.cli.terminal import print_json, print_lines
from shipway.report.formats import clean_text, format_bytes
from shipway.tensors import dtype_named
from shipway.trace.reading import Trace
from shipway.trace.records import TensorRecord, TraceHeader

__all__ = ["show_trace"]

_COLUMNS = ("#", "operator", "name", "tensor", "min", "max", "mean", "L2", "NaN/Inf")
_NUMBERS = ("min", "max", "mean", "l2", "nan_count", "inf_count")
_WIDEST = 44
_TEXTS = 4
_SHOWN = 3
_NOTES = ("map", "repeats", "iterations", "digits")
"""What an importer writes down of a dump that a reader should know."""


def show_trace(trace: Trace, title: str, output: Path | None, *, as_json: bool) -> None:
    """Print a trace.

    Args:
        trace: What was recorded.
        title: What it was recorded from.
        output: Where it was written; None: nowhere.
        as_json: Print JSON instead.
    """
    if as_json:
        print_json(_describe(trace, output))
        return
    print_lines([(clean_text(title), "bold"), *((line, "") for line in _table(trace.records))])
    print_lines((line, "") for line in _coverage(trace.header, len(trace.records)))
    if output is not None:
        size = _kept_bytes(trace.records)
        kept = f"{format_bytes(size)} of values" if size else "statistics only"
        print_lines([(f"wrote {clean_text(output)}: {kept}", "")])


def _describe(trace: Trace, output: Path | None) -> dict[str, Any]:
    return {
        **trace.header.to_json(),
        "written": None if output is None else str(output),
        "tensors": [record.to_json() for record in trace.records],
    }


def _table(records: Sequence[TensorRecord]) -> Iterator[str]:
    """Yield aligned lines; what is wider than its column is not cut."""
    rows = [_COLUMNS, *map(_row, records)]
    widths = [min(max(map(len, column)), _WIDEST) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if 0 < index < _TEXTS else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'  '.join(cells)}".rstrip()


def _row(record: TensorRecord) -> tuple[str, ...]:
    tap, found = record.tap, record.statistics
    tensor = f"{record.dtype}[{','.join(map(str, record.shape))}]"
    texts = (str(tap.order), tap.op or f"({tap.kind})", tap.name, tensor)
    facts = dict(record.facts)  # what another tool said, where that is all there is
    if found is not None:
        facts = {name: getattr(found, name) for name in _NUMBERS}
    odd = [int(facts.get(name) or 0) for name in _NUMBERS[-2:]]
    return (
        *map(clean_text, texts),
        *(_number(facts.get(name)) for name in _NUMBERS[:-2]),
        f"{odd[0]}/{odd[1]}" if any(odd) else "",
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _coverage(header: TraceHeader, recorded: int) -> Iterator[str]:
    parts = [f"{recorded} tensors recorded"]
    if header.left_out:
        parts.append(f"{header.left_out} left out, not asked for")
    if header.untapped:
        parts.append(f"{len(header.untapped)} cannot be shown")
    yield f"{', '.join(parts)}{'' if header.complete else '; the trace is not finished'}"
    yield from _grouped("cannot be shown", header.untapped)
    check = header.check
    if check is None:
        yield "whether recording changed the result was not checked"
    elif check.identical:
        yield "every output is bit-identical to that of a run without recording"
    else:
        yield f"recording changed the result of {len(check.perturbed) or 'some'} tensors"
    yield from _grouped("perturbed", check.perturbed if check is not None else {})
    for name in _NOTES:
        if name in header.effective:
            yield f"  note: {clean_text(header.effective[name])}"


def _grouped(label: str, reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each reason, with the names it is given for."""
    names = defaultdict(list)
    for name, reason in reasons.items():
        names[reason].append(name)
    for reason, all_of_it in names.items():
        shown = ", ".join(all_of_it[:_SHOWN])
        more = f" and {len(all_of_it) - _SHOWN} more" if len(all_of_it) > _SHOWN else ""
        yield f"  {label}: {clean_text(shown)}{more}: {clean_text(reason)}"


def _kept_bytes(records: Sequence[TensorRecord]) -> int:
    total = 0
    for record in records:
        if record.file is not None:
            count = 1
            for size in record.shape:
                count *= size
            total += count * dtype_named(record.dtype).numpy.itemsize
    return total
