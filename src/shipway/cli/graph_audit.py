"""The `shipway graph audit` command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.cli.flags import Flag, Many
from shipway.cli.sizes import read_named_sizes
from shipway.cli.terminal import print_json, print_result, show_progress, start_log

if TYPE_CHECKING:
    from shipway.proof.audit_fix import Mended
    from shipway.proof.audit_results import Audit, AuditFinding

__all__ = ["audit"]

_MOST_ALIKE = 5


def audit(
    model: Path,
    *,
    size: Many = (),
    seed: int = 0,
    nonempty: Flag = False,
    write: Path | None = None,
    json: Flag = False,
) -> int:
    """Check what an ONNX file declares against what it does.

    The model runs in ONNX Runtime without optimisation, at several sizes of each dynamic
    dimension, 0 among them, and the shape and dtype of every value are compared with the file's.
    Exit 1 where something is false or a dimension that is declared dynamic is fixed.

    ```
    shipway graph audit model.onnx
    shipway graph audit model.onnx --size batch=2 --size samples=16000
    shipway graph audit model.onnx --write mended.onnx
    ```

    Args:
        model: The .onnx file; a name map beside it leads to lines of code.
        size: Usual size of a dynamic dimension, e.g. batch=3; smaller and larger ones are tried
            from there. Again for each dimension.
        seed: Seed of the inputs.
        nonempty: Leave out sizes of 0.
        write: Where to write the model with what is inferred in place of what is false.
        json: Print JSON.
    """
    from shipway.proof.audit import audit_graph

    start_log(quiet=json)
    sizes = read_named_sizes(size)
    with show_progress() as progress:
        audited = audit_graph(model, sizes=sizes, seed=seed, nonempty=nonempty, progress=progress)
    mended = None
    if write is not None:
        from shipway.proof.audit_fix import mend_declarations

        mended = mend_declarations(model, audited, write)
    if json:
        print_json(_describe(audited.audit, mended))
    else:
        _show(audited.audit, mended)
    return 0 if audited.audit.passed else 1


def _describe(audit: Audit, mended: Mended | None) -> dict[str, Any]:
    return audit.to_json() | {"mended": None if mended is None else mended.to_json()}


def _show(audit: Audit, mended: Mended | None) -> None:
    counts = ", ".join(
        f"{count} {severity}{'s' if count > 1 and severity != 'info' else ''}"
        for severity, count in audit.counts.items()
        if count
    )
    verdict = "PASS" if audit.passed else "FAIL"
    print_result(f"  audit   {verdict}: {counts or 'nothing false'}, at {len(audit.sizes)} sizes")
    for line in _lines(audit.findings):
        print_result(line)
    coverage = audit.coverage
    print_result(f"  values  {coverage.checked} of {coverage.total} checked")
    for reason, names in coverage.unchecked.items():
        print_result(f"          {len(names)} not: each {reason}")
    for note in audit.notes:
        print_result(f"  note    {note}")
    if mended is not None:
        print_result(f"wrote {mended.path}: {mended.words}")


def _lines(findings: tuple[AuditFinding, ...]) -> Iterator[str]:
    """Write the findings, of many of one kind the first ones."""
    shown: dict[tuple[str, str], int] = {}
    hints: set[str] = set()
    for finding in findings:
        key = (finding.severity, finding.kind)
        shown[key] = shown.get(key, 0) + 1
        if shown[key] > _MOST_ALIKE:
            continue
        yield f"  {finding.severity:8}{finding.message}"
        if where := _where(finding):
            yield f"          at {where}"
        if finding.hint and finding.hint not in hints:
            hints.add(finding.hint)
            yield f"  hint:   {finding.hint}"
    for (severity, kind), count in shown.items():
        if count > _MOST_ALIKE:
            yield f"  {severity:8}and {count - _MOST_ALIKE} more of {kind}; --json lists them"


def _where(finding: AuditFinding) -> str:
    place = finding.place
    node = f"{place.op} '{place.node}'" if place.op else ""
    module = f"module {place.module}" if place.module else ""
    return ", ".join(filter(None, (node, module, place.source)))
