"""Sizes that the file allows and at which the model does not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from shipway.proof.audit_declared import sizes_words
from shipway.proof.audit_inputs import AuditInputs
from shipway.proof.audit_places import Places
from shipway.proof.audit_results import AuditFinding, Seen
from shipway.proof.audit_sizes import SizeTrials

__all__ = ["find_failures"]

_PREFIX = re.compile(r"^ONNX Runtime failed while running: ")
_LONGEST = 160


def find_failures(
    trials: SizeTrials, places: Places, inputs: AuditInputs
) -> Iterator[AuditFinding]:
    """Find the sizes at which a model fails.

    A dimension of which no other size above 1 runs is fixed, whatever the file says; a smallest
    size, or a multiple, is not.

    Args:
        trials: What was tried.
        places: Where values come from.
        inputs: The model's inputs.
    """
    for group in trials.ties.values():
        names = ", ".join(f"'{name}'" for name in group)
        yield AuditFinding(
            "warning",
            "equal-names",
            group[0],
            f"The sizes {names} must be equal, and the file does not say so.",
            declared=", ".join(group),
            hint=f"Give them one name: {_declaration(inputs, group[-1], group[0])}",
        )
    for name, failed in trials.failed.items():
        if failed:
            yield _one(name, failed, trials, places, inputs)
    for sizes, why in trials.together:
        yield AuditFinding(
            "warning",
            "fails",
            ", ".join(sizes),
            f"The model fails at {sizes_words(sizes)}, each of which runs alone: {_short(why)}",
            seen=(Seen(sizes, _short(why)),),
            place=places.of_failure(why),
        )


def _one(
    name: str, failed: Mapping[int, str], trials: SizeTrials, places: Places, inputs: AuditInputs
) -> AuditFinding:
    usual, ran = trials.usual[name], trials.ran[name]
    # What says most is the failure at a larger size: at a small one a kernel may not fit.
    size = max(failed)
    why = _short(failed[size])
    others = any(other > 1 and other != usual for other in ran)
    fixed = not others and size > usual
    if fixed:
        message = (
            f"is declared dynamic, and the model runs at {_either(ran)} only; at {size}: {why}"
        )
        hint = (
            "Mend that line and export again, or declare the size: "
            f"{_declaration(inputs, name, usual)}"
        )
    else:
        message = f"does not run at {_either(sorted(failed))}, and does at {_either(ran)}: {why}"
        hint = "If the model is to run there, mend that line and export it again."
    return AuditFinding(
        "error" if fixed else "warning",
        "fixed-dim" if fixed else "fails",
        name,
        f"The dimension '{name}' {message}",
        name,
        tuple(Seen(trials.usual | {name: one}, _short(text)) for one, text in failed.items()),
        places.of_failure(failed[size]),
        hint,
    )


def _declaration(inputs: AuditInputs, name: str, size: int | str) -> str:
    """Return the command that puts a size, or another name, in the place of a name."""
    spec = next(spec for spec in inputs.specs if name in (spec.shape or ()))
    shape = ",".join(str(size if dim == name else dim) for dim in spec.shape or ())
    return (
        f"shipway graph edit MODEL change-shape --value {shlex.quote(spec.name)} "
        f"--shape {shlex.quote(shape)}"
    )


def _either(sizes: Sequence[int]) -> str:
    *others, last = map(str, sizes)
    return f"{', '.join(others)} or {last}" if others else last


def _short(why: str) -> str:
    text = _PREFIX.sub("", why)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
