"""How the findings of an audit are shown: by the commands that audit, and by those that export."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shipway.proof.audit_results import AuditFinding

__all__ = ["finding_lines"]

_MOST_ALIKE = 5


def finding_lines(findings: tuple[AuditFinding, ...]) -> Iterator[str]:
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
