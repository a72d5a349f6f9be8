"""A diagnosis in sentences: the verdict, each culprit, and what was compared and what was not."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from shipway.compare.diagnosis import Cause, Culprit, Diagnosis, TensorComparison
from shipway.compare.results import Metrics
from shipway.report.formats import format_scientific
from shipway.tensors import dtype_named

__all__ = [
    "CulpritText",
    "DiagnosisVerdict",
    "describe_coverage",
    "describe_culprit",
    "group_reasons",
    "write_cause",
    "write_error",
    "write_multiple",
    "write_spec",
    "write_verdict",
]

_MOST_REASONS = 5
_MOST_NAMES = 3
_PARTICULAR = re.compile(r"'[^']*'|\[[^\]]*\]|\([\d, ]*\)|\d+(?:\.\d+)?(?:e[+-]?\d+)?")
"""What makes two reasons of one kind differ: names in quotes, shapes, numbers."""


@dataclass(frozen=True, slots=True)
class DiagnosisVerdict:
    """The first line of all.

    Args:
        passed: `Diagnosis.passed`.
        word: "FAULT", "CLEAN", "DIFFERENT INPUTS" or "NOTHING COMPARED".
        text: What follows it.
    """

    passed: bool
    word: str
    text: str

    def __str__(self) -> str:
        return f"{self.word}{self.text}"


@dataclass(frozen=True, slots=True)
class CulpritText:
    """A culprit as it is read: a heading, and facts with their labels."""

    heading: str
    facts: tuple[tuple[str, str], ...]


def write_verdict(diagnosis: Diagnosis) -> DiagnosisVerdict:
    """Say in one line whether there is a fault, where, and of what kind.

    Inputs that differ come first: what follows from them is no fault of the engine.
    """
    if diagnosis.input_problems:
        more = len(diagnosis.input_problems) - 1
        rest = f" (and {more} more)" if more else ""
        why = diagnosis.input_problems[0].rstrip(".")
        text = f": {why}{rest}. That is no fault of the engine, and nothing behind it is judged."
        return DiagnosisVerdict(False, "DIFFERENT INPUTS", text)
    if not diagnosis.tensors:
        text = f": {diagnosis.actual} and {diagnosis.golden} have no tensor in common"
        return DiagnosisVerdict(False, "NOTHING COMPARED", text)
    if diagnosis.culprits:
        return DiagnosisVerdict(False, "FAULT", _write_fault(diagnosis))
    return DiagnosisVerdict(True, "CLEAN", _write_clean(diagnosis))


def _write_fault(diagnosis: Diagnosis) -> str:
    first = diagnosis.culprits[0]
    tensor = first.tensor
    relation = " in " if diagnosis.local else " at or before "
    source = f" ({tensor.source}  {tensor.code})" if tensor.code else f" ({tensor.source})"
    place = f"{_place(first)}{source if tensor.source else ''}"
    count = len(diagnosis.culprits)
    others = f" (the first of {count} faults)" if count > 1 else ""
    return f"{relation}{place}: {write_cause(first.cause)}{others}"


def _place(culprit: Culprit) -> str:
    """Name the module and the operator, as far as they are known."""
    tensor = culprit.tensor
    operator = _operator(culprit)
    return ", ".join(filter(None, (tensor.module, operator))) or f"'{tensor.golden}'"


def _operator(culprit: Culprit) -> str:
    """Name the one operator at fault, or the last one where it may be any of several."""
    types = dict(culprit.operators)
    tensor = culprit.tensor
    name = culprit.cause.operator or (next(iter(types)) if len(types) == 1 else "")
    if name:
        return f"{types.get(name, '')} '{name}'".strip()
    if tensor.module and len(types) > 1:
        return ""
    return f"{tensor.golden_op} '{tensor.golden}'".strip()


def _write_clean(diagnosis: Diagnosis) -> str:
    tensors = diagnosis.tensors
    kind = "local" if diagnosis.local else "accumulated"
    over = sum(not tensor.verdict.passed for tensor in tensors)
    within = f"{_count(len(tensors) - over, 'tensor')} within the {kind} limits"
    explained = f", {over} beyond them and explained" if over else ""
    return f": {within} of {diagnosis.precision}{explained}"


def describe_culprit(culprit: Culprit, *, local: bool) -> CulpritText:
    """Write down all that is known of a culprit.

    Args:
        culprit: One of `Diagnosis.culprits`.
        local: `Diagnosis.local`.
    """
    tensor = culprit.tensor
    facts = (
        ("tensor", f"{tensor.golden} {write_spec(tensor)}{_perturbed(tensor)}"),
        ("operators", _operators(culprit)),
        ("engine", f"{tensor.op or 'unknown operator'} '{tensor.actual}'{_layout(tensor)}"),
        ("module", tensor.module),
        ("source", f"{tensor.source}  {tensor.code}".rstrip()),
        ("cause", write_cause(culprit.cause)),
        ("local", _error(tensor.local, tensor) if tensor.local is not None else ""),
        ("accumulated", _error(tensor.accumulated, tensor)),
        ("limits", _broken(tensor)),
        ("inputs", _neighbours(culprit.inputs)),
        ("readers", _neighbours(culprit.readers)),
        ("outputs", _effect(culprit.effect)),
        ("replay", culprit.replay),
    )
    relation = "in" if local else "at or before"
    heading = f"{culprit.cause.kind} {relation} {_place(culprit)}"
    return CulpritText(heading, tuple((label, text) for label, text in facts if text))


def write_cause(cause: Cause) -> str:
    """Write the kind of a fault and why it is held to be that."""
    return f"{cause.kind}: {cause.explanation}" if cause.explanation else cause.kind


def _broken(tensor: TensorComparison) -> str:
    kind = "accumulated" if tensor.local is None else "local"
    reasons = "; ".join(tensor.verdict.reasons)
    return f"{kind} error {write_multiple(tensor.severity)} the limit: {reasons}"


def _operators(culprit: Culprit) -> str:
    named = [f"{op} '{name}'" for name, op in culprit.operators]
    if not named:
        return f"{culprit.tensor.golden_op} '{culprit.tensor.golden}'".strip()
    at_fault = culprit.cause.operator
    alone = f"; at fault: '{at_fault}'" if at_fault and len(named) > 1 else ""
    return f"{', '.join(named)}{alone}"


def _layout(tensor: TensorComparison) -> str:
    return f", stored as {tensor.layout}" if tensor.layout else ""


def _perturbed(tensor: TensorComparison) -> str:
    return f" (perturbed: {tensor.perturbed})" if tensor.perturbed else ""


def _error(metrics: Metrics, tensor: TensorComparison) -> str:
    if not dtype_named(tensor.dtype).is_float:
        return f"{metrics.mismatches} of {metrics.count} elements differ"
    parts = [f"relative L2 {write_error(metrics.relative_l2)}"]
    if metrics.worst_channel is not None:
        place = f"slice {metrics.worst_channel_index} on axis {metrics.worst_channel_axis}"
        parts.append(f"worst channel {write_error(metrics.worst_channel)} ({place})")
    if metrics.gain is not None:
        parts.append(f"gain {metrics.gain:.6g}")
    if metrics.nonfinite_mismatches:
        parts.append(f"NaN or Inf on one side in {metrics.nonfinite_mismatches} elements")
    return "; ".join(parts)


def _neighbours(severities: Mapping[str, float]) -> str:
    """Write tensors beside a culprit with their multiples of the limit, broken ones apart."""
    over = {name: value for name, value in severities.items() if not value <= 1}
    within = {name: value for name, value in severities.items() if value <= 1}
    parts = (("within limits", within), ("beyond limits", over))
    return "; ".join(
        f"{title}: " + ", ".join(f"{name} ({write_multiple(v)})" for name, v in found.items())
        for title, found in parts
        if found
    )


def _effect(effect: Mapping[str, float | None]) -> str:
    return ", ".join(
        f"{name} ends with relative L2 {format_scientific(value)}"
        if value is not None
        else f"{name} has no finite element to compare"
        for name, value in effect.items()
    )


def describe_coverage(diagnosis: Diagnosis) -> tuple[tuple[str, str], ...]:
    """Say what was compared, what was not and why, and how far the numbers can be trusted."""
    facts = (
        ("compared", _compared(diagnosis)),
        ("not compared", _reasons(diagnosis.unmatched, "of the engine's tensors")),
        ("not shown", _reasons(diagnosis.golden_only, "of golden's tensors")),
        ("reading", _reading(diagnosis) if diagnosis.tensors else ""),
        ("local errors", _local(diagnosis) if diagnosis.tensors else ""),
    )
    return tuple((label, text) for label, text in facts if text)


def _compared(diagnosis: Diagnosis) -> str:
    methods = Counter(tensor.match.method for tensor in diagnosis.tensors)
    by = ", ".join(f"{count} by {method}" for method, count in methods.most_common())
    sides = f"of {diagnosis.actual} against {diagnosis.golden}"
    return f"{_count(len(diagnosis.tensors), 'tensor')} {sides}{': ' if by else ''}{by}"


def _reasons(reasons: Mapping[str, str], of_what: str) -> str:
    return f"{len(reasons)} {of_what}: {_grouped(reasons)}" if reasons else f"none {of_what}"


def _grouped(reasons: Mapping[str, str]) -> str:
    groups = group_reasons(reasons)
    shown = [f"{len(names)} {why} ({_names(names)})" for why, names in groups[:_MOST_REASONS]]
    left = sum(len(names) for _, names in groups[_MOST_REASONS:])
    if left:
        shown.append(f"{left} for other reasons; --json lists them")
    return "; ".join(shown)


def _names(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) + (", ..." if len(names) > _MOST_NAMES else "")


def group_reasons(reasons: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Group names by why they were left out, most frequent first.

    Reasons that differ only in names, shapes or numbers are one; what differs becomes "...".

    Example:
        >>> group_reasons(
        ...     {"a": "shape [2] is not [3]", "b": "shape [4] is not [5]", "c": "no name"}
        ... )
        [('shape ... is not ...', ['a', 'b']), ('no name', ['c'])]
    """
    groups: dict[str, list[str]] = {}
    first: dict[str, str] = {}
    for name, reason in reasons.items():
        kind = _PARTICULAR.sub("...", reason)
        groups.setdefault(kind, []).append(name)
        first.setdefault(kind, reason)
        if first[kind] != reason:
            first[kind] = kind
    ranked = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [(first[kind], names) for kind, names in ranked]


