"""Whether the dynamic dimensions of a model survive its export, and which line loses them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from shipway.engines.onnxfile import require_onnx
from shipway.errors import EngineError, ExportError, ModelError, TensorError
from shipway.export.name_map import read_name_map
from shipway.export.portable import PortableModel
from shipway.export.sizes import Bounds
from shipway.progress import Progress
from shipway.proof.audit import audit_graph
from shipway.proof.audit_declared import sizes_words
from shipway.proof.audit_results import AuditFinding, Place, Seen, Severity
from shipway.proof.eager import EagerGolden
from shipway.proof.sizes import Refusal
from shipway.source.locations import trace_location
from shipway.source.modelfiles import shown_path
from shipway.source.programs import load_program
from shipway.tensors import random_feeds

__all__ = ["audit_export", "find_lost_sizes"]

_NODE = re.compile(r"on node '(?P<name>\w+)'")
_OUTPUT = re.compile(r"Output '(?P<name>[^']+)' came out")
_OF_SIGNATURE = frozenset({"false-shape", "fixed-dim", "ignored-dim", "merged-dim", "one-name"})


def find_lost_sizes(
    model: PortableModel,
    usual: Mapping[str, int],
    refused: Sequence[Refusal],
    original: Callable[[], Any],
) -> Iterator[AuditFinding]:
    """Find sizes that the module takes and the program made from it does not.

    Args:
        model: What was exported.
        usual: Sizes of the export.
        refused: What the program refuses, within the bounds of the export.
        original: Returns the module, None where there is none; asked only where something is refused.
    """
    golden: EagerGolden | None = None
    known: set[str] = set()
    for one in sorted(refused, key=lambda refusal: len(_changed(refusal, usual))):
        changed = _changed(one, usual)
        if known.intersection(changed):
            continue
        if golden is None:
            module = original()
            if module is None:
                return
            golden = EagerGolden(module, model)
        try:
            golden.run(random_feeds(model.inputs, seed=0, sizes=one.sizes))
        except (EngineError, ExportError, TensorError):
            continue  # the module refuses it too
        known.update(changed)
        yield _lost(model, one, changed, usual)


def _changed(refusal: Refusal, usual: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(name for name, size in refusal.sizes.items() if size != usual[name])


def _lost(
    model: PortableModel, refusal: Refusal, changed: Sequence[str], usual: Mapping[str, int]
) -> AuditFinding:
    sizes = {name: refusal.sizes[name] for name in changed}
    name, size = next(iter(sizes.items()))
    label = " and ".join(f"'{one}'" for one in changed)
    bound = f"--bound {name}={size + 1}..{4 * usual[name]}" if size < usual[name] else ""
    return AuditFinding(
        "error",
        "lost-size",
        ", ".join(changed),
        f"The module takes {sizes_words(sizes)} and its export does not, so that {label} is not "
        f"dynamic any more: {refusal.why}",
        seen=(Seen(refusal.sizes, refusal.why),),
        place=_place(model, refusal.why),
        hint=f"Make that line work for every size; or {bound or f'write {usual[name]} in --input'} "
        "says that the model need not take it.",
    )


def _place(model: PortableModel, why: str) -> Place:
    """Return the line of the module that a refusal is about; nothing where it does not say."""
    if (match := _NODE.search(why)) and model.program is not None:
        return Place(source=_line_of_node(model.program, match["name"]))
    if (match := _OUTPUT.search(why)) and model.name_map is not None:
        entry = read_name_map(model.name_map).by_onnx().get(match["name"])
        if entry is not None:
            where = f"{entry.source}: {entry.code}" if entry.code else entry.source
            return Place(module=entry.module, source=where)
    return Place()


def _line_of_node(path: Path, name: str) -> str:
    try:
        program = load_program(path, allow_pickle=False)
    except ModelError:
        return ""
    nodes = {node.name: node for node in program.graph.nodes}
    trace = nodes[name].meta.get("stack_trace") if name in nodes else None
    where = trace_location(trace or "")
    return "" if where is None else where.quote()


def audit_export(
    model: PortableModel,
    tried: Sequence[Mapping[str, int]],
    bounds: Bounds,
    progress: Progress,
) -> tuple[list[AuditFinding], list[str]]:
    """Audit the signature of an exported model.

    What torch's exporter declares falsely inside breaks nothing that Shipway does; it is counted.

    Args:
        model: What was exported; the name map lies beside its .onnx file.
        tried: Sizes at which golden ran, those of the export first. Where it ran at no other size
            of a dimension, the numbers of the inputs may be to blame: that is a warning.
        bounds: Smallest and largest sizes, where given.
        progress: Told of every run.

    Returns:
        Findings about inputs and outputs; and notes.
    """
    path, usual = require_onnx(model, "An audit"), tried[0]
    varied = {name for one in tried for name, size in one.items() if size != usual[name]}
    ranges = {spec.name: spec.value_range for spec in model.inputs if spec.value_range}
    audit = audit_graph(
        path, sizes=usual, bounds=bounds, ranges=ranges, nonempty=True, progress=progress
    ).audit
    outputs = set(audit.outputs)
    inside = [
        one for one in audit.findings if one.kind == "false-shape" and one.value not in outputs
    ]
    found = [
        replace(one, hint=_hint(one, usual), severity=_severity(one, varied))
        for one in audit.findings
        if one.kind in _OF_SIGNATURE and one.severity != "info" and one not in inside
    ]
    notes = []
    if inside:
        count = f"{len(inside)} values" if len(inside) > 1 else "one value"
        notes.append(
            f"{count} inside declared falsely, '{inside[0].value}' first; all of them: "
            f"shipway graph audit {shown_path(path)}"
        )
    return found, notes


def _severity(finding: AuditFinding, varied: Collection[str]) -> Severity:
    if finding.kind == "fixed-dim" and finding.value not in varied:
        return "warning"
    return finding.severity


def _hint(finding: AuditFinding, usual: Mapping[str, int]) -> str:
    size = usual.get(finding.value)
    fixed = f", or write {size} for '{finding.value}' in --input" if size is not None else ""
    return f"Make that line work for every size{fixed}."