def _reading(diagnosis: Diagnosis) -> str:
    perturbed = {t.golden: t.perturbed for t in diagnosis.tensors if t.perturbed}
    told = f"; perturbed: {_grouped(perturbed)}" if perturbed else ""
    if diagnosis.identical is None:
        return (
            f"whether reading the tensors changed the engine's outputs could not be checked{told}"
        )
    if diagnosis.identical:
        return f"reading the tensors left the engine's outputs as they were, bit for bit{told}"
    return f"reading the tensors changed the engine's outputs{told}"


def _local(diagnosis: Diagnosis) -> str:
    if not diagnosis.local:
        why = diagnosis.local_reason or "there is no golden that can be fed the engine's tensors"
        return (
            f"not measured: {why}. The errors are accumulated, and the first tensor beyond its "
            "limit need not be the one at fault"
        )
    without = sum(tensor.local is None for tensor in diagnosis.tensors)
    exception = f", except for {_count(without, 'tensor')}" if without else ""
    return f"measured: golden was fed the engine's own tensors{exception}"


def write_multiple(severity: float) -> str:
    """Write a severity as a multiple of the limit.

    Example:
        >>> write_multiple(0.1234), write_multiple(311.7), write_multiple(float("inf"))
        ('0.12x', '312x', 'inf')
    """
    if not math.isfinite(severity):
        return str(severity)
    if severity == 0:
        return "0x"
    if severity >= 10:
        return f"{severity:.0f}x" if severity < 99_999.5 else f"{severity:.3g}x"
    return f"{severity:.2g}x" if severity >= 0.01 else "<0.01x"


def write_error(value: float | None) -> str:
    """Write an error with three digits; "inf" for one without bound, "-" for none."""
    return str(value) if value is not None and math.isinf(value) else format_scientific(value)


def write_spec(tensor: TensorComparison) -> str:
    """Write dtype and shape: "float32[1,64,56,56]"."""
    return f"{tensor.dtype}[{','.join(map(str, tensor.shape))}]"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
